"""An index as a folder: vectors in safetensors, keys in Arrow, the native file of a library, JSON, and a manifest of their hashes.

No file is opened before its SHA-256 has been compared with the manifest: the library that reads the native file trusts what is in
it. The folder is written whole or not at all, as a Run is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import IndexFileError, RunError, SpecError, listed
from towerkit.core.spec import parse
from towerkit.data.table import values_of
from towerkit.index.faiss_index import FaissIndex, load_native, save_native, set_effort
from towerkit.index.keyed import KeyedVectors
from towerkit.index.measure import Measure
from towerkit.index.specs import AnySpec, FaissIndexSpec, IndexChoice
from towerkit.index.stored import StoredIndex
from towerkit.storage.atomic import atomic_folder
from towerkit.storage.hashes import read_json, write_json
from towerkit.storage.manifest import Manifest, verify, write_manifest
from towerkit.storage.tensors import load_tensors, map_tensor, save_tensors

FORMAT = 2
"""Of ``index.json``; 1 knew no queries."""
_KEYS = ("format", "index", "similarity", "measured")
_FILES = ("index.json", "keys.arrow", "measure.safetensors", "vectors.safetensors")
_NATIVE = "native.faiss"
_QUERIES = ("queries.arrow", "queries.safetensors")
_WORDS = (
    ("copy the Run again from where it was whole, or train again", "copy the index again, or build it again"),
    ("train the Run again with this version", "build the index again with this version"),
    ("train the Run again or restore the file", "build the index again or restore the file"),
    ("train the Run again", "build the index again"),
    ("the folder that 'towerkit train' wrote", "the folder that 'towerkit index' wrote"),
    ("is not a Run:", "is not an index:"),
    ("a Run is a folder", "an index is a folder"),
    ("a Run holds only", "an index holds only"),
    ("which a Run may not hold", "which an index may not hold"),
)
"""What the checks that both share say of a Run -> what holds of an index."""


@dataclass(frozen=True, eq=False)
class StoredQueries:
    """The known queries of the Run, as they ask the index."""

    keys: pa.Array
    vectors: NDArray[np.float32]
    """``[queries + 1, dim]``; row 0 is a query that nothing is known of, row ``r`` is that of ``keys[r - 1]``."""


@dataclass(frozen=True)
class StoredFolder:
    """An index with what its folder says of it."""

    index: StoredIndex
    spec: AnySpec
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What was measured when it was built: see :mod:`towerkit.index.trials`."""
    queries: StoredQueries | None = None
    """None where they were left out, or it was built by an older version."""


def save_index(
    folder: str | os.PathLike[str],
    index: StoredIndex,
    spec: AnySpec,
    *,
    measured: Mapping[str, Any] | None = None,
    queries: StoredQueries | None = None,
    overwrite: bool = False,
) -> None:
    """Write an index, all or nothing.

    Args:
        folder: Must not exist, unless ``overwrite``.
        index: What to write.
        spec: What it was built by.
        measured: Plain data to keep.
        queries: To keep beside, so that a service can answer them without the model.
        overwrite: Replace an index that is there.

    Raises:
        RunError: If the folder cannot be written.
    """
    stored = index.stored
    with atomic_folder(Path(folder), overwrite=overwrite) as draft:
        save_table(draft / "keys.arrow", pa.table({"key": pa.array(stored.keys)}))
        save_tensors(draft / "vectors.safetensors", {"vectors": stored.vectors})
        parts: dict[str, NDArray[Any]] = {"center": stored.measure.center}
        if isinstance(index, FaissIndex):
            parts["labels"] = index.labels
            if index.axes is not None:
                parts["axes"] = index.axes
            save_native(draft / _NATIVE, index.native)
        save_tensors(draft / "measure.safetensors", parts)
        if queries is not None:
            save_table(draft / _QUERIES[0], pa.table({"key": queries.keys}))
            save_tensors(draft / _QUERIES[1], {"vectors": np.asarray(queries.vectors, np.float32)})
        described = {"format": FORMAT, "index": spec.model_dump(mode="json"), "similarity": index.similarity}
        write_json(draft / "index.json", {**described, "measured": dict(measured or {})})
        write_manifest(draft, kind="index", space=index.space)


def open_index(folder: str | os.PathLike[str], *, space: str | None = None) -> StoredIndex:
    """Open and verify an index; see :func:`open_folder`.

    Args:
        folder: What ``towerkit index`` wrote.
        space: The embedding-space id that its vectors must have; None for any.

    Raises:
        IndexFileError: If the folder is no index, a file is missing, unknown or changed, it is newer than this version, or of
            another space.
        MissingExtraError: If the library that reads it is not installed.
    """
    return open_folder(folder, space=space).index


