"""The embedding-space id.

Invariants: it is in the manifest of every two-tower and nowhere else; a copy, another path, other figures, titles, catalogues or
seen pairs leave it as it is; any change of a weight, a fitted feature or the model's spec changes it, and so do another seed and
going on from the Run; the same training again gives the same id; a stored id that the files do not give is refused; a Run of
format 1, which has none stored, gives the id of the same files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.artifact.arrow import load_table, save_table
from towerkit.artifact.space import space_on_disk
from towerkit.core.errors import RunError
from towerkit.data.shop import shop_table
from towerkit.run import Run
from towerkit.storage.hashes import content_hash, read_json, write_json
from towerkit.storage.manifest import read_manifest
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.testing.sealing import seal_again

ID = {"kind": "id", "dim": 4}
FACTS = {"kind": "table", "columns": ["price"], "layers": [], "dim": 4}
SPEC = {
    "model": {"kind": "two_tower", "query": ID, "candidate": {"towers": {"id": ID, "facts": FACTS}}},
    "training": {"epochs": 1},
    "evaluation": {"k": [5]},
}  # fmt: skip


def trained(folder: Path, seed: int = 0, base: Run | None = None, **changes: Any) -> Run:
    data = tk.read(
        "builtin:shop-small/purchases",
        query="user_id",
        candidate="product_id",
        time="time",
        entities={"product_id": {"table": shop_table("products", size="small"), "key": "product_id", "title": "title"}},
    )
    training = {**SPEC["training"], "seed": seed}
    return tk.fit({**SPEC, "training": training, **changes}, data, run=folder, base=base)


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("space") / "run")


def edited_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        content = json.loads((run / name).read_text(encoding="utf-8"))
        change(content)
        (run / name).write_text(json.dumps(content), encoding="utf-8")

    return edit


def without_last_row(run: Path) -> None:
    save_table(run / "model" / "query.arrow", load_table(run / "model" / "query.arrow").slice(1))


def other_prices(run: Path) -> None:
    table = load_table(run / "model" / "candidate.arrow")
    save_table(run / "model" / "candidate.arrow", table.set_column(1, table.column_names[1], table.column(1)[::-1]))


def one_weight(run: Path) -> None:
    path = run / "model" / "weights.safetensors"
    weights = load_tensors(path)
    name = max(weights, key=lambda name: weights[name].size)
    changed = np.array(weights[name])
    changed.flat[3] = np.nextafter(changed.flat[3], 9, dtype=np.float32)
    save_tensors(path, {**weights, name: changed})


SAME = {
    "figures": edited_json("metrics.json", lambda c: c["model"]["metrics"].pop("recall@5")),
    "the card": lambda run: (run / "card.md").write_text("# Mine"),
    "titles": edited_json("model/model.json", lambda c: c["titles"].update(product_id=None)),
    "queries": without_last_row,
    "columns of candidates": other_prices,
    "the golden request": edited_json("golden.json", lambda c: c["answers"].clear()),
}
OTHER = {
    "a weight": one_weight,
    "a fitted feature": edited_json(
        "model/encoder.json",
        lambda c: next(f for f in c["features"]["product_id"] if f["state"])["state"].update(mean=1.25),
    ),
    "the spec": edited_json("model/model.json", lambda c: c["spec"].update(match={"kind": "cosine"})),
    "how queries learn": edited_json("model/model.json", lambda c: c.update(queries_average_candidates=True)),
    "a vocabulary": lambda run: save_table(
        run / "model" / "vocabulary-0.arrow", load_table(run / "model" / "vocabulary-0.arrow").slice(1)
    ),
}


@pytest.mark.parametrize("what", [*SAME, *OTHER])
def test_what_changes_the_id(ranking: Run, tmp_path: Path, what: str) -> None:
    copy = Path(shutil.copytree(ranking.path, tmp_path / "elsewhere"))
    (SAME | OTHER)[what](copy)
    seal_again(copy)
    assert (tk.load(copy).space == ranking.space) == (what in SAME)


def test_the_id_is_in_the_manifest_and_on_the_card(ranking: Run) -> None:
    assert ranking.space is not None and len(ranking.space) == 64
    assert read_manifest(ranking.path).space == ranking.space == space_on_disk(ranking.path)
    assert f"Embedding space `{ranking.space}`" in (ranking.path / "card.md").read_text(encoding="utf-8")


def test_the_same_training_gives_the_same_id_and_another_seed_another(ranking: Run, tmp_path: Path) -> None:
    again = trained(tmp_path / "again", evaluation={"k": [3]})
    assert again.space == ranking.space
    assert np.array_equal(again.model.candidate_vectors, ranking.model.candidate_vectors)
    assert trained(tmp_path / "seed", seed=1).space != ranking.space


def test_going_on_from_a_run_gives_a_new_id(ranking: Run, tmp_path: Path) -> None:
    assert trained(tmp_path / "next", base=ranking).space != ranking.space


def test_what_has_no_vectors_to_compare_has_no_id(runs: dict[str, Run]) -> None:
    assert all(runs[kind].space is None for kind in ("tower_model", "ranker", "joint", "late_fusion"))
    assert runs["two_tower"].space is not None


def test_an_id_that_the_files_do_not_give_is_refused(ranking: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(ranking.path, tmp_path / "copy"))
    content = {key: value for key, value in read_json(copy / "manifest.json").items() if key != "seal"}
    for space in ("0" * 64, None):
        forged = {**content, "space": space}
        write_json(copy / "manifest.json", {**forged, "seal": content_hash(forged)})
        with pytest.raises(
            RunError,
            match=rf"its embedding-space id is {str(space)[:4]}.*, and its weights, .* give {ranking.space[:12]}",
        ):
            tk.load(copy).model


def test_a_run_of_format_1_has_the_id_of_its_files() -> None:
    old = tk.load(Path(__file__).parents[1] / "fixtures" / "runs" / "format-1" / "history" / "run")
    assert old.manifest.format == 1 and old.manifest.space is None
    assert old.space == space_on_disk(old.path)
