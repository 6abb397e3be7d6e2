"""An index as a folder.

- what comes back answers bit for bit as what was saved, rows and keys of every type included, after writes and deletions too;
- a file that is missing, strange, cut short or changed is refused with its name, before faiss is asked to read anything (control:
  with the hashes not compared, faiss is asked);
- another space, a newer format, a Run, files of different indexes and a spec of no index are refused in words about an index;
- an existing index is replaced only when that is asked for; a new process answers without PyTorch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.core.errors import IndexFileError, RunError
from towerkit.core.spec import Spec
from towerkit.index import files
from towerkit.index.contract import Key
from towerkit.index.files import StoredQueries, open_folder, open_index, save_index
from towerkit.index.specs import AnySpec, ExactIndexSpec, FaissIndexSpec
from towerkit.index.stored import keyed_vectors
from towerkit.storage.manifest import write_manifest

HAS_FAISS = importlib.util.find_spec("faiss") is not None
needs_faiss = pytest.mark.skipif(not HAS_FAISS, reason="needs towerkit[ann]")
SPACE, OTHER = "ab" * 32, "cd" * 32
SPECS = [
    ExactIndexSpec(),
    pytest.param(FaissIndexSpec(factory="HNSW8", ef_search=200), marks=needs_faiss),
    pytest.param(FaissIndexSpec(factory="IVF2,SQ8", nprobe=2, dim=3, refine=9), marks=needs_faiss),
]


def saved(folder: Path, spec: Spec, similarity: str = "euclidean") -> tuple[Any, np.ndarray[Any, Any]]:
    """A written index of a few vectors that was written to and deleted from, and queries."""
    rng = np.random.default_rng(0)
    stored = keyed_vectors([f"k{place}" for place in range(100)], rng.normal(size=(100, 5)), similarity)  # type: ignore[arg-type]
    index = spec.build(stored, SPACE)  # type: ignore[attr-defined]
    index.delete(["k3", "k4", "k50"])
    index.upsert(["k7", "new"], rng.normal(size=(2, 5)))
    save_index(folder, index, spec, measured={"k": 5})  # type: ignore[arg-type]
    return index, rng.normal(size=(4, 5))


@pytest.mark.parametrize("similarity", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("spec", SPECS)
def test_what_comes_back_answers_alike(tmp_path: Path, spec: AnySpec, similarity: str) -> None:
    index, queries = saved(tmp_path / "index", spec, similarity)
    folder = open_folder(tmp_path / "index", space=SPACE)
    assert (folder.spec, folder.measured, folder.index.space) == (spec, {"k": 5}, SPACE)
    again = folder.index
    for _ in range(2):
        one, other = index.search(queries, 12), again.search(queries, 12)
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.scores, other.scores)
        assert index.keys_of(one.rows[0]) == again.keys_of(other.rows[0])
        for each in (index, again):  # what was opened can be written to as well; its folder stays as it is
            each.upsert(["k9", "more"], queries[:2])
            each.delete(["k20"])
    assert len(open_index(tmp_path / "index")) == 98


@pytest.mark.parametrize("keys", [[3, -7, 2**60], [b"\xff", b"", b"a"], ["é", "", "x"]], ids=["int", "bytes", "text"])
def test_keys_of_every_type_come_back(tmp_path: Path, keys: list[Key]) -> None:
    save_index(tmp_path / "i", ExactIndexSpec().build(keyed_vectors(keys, np.eye(3), "dot")), ExactIndexSpec())
    assert open_index(tmp_path / "i").keys_of(np.arange(3)) == keys


@pytest.mark.parametrize("spec", SPECS)
def test_an_empty_index_comes_back(tmp_path: Path, spec: AnySpec) -> None:
    if isinstance(spec, FaissIndexSpec) and spec.dim:
        pytest.skip("there is nothing to learn axes and lists from")
    save_index(tmp_path / "i", spec.build(keyed_vectors([], np.empty((0, 5)), "cosine")), spec)
    index = open_index(tmp_path / "i")
    assert (
        index.search(np.ones((1, 5)), 2).reason == "Fewer than the 2 hits asked for, the fewest 0: the index holds 0."
    )
    assert index.upsert(["a"], np.ones((1, 5))).tolist() == [0]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "name", ["vectors.safetensors", "measure.safetensors", "keys.arrow", "index.json", "native.faiss"]
)
@pytest.mark.parametrize(
    ("damage", "told"),
    [(_cut, "was cut short"), (_change, "was changed"), (Path.unlink, "missing")],
    ids=["cut", "changed", "gone"],
)
def test_damage_is_refused_before_faiss_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Callable[[Path], None], told: str
) -> None:
    saved(tmp_path / "index", FaissIndexSpec(factory="Flat") if HAS_FAISS else ExactIndexSpec())
    if not (tmp_path / "index" / name).exists():
        pytest.skip("needs towerkit[ann]")
    damage(tmp_path / "index" / name)
    monkeypatch.setattr(files, "load_native", lambda path: pytest.fail("faiss was asked"))
    with pytest.raises(IndexFileError, match=rf"(?s){name}.*{told}|{told}.*{name}") as error:
        open_index(tmp_path / "index")
    assert "the Run" not in str(error.value)


@needs_faiss
def test_without_the_hashes_faiss_would_be_asked(tmp_path: Path) -> None:
    """The control of the test above: a manifest made for the damaged file lets it pass, and faiss's own words are told."""
    saved(tmp_path / "index", FaissIndexSpec(factory="Flat"))
    _cut(tmp_path / "index" / "native.faiss")
    write_manifest(tmp_path / "index", kind="index", space=SPACE)
    with pytest.raises(IndexFileError, match=r"native.faiss: faiss cannot read it \(.*build the index again"):
        open_index(tmp_path / "index")


