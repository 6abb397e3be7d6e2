"""Opening a log: encoded when its files are new or have changed, else as it was kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from towerkit.core.errors import DataError, RunError
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.data.roles import Roles
from towerkit.data.schema import ColumnInfo
from towerkit.data.spec import DataSpec
from towerkit.data.stream.encoding import Encode, encode_log, read_keys
from towerkit.data.stream.files import LogFiles
from towerkit.data.stream.log import Log
from towerkit.storage.atomic import as_run_error, atomic_folder
from towerkit.storage.hashes import content_hash
from towerkit.storage.lock import patiently
from towerkit.storage.manifest import Manifest, verify, write_manifest

KIND = "stream"
_FORMAT = 1
_DAY_S = 24 * 3600.0
Say = Callable[[str], None]


def open_data(
    spec: DataSpec,
    *,
    base: Path | None = None,
    seed: int = 0,
    say: Say = lambda text: None,
    encode: Encode | None = None,
) -> Dataset | Log:
    """What a data spec describes: tables in memory, or a log that is streamed.

    Args:
        spec: What to read.
        base: Folder that relative paths start from.
        seed: Draws random splits.
        say: Told what a person should know.
        encode: How a log is encoded that is new; by this process when not given.

    Raises:
        DataError: If a file, column or value cannot be used; the message says which.
    """
    if spec.examples.stream is None:
        return read_dataset(spec, base=base, seed=seed)
    return open_log(spec, base=base, seed=seed, say=say, encode=encode)


def open_log(
    spec: DataSpec,
    *,
    base: Path | None = None,
    seed: int = 0,
    say: Say = lambda text: None,
    encode: Encode | None = None,
) -> Log:
    """Encode a log, or open it as it was encoded before.

    Args:
        spec: What to read, with ``examples.stream``.
        base: Folder that relative paths start from.
        seed: Draws random splits.
        say: Told what a person should know.
        encode: How a log is encoded that is new; by this process when not given.

    Raises:
        DataError: If a file, column or value cannot be used; the message says which.
        RunError: If the encoded log cannot be written.
    """
    roles = Roles(spec.examples.query, spec.examples.candidate, spec.examples.time)
    files = LogFiles.open(spec.examples, tuple(roles.by_column()), base)
    split = spec.resolved_split()
    about = _about(files, roles, split, seed)
    folder = cache_folder(spec, base) / content_hash(about)[:32]

    def make(draft: Path) -> dict[str, Any]:
        say(f"encoding {files.num_rows:,} rows of {files.name} into {folder}")
        return {**encode_log(files, roles, split, seed, draft, encode), "source": about}  # type: ignore[arg-type]

    manifest = kept(folder, make, say)
    return Log(
        folder,
        files.name,
        roles,
        {name: read_keys(folder / f"{place}.arrow") for place, name in enumerate(files.schema.names[:2])},
        tuple(ColumnInfo(**column) for column in manifest.extra["columns"]),
        manifest.extra["sizes"],
        {**_settings(split), "seed": seed, "streamed": True},
        seal_of(manifest),
    )


def _about(files: LogFiles, roles: Roles, split: Any, seed: int) -> dict[str, Any]:
    """All that an encoded log is made from: what its folder is called by."""
    return {
        "format": _FORMAT,
        "files": files.seal(),
        "columns": {field.name: str(field.type) for field in files.schema},
        "roles": vars(roles),
        "split": split.model_dump(),
        "seed": seed,
    }


def kept(folder: Path, make: Callable[[Path], dict[str, Any]], say: Say = lambda text: None) -> Manifest:
    """A folder that is made once, all or nothing, and made again when it is damaged; who comes while it is made waits.

    Args:
        folder: Where it is, or will be.
        make: Fills a folder and returns what else is to be remembered.
        say: Told that it has to be made again.

    Raises:
        RunError: If it cannot be written.
    """
    with as_run_error(f"create the folder {folder.parent}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with patiently(folder.with_name(f"{folder.name}-made"), _DAY_S):
        if folder.exists():
            try:
                return verify(folder)
            except RunError as error:
                say(f"note: what was kept of the data is damaged and is made again: {error}")
                shutil.rmtree(folder)
        with atomic_folder(folder, overwrite=True) as draft:
            return write_manifest(draft, kind=KIND, extra=make(draft))


def seal_of(manifest: Manifest) -> str:
    """The hash of all files together."""
    return content_hash({name: entry.sha256 for name, entry in manifest.files.items()})


def cache_folder(spec: DataSpec, base: Path | None = None) -> Path:
    """Where encoded logs are kept: ``examples.stream.cache``, else ``towerkit/streams`` in the user's folder for caches.

    Args:
        spec: With ``examples.stream``.
        base: Folder that relative paths start from.
    """
    assert spec.examples.stream is not None
    given = spec.examples.stream.cache
    if given is not None:
        path = Path(given).expanduser()
        if path.exists() and not path.is_dir():
            raise DataError(
                f"examples.stream.cache: {given} is a file; name a folder, which is made where there is none."
            )
        return path if base is None else base / path
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "towerkit" / "streams"


def _settings(split: Any) -> dict[str, Any]:
    settings: dict[str, Any] = split.model_dump(exclude_none=True)
    for name, usual in (("time_missing", "refuse"), ("take", "random")):
        if settings.get(name) == usual:
            del settings[name]
    return settings
