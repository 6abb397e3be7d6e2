"""The manifest of a Run: which files it has, how long they are, and the SHA-256 of each.

A folder passes :func:`verify` only if it holds exactly the files that were written, byte for byte; nothing in it is
run or unpickled to find out. The manifest seals itself with a hash of its own content. That finds damage and careless
edits; it is no signature: who can rewrite the whole folder can also rewrite the hashes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from towerkit._version import __version__
from towerkit.core.errors import RunError, listed, nearest
from towerkit.storage.atomic import MANIFEST_NAME, atomic_write_bytes, is_run, why_missing
from towerkit.storage.hashes import MAX_JSON_BYTES, content_hash, json_bytes, parse_json, read_bytes, sha256_file
from towerkit.storage.migrations import FORMAT_VERSION, upgraded

_FIRST_KEYS = ("format", "towerkit", "kind", "created", "files", "extra", "seal")
_KEYS = {1: _FIRST_KEYS, 2: (*_FIRST_KEYS, "space")}
"""Format -> the keys of its manifest."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORBIDDEN = re.compile(r"[\\:\x00-\x1f\x7f\ud800-\udfff]")  # a colon is a drive or a stream on Windows
_AGAIN = "copy the Run again from where it was whole, or train again"


@dataclass(frozen=True)
class FileEntry:
    """What the manifest knows about one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``."""

    format: int
    """Version of the folder layout it was written in; the other fields are brought to this version's format."""
    towerkit: str
    """Version of the library that wrote the Run."""
    kind: str
    """What the Run holds, for example ``two_tower``."""
    created: str
    """Time of writing, ISO 8601, UTC."""
    files: Mapping[str, FileEntry]
    """Relative POSIX path -> entry, for every file but the manifest itself, sub-folders included."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the writer wants to keep; the only place for unknown keys."""
    space: str | None = None
    """The embedding-space id, as written; None where the model has no vectors to compare, or format 1 wrote no id."""


