"""A headless browser for tests of pages: opens a file, says what went wrong in it, measures it and takes its picture.

It drives Debian's ``chromium`` over a pair of pipes with the DevTools protocol, so that nothing else needs to be installed.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # a container has no user namespaces; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_PATIENCE_S = 60.0
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    " ": (32, " "),
    "ArrowLeft": (37, ""),
    "ArrowUp": (38, ""),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
    "+": (187, "+"),
    "-": (189, "-"),
}
"""Key -> its number, and what it types."""


def program() -> str | None:
    """The path of a browser; None where none is installed, or none can be handed a pair of pipes (Windows)."""
    if not hasattr(os, "posix_spawn"):
        return None
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass
class Page:
    """An opened page."""

    _browser: _Pipes
    _session: str
    problems: list[str] = field(default_factory=list)
    """What the console said, errors of scripts among it, and what the page's policy refused."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for, the page's own first."""

    def open(self, address: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Go to an address and wait until it is loaded; what was noted of an earlier one is forgotten.

        Args:
            address: For example ``Path("report.html").resolve().as_uri()``.
            width: Of the window, in pixels; below 600 it is a phone's.
            height: Of the window.
            dark: Whether the reader prefers dark pages.
        """
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **sizes)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.problems.clear()
        self.requests.clear()
        self.call("Page.navigate", url=address)
        self._browser.wait_for("Page.loadEventFired", self._note)

    def ask(self, script: str) -> Any:
        """The value of an expression in the page.

        Args:
            script: JavaScript; its value, or what it promises, must be plain data.
        """
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"the page cannot say {script!r}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a reader without a mouse does.

        Args:
            *keys: Names as ``KeyboardEvent.key`` has them: ``Tab``, ``Enter``, ``ArrowLeft``, or one character.
        """
        for key in keys:
            code, text = _KEYS.get(key, (ord(key.upper()) if len(key) == 1 else 0, key if len(key) == 1 else ""))
            about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as PNG.

        Args:
            path: The file.
            whole: The page to its end, not only what the window shows.
        """
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        return self._browser.call(method, parameters, self._session, self._note)

    def _note(self, event: Mapping[str, Any]) -> None:
        about = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.problems.append(str(about["exceptionDetails"].get("text")))
        elif event["method"] == "Runtime.consoleAPICalled":
            self.problems.append(" ".join(str(each.get("value")) for each in about["args"]))
        elif event["method"] == "Log.entryAdded":
            self.problems.append(about["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])


@contextmanager
def browser() -> Iterator[Page]:
    """A new browser with an empty page; it ends with the block.

    Raises:
        FileNotFoundError: If none is installed.
    """
    path = program()
    if path is None:
        raise FileNotFoundError(f"none of {', '.join(PROGRAMS)} is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pipes = _Pipes(path, folder)
        try:
            target = pipes.call("Target.createTarget", {"url": "about:blank"})["targetId"]
            found = pipes.call("Target.attachToTarget", {"targetId": target, "flatten": True})
            yield Page(pipes, found["sessionId"])
        finally:
            pipes.close()


class _Pipes:
    """A browser process and the two pipes to it; a message ends with a zero byte."""

    def __init__(self, path: str, folder: str) -> None:
        import fcntl  # there is none on Windows, where program() finds no browser

        (read_here, write_there), (read_there, write_here) = os.pipe(), os.pipe()
        # The browser reads from descriptor 3 and writes to 4: first out of the way of these numbers.
        theirs = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (read_there, write_there)]
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        handed = [(os.POSIX_SPAWN_DUP2, each, number) for number, each in enumerate(theirs, start=3)]
        command = [path, *_FLAGS, f"--user-data-dir={folder}"]
        self._process = os.posix_spawn(path, command, os.environ, file_actions=[*null, *handed])
        for each in (read_there, write_there, *theirs):
            os.close(each)
        self._read, self._write, self._number, self._rest = read_here, write_here, 0, b""

    def call(self, method: str, parameters: Mapping[str, Any], session: str | None = None, note: Any = None) -> Any:
        """Ask, and wait for the answer; what happens meanwhile is noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": dict(parameters)}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            found = self._next(note)
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]

    def wait_for(self, event: str, note: Any) -> None:
        """Wait until something has happened."""
        end = time.monotonic() + _PATIENCE_S
        while self._next(note).get("method") != event:
            if time.monotonic() > end:
                raise TimeoutError(f"no {event} within {_PATIENCE_S:g} s")

    def _next(self, note: Any) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        if note is not None and "method" in found:
            note(found)
        return found

    def close(self) -> None:
        """End it."""
        os.close(self._write)
        os.kill(self._process, signal.SIGTERM)
        end = time.monotonic() + 10.0
        while os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
            time.sleep(0.02)
        os.close(self._read)
