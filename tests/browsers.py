"""Real windows of Firefox and of WebKit (Safari's engine), and what their pages complain about.

Both are driven by W3C WebDriver commands, with nothing between test and browser but this file:
Firefox by its own Marionette socket, which carries the same commands as geckodriver and also reads
its console; WebKitGTK by Debian's WebKitWebDriver, on an invisible X display.

References
----------
WebDriver, https://www.w3.org/TR/webdriver2/
Marionette, https://firefox-source-docs.mozilla.org/testing/marionette/
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from waiting import eventually

HERE = Path(__file__).parent
DEBIAN_PYTHON = Path("/usr/bin/python3")
TAB, ENTER = "\ue004", "\ue007"
PATIENCE_S = 180.0
MAX_STARTS = 3


def missing(engine: str) -> str:
    """Why a browser cannot be driven here; empty when it can."""
    if engine == "firefox":
        return "" if shutil.which("firefox-esr") else "needs Debian's firefox-esr"
    for program, package in (("WebKitWebDriver", "webkit2gtk-driver"), ("Xvfb", "xvfb")):
        if not shutil.which(program):
            return f"needs Debian's {package}"
    bindings = "import gi; gi.require_version('WebKit2', '4.1')"
    if (
        not DEBIAN_PYTHON.exists()
        or subprocess.run(
            [DEBIAN_PYTHON, "-c", bindings], capture_output=True, check=False
        ).returncode
    ):
        return "needs Debian's python3-gi and gir1.2-webkit2-4.1"
    return ""


def wait_for(what: str, holds: Callable[[], Any]) -> Any:
    """The first true answer of ``holds``, within `PATIENCE_S`."""
    return eventually(what, holds, timeout_s=PATIENCE_S)


class Window:
    """One window.  A subclass carries the commands and knows what its browser writes down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start it; a browser that does not come up is started again, and the reason is printed.

        Nothing was tested by then.  What a browser does later is never repeated.
        """
        for number in range(1, MAX_STARTS + 1):
            self.home = self.folder / f"start-{number}"
            self.home.mkdir()
            try:
                self.begin()
            except Exception as error:
                self.close()
                self.started = []
                reason = f"{type(self).__name__} did not start: {type(error).__name__}: {error}"
                if number == MAX_STARTS:
                    raise RuntimeError(f"{reason}\n{self.said()}") from error
                print(f"{reason}\n{self.said()}", file=sys.stderr)
            except BaseException:
                self.close()
                raise
            else:
                return self
        raise AssertionError("not reached")

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Start the browser and its session."""
        raise NotImplementedError

    def start(self, *command: object, environment: dict[str, str] | None = None) -> Path:
        """Start a program of this window; returns the file of its output."""
        output = self.home / f"{Path(str(command[0])).name}.log"
        with output.open("wb") as stream:
            self.started.append(
                subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                )
            )
        return output

    def await_start(self, what: str, holds: Callable[[], Any]) -> Any:
        """The first true answer of ``holds``, unless one of the programs has ended before it.

        Raises
        ------
        RuntimeError
            Naming the program that ended.
        """

        def look() -> Any:
            if found := holds():
                return found
            for process in self.started:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args} ended with {process.returncode}.")
            return None

        return wait_for(what, look)

    def said(self) -> str:
        """The last lines of the programs' output."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-10:])
            for path in sorted(self.home.glob("*.log"))
        )

    def close(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def command(self, name: str, **parameters: Any) -> Any:
        """One WebDriver command.

        Raises
        ------
        RuntimeError
            With the browser's words, when it refused: also when a dialog is open.
        """
        raise NotImplementedError

    def set_up(self, *, dark: bool, scripts: bool, width: int, height: int) -> None:
        """What must hold before the page is read."""
        raise NotImplementedError

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for since `open`; of Firefox, only those of a network."""
        raise NotImplementedError

    @property
    def complaints(self) -> list[str]:
        """What the console got since `open`: errors, blocked content, output of scripts."""
        raise NotImplementedError

    def printed(self) -> bytes:
        """The page as PDF, on A4."""
        raise NotImplementedError

    def open(
        self,
        page: Path | str,
        *,
        dark: bool = False,
        scripts: bool = True,
        width: int = 1200,
        height: int = 1000,
    ) -> None:
        """Read a page in a window whose inside is ``width`` by ``height`` CSS pixels."""
        address = page if isinstance(page, str) else page.as_uri()
        self.command("Navigate", url="about:blank")
        self.set_up(dark=dark, scripts=scripts, width=width, height=height)
        self.command("Navigate", url=address)
        wanted = [width, height]
        wait_for("its size", lambda: self.run("return [innerWidth, innerHeight]") == wanted)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function gives in the page."""
        return self.command("ExecuteScript", script=script, args=list(arguments))

    def wait_until(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        wait_for(expression, lambda: self.run(f"return !!({expression})"))

    def open_everything(self) -> None:
        """Open all that is folded."""
        self.run("document.querySelectorAll('details').forEach(d => d.open = true)")

    def click(self, selector: str) -> None:
        """Click, with a pointer, on the first element that a CSS selector names."""
        # The pages scroll smoothly: the driver would click where the element is going to be.
        scroll = "document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})"
        self.run(scroll, selector)
        found = self.command("FindElement", using="css selector", value=selector)
        self.command("ElementClick", id=next(iter(found.values())))

    def download(self, selector: str) -> str:
        """The text of the file that a click brings."""
        self.click(selector)
        whole = wait_for("a download", lambda: self._downloaded())
        text = whole.read_text(encoding="utf-8")
        whole.unlink()
        return str(text)

    def _downloaded(self) -> Path | None:
        """The only file in the folder, once it is whole: Firefox writes beside it at first."""
        before = self._download_sizes()
        if len(before) != 1 or not all(before.values()):
            return None
        # WebKit writes into the file itself.
        time.sleep(0.2)
        return next(iter(before)) if self._download_sizes() == before else None

    def _download_sizes(self) -> dict[Path, int]:
        # Firefox gives the file its name at the end.
        with contextlib.suppress(FileNotFoundError):
            return {path: path.stat().st_size for path in self.downloads.iterdir()}
        return {}

    def type(self, text: str) -> None:
        """Press the keys of ``text``, one after the other."""
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.command("PerformActions", actions=[{"type": "key", "id": "keys", "actions": keys}])

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.command("TakeScreenshot"))


FIREFOX_PREFERENCES = {
    "marionette.port": 0,
    "app.normandy.enabled": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "devtools.console.stdout.chrome": False,
    "devtools.console.stdout.content": True,
    "browser.download.folderList": 2,
    "datareporting.policy.dataSubmissionEnabled": False,
    "messaging-system.rsexperimentloader.enabled": False,
}
# Run once in Firefox's own window: which content asked a network for what.
WATCH = """
window.asked = [];
Services.obs.addObserver(subject => {
  const { loadInfo, URI } = subject.QueryInterface(Ci.nsIHttpChannel);
  if (loadInfo.browsingContextID || loadInfo.triggeringPrincipal.isContentPrincipal)
    window.asked.push(URI.spec);
}, "http-on-opening-request");
"""
SET_UP = """
const [dark, scripts, width, height] = arguments;
window.asked.length = 0;
Services.console.reset();
Services.prefs.setIntPref("layout.css.prefers-color-scheme.content-override", dark ? 0 : 1);
const browser = gBrowser.selectedBrowser;
browser.browsingContext.allowJavascript = scripts;
browser.style.maxWidth = browser.style.width = `${width}px`;
browser.style.maxHeight = browser.style.height = `${height}px`;
"""
# A page's own errors; those of Firefox's parts, which work in the background, come from elsewhere.
COMPLAINTS = """
return Services.console.getMessageArray()
  .filter(message => message instanceof Ci.nsIScriptError)
  .filter(error => /^(file|blob|data):|^http:..127.0.0.1:/.test(error.sourceName))
  .map(error => error.errorMessage);
