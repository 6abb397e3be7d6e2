"""An answer over http or https: few redirects, timeouts for connecting and for stalling, and several tries.

What may pass (a busy server, a broken connection) is tried again with growing pauses; what will not pass is told at once.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from towerkit._version import __version__
from towerkit.core.errors import FetchError

Tell = Callable[[str], None]
T = TypeVar("T")

_CHUNK = 1 << 16
_SLOWEST_BYTES = 1024
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Policy:
    """How long to wait and how often to try."""

    connect_s: float = 20.0
    stall_s: float = 30.0
    """An attempt ends when fewer than 1,024 bytes came in this time."""
    attempts: int = 5
    pause_s: float = 1.0
    """Before the second attempt; doubled before each further one."""
    longest_pause_s: float = 60.0
    redirects: int = 5


class TryAgain(Exception):
    """Something that may pass; ``wait_s`` is how long the server asks to wait, if it does."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class RangeRefused(Exception):
    """What was asked for is no part of what the server has."""


class _Gone(FetchError):
    """The server says that there is no such file."""


@dataclass(frozen=True)
class Answer:
    """What a server answered; its body comes in chunks."""

    status: int
    headers: Any
    is_chunked: bool
    """Whether the answer marks its own end."""
    read: Callable[[int], bytes]
    stall_s: float

    def chunks(self) -> Iterator[bytes]:
        """What the server sends, for as long as it sends enough of it.

        Raises:
            TryAgain: If it stalls or breaks off.
        """
        since, got = time.monotonic(), 0
        while True:
            try:
                chunk = self.read(_CHUNK)
            except TimeoutError:
                raise TryAgain(f"the server stalled: nothing came for {self.stall_s:g} s") from None
            except (OSError, http.client.HTTPException) as error:
                raise TryAgain(f"the connection broke ({_reason(error)})") from None
            if not chunk:
                return
            got += len(chunk)
            if got >= _SLOWEST_BYTES:
                since, got = time.monotonic(), 0
            elif time.monotonic() - since > self.stall_s:
                raise TryAgain(f"the server stalled: {got:,} bytes came in {self.stall_s:g} s")
            yield chunk


@contextmanager
def opened(url: str, headers: dict[str, str], policy: Policy) -> Iterator[Answer]:
    """Ask for ``url``; the answer is closed when the block ends.

    Raises:
        FetchError: If the server refuses.
        TryAgain: If it is busy or cannot be reached.
        RangeRefused: If it has no such part.
    """
    check_address(url)
    asked = {"User-Agent": f"towerkit/{__version__}", "Accept-Encoding": "identity", **headers}
    request = urllib.request.Request(url, headers=asked)  # noqa: S310 - check_address allows http and https alone
    try:
        response = _opener(policy).open(request, timeout=policy.connect_s)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, error, policy, "Range" in headers) from None
    except TimeoutError:
        raise TryAgain("no answer in time") from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise TryAgain(f"cannot connect ({_reason(error)})") from None
    with response:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            raise FetchError(f"{url}: the server packed the answer ({encoding}) though that was not asked for.")
        is_chunked = bool(getattr(response, "chunked", False))
        yield Answer(response.status, response.headers, is_chunked, response.read1, policy.stall_s)


def tried(url: str, policy: Policy, tell: Tell, action: Callable[[], T]) -> T:
    """The result of ``action``, tried again with growing pauses while its failure may pass.

    Raises:
        FetchError: If it will not pass, or did not pass in all attempts.
    """
    reasons: list[str] = []
    for attempt in range(1, policy.attempts + 1):
        try:
            return action()
        except TryAgain as error:
            reasons.append(str(error))
            if attempt < policy.attempts:
                wait = _wait(url, error, policy, attempt)
                tell(f"{error}; attempt {attempt + 1} of {policy.attempts} in {wait:.3g} s")
                time.sleep(wait)
    told = "; ".join(dict.fromkeys(reasons))
    raise FetchError(
        f"{url}: given up after {policy.attempts} attempts ({told}). Check the connection and run it again."
    )


