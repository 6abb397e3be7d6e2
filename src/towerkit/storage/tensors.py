"""Named arrays in a safetensors file: numbers only, nothing to run, checked before they are read.

The header (8 bytes of length, then JSON) is parsed and checked here before the file reaches the library: sizes, types
and offsets must describe the file exactly, without holes or overlaps. Arrays that share their memory (tied weights)
are stored once; the others are listed in the metadata and come back as the same array.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from towerkit.core.errors import RunError, listed
from towerkit.storage.atomic import atomic_file
from towerkit.storage.hashes import json_bytes, parse_json

if TYPE_CHECKING:
    import torch

Array: TypeAlias = NDArray[Any]

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 10_000

_DTYPES = {  # safetensors name -> NumPy name; BF16 has no NumPy type and is read as float32 of the same value
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "uint16",
}  # fmt: skip
_MAX_DIMS = 32
_ALIASES = "aliases"


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class _Header:
    entries: Mapping[str, _Entry]
    aliases: Mapping[str, str]
    data_start: int


def save_tensors(path: str | Path, tensors: Mapping[str, Array | torch.Tensor]) -> None:
    """Write named arrays or tensors; the file is whole or as it was before.

    Args:
        path: The file to write, by custom ``*.safetensors``.
        tensors: Name -> array of numbers or booleans, any shape. Torch tensors may live on any device and may require
            gradients. Two names for the very same memory are stored once.

    Raises:
        RunError: If a name or a type cannot be stored, there are more than 10,000 tensors, or the disk refuses.
    """
    _check_names(path, tensors)
    stored, aliases = _split_aliases(tensors)
    plain = {name: _plain(path, name, tensors[name]) for name in stored}
    metadata = {_ALIASES: json_bytes(aliases, indent=None).decode()} if aliases else None
    with atomic_file(path) as temporary:
        try:
            _write(temporary, plain, metadata)
        except SafetensorError as error:
            raise RunError(f"{path}: cannot be written: {error}; check the free space.") from error
        _read_header(temporary, str(path))  # what we could not read again is not worth keeping


def load_tensors(path: str | Path) -> dict[str, Array]:
    """Read all arrays of a safetensors file, sorted by name.

    Args:
        path: The file.

    Returns:
        Name -> array that owns its memory. bfloat16 comes as float32 of the same value, as NumPy has no such type.
        Names that were tied when saved are one array.

    Raises:
        RunError: If the file is missing, damaged, larger or smaller than its header says, or over a cap.
    """
    header = _read_header(Path(path), str(path))
    try:
        with safe_open(path, framework="np") as file:
            found = {
                name: _bfloat16(Path(path), header, entry) if entry.dtype == "BF16" else file.get_tensor(name)
                for name, entry in header.entries.items()
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}; copy or write it again.") from error
    found.update({alias: found[name] for alias, name in header.aliases.items()})
    return {name: found[name] for name in sorted(found)}


def map_tensor(path: str | Path, name: str) -> Array:
    """One array of a safetensors file, left on the disk until it is looked at; what is written to it stays in memory.

    Args:
        path: A file that stays as it is while the array lives; one that is replaced in one step, as files here are, does.
        name: Of the array.

    Raises:
        RunError: As :func:`load_tensors`; and if there is no such array, or it is of bfloat16.
    """
    header = _read_header(Path(path), str(path))
    if name not in header.entries or header.entries[name].dtype == "BF16":
        raise RunError(f"{path}: has no array '{name}' that can be mapped; its arrays are {listed(header.entries)}.")
    entry = header.entries[name]
    dtype = np.dtype(_DTYPES[entry.dtype]).newbyteorder("<")
    if entry.begin == entry.end:
        return np.zeros(entry.shape, dtype)
    # A plain array over the mapping: NumPy's own class for them makes every later slice slow.
    return np.asarray(np.memmap(path, dtype, mode="c", offset=header.data_start + entry.begin, shape=entry.shape))


def tensor_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes in a safetensors file, tied names included; no array is read.

    Raises:
        RunError: As :func:`load_tensors`.
    """
    header = _read_header(Path(path), str(path))
    shapes = {name: entry.shape for name, entry in header.entries.items()}
    return shapes | {alias: shapes[name] for alias, name in header.aliases.items()}


def _check_names(path: str | Path, tensors: Mapping[str, object]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise RunError(f"{path}: {len(tensors):,} tensors are more than the {MAX_TENSORS:,} allowed; stack some.")
    for name in tensors:
        if not isinstance(name, str) or not name or name == "__metadata__":
            raise RunError(f"{path}: {name!r} cannot name a tensor; use a text other than '' and '__metadata__'.")


def _is_torch(value: object) -> bool:
    torch = sys.modules.get("torch")  # who gives us a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def _split_aliases(tensors: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The names to store, and alias -> stored name for those that share memory, shape, strides and type."""
    first: dict[object, str] = {}
    aliases: dict[str, str] = {}
    for name in sorted(tensors):
        key = _memory(tensors[name])
        if key is not None and key in first:
            aliases[name] = first[key]
        elif key is not None:
            first[key] = name
    return [name for name in sorted(tensors) if name not in aliases], aliases


def _memory(value: Any) -> object:
    """What makes two values the same memory seen the same way; None for a value that has none."""
    if _is_torch(value):
        if value.is_meta or value.layout != sys.modules["torch"].strided or not value.numel():
            return None
        flags = (value.is_conj(), value.is_neg())
        return (str(value.device), value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype), flags)
    if isinstance(value, np.ndarray) and value.size:
        return ("numpy", value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str)
    return None