"""


class Firefox(Window):
    """Firefox without a screen, commanded through its Marionette socket."""

    def begin(self) -> None:
        profile = self.home / "profile"
        profile.mkdir()
        chosen = {**FIREFOX_PREFERENCES, "browser.download.dir": str(self.downloads)}
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in chosen.items()
        ]
        (profile / "user.js").write_text("".join(lines))
        self.log = self.start(
            "firefox-esr",
            *("--headless", "--marionette", "--remote-allow-system-access", "--no-remote"),
            *("--profile", profile, "--width", 1400, "--height", 4_200),
        )
        port = profile / "MarionetteActivePort"
        self.await_start("Firefox's port", lambda: port.exists() and port.read_text().strip())
        self.socket = socket.create_connection(
            ("127.0.0.1", int(port.read_text())), timeout=PATIENCE_S
        )
        self.stream = self.socket.makefile("rb")
        self.numbers = itertools.count(1)
        self._receive()
        self._send("WebDriver:NewSession", {})
        self._in_own_window(WATCH)

    def close(self) -> None:
        if hasattr(self, "stream"):
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                self._send("Marionette:Quit", {"flags": ["eForceQuit"]})
            self.stream.close()
            self.socket.close()
            del self.stream
        super().close()

    def _receive(self) -> Any:
        """One message: its length in bytes, a colon, JSON."""
        length = b""
        while (byte := self.stream.read(1)) != b":":
            if not byte:
                raise RuntimeError("Firefox closed its socket.")
            length += byte
        return json.loads(self.stream.read(int(length)))

    def _send(self, name: str, parameters: dict[str, Any]) -> Any:
        number = next(self.numbers)
        message = json.dumps([0, number, name, parameters]).encode()
        self.socket.sendall(b"%d:%b" % (len(message), message))
        _, answered, error, answer = self._receive()
        if answered != number:
            raise RuntimeError(f"{name}: expected answer {number}, got {answered}.")
        if error:
            raise RuntimeError(f"{name}: {error['error']}: {error['message']}")
        return answer["value"] if set(answer) == {"value"} else answer

    def command(self, name: str, **parameters: Any) -> Any:
        if name == "TakeScreenshot":
            parameters["full"] = False
        return self._send(f"WebDriver:{name}", parameters)

    def _in_own_window(self, script: str, *arguments: Any) -> Any:
        """Run a script in the browser's window around the page."""
        self._send("Marionette:SetContext", {"value": "chrome"})
        try:
            return self.run(script, *arguments)
        finally:
            self._send("Marionette:SetContext", {"value": "content"})

    def set_up(self, *, dark: bool, scripts: bool, width: int, height: int) -> None:
        self._in_own_window(SET_UP, dark, scripts, width, height)
        self.from_here = self.log.stat().st_size

    @property
    def requests(self) -> list[str]:
        return list(self._in_own_window("return window.asked"))

    @property
    def complaints(self) -> list[str]:
        # The last line may be half written.
        said = self.log.read_bytes()[self.from_here :].decode(errors="replace").splitlines()
        calls = [line for line in said if line.startswith("console.")]
        return [*self._in_own_window(COMPLAINTS), *calls]

    def printed(self) -> bytes:
        # Centimetres; Firefox takes margins and size from here, not from the page's style.
        a4 = {"width": 21.0, "height": 29.7}
        return base64.b64decode(self.command("Print", page=a4))