def test_another_space_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "index", ExactIndexSpec())
    with pytest.raises(
        IndexFileError, match=r"the space abababababab….* are of cdcdcdcdcdcd….*towerkit index RUN --out"
    ):
        open_index(tmp_path / "index", space=OTHER)


def test_a_newer_format_and_strange_keys_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "index", ExactIndexSpec())
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    changes = [
        ({"format": 3}, "has format 3; this version reads up to format 2"),
        ({"more": 1}, "must hold 'format', 'index'"),
    ]
    changes += [({"index": {"kind": "exakt"}}, "'exakt'; did you mean 'exact'"), ({"similarity": "dott"}, "'dott'")]
    for change, told in changes:
        path.write_text(json.dumps(content | change))
        write_manifest(tmp_path / "index", kind="index", space=SPACE)
        with pytest.raises(IndexFileError, match=told):
            open_index(tmp_path / "index")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "index", ExactIndexSpec())
    few = keyed_vectors(["a"], np.ones((1, 4)), "dot")
    save_index(tmp_path / "few", ExactIndexSpec().build(few), ExactIndexSpec())
    for name, told in (("keys.arrow", "1 keys and 100 vectors"), ("measure.safetensors", r"center \[4\]")):
        shutil.copytree(tmp_path / "index", tmp_path / name)
        shutil.copy(tmp_path / "few" / name, tmp_path / name / name)
        write_manifest(tmp_path / name, kind="index", space=SPACE)
        with pytest.raises(IndexFileError, match=told):
            open_index(tmp_path / name)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="There is no folder"):
        open_index(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexFileError, match="is not an index: it has no manifest.json"):
        open_index(tmp_path / "empty")
    write_manifest(tmp_path / "empty", kind="two_tower")
    with pytest.raises(IndexFileError, match="is a Run of the kind 'two_tower' and no index; make one: towerkit index"):
        open_index(tmp_path / "empty")


def test_an_index_is_replaced_only_when_asked(tmp_path: Path) -> None:
    index, _ = saved(tmp_path / "index", ExactIndexSpec())
    with pytest.raises(RunError, match="already exists"):
        save_index(tmp_path / "index", index, ExactIndexSpec())
    index.upsert(["another"], np.ones((1, 5)))
    save_index(tmp_path / "index", index, ExactIndexSpec(), overwrite=True)
    assert len(open_index(tmp_path / "index")) == 99


def test_a_new_process_searches_without_pytorch(tmp_path: Path) -> None:
    """More queries than NumPy selects for, so that the compiled kernel is loaded too."""
    save_index(
        tmp_path / "i",
        ExactIndexSpec().build(keyed_vectors(list(range(3000)), np.ones((3000, 4)), "dot")),
        ExactIndexSpec(),
    )
    code = (
        "import sys, numpy as np; from towerkit.index.files import open_index; "
        "print(open_index(sys.argv[1]).search(np.ones((70, 4)), 3).rows[0], 'torch' in sys.modules, 'numba' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "i")]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.split("]")[1].split() == ["False", "True"]


def test_vectors_of_queries_come_back(tmp_path: Path) -> None:
    index, _ = saved(tmp_path / "without", ExactIndexSpec())
    assert open_folder(tmp_path / "without").queries is None
    vectors = np.arange(15, dtype=np.float32).reshape(3, 5)
    save_index(tmp_path / "with", index, ExactIndexSpec(), queries=StoredQueries(pa.array(["a", "b"]), vectors))
    found = open_folder(tmp_path / "with").queries
    assert found is not None
    assert found.keys.to_pylist() == ["a", "b"]
    np.testing.assert_array_equal(found.vectors, vectors)
    save_index(tmp_path / "few", index, ExactIndexSpec(), queries=StoredQueries(pa.array(["a", "b", "c"]), vectors))
    with pytest.raises(IndexFileError, match=r"do not belong together \(3 keys of queries"):
        open_folder(tmp_path / "few")