def _plain(path: str | Path, name: str, value: Any) -> Any:
    """A contiguous little-endian array, or a torch tensor if it is bfloat16."""
    if _is_torch(value):
        torch = sys.modules["torch"]
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            raise RunError(f"{path}: the tensor '{name}' is {_torch_kind(value)}; give a dense tensor with values.")
        value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if value.dtype == torch.bfloat16:
            return value
        if str(value.dtype).removeprefix("torch.") not in _DTYPES.values():
            raise _bad_type(path, name, value.dtype)
        return value.numpy()
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise RunError(f"{path}: '{name}' is a {type(value).__name__}; give a NumPy array or a torch tensor.")
    if value.dtype.name not in _DTYPES.values():
        raise _bad_type(path, name, value.dtype)
    return np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")


def _torch_kind(value: Any) -> str:
    return "on the meta device" if value.is_meta else "quantized" if value.is_quantized else f"of layout {value.layout}"


def _bad_type(path: str | Path, name: str, dtype: object) -> RunError:
    known = listed([*_DTYPES.values(), "bfloat16 (torch)"], limit=20)
    return RunError(f"{path}: the tensor '{name}' has type {dtype}, which cannot be stored; convert it to {known}.")


def _write(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None) -> None:
    if not any(_is_torch(value) for value in tensors.values()):
        save_file(tensors, path, metadata=metadata)
        return
    import torch  # bfloat16 exists only there; it is imported already
    from safetensors.torch import save_file as save_torch_file

    # Copies, as that function refuses tensors that overlap in memory.
    copies = {name: v.clone() if _is_torch(v) else torch.from_numpy(v.copy()) for name, v in tensors.items()}
    save_torch_file(copies, path, metadata=metadata)


def _read_header(path: Path, source: str) -> _Header:
    """Parse and check the header; nothing here trusts a number that the file gives."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = file.read(min(length, MAX_HEADER_BYTES))
    except OSError as error:
        raise RunError(f"Cannot read {source} ({error.strerror}); check that it exists and may be read.") from error
    if size < 8:
        raise RunError(f"{source}: has {size} bytes, and a safetensors file has at least 8; it was cut short.")
    if length > MAX_HEADER_BYTES:
        raise RunError(
            f"{source}: announces a header of {length:,} bytes, more than the {MAX_HEADER_BYTES:,} allowed; it is no "
            "safetensors file that towerkit wrote."
        )
    if len(head) < length:
        raise RunError(f"{source}: announces a header of {length:,} bytes and has {len(head):,}; it was cut short.")
    content = parse_json(head, source)
    if not isinstance(content, dict):
        raise RunError(f"{source}: the header must be an object, received a {type(content).__name__}; write it again.")
    if len(content) > MAX_TENSORS + 1:
        raise RunError(f"{source}: has {len(content):,} tensors, more than the {MAX_TENSORS:,} allowed; stack some.")
    metadata = content.pop("__metadata__", {})
    entries = {name: _entry(source, name, raw) for name, raw in content.items()}
    _check_cover(source, entries, size - 8 - length)
    return _Header(entries, _read_aliases(source, metadata, entries), 8 + length)


def _entry(source: str, name: str, raw: Any) -> _Entry:
    if not isinstance(raw, dict) or raw.keys() != {"dtype", "shape", "data_offsets"}:
        raise RunError(f"{source}: the tensor '{name}' must have dtype, shape and data_offsets; the file is damaged.")
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise RunError(f"{source}: the tensor '{name}' has type {dtype!r}; the types here are {listed(_DTYPES, 20)}.")
    if not _whole_numbers(shape) or len(shape) > _MAX_DIMS or math.prod(filter(None, shape)) >= 1 << 60:
        raise RunError(
            f"{source}: the tensor '{name}' has the shape {str(shape)[:60]}, which cannot be; it is damaged."
        )
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise RunError(f"{source}: the tensor '{name}' has the offsets {str(offsets)[:60]}; give [begin, end].")
    needed = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    if offsets[1] - offsets[0] != needed:
        raise RunError(
            f"{source}: the tensor '{name}' of shape {shape} and type {dtype} needs {needed:,} bytes, its offsets "
            f"{offsets} give {offsets[1] - offsets[0]:,}; the file is damaged."
        )
    return _Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_cover(source: str, entries: Mapping[str, _Entry], data_bytes: int) -> None:
    """The tensors must fill the rest of the file exactly, so that no byte hides and none is read twice."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise RunError(
                f"{source}: the tensor '{name}' begins at {entry.begin:,} and the one before it ends at {position:,}; "
                "the file is damaged."
            )
        position = entry.end
    if position != data_bytes:
        what = "was cut short" if data_bytes < position else "has grown"
        raise RunError(f"{source}: {what}: its tensors need {position:,} bytes, it has {data_bytes:,}; copy it again.")


def _read_aliases(source: str, metadata: Any, entries: Mapping[str, _Entry]) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise RunError(f"{source}: the metadata must map texts to texts; the file is damaged.")
    aliases = parse_json(metadata[_ALIASES].encode(errors="replace"), source) if _ALIASES in metadata else {}
    if not isinstance(aliases, dict) or len(aliases) + len(entries) > MAX_TENSORS:
        raise RunError(
            f"{source}: the aliases must be an object of at most {MAX_TENSORS:,} names; the file is damaged."
        )
    for alias, name in aliases.items():
        if alias in entries or not isinstance(name, str) or name not in entries:
            raise RunError(
                f"{source}: '{alias}' cannot be another name of {name!r}; the tensors are {listed(entries)}."
            )
    return aliases


def _bfloat16(path: Path, header: _Header, entry: _Entry) -> Array:
    """bfloat16 is the upper half of a float32, so two bytes and two zero bytes are the same number."""
    with open(path, "rb") as file:
        file.seek(header.data_start + entry.begin)
        bits = np.frombuffer(file.read(entry.end - entry.begin), dtype="<u2")
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(entry.shape)