def open_folder(folder: str | os.PathLike[str], *, space: str | None = None) -> StoredFolder:
    """Open and verify an index, with its spec and what was measured.

    Args:
        folder: What ``towerkit index`` wrote.
        space: The embedding-space id that its vectors must have; None for any.

    Raises:
        IndexFileError: As :func:`open_index`.
        MissingExtraError: If the library that reads it is not installed.
    """
    path = Path(folder)
    with _of_an_index():
        manifest = verify(path)
        if manifest.kind != "index":
            raise RunError(
                f"{path} is a Run of the kind '{manifest.kind}' and no index; make one: towerkit index {path} --out DIR."
            )
        check_space(str(path), manifest.space, space)
        content = _described(path)
        spec = parse(IndexChoice, {"index": content["index"]}, str(path / "index.json")).index
        _check_files(path, manifest, spec)
        try:
            index = _opened(path, spec, content["similarity"], manifest.space)
            queries = _queries(path, index.dim) if _QUERIES[0] in manifest.files else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"{path}: its files do not belong together ({error}); build the index again.") from None
    return StoredFolder(index, spec, content["measured"], queries)


def check_space(name: str, stored: str | None, wanted: str | None) -> None:
    """Refuse an index of another embedding space: its scores would mean nothing.

    Args:
        name: What to call the index.
        stored: Its embedding-space id.
        wanted: That of the queries; None where it does not matter.

    Raises:
        IndexFileError: If they differ.
    """
    if wanted is not None and stored != wanted:
        has = f"the space {stored[:12]}…" if stored else "no space"
        raise IndexFileError(
            f"{name} holds vectors of {has}, and the queries are of {wanted[:12]}…: they were made by another training, and "
            "cannot be compared. Build the index again from this Run: towerkit index RUN --out DIR."
        )


def _described(path: Path) -> dict[str, Any]:
    content = read_json(path / "index.json")
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is int and version > FORMAT:
        raise RunError(
            f"{path / 'index.json'}: has format {version}; this version reads up to format {FORMAT}. Upgrade towerkit, or "
            "build the index again with this version."
        )
    if not isinstance(content, dict) or version not in range(1, FORMAT + 1) or content.keys() != set(_KEYS):
        raise RunError(
            f"{path / 'index.json'}: must hold {listed(_KEYS)}; towerkit did not write it. Build the index again."
        )
    return content


def _check_files(path: Path, manifest: Manifest, spec: AnySpec) -> None:
    wanted = {*_FILES, *([_NATIVE] if isinstance(spec, FaissIndexSpec) else [])}
    if manifest.files.keys() not in (wanted, wanted | set(_QUERIES)):
        raise RunError(
            f"{path}: an index of the kind '{spec.kind}' has the files {listed(wanted)}; here are {listed(manifest.files)}. "
            "Build the index again."
        )


def _opened(path: Path, spec: AnySpec, similarity: Any, space: str | None) -> StoredIndex:
    keys = load_table(path / "keys.arrow").column("key").to_pylist()
    parts = load_tensors(path / "measure.safetensors")
    vectors = map_tensor(path / "vectors.safetensors", "vectors")
    measure = Measure.of(similarity, vectors[:0])
    if vectors.dtype != "float32" or vectors.ndim != 2 or parts["center"].shape != vectors.shape[1:]:
        raise ValueError(f"vectors {vectors.dtype}{list(vectors.shape)}, center {list(parts['center'].shape)}")
    stored = KeyedVectors(Measure(measure.similarity, parts["center"]), keys, vectors)
    if not isinstance(spec, FaissIndexSpec):
        return spec.build(stored, space)
    native, labels = load_native(path / _NATIVE), parts["labels"]
    axes = parts.get("axes")
    fits = (measure.dim,) == (native.d,) if axes is None else axes.shape == (measure.dim, native.d)
    if not fits or native.ntotal != len(labels) or labels.max(initial=-1) >= len(keys) or labels.min(initial=0) < -1:
        raise ValueError(
            f"{native.ntotal} vectors of width {native.d} in faiss, {len(labels)} labels, {len(keys)} rows"
        )
    set_effort(native, spec.factory, ef_search=spec.ef_search, nprobe=spec.nprobe)
    return FaissIndex(stored, native, labels, space, refine=spec.refine, axes=axes)


def _queries(path: Path, dim: int) -> StoredQueries:
    keys = values_of(load_table(path / _QUERIES[0]), "key")
    vectors = map_tensor(path / _QUERIES[1], "vectors")
    if vectors.dtype != "float32" or vectors.shape != (len(keys) + 1, dim):
        raise ValueError(f"{len(keys)} keys of queries, vectors {vectors.dtype}{list(vectors.shape)}")
    return StoredQueries(keys, vectors)


@contextmanager
def _of_an_index() -> Iterator[None]:
    """What goes wrong inside is said of an index, not of a Run."""
    try:
        yield
    except IndexFileError:
        raise
    except (RunError, SpecError) as error:
        text = str(error)
        for run, index in _WORDS:
            text = text.replace(run, index)
        raise IndexFileError(text) from None
