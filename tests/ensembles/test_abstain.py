"""Members of a late fusion that abstain (``abstain: true``).

Pinned: a member that has nothing of what it reads in a row is without weight there, and the others have its share; where nobody has
anything all count, and where only members without a weight are left these count alike; without the key, and where nothing is
missing, the answers are those of before to the bit; members at an inner level abstain for themselves; a saved fusion does as the
fusion does; stacks and rankers refuse it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.ensembles.test_mixtures import THREE, data, forest, test_rows

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.table import Table
from towerkit.ensembles.fit_late import fit_late_fusion
from towerkit.ensembles.late import LateFusion, nothing_of
from towerkit.ensembles.late_files import load_late_fusion, save_late_fusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.mixtures import Mixture
from towerkit.training.progress import Silent
from towerkit.training.spec import TrainingSpec

test_rows.__test__ = False  # type: ignore[attr-defined]


def fusion(combine: dict[str, Any], *, abstain: bool = True, **members: Any) -> LateFusion:
    members = members or {"one": forest("a"), "two": forest("b"), "three": forest("c")}
    spec = parse(LateFusionSpec, {"members": members, "combine": combine, "abstain": abstain})
    return fit_late_fusion(spec, data(), TrainingSpec(), Silent())


def without(table: Table, *columns: str, rows: slice = slice(None)) -> Table:
    """The same rows, some values of which are gone."""
    found = table.data
    for name in columns:
        values = found.column(name).to_pylist()
        values[rows] = [None] * len(values[rows])
        found = found.set_column(found.column_names.index(name), name, pa.array(values, found.schema.field(name).type))
    return Table(found, table.name)


def test_weights_by_hand() -> None:
    said = [np.array([[1.0, 0.0, 0.0]] * 4), np.array([[0.0, 1.0, 0.0]] * 4), np.array([[0.0, 0.0, 1.0]] * 4)]
    mixture = Mixture(np.array([0.6, 0.4, 0.0]), np.ones(3))
    silent = np.array([[False, True, True, True], [False, False, True, True], [False, False, False, True]])
    found = mixture.combined(THREE, said, silent)
    assert found.tolist() == [[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]]
    hard = Mixture(np.array([0.6, 0.4, 0.0]), np.ones(3), "hard").combined(THREE, said, silent)
    assert hard.argmax(axis=1).tolist() == [0, 1, 2, 0]
    assert np.array_equal(mixture.combined(THREE, said, np.zeros((3, 4), bool)), mixture.combined(THREE, said))


def test_what_is_nothing() -> None:
    rows = pa.table(
        {"n": pa.array([1.0, None, float("nan"), None]), "t": ["", " \t", None, "x"], "l": [[], None, None, None]}
    )
    table = Table(rows, "rows")
    assert nothing_of(table, ["n"]).tolist() == [False, True, True, True]
    assert nothing_of(table, ["t"]).tolist() == [True, True, True, False]
    assert nothing_of(table, ["l"]).tolist() == [False, True, True, True]
    assert nothing_of(table, ["n", "t"]).tolist() == [False, True, True, False]
    assert nothing_of(table, ["gone"]).tolist() == [True] * 4


@pytest.mark.parametrize(
    "combine",
    [{"kind": "weighted"}, {"kind": "average"}, {"kind": "vote"}, {"kind": "average", "calibrate": "temperature"}],
)
def test_a_member_that_has_nothing_says_nothing(combine: dict[str, Any], tmp_path: Path) -> None:
    model, as_before = fusion(combine), fusion(combine, abstain=False)
    table = test_rows(data())
    whole = model.predict(table)["up"]
    np.testing.assert_array_equal(whole, as_before.predict(table)["up"])
    gone = without(table, "a", rows=slice(0, 5))
    said = model.member_predictions(gone)
    others = LateFusion(
        model.spec,
        {name: model.members[name] for name in ("three", "two")},
        model.tasks,
        {task: _of(own, [1, 2]) for task, own in model.combiners.items()},
    )
    found = model.predict(gone)["up"]
    np.testing.assert_allclose(found[:5], others.combined(said)["up"][:5], atol=1e-12)
    np.testing.assert_allclose(found[5:], whole[5:], atol=1e-12)
    assert not np.allclose(found[:5], as_before.predict(gone)["up"][:5])
    save_late_fusion(tmp_path / "model", model)
    np.testing.assert_array_equal(load_late_fusion(tmp_path / "model").predict(gone)["up"], found)
    nobody = without(table, "a", "b", "c")
    np.testing.assert_array_equal(model.predict(nobody)["up"], as_before.predict(nobody)["up"])


def _of(combiner: Any, places: list[int]) -> Mixture:
    own = combiner.weights[places]
    own = own / own.sum() if own.sum() > 0 else np.full(len(places), 1 / len(places))
    return Mixture(own, combiner.temperatures[places], combiner.votes)


def test_members_within_a_member_abstain_for_themselves() -> None:
    inner = {"kind": "late_fusion", "combine": {"kind": "average"}, "abstain": True}
    inner["members"] = {"one": forest("a"), "two": forest("b")}
    model = fusion({"kind": "average"}, both=inner, three=forest("c"))
    table = without(test_rows(data()), "a")
    said = model.all_predictions(table)
    np.testing.assert_allclose(said["both"]["up"], said["both/two"]["up"], atol=1e-12)
    np.testing.assert_allclose(
        model.predict(table)["up"], (said["both/two"]["up"] + said["three"]["up"]) / 2, atol=1e-12
    )
    alone = without(table, "b")
    np.testing.assert_allclose(model.predict(alone)["up"], said["three"]["up"], atol=1e-12)


@pytest.mark.parametrize("combine", [{"kind": "stack"}, {}])
def test_a_stack_refuses_it(combine: dict[str, Any]) -> None:
    content = {
        "members": {"one": forest("a"), "two": forest("b")},
        "abstain": True,
        **({"combine": combine} if combine else {}),
    }
    with pytest.raises(SpecError, match=r"abstain: a fusion that is stacked needs what every member says"):
        parse(LateFusionSpec, content)


def test_rankers_refuse_it() -> None:
    ranks = {name: {"kind": "bm25", "query": ["q"], "candidate": [name]} for name in ("one", "two")}
    with pytest.raises(SpecError, match=r"abstain: a fusion that ranks needs"):
        parse(LateFusionSpec, {"members": ranks, "abstain": True})
