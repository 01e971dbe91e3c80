"""The site on this machine, made anew every few seconds while a campaign runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from synthfactory.dashboard.site import Built, build
from synthfactory.errors import OrderError

LOOPBACK = "127.0.0.1"
REFRESH_S = 3.0


class Handler(SimpleHTTPRequestHandler):
    """Files of the site: nothing hidden, no listings, and only for a reader of this machine.

    A page of another site could ask a browser for this address under a name of its own (DNS
    rebinding), so other names than this machine's are refused.
    """

    def send_head(self) -> Any:
        """The file that is asked for, or an error."""
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if host not in (LOOPBACK, "localhost"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "Ask for 127.0.0.1")
            return None
        if any(part.startswith(".") for part in self.path.split("?")[0].split("/") if part):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """No listings."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Nothing is kept: the site changes while a campaign runs."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def serve(
    runs: Path,
    site: Path,
    *,
    port: int = 0,
    ready: Callable[[str, Built], None],
    stop: threading.Event | None = None,
    refresh_s: float = REFRESH_S,
) -> None:
    """Show the site on this machine until ``stop`` is set or Ctrl-C is pressed.

    Parameters
    ----------
    runs, site
        As for `build`.
    port
        0 takes any free one.
    ready
        Called once with the address and the first build.
    stop
        Ends it.
    refresh_s
        Seconds between builds.

    Raises
    ------
    OrderError
        When the port is taken or forbidden, or ``runs`` is no folder.
    """
    built = build(runs, site, live=True)
    handler = functools.partial(Handler, directory=str(site))
    try:
        server = ThreadingHTTPServer((LOOPBACK, port), handler)
    except (OSError, OverflowError) as error:
        raise OrderError(
            f"Expected a free port, but {port} cannot be had: {error}. "
            "Leave --port out to take any free one."
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ending = stop or threading.Event()
    try:
        ready(f"http://{LOOPBACK}:{server.server_port}/index.html", built)
        while not ending.wait(refresh_s):
            build(runs, site, live=True)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
