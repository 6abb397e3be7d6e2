"""Search spaces (`towerkit.tuning.ranges`, `towerkit.tuning.space`, `towerkit.tuning.defaults`).

Pinned here:
- a range may stand anywhere; its default is the one given, the first choice, or the middle (the geometric one on a log scale);
- what a sampler or a grid proposes lies within the range, and a filled space has no range left;
- a tie has the value of the place that it names;
- an unknown key, an empty range, an end that its place does not take, and a range where all trials must be alike are refused
  with the place and the value;
- a mapping under a tower that is *called* ``int`` is no range;
- without ranges, each default range holds the value of the spec, for every kind of model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.spec import ModelingSpec, plain, spec_data
from towerkit.tuning.defaults import default_ranges
from towerkit.tuning.ranges import ChoiceRange, FloatRange, IntRange, Range, range_of
from towerkit.tuning.space import check_space, group_of, space_of, with_ranges

DROPOUT = "model.towers.table.dropout"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def spec(**training: Any) -> dict[str, Any]:
    """A two-tower whose widths are searched together."""
    return {
        "model": {
            "kind": "two_tower",
            "query": {"kind": "id", "dim": {"int": [16, 64], "log": True}},
            "candidate": {"kind": "id", "dim": {"same_as": "model.query.dim"}},
        },
        "training": {"optimizer": {"lr": {"float": [1e-4, 1e-2], "log": True}}, **training},
    }


def test_a_space_is_found_anywhere_and_its_default_is_a_spec():
    space = space_of(spec(batch_size={"choice": [256, 1024], "default": 1024}))
    assert space.start() == {"model.query.dim": 32, "training.optimizer.lr": 0.001, "training.batch_size": 1024}
    found = check_space(space, ModelingSpec)
    assert found.model.query.dim == found.model.candidate.dim == 32
    assert found.training.optimizer.lr == 0.001
    assert space_of(space.filled(space.start())).ranges == {}


def test_what_is_in_a_list_is_found_by_its_position():
    data = spec() | {"objective": {"negatives": [{"kind": "in_batch"}, {"kind": "uniform", "count": {"int": [1, 9]}}]}}
    space = space_of(data)
    filled = space.filled({**space.start(), "objective.negatives.1.count": 7})
    assert filled["objective"]["negatives"] == [{"kind": "in_batch"}, {"kind": "uniform", "count": 7}]
    assert isinstance(data["objective"]["negatives"][1]["count"], dict), "the template stays as it was"


def test_whole_parts_can_be_chosen():
    data = spec() | {"update": {"choice": [{"kind": "two_backprop"}, {"kind": "one_backprop", "beta": 0.9}]}}
    space = space_of(data)
    filled = space.filled({**space.start(), "update": {"kind": "one_backprop", "beta": 0.9}})
    assert parse(ModelingSpec, filled, "x").update.beta == 0.9


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"int": [5, 3]}, r"training\.epochs: .*\[5, 3\], which is empty: write \{int: \[3, 5\]\}"),
        ({"int": [3, 3]}, r"\[3, 3\], which is empty: write the value itself"),
        ({"choice": []}, r"training\.epochs: choice: needs 2 or more entries; received \[\]"),
        ({"choice": [7]}, r"needs 2 or more entries; received \[7\]"),
        ({"choice": [7, 7]}, r"stands once; received 7 twice"),
        ({"choice": [7, {"int": [1, 2]}]}, r"holds no range of its own"),
        ({"choice": [7, 8], "default": 9}, r"the default 9 is none of the values \[7, 8\]"),
        ({"int": [1, 9], "lgo": True}, r"training\.epochs: unknown key 'lgo'; did you mean 'log'"),
        ({"int": [1, 9], "choice": [1, 2]}, r"a range is one of 'choice', 'int', 'float' and 'same_as'"),
        ({"int": [1, 9], "default": 12}, r"the default 12 lies outside of \[1, 9\]"),
        ({"int": [1, 9], "step": 4, "default": 2}, r"the default 2 is not 1 and some steps of 4"),
        ({"int": [1, 9], "step": 2, "log": True}, r"'log' and 'step' go apart"),
        ({"int": [0, 9], "log": True}, r"'log' needs ends above 0; received \[0, 9\]"),
        ({"float": [0.0, 1.0], "step": 2.0}, r"a step of 2 leaves one value"),
        ({"int": 7}, r"int: must be a list, as in \[1, 2\]; received 7"),
        ({"same_as": "model.query.dmi"}, r"there is none at 'model\.query\.dmi'; did you mean 'model\.query\.dim'"),
    ],
)
def test_a_range_that_is_none_is_refused(bad: Any, message: str):
    with pytest.raises(SpecError, match=message):
        space_of(spec(epochs=bad))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"int": [0, 9]},
            r"training\.epochs: the range .* has the value 0, which does not fit: .*greater than or equal to 1",
        ),
        ({"float": [1, 5]}, r"training\.epochs: .* has the value 3\.173, which does not fit: .*valid integer"),
        ({"choice": [5, "many"]}, r"training\.epochs: .* has the value 'many'"),
    ],
)
def test_a_range_whose_ends_do_not_fit_their_place_is_refused(bad: Any, message: str):
    with pytest.raises(SpecError, match=message):
        check_space(space_of(spec(epochs=bad)), ModelingSpec)


def test_a_range_under_an_unknown_key_is_refused():
    with pytest.raises(SpecError, match=r"training: unknown key 'epchs'; did you mean 'epochs'"):
        check_space(space_of(spec(epchs={"int": [1, 9]})), ModelingSpec)


@pytest.mark.parametrize("part", ["data", "evaluation"])
def test_what_trials_are_measured_by_is_not_searched(part: str):
    with pytest.raises(SpecError, match=rf"{part}\.k: every trial must be measured"):
        space_of(spec() | {part: {"k": {"choice": [1, 2]}}})


def test_a_tower_may_be_called_int():
    assert range_of({"int": {"kind": "id"}}, "model.towers") is None
    assert space_of({"model": {"towers": {"int": {"kind": "id", "dim": {"int": [1, 2]}}}}}).ranges.keys() == {
        "model.towers.int.dim"
    }


@given(st.integers(1, 500), st.integers(1, 500), st.booleans())
def test_whole_numbers_of_a_grid_and_the_middle_lie_between_the_ends(low: int, more: int, log: bool):
    found = parse(IntRange, {"int": [low, low + more], "log": log}, "x")
    assert all(low <= value <= low + more for value in [found.start, *found.grid(), *found.probes()])
    assert {low, low + more} <= set(found.grid())


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e3), st.booleans())
def test_numbers_of_a_grid_and_the_middle_lie_between_the_ends(low: float, factor: float, log: bool):
    found = parse(FloatRange, {"float": [low, low * factor], "log": log}, "x")
    assert all(low <= value <= low * factor for value in [found.start, *found.grid(), *found.probes()])


def test_the_middle_on_a_log_scale_is_the_geometric_one():
    assert parse(IntRange, {"int": [16, 64], "log": True}, "x").start == 32
    assert parse(IntRange, {"int": [16, 64]}, "x").start == 40
    assert parse(IntRange, {"int": [1, 9], "step": 3}, "x").start == 4
    assert list(parse(FloatRange, {"float": [0.0, 1.0], "step": 0.25}, "x").grid()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert parse(ChoiceRange, {"choice": [[128], None]}, "x").start == [128]


def test_a_grid_has_every_combination_once_and_the_default_first():
    space = space_of({"a": {"choice": [1, 2, 3], "default": 2}, "b": {"int": [0, 4], "step": 2}})
    points = space.grid()
    assert points[0] == space.start() == {"a": 2, "b": 2}
    assert len(points) == len({str(point) for point in points}) == 9


def test_a_grid_beyond_all_measure_is_refused():
    with pytest.raises(SpecError, match=r"9,765,625 points"):
        space_of({str(place): {"float": [0, 1]} for place in range(10)}).grid()


def _example(name: str) -> dict[str, Any]:
    return {key: part for key, part in spec_data(EXAMPLES / f"{name}.yaml").items() if key != "data"}


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("ml100k_one_backprop", {"training.optimizer.lr", "update.beta", "model.query.dim", "objective.negatives.0.count"}),
        ("shop_one_backprop", {"model.query.towers.id.dim", "training.optimizer.lr", "update.beta", "objective.negatives.0.count"}),
        ("shop_multitask", {"training.optimizer.lr", "model.backbone.dim", "model.towers.text.dropout", DROPOUT}),
        ("shop_joint", {"training.optimizer.lr", "model.query.towers.id.dim", "objective.negatives.0.count"}),
    ],
)  # fmt: skip
def test_a_spec_without_ranges_is_searched_around_its_values(example: str, expected: set[str]):
    data = _example(example)
    as_is = parse(ModelingSpec, data, example)
    space = space_of(with_ranges(data, default_ranges(as_is), plain(as_is)))
    assert space.ranges.keys() == expected
    assert check_space(space, ModelingSpec) == as_is, "the default configuration is the spec as it was"


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_each_example_has_default_ranges_that_fit(example: str):
    data = _example(example)
    as_is = parse(ModelingSpec, data, example)
    ranges = default_ranges(as_is)
    assert all(isinstance(range_of(each, path), Range) or "same_as" in each for path, each in ranges.items())
    assert check_space(space_of(with_ranges(data, ranges, plain(as_is))), ModelingSpec) == as_is


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("model.towers.text.encoder.buckets", "text"),
        ("model.query.backbone.dim", "query.backbone"),
        ("model.heads.rating.layers", "rating (head)"),
        ("model.match.kind", "match"),
        ("model.candidates.snack.dim", "snack"),
        ("update", "update"),
        ("model.kind", "model"),
    ],
)
def test_a_place_belongs_to_a_part_of_the_model(path: str, part: str):
    assert group_of(path) == part
