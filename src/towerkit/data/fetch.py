"""Fetch a public data set: its terms first, each file checked, nothing ever overwritten.

``checksums.json`` in the set's folder says what each file was when it first came. Where the publisher states an MD5,
that decides; elsewhere the first fetch decides, and a later one that brings other bytes is refused.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from towerkit.core.errors import FetchError, listed, nearest
from towerkit.data.arrivals import check_content
from towerkit.data.download import download
from towerkit.data.http import Policy, Tell, read_small
from towerkit.data.locations import DATA_VARIABLE
from towerkit.data.public_sets import PUBLIC_SETS, PublicFile, PublicSet
from towerkit.storage.atomic import atomic_write_bytes
from towerkit.storage.hashes import read_json, write_json
from towerkit.storage.lock import folder_lock

CHECKSUMS, NOTE = "checksums.json", "LICENSE-NOTE.txt"
_FETCHED, _THERE = "fetched", "already there"


@dataclass(frozen=True)
class FetchedFile:
    """One file of a fetched set."""

    name: str
    state: str
    """``fetched`` or ``already there``."""
    bytes: int
    sha256: str
    checked: str
    """What the content was compared with."""


@dataclass(frozen=True)
class FetchedSet:
    """What :func:`fetch` did, and how a spec reads it."""

    name: str
    folder: str
    page: str
    terms: str
    redistribution: str
    files: tuple[FetchedFile, ...]
    snippet: str


@dataclass(frozen=True)
class _Sums:
    bytes: int
    sha256: str
    md5: str


def default_folder() -> Path:
    """Where data sets go: ``$TOWERKIT_DATA`` when it is set, else ``data`` in the current directory."""
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def public_set(name: str, sets: Mapping[str, PublicSet] = PUBLIC_SETS) -> PublicSet:
    """The set of this name.

    Raises:
        FetchError: If there is none, with the names there are.

    Example:
        >>> public_set("ml-100k").page
        'https://grouplens.org/datasets/movielens/'
    """
    if name not in sets:
        raise FetchError(
            f"There is no public data set '{name}'{nearest(name, sets) or '.'} The sets are {listed(sets)}."
        )
    return sets[name]


def announcement(wanted: PublicSet, folder: Path) -> str:
    """What is said before anything is fetched, and stored beside the files."""
    addresses = "\n".join(f"  {file.url}" for file in wanted.files)
    return (
        f"{wanted.name}: {wanted.about}\nFrom:\n{addresses}\nTo: {folder}\nPage of the publisher: {wanted.page}\n"
        f"Terms, in short (the publisher's own text decides): {wanted.terms}\nPassing it on: {wanted.redistribution}"
    )


def fetch(wanted: PublicSet, to: Path, *, policy: Policy, tell: Tell) -> FetchedSet:
    """Fetch the files of a set that are not there yet, and check those that are.

    Args:
        wanted: The set; see :func:`public_set`.
        to: The files go into the folder of the set's name below this one.
        policy: Waiting and trying.
        tell: Told the terms, then the progress, one line at a time.

    Raises:
        FetchError: If a file cannot be fetched, is not what was promised, or would take the place of another.
        RunError: If another process fetches the same set into the same folder.
    """
    folder = to / wanted.name
    tell(announcement(wanted, folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"The folder {folder} cannot be made ({error.strerror or error}); choose another one with --to."
        ) from None
    with folder_lock(folder):
        if not os.path.lexists(folder / NOTE):
            atomic_write_bytes(folder / NOTE, f"{announcement(wanted, folder)}\n".encode())
        files = tuple(_Place(file, folder, policy, tell).bring() for file in wanted.files)
    snippet = wanted.snippet(_as_written(folder))
    return FetchedSet(wanted.name, str(folder), wanted.page, wanted.terms, wanted.redistribution, files, snippet)


def _as_written(folder: Path) -> str:
    """The folder as a spec names it: below ``${TOWERKIT_DATA}`` where that is its place, else in full."""
    root = os.environ.get(DATA_VARIABLE)
    full = Path(os.path.abspath(folder))
    if root and full.is_relative_to(os.path.abspath(root)):
        return f"${{{DATA_VARIABLE}}}/{full.relative_to(os.path.abspath(root)).as_posix()}"
    return full.as_posix()


@dataclass(frozen=True)
class _Place:
    """One file and where it goes."""

    file: PublicFile
    folder: Path
    policy: Policy
    tell: Tell

    @property
    def path(self) -> Path:
        return self.folder / self.file.name

    def bring(self) -> FetchedFile:
        record = self._records().get(self.file.name)
        if os.path.lexists(self.path):
            if not self.path.is_file():
                raise FetchError(f"{self.path} exists and is not a file; it is never overwritten. Move it away.")
            return self._keep(record)
        stated = self._stated_md5()
        sums, part = self._download()
        try:
            checked = self._check(sums, stated, record)
            check_content(part, self.file)
        except FetchError:
            part.unlink(missing_ok=True)
            raise
        self._put_in_place(part)
        self._write_record(sums, checked)
        return FetchedFile(self.file.name, _FETCHED, sums.bytes, sums.sha256, checked)

    def _keep(self, record: Mapping[str, Any] | None) -> FetchedFile:
        """Compare a file that is there with what is known of it; without any record, with what the publisher has."""
        sums = _sums(self.path)
        if record is not None:
            if record["sha256"] != sums.sha256:
                raise FetchError(
                    f"{self.path} is not as it was fetched: SHA-256 {sums.sha256}, but {CHECKSUMS} says "
                    f"{record['sha256']}. It is never overwritten; move it away to fetch it again."
                )
            return FetchedFile(
                self.file.name, _THERE, sums.bytes, sums.sha256, "the SHA-256 recorded when it was fetched"
            )
        stated = self._stated_md5()
        if stated is None:
            self.tell(f"{self.path} exists without a record, so the publisher's file is fetched to compare")
            theirs, part = self._download()
            part.unlink()
            equal, checked = theirs.sha256 == sums.sha256, "the publisher's file, fetched to compare"
        else:
            equal, checked = stated == sums.md5, f"the MD5 stated at {self.file.md5_url}"
        if not equal:
            raise FetchError(
                f"{self.path} exists and differs from {checked} (its SHA-256 is {sums.sha256}). It is never "
                "overwritten; move it away, or choose another folder with --to."
            )
        self._write_record(sums, checked)
        return FetchedFile(self.file.name, _THERE, sums.bytes, sums.sha256, checked)

    def _download(self) -> tuple[_Sums, Path]:
        part = self.folder / f"{self.file.name}.part"
        download(self.file.url, part, max_bytes=self.file.max_bytes, policy=self.policy, tell=self.tell)
        return _sums(part), part

    def _stated_md5(self) -> str | None:
        """The MD5 that the publisher states; None, and said so, where there is none (any more)."""
        url = self.file.md5_url
        if url is None:
            return None
        text = read_small(url, max_bytes=4096, policy=self.policy, tell=self.tell)
        if text is None:
            self.tell(f"{url} is gone, so the publisher's MD5 cannot be compared")
            return None
        lines = [line for line in text.splitlines() if re.search(r"(?i)\b[0-9a-f]{32}\b", line)]
        named = [line for line in lines if self.file.name in line] or lines
        if len(named) != 1:
            raise FetchError(
                f"{url}: expected one MD5 of {self.file.name}, received {text[:80]!r}; nothing was fetched."
            )
        return re.findall(r"(?i)\b[0-9a-f]{32}\b", named[0])[-1].lower()

    def _check(self, sums: _Sums, stated: str | None, record: Mapping[str, Any] | None) -> str:
        """Compare what came with what was stated or recorded; the words for what it was compared with."""
        if stated is not None and stated != sums.md5:
            raise FetchError(
                f"{self.file.url}: the {sums.bytes:,} bytes that came have the MD5 {sums.md5}, but {self.file.md5_url} "
                f"states {stated}. They were thrown away; run it again, and ask the publisher if that does not help."
            )
        if record is not None and record["sha256"] != sums.sha256:
            raise FetchError(
                f"{self.file.url} changed since it was first fetched on {record['fetched']}: SHA-256 "
                f"{record['sha256']} then, {sums.sha256} now ({record['bytes']:,} and {sums.bytes:,} bytes). What came "
                f"was thrown away. If you want the new one, fetch it to another folder with --to, or remove "
                f"'{self.file.name}' from {self.folder / CHECKSUMS}."
            )
        elsewhere = self.file.md5_elsewhere
        if elsewhere is not None and elsewhere != sums.md5:
            self.tell(f"{self.file.name}: its MD5 {sums.md5} is not the {elsewhere} that the RecZoo collection states")
        if stated is not None:
            return f"the MD5 stated at {self.file.md5_url}"
        if record is not None:
            return "the SHA-256 recorded when it was first fetched"
        return "nothing: its SHA-256 is recorded now, for the next time" + (
            " (its MD5 agrees with the RecZoo collection's)" if elsewhere == sums.md5 else ""
        )

    def _put_in_place(self, part: Path) -> None:
        """Rename, refusing what appeared meanwhile: a link fails where a rename would replace."""
        try:
            os.link(part, self.path)
        except FileExistsError:
            raise FetchError(f"{self.path} appeared while it was fetched; it is never overwritten.") from None
        except OSError:  # a file system without links; only this process holds the folder's lock
            os.rename(part, self.path)  # noqa: PTH104
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)

    def _records(self) -> dict[str, dict[str, Any]]:
        path = self.folder / CHECKSUMS
        if not path.exists():
            return {}
        found = read_json(path)
        entries = found.values() if isinstance(found, dict) else [None]
        if not all(isinstance(entry, dict) and {"sha256", "bytes", "fetched"} <= entry.keys() for entry in entries):
            raise FetchError(f"{path} is not one that towerkit wrote; move it away.")
        return dict(found)

    def _write_record(self, sums: _Sums, checked: str) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry = {**asdict(sums), "url": self.file.url, "fetched": now, "checked": checked}
        write_json(self.folder / CHECKSUMS, {**self._records(), self.file.name: entry})


def _sums(path: Path) -> _Sums:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
                md5.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise FetchError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from None
    return _Sums(size, sha256.hexdigest(), md5.hexdigest())
