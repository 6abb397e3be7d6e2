"""One file over HTTP: resumed where the server allows it, and believed only when its end was seen.

A file grows as ``NAME.part``; beside it, ``NAME.part.json`` says from which address and version it comes. The next
attempt asks for the rest *of that version* (``Range`` with ``If-Range``); a server that answers with the whole file
starts it afresh. A file counts as whole when the declared length arrived or the chunked answer was closed properly; a
plain connection that just ends proves nothing, and is refused.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerkit.core.errors import FetchError
from towerkit.data.http import Answer, Policy, RangeRefused, Tell, TryAgain, opened, tried

_TELL_EVERY_S = 2.0


@dataclass(frozen=True)
class _State:
    """What a part is a part of."""

    url: str
    validator: str | None
    """A strong ETag, or else the date of the version."""
    total: int | None


def download(url: str, part: Path, *, max_bytes: int, policy: Policy, tell: Tell) -> None:
    """Bring a file to ``part``, continuing what an earlier call left there.

    Args:
        url: An http or https address.
        part: Where the bytes go; its state lies beside it.
        max_bytes: A longer file is refused.
        policy: Waiting and trying.
        tell: Told the progress, one line at a time.

    Raises:
        FetchError: With the address, what the server did and what to do.
    """
    for path in (part, _state_path(part)):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise FetchError(f"{path} is not a plain file, so nothing is written through it; move it away.")
    try:
        tried(url, policy, tell, lambda: _attempt(url, part, max_bytes, policy, tell))
    except FetchError as error:
        kept, _ = _resumable(part, url)
        again = f" {kept:,} bytes are kept in {part}; the same command continues there." if kept else ""
        raise FetchError(f"{error}{again}") from None
    _state_path(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, max_bytes: int, policy: Policy, tell: Tell) -> None:
    offset, state = _resumable(part, url)
    if offset and offset == state.total:
        return
    headers = {"Range": f"bytes={offset}-", "If-Range": str(state.validator)} if offset else {}
    try:
        with opened(url, headers, policy) as answer:
            if answer.status == 206:
                _check_continues(answer, offset, state)
            else:
                if offset:
                    tell(f"{part.name}: the server sends the whole file, not the rest, so it starts afresh")
                offset, state = 0, _State(url, _validator(answer), _declared(answer, url))
            if (state.total or 0) > max_bytes:
                _forget(part)
                raise FetchError(
                    f"{url}: the server declares {state.total:,} bytes, more than the {max_bytes:,} that this file may "
                    "have, so it is not the file that was meant; nothing was fetched."
                )
            _receive(answer, part, offset, state, max_bytes, tell)
    except RangeRefused:
        _forget(part)
        raise TryAgain("the server answered with a part that does not fit, so the file starts afresh") from None


def _receive(answer: Answer, part: Path, offset: int, state: _State, max_bytes: int, tell: Tell) -> None:
    """Append what comes to ``part``, from ``offset`` on."""
    with _writing(part):
        if not offset:
            _begin(part, state)
        file = open(part, "ab")
    received, told = offset, time.monotonic()
    try:
        for chunk in answer.chunks():
            received += len(chunk)
            if received > max_bytes:
                break
            with _writing(part):
                file.write(chunk)
            if time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                tell(_progress(part, received, state.total))
        with _writing(part):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with _writing(part):
            file.close()
    if received > max_bytes:
        _forget(part)
        raise FetchError(
            f"{state.url}: sent more than the {max_bytes:,} bytes that this file may have; what came was thrown away."
        )
    if state.total is not None and received < state.total:
        raise TryAgain(f"the connection ended after {received:,} of {state.total:,} bytes")
    tell(_progress(part, received, state.total))


def _progress(part: Path, received: int, total: int | None) -> str:
    of = "" if total is None else f" of {total / 1e6:.1f}"
    return f"{part.name.removesuffix('.part')}: {received / 1e6:.1f}{of} MB"


def _declared(answer: Answer, url: str) -> int | None:
    """The length of a whole answer; None for a chunked one, whose end is marked."""
    length = answer.headers.get("Content-Length")
    if answer.is_chunked:
        return None
    if length is not None and re.fullmatch(r"[0-9]{1,15}", length.strip()):
        return int(length)
    raise FetchError(
        f"{url}: the server declares no length (Content-Length: {length!r}), so a whole file could not be told from half of one."
    )


def _check_continues(answer: Answer, offset: int, state: _State) -> None:
    """Make sure that the rest belongs to the part we have."""
    written = str(answer.headers.get("Content-Range", "")).strip()
    found = re.fullmatch(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", written)
    if not offset or found is None:
        raise RangeRefused(written)
    known = _validator(answer)
    if int(found[1]) != offset or int(found[3]) != state.total or known not in (None, state.validator):
        raise RangeRefused(written)


def _validator(answer: Answer) -> str | None:
    """What names this version of the file; a weak ETag does not, for it also covers files that only mean the same."""
    tag = answer.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return str(tag)
    modified = answer.headers.get("Last-Modified")
    return None if modified is None else str(modified)


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _resumable(part: Path, url: str) -> tuple[int, _State]:
    """How many bytes can be kept, and the version they are of."""
    nothing = 0, _State(url, None, None)
    try:
        found: Any = json.loads(_state_path(part).read_bytes())
        size = part.stat().st_size
    except (OSError, ValueError, RecursionError):
        return nothing
    if not isinstance(found, dict) or found.get("url") != url:
        return nothing
    validator, total = found.get("validator"), found.get("total")
    if not isinstance(validator, str) or not validator.isprintable() or not isinstance(total, int):
        return nothing
    return (size, _State(url, validator, total)) if 0 < size <= total else nothing


def _begin(part: Path, state: _State) -> None:
    """An empty part and its state: the old state goes first and the new one comes last, so that no bytes meet a wrong one."""
    _state_path(part).unlink(missing_ok=True)
    part.write_bytes(b"")
    _state_path(part).write_text(json.dumps(vars(state)), encoding="utf-8")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"{part} cannot be written ({error.strerror or error}); free some space, or choose another folder with --to."
        ) from None