def write_manifest(
    folder: str | Path, *, kind: str, extra: Mapping[str, Any] | None = None, space: str | None = None
) -> Manifest:
    """Hash every file in ``folder``, sub-folders included, and write its ``manifest.json``. Do this last.

    Args:
        folder: A folder that holds all files of the Run.
        kind: What the Run holds.
        extra: A JSON-able mapping to keep beside the hashes.
        space: The embedding-space id, 64 hexadecimal digits.

    Returns:
        The manifest as written.

    Raises:
        RunError: If the folder is missing, holds a symbolic link or a file name that is not portable, or has so many
            files that the manifest passes 4 MB.
    """
    folder = Path(folder)
    if not kind:
        raise RunError(f"{folder}: the kind of a Run must be a text, received ''; say what the Run holds.")
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder; write the files of the Run before its manifest.")
    files = {}
    for name in sorted(_files_on_disk(folder)):
        problem = _path_problem(name)
        if problem:
            raise RunError(f"{folder}: the file name {name!r} {problem}; rename the file.")
        files[name] = FileEntry(sha256_file(folder / name), (folder / name).stat().st_size)
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    manifest = Manifest(FORMAT_VERSION, __version__, kind, created, files, dict(extra or {}), space)
    # Not dataclasses.asdict, which would follow a value that holds itself without end.
    content = vars(manifest) | {"files": {name: vars(entry) for name, entry in files.items()}}
    data = _sealed_bytes(content, folder / MANIFEST_NAME)
    if len(data) > MAX_JSON_BYTES:
        raise RunError(
            f"{folder}: a manifest of {len(files):,} files has {len(data):,} bytes, more than the {MAX_JSON_BYTES:,} "
            "allowed; store fewer, larger files or less under 'extra'."
        )
    atomic_write_bytes(folder / MANIFEST_NAME, data)
    return manifest


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check the manifest alone; the files are not opened (see :func:`verify`).

    Raises:
        RunError: If the folder is missing or not a Run, or the manifest is damaged, of another format version, or names
            a path outside the folder.
    """
    path = _manifest_path(Path(folder))
    data = read_bytes(path, MAX_JSON_BYTES)
    content = parse_json(data, str(path))
    if not isinstance(content, dict):
        raise RunError(f"{path}: must hold a JSON object, received a {type(content).__name__}; {_AGAIN}.")
    _check_format(content, path)
    _check_fields(content, path)
    if _sealed_bytes({key: value for key, value in content.items() if key != "seal"}, path) != data:
        raise RunError(f"{path}: was changed after it was written (its seal does not match its content); {_AGAIN}.")
    files = {name: FileEntry(entry["sha256"], entry["bytes"]) for name, entry in content["files"].items()}
    fields = upgraded(MANIFEST_NAME, content, content["format"]) | {"files": files}
    return Manifest(**{key: value for key, value in fields.items() if key != "seal"})


def verify(folder: str | Path) -> Manifest:
    """Check that a Run holds exactly the files that its manifest names, byte for byte.

    Args:
        folder: The Run.

    Returns:
        The manifest.

    Raises:
        RunError: As :func:`read_manifest`; and if a file is missing, unknown, a symbolic link, of another size or of
            other content. It names the file.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    found, known = set(_files_on_disk(folder)), set(manifest.files)
    if known - found:
        raise RunError(f"{folder}: {_counted(known - found)} missing: {listed(known - found)}; {_AGAIN}.")
    if found - known:
        raise RunError(
            f"{folder}: {_counted(found - known)} unknown to the manifest: {listed(found - known)}; a Run holds only "
            "what towerkit wrote: move it elsewhere."
        )
    for name, entry in manifest.files.items():
        _check_file(folder / name, entry)
    return manifest


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RunError(f"Cannot read {path} ({error.strerror}); check that it exists and may be read.") from error
    if size != entry.bytes:
        what = "was cut short" if size < entry.bytes else "has grown"
        raise RunError(f"{path}: {what}: it has {size:,} bytes, the manifest says {entry.bytes:,}; {_AGAIN}.")
    digest = sha256_file(path)
    if digest != entry.sha256:
        raise RunError(
            f"{path}: was changed: its SHA-256 is {digest[:12]}…, the manifest says {entry.sha256[:12]}…; {_AGAIN}."
        )


def _manifest_path(folder: Path) -> Path:
    """The manifest's place, or why there is none and what is nearest."""
    path = folder / MANIFEST_NAME
    if not folder.exists():
        stopped = why_missing(folder)
        if stopped:
            raise RunError(f"{folder} is not there: {stopped}")
        raise RunError(f"There is no folder {folder}{_near(folder) or '; check the path.'}")
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, and a Run is a folder; give the folder that holds {MANIFEST_NAME}.")
    if path.is_symlink():
        raise RunError(f"{path}: is a symbolic link, which a Run may not hold; {_AGAIN}.")
    if path.is_file():
        return path
    inside = [name for name in _names(folder)[:1000] if is_run(folder / name)]
    hint = f"there are Runs inside: {listed(inside)}" if inside else "give the folder that 'towerkit train' wrote"
    if not inside and is_run(folder.resolve().parent):
        hint = f"the folder above it is a Run: {folder.resolve().parent}"
    raise RunError(f"{folder} is not a Run: it has no {MANIFEST_NAME}; {hint}.")


def _near(folder: Path) -> str:
    return nearest(folder.name, (name for name in _names(folder.parent) if not name.startswith(".")))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _check_format(content: dict[str, Any], path: Path) -> None:
    version, writer = content.get("format"), content.get("towerkit")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RunError(f"{path}: 'format' must be a whole number, received {_short(version)}; {_AGAIN}.")
    here = f"{path}: has format {version}, written by towerkit {_short(writer)}; this is towerkit {__version__}, which"
    if version > FORMAT_VERSION:
        raise RunError(
            f"{here} reads formats 1 to {FORMAT_VERSION}: pip install --upgrade towerkit, or train the Run again with this "
            "version."
        )
    if version not in _KEYS:
        raise RunError(f"{here} reads formats 1 to {FORMAT_VERSION}, and there was never a format {version}; {_AGAIN}.")