WEBDRIVER = {
    "NewSession": ("POST", ""),
    "Navigate": ("POST", "/url"),
    "ExecuteScript": ("POST", "/execute/sync"),
    "FindElement": ("POST", "/element"),
    "ElementClick": ("POST", "/element/{id}/click"),
    "PerformActions": ("POST", "/actions"),
    "SetWindowRect": ("POST", "/window/rect"),
    "TakeScreenshot": ("GET", "/screenshot"),
    "DeleteSession": ("DELETE", ""),
}


class WebKit(Window):
    """WebKitGTK in a bare window on an invisible display, commanded through WebKitWebDriver."""

    def begin(self) -> None:
        screen = ("-screen", "0", "1400x4200x24", "-nolisten", "tcp")
        display = self.start("Xvfb", "-displayfd", 1, *screen)
        # The server may warn before it says its number.
        number = self.await_start(
            "a display", lambda: re.search(r"^(\d+)\n", display.read_text(), re.M)
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.start(
            *("WebKitWebDriver", f"--port={port}"),
            environment={"DISPLAY": f":{number[1]}", "NO_AT_BRIDGE": "1"},
        )
        self.await_start("WebKit's driver", lambda: _answers(port))
        self.log = self.home / "window.log"
        self.control = self.home / "control.json"
        self.numbers = itertools.count(1)
        self.address = f"http://127.0.0.1:{port}/session"
        # Without line buffering the console would be lost in a pipe.
        line = 'exec stdbuf -oL "$0" "$1" "$2" "$3" >"$4" 2>&1'
        words = (DEBIAN_PYTHON, HERE / "webkit_window.py", self.control, self.downloads, self.log)
        browser = {"binary": "/bin/sh", "args": ["-c", line, *map(str, words)]}
        options = {"webkitgtk:browserOptions": browser}
        session = self.command("NewSession", capabilities={"alwaysMatch": options})
        self.address += f"/{session['sessionId']}"
        self.process = int(self._read_line("PID"))
        self.from_here = 0

    def close(self) -> None:
        if hasattr(self, "process"):
            with contextlib.suppress(OSError, RuntimeError):
                self.command("DeleteSession")
            del self.process
        super().close()

    def command(self, name: str, **parameters: Any) -> Any:
        method, path = WEBDRIVER[name]
        request = urllib.request.Request(
            self.address + path.format(**parameters),
            method=method,
            data=json.dumps(parameters).encode() if method == "POST" else None,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as refusal:
            error = json.load(refusal)["value"]
            raise RuntimeError(f"{name}: {error['error']}: {error['message']}") from None

    def _read_line(self, start: str) -> str:
        """The rest of the line of the window's log that begins with ``start``."""
        line = re.compile(rf"^{re.escape(start)} ?(.*)\n", re.MULTILINE)
        return str(wait_for(start, lambda: line.search(self.log.read_text(errors="replace")))[1])

    def _order(self, **wanted: Any) -> None:
        """Make the window do something, and wait until it did."""
        number = next(self.numbers)
        self.control.write_text(json.dumps({**wanted, "number": number}))
        os.kill(self.process, signal.SIGUSR1)
        self._read_line(f"OBEYED {number}")

    def set_up(self, *, dark: bool, scripts: bool, width: int, height: int) -> None:
        self.state = {"dark": dark, "scripts": scripts}
        self._order(**self.state, pdf=None)
        self.command("SetWindowRect", width=width, height=height)
        self.from_here = self.log.stat().st_size

    def _lines(self) -> list[str]:
        """The lines of the log since `open`, down to a line that is written now."""
        mark = f"read to here {next(self.numbers)}"
        self.run("console.log(arguments[0])", mark)
        written = wait_for(mark, lambda: _up_to(mark, self.log.read_bytes()[self.from_here :]))
        return [line for line in written.splitlines() if "read to here" not in line]

    @property
    def requests(self) -> list[str]:
        asked = [line.partition(" ")[2] for line in self._lines() if line.startswith("REQUEST ")]
        return [address for address in asked if not address.startswith("about:")]

    @property
    def complaints(self) -> list[str]:
        return [line for line in self._lines() if re.search(r"\bCONSOLE |^DIALOG ", line)]

    def printed(self) -> bytes:
        target = self.folder / "printed.pdf"
        self._order(**self.state, pdf=str(target))
        return target.read_bytes()


def _up_to(mark: str, log: bytes) -> str:
    text, found, _ = log.decode(errors="replace").partition(mark)
    return text + mark if found else ""


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


ENGINES: dict[str, type[Window]] = {"firefox": Firefox, "webkit": WebKit}
