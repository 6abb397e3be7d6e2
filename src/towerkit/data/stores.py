"""Folders that Arrow opens by an address, such as ``s3://bucket/clicks``, ``gs://…``, ``abfs://…``, ``hdfs://…`` or ``file:///…``.

Who may read comes from where Arrow looks: the environment (``AWS_ACCESS_KEY_ID`` and the like), a file of the user's, the machine.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from towerkit.core.errors import DataError
from towerkit.data.locations import expand

_ADDRESS = re.compile(r"^(s3|gs|gcs|abfs|abfss|hdfs|viewfs|file)://")


def is_store(path: str) -> bool:
    """Whether a path is the address of a folder or file that Arrow opens.

    Example:
        >>> is_store("s3://bucket/clicks"), is_store("clicks/2026"), is_store("postgresql://host/shop")
        (True, False, False)
    """
    return _ADDRESS.match(expand(path) if path.startswith("${") else path) is not None


@lru_cache(maxsize=8)
def opened_store(address: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of an address, and the path there.

    Args:
        address: ``${NAME}`` expands.

    Raises:
        DataError: If it cannot be reached.
    """
    try:
        system, path = pa.fs.FileSystem.from_uri(expand(address))
    except (OSError, ValueError) as error:
        raise _unreachable(address, error) from None
    return system, path.rstrip("/")


def files_of(address: str) -> tuple[str, list[Path]]:
    """The files at an address.

    Args:
        address: Of a folder, or of one file.

    Returns:
        The address of their folder, and their paths below it, sorted.

    Raises:
        DataError: If there is nothing, or it cannot be reached.
    """
    system, top = opened_store(address)
    try:
        kind = system.get_file_info(top).type
        if kind == pa.fs.FileType.File:
            folder, _, name = address.rstrip("/").rpartition("/")
            return folder, [Path(name)]
        if kind == pa.fs.FileType.NotFound:
            raise DataError(f"{address}: there is no such file or folder; correct the address.")
        found = system.get_file_info(pa.fs.FileSelector(top, recursive=True))
    except OSError as error:
        raise _unreachable(address, error) from None
    files = [Path(each.path.removeprefix(top).lstrip("/")) for each in found if each.type == pa.fs.FileType.File]
    return address.rstrip("/"), sorted(files, key=lambda path: path.parts)


def _unreachable(address: str, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DataError(
        f"{address}: cannot be reached ({reason}). Check the address, and what Arrow reads credentials and region from, such as "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION."
    )