def _check_fields(content: dict[str, Any], path: Path) -> None:
    keys = _KEYS[content["format"]]
    unknown, missing = content.keys() - set(keys), set(keys) - content.keys()
    if unknown:
        first = min(unknown)
        raise RunError(
            f"{path}: unknown key '{first}'{nearest(first, keys) or '.'} Only 'extra' may hold keys of your own."
        )
    if missing:
        raise RunError(f"{path}: the keys {listed(missing)} are missing; {_AGAIN}.")
    for key in ("towerkit", "kind", "created", "seal"):
        if not isinstance(content[key], str) or not content[key]:
            raise RunError(f"{path}: '{key}' must be a text, received {_short(content[key])}; {_AGAIN}.")
    for key in ("files", "extra"):
        if not isinstance(content[key], dict):
            raise RunError(f"{path}: '{key}' must be an object, received {_short(content[key])}; {_AGAIN}.")
    space = content.get("space")
    if space is not None and not (isinstance(space, str) and _SHA256.fullmatch(space)):
        raise RunError(f"{path}: 'space' must be 64 hex digits or null, received {_short(space)}; {_AGAIN}.")
    for name, entry in content["files"].items():
        _check_entry(name, entry, path)


def _check_entry(name: str, entry: Any, path: Path) -> None:
    problem = _path_problem(name)
    if problem:
        raise RunError(
            f"{path}: the file name {_short(name)} {problem}; do not use this Run: towerkit did not write it."
        )
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "bytes"}:
        raise RunError(f"{path}: the entry of '{name}' must be {{sha256, bytes}}, received {_short(entry)}; {_AGAIN}.")
    size, digest = entry["bytes"], entry["sha256"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RunError(f"{path}: 'bytes' of '{name}' must be a whole number, received {_short(size)}; {_AGAIN}.")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise RunError(f"{path}: 'sha256' of '{name}' must be 64 hex digits, received {_short(digest)}; {_AGAIN}.")


def _path_problem(name: str) -> str | None:
    """Why a path may not be in a Run, or None; the same rule when writing and when reading."""
    parts = name.split("/")
    if name.startswith("/"):
        return "is absolute, and must be relative to the Run"
    if _FORBIDDEN.search(name):
        return "holds a backslash, a colon or a control character, which not every system takes as a name"
    if ".." in parts:
        return "leads out of the folder"
    if "" in parts or "." in parts:
        return "has an empty part or a '.' part"
    return "is the manifest itself" if name == MANIFEST_NAME else None


def _files_on_disk(folder: Path) -> Iterator[str]:
    """Relative POSIX paths of all files but the manifest; links and devices are refused. Empty folders do not count."""
    waiting = [folder]
    while waiting:
        for entry in _scan(waiting.pop()):
            name = Path(entry.path).relative_to(folder).as_posix()
            # A junction is the link to a folder on Windows; Python 3.11 does not know it.
            is_link = entry.is_symlink() or getattr(entry, "is_junction", bool)()
            if is_link or not (entry.is_dir() or entry.is_file()):
                what = "a symbolic link" if is_link else "a device or a pipe"
                raise RunError(f"{folder}: '{name}' is {what}, which a Run may not hold; replace it by a plain file.")
            if entry.is_dir():
                waiting.append(Path(entry.path))
            elif name != MANIFEST_NAME:
                yield name


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise RunError(f"Cannot list {folder} ({error.strerror}); check that you may read it.") from error


def _sealed_bytes(content: dict[str, Any], path: Path) -> bytes:
    try:
        return json_bytes({**content, "seal": content_hash(content)})
    except RunError as error:
        raise RunError(f"{path}: {error}") from None


def _counted(names: Iterable[str]) -> str:
    number = len(list(names))
    return "1 file is" if number == 1 else f"{number:,} files are"


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
