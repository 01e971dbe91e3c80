"""One bare window of WebKitGTK, for WebKit's own driver to command; `browsers.py` starts it.

    /usr/bin/python3 webkit_window.py CONTROL DOWNLOADS

Debian's MiniBrowser gives an automated page none of the settings of its command line.  This window
writes the console, every request and every dialog to standard output, and at SIGUSR1 does what the
JSON file CONTROL says: the colour scheme, scripts on or off, a page printed to a PDF file.  Files
are saved in the folder DOWNLOADS.
Runs with Debian's Python, which has the bindings (python3-gi, gir1.2-webkit2-4.1).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("WebKit2", "4.1")

from gi.repository import GLib, Gtk, WebKit2  # noqa: E402

A4 = Gtk.PaperSize.new("iso_a4")


def say(*words: object) -> None:
    print(*words, flush=True)


class Window:
    """The only window, and what its page asks for."""

    def __init__(self, control: Path, downloads: Path) -> None:
        self.control = control
        self.downloads = downloads
        self.settings = WebKit2.Settings(enable_write_console_messages_to_stdout=True)
        context = WebKit2.WebContext.get_default()
        context.set_automation_allowed(True)
        context.connect("automation-started", self.start)
        context.connect("download-started", self.save)
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, self.obey)

    def start(self, _: Any, session: Any) -> None:
        about = WebKit2.ApplicationInfo()
        about.set_name("webkit_window")
        session.set_application_info(about)
        session.connect("create-web-view", self.show)

    def save(self, _: Any, download: Any) -> None:
        download.connect("decide-destination", self.place)

    def place(self, download: Any, name: str) -> bool:
        download.set_destination((self.downloads / name).as_uri())
        return True

    def show(self, _: Any) -> Any:
        self.view = WebKit2.WebView(is_controlled_by_automation=True, settings=self.settings)
        self.view.connect("resource-load-started", lambda _, __, r: say("REQUEST", r.get_uri()))
        self.view.connect("script-dialog", lambda _, dialog: say("DIALOG", dialog.get_message()))
        window = Gtk.Window()
        window.add(self.view)
        # Nobody manages windows on this display; without the focus a page shows none either.
        window.connect("map-event", lambda shown, _: shown.get_window().focus(0))
        window.show_all()
        say("PID", os.getpid())
        return self.view

    def obey(self) -> bool:
        """Do what the file says."""
        wanted = json.loads(self.control.read_text())
        self.settings.set_property("enable-javascript-markup", wanted["scripts"])
        scheme = "gtk-application-prefer-dark-theme"
        Gtk.Settings.get_default().set_property(scheme, wanted["dark"])
        if wanted["pdf"]:
            self.print(wanted["pdf"])
        else:
            say("OBEYED", wanted["number"])
        return True

    def print(self, pdf: str) -> None:
        settings = Gtk.PrintSettings()
        settings.set(Gtk.PRINT_SETTINGS_PRINTER, "Print to File")
        settings.set(Gtk.PRINT_SETTINGS_OUTPUT_FILE_FORMAT, "pdf")
        settings.set(Gtk.PRINT_SETTINGS_OUTPUT_URI, Path(pdf).as_uri())
        setup = Gtk.PageSetup()
        setup.set_paper_size_and_default_margins(A4)
        self.printing = WebKit2.PrintOperation(
            web_view=self.view, print_settings=settings, page_setup=setup
        )
        number = json.loads(self.control.read_text())["number"]
        self.printing.connect("finished", lambda _: say("OBEYED", number))
        self.printing.connect("failed", lambda _, error: say("FAILED", error.message))
        self.printing.print_()


if __name__ == "__main__":
    WINDOW = Window(Path(sys.argv[1]), Path(sys.argv[2]))
    Gtk.main()