def _wait(url: str, error: TryAgain, policy: Policy, attempt: int) -> float:
    wait = min(policy.pause_s * 2 ** (attempt - 1), policy.longest_pause_s)
    if (error.wait_s or 0.0) > policy.longest_pause_s:
        raise FetchError(
            f"{url}: {error}, and asks to wait {error.wait_s:,.0f} s, longer than the {policy.longest_pause_s:g} s "
            "that a fetch waits. Run it again later."
        )
    return max(wait, error.wait_s or 0.0)


def read_small(url: str, *, max_bytes: int, policy: Policy, tell: Tell) -> str | None:
    """A short text, such as a checksum; None where the server says that there is none (404, 410).

    Raises:
        FetchError: If it cannot be read or is longer than ``max_bytes``.
    """

    def attempt() -> str | None:
        found = b""
        try:
            with opened(url, {}, policy) as answer:
                for chunk in answer.chunks():
                    found += chunk
                    if len(found) > max_bytes:
                        raise FetchError(f"{url}: expected a text of at most {max_bytes:,} bytes, and more came.")
        except _Gone:
            return None
        return found.decode("utf-8", errors="replace")

    return tried(url, policy, tell, attempt)


def check_address(url: str) -> None:
    """Refuse what is not http or https: a ``file:`` address would read this machine's own disk.

    Raises:
        FetchError: If it is anything else.
    """
    if urllib.parse.urlsplit(url).scheme.lower() not in ("http", "https"):
        raise FetchError(f"{url}: only http and https addresses are fetched.")


def _refused(url: str, error: urllib.error.HTTPError, policy: Policy, has_range: bool) -> Exception:
    said = f"{error.code} {error.reason}".strip().splitlines()[0]
    if error.code == 416 and has_range:
        return RangeRefused(said)
    if error.code in _PASSING:
        return TryAgain(f"the server answered {said}", _retry_after(error.headers.get("Retry-After")))
    if error.code in _REDIRECTS:
        return FetchError(f"{url}: {_wrong_redirect(error, policy)}; see the page of the data set.")
    if error.code in (404, 410):
        return _Gone(f"{url}: the server answered {said}; the publisher moved the file. See the page of the data set.")
    return FetchError(f"{url}: the server answered {said}. See the page of the data set for how it is given out.")


def _wrong_redirect(error: urllib.error.HTTPError, policy: Policy) -> str:
    if error.headers.get("Location") is None:
        return f"the server answered {error.code}, another address, without giving one"
    if urllib.parse.urlsplit(error.url).scheme.lower() not in ("http", "https"):
        return f"redirects to {error.url}, but only http and https addresses are fetched"
    return f"redirected more than {policy.redirects} times, last to {error.url}"


def _retry_after(written: str | None) -> float | None:
    """Seconds to wait, from a number or a date; None when the server says nothing usable."""
    if written is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", written.strip()):
        return float(written)
    try:
        return max(0.0, parsedate_to_datetime(written).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or error) or type(error).__name__


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and none from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request, or a refusal."""
        try:
            check_address(newurl)
        except FetchError:
            fp.close()  # urllib closes it only when the redirect is followed
            raise
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            fp.close()
            raise FetchError(
                f"{req.full_url}: redirects to {newurl}, from https to http, where anybody could forge it."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(policy: Policy) -> urllib.request.OpenerDirector:
    """Only http and https: the usual opener would also open ``file:``, ``ftp:`` and ``data:``."""

    class _Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(policy.stall_s)

    class _Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(policy.stall_s)

    class _Http(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(_Plain, req)

    class _Https(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(_Secure, req)

    class _Few(_Redirects):
        max_redirections = max_repeats = policy.redirects

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        _Few(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
