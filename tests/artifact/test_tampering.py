"""A Run that was touched.

Pinned: opening a Run fails, naming the file, if any file is missing, cut short, longer, changed in any byte, replaced by
a link, or unknown, in members' folders too; files that were changed together with their hashes never cause anything
but a RunError; the golden request finds weights that were swapped.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import RunError, TowerkitError
from towerkit.run import Run
from towerkit.storage.manifest import MANIFEST_NAME, write_manifest
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.testing.sealing import seal_again

KINDS = ("two_tower", "tower_model", "ranker", "joint", "late_fusion")


@pytest.fixture
def copied(runs: dict[str, Run], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the Run of the kind that the test names, free to be damaged."""
    return Path(shutil.copytree(runs[request.param].path, tmp_path / "run"))


def files(run: Path) -> list[Path]:
    """Every file of a Run but its manifest."""
    return sorted(path for path in run.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)


def use(run: Path) -> None:
    """Read everything a Run holds."""
    opened = Run.load(run)
    opened.model, opened.evaluation, opened.baselines, opened.spec


@pytest.mark.parametrize("copied", KINDS, indirect=True)
def test_every_file_is_needed_whole_and_unchanged(copied: Path) -> None:
    draw = random.Random(0)
    assert len(files(copied)) >= 10
    for file in files(copied):
        whole = file.read_bytes()
        places = {0, len(whole) - 1, draw.randrange(len(whole))}
        flipped = [
            whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :] for place in places
        ]
        for damaged in (None, b"", whole[:-1], whole + b"\n", *flipped):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            with pytest.raises(RunError, match=file.name.replace(".", r"\.")):
                Run.load(copied)
            file.write_bytes(whole)
    use(copied)


@pytest.mark.parametrize("copied", KINDS, indirect=True)
def test_unknown_files_links_and_a_lost_manifest(copied: Path) -> None:
    folders = [copied, *(path for path in copied.rglob("*") if path.is_dir())]
    for folder in folders:
        (folder / "extra.pkl").write_bytes(b"cos\nsystem\n")
        with pytest.raises(RunError, match=r"unknown to the manifest: '.*extra\.pkl'"):
            Run.load(copied)
        (folder / "extra.pkl").unlink()
    target = files(copied)[0]
    moved = target.rename(copied.parent / "elsewhere")
    target.symlink_to(moved)
    with pytest.raises(RunError, match=f"'{target.name}' is a symbolic link"):
        Run.load(copied)
    target.unlink()
    moved.rename(target)
    (copied / MANIFEST_NAME).unlink()
    with pytest.raises(RunError, match=r"is not a Run: it has no manifest\.json"):
        Run.load(copied)


@pytest.mark.parametrize("copied", ["late_fusion"], indirect=True)
def test_a_members_folder_is_no_run_of_its_own_but_part_of_one(copied: Path) -> None:
    member = copied / "model" / "members" / "trees"
    with pytest.raises(RunError, match="is not a Run"):
        Run.load(member)
    shutil.rmtree(member)
    with pytest.raises(RunError, match=r"missing: .*'model/members/trees/trees\.json'"):
        Run.load(copied)


@pytest.mark.parametrize("copied", KINDS, indirect=True)
def test_swapped_weights_under_a_new_seal_are_found_by_the_golden_request(copied: Path) -> None:
    for path in copied.rglob("weights.safetensors"):
        weights = load_tensors(path)
        save_tensors(path, {name: np.add(array, 0.5, out=np.array(array)) for name, array in weights.items()})
    seal_again(copied)
    with pytest.raises(RunError, match="answers its golden request differently than when it was saved"):
        Run.load(copied).model


@pytest.mark.parametrize("copied", ["two_tower"], indirect=True)
def test_a_kind_from_the_future(copied: Path) -> None:
    (copied / MANIFEST_NAME).unlink()
    write_manifest(copied, kind="three_tower")
    with pytest.raises(
        RunError,
        match="kind 'three_tower'; this version knows 'joint', 'late_fusion', 'ranker', 'tower_model', 'two_tower'",
    ):
        Run.load(copied).model


def _mutations(data: Any, put: Any) -> Iterator[None]:
    """Each place of plain data in turn: removed, or another value in it; put back before the next."""
    places = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    for place in places:
        kept = data[place]
        for value in (None, "x", -1, 10**4, [], {}, [["x"]]):
            data[place] = value
            put()
            yield
        data[place] = kept
        if isinstance(data, dict):
            del data[place]
            put()
            yield
            data[place] = kept
        yield from _mutations(kept, put)


@pytest.mark.parametrize("copied", KINDS, indirect=True)
def test_json_changed_together_with_its_hash_is_never_a_bare_error(copied: Path) -> None:
    """A random sample of all single changes, for there are thousands."""
    draw, met = random.Random(3), 0
    for path in [path for path in files(copied) if path.suffix == ".json" and path.name != "trees.json"]:
        original = json.loads(path.read_text(encoding="utf-8"))
        data = copy.deepcopy(original)
        total = sum(1 for _ in _mutations(data, lambda: None))
        chosen = set(draw.sample(range(total), min(25, total)))

        def put(path: Path = path, data: Any = data) -> None:
            path.write_text(json.dumps(data), encoding="utf-8")

        for number, _ in enumerate(_mutations(data, lambda: None)):
            if number in chosen:
                put()
                seal_again(copied)
                try:
                    use(copied)
                except TowerkitError as error:
                    met += 1
                    assert str(error)
        path.write_text(json.dumps(original), encoding="utf-8")
    assert met > 30
    seal_again(copied)
    use(copied)


@pytest.mark.parametrize("copied", KINDS, indirect=True)
def test_arrow_and_tensors_changed_together_with_their_hashes_are_never_a_bare_error(copied: Path) -> None:
    met = 0
    for path in files(copied):
        whole = path.read_bytes()
        damages: list[Any] = []
        if path.suffix == ".arrow":
            table = load_table(path)
            damages = [table.slice(0, 0), table.select([]), table.slice(1), pa.table({"x": [1]})]
            damages += [table.rename_columns([f"{name}_" for name in table.column_names])]
        elif path.suffix == ".safetensors":
            tensors = load_tensors(path)
            damages = [{}, {"x": np.zeros(1)}, {name: np.asarray(array).ravel()[:0] for name, array in tensors.items()}]
            damages += [{name: np.full_like(np.asarray(array), -7) for name, array in tensors.items()}]
        for damage in damages:
            if path.suffix == ".arrow":
                save_table(path, damage)
            else:
                save_tensors(path, damage)
            seal_again(copied)
            try:
                use(copied)
            except TowerkitError as error:
                met += 1
                assert str(error)
        path.write_bytes(whole)
    assert met >= 5
    seal_again(copied)
    use(copied)
