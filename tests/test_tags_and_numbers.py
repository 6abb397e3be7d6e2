"""Several labels per row, and numbers, from raw rows to answers.

Pinned: planted tags and a planted price are learned together, beside a class, under either balance; answers are lists, and
numbers in the label's own unit; fresh rows are measured, labels that training never had left out and counted; what can be no
label is refused before training, by file, column, row and value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.core.errors import DataError, SpecError
from towerkit.data.writers import write_table
from towerkit.evaluation.result import protocol_line
from towerkit.run import Run

ROWS = 400
TAGS = {"kind": "multilabel", "column": "tags", "separator": ", "}
PRICE = {"kind": "regression", "column": "price", "transform": "log"}
BIG = {"kind": "binary", "column": "is_big"}


def table(seed: int = 0, **changed: Any) -> dict[str, Any]:
    """Tags and a price in thousands that size and color tell; one in ten of each is missing."""
    draw = np.random.default_rng(seed)
    size, red = draw.normal(size=ROWS), draw.integers(0, 2, ROWS)
    named = (("big", size > 0), ("huge", size > 1), ("red", red == 1))
    tags = [", ".join(name for name, has in named if has[row]) or " , " for row in range(ROWS)]
    price = np.exp(8 + size + 0.5 * red)
    missing = np.arange(ROWS) % 10 == 3
    return {
        "size": size.tolist(),
        "color": np.where(red, "red", "blue").tolist(),
        "tags": [None if gone else text for gone, text in zip(missing, tags, strict=True)],
        "price": [None if gone else float(value) for gone, value in zip(missing[::-1], price, strict=True)],
        "is_big": (size > 0).astype(int).tolist(),
        **changed,
    }


def spec_of(heads: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A tower model over both columns."""
    towers = {"table": {"kind": "table", "columns": ["size", "color"], "layers": [16], "dim": 16}}
    training = {"epochs": 40, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.02}}
    return {"model": {"kind": "tower_model", "towers": towers, "heads": heads}, "training": training, **more}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All three heads at once, balanced by uncertainty."""
    spec = spec_of({"tags": TAGS, "price": PRICE, "is_big": BIG}, balance={"kind": "uncertainty"})
    return tk.fit(spec, tk.read(table()), run=tmp_path_factory.mktemp("tags") / "run")


def test_what_was_planted_is_found(run: Run) -> None:
    found, majority = run.evaluation.metrics, run.baselines["majority"].metrics
    assert found["tags/f1_micro"].value > 0.9 > majority["tags/f1_micro"].value
    assert found["price/mae"].value < 0.25 * majority["price/mae"].value
    assert majority["price/mae"].value > 1000, "in the label's own unit"
    assert found["is_big/auc"].value > 0.95
    about = run.evaluation.protocol["tasks"]
    assert about["tags"]["classes"] == ["big", "huge", "red"]
    assert [about[task]["unknown_labels"] > 0 for task in ("tags", "price", "is_big")] == [True, True, False]


@pytest.mark.parametrize(
    ("head", "names"), [(TAGS, ("majority", "logistic_regression")), (PRICE, ("mean", "ridge_regression"))]
)
def test_alone_and_with_fixed_weights(head: dict[str, Any], names: tuple[str, str]) -> None:
    alone = tk.fit(spec_of({"it": head}), tk.read(table()))
    assert set(alone.baselines) == set(names)
    figure, chance = ("f1_micro", 0.9) if head is TAGS else ("r2", 0.8)
    assert alone.evaluation.metrics[figure].value > chance > alone.baselines[names[0]].metrics[figure].value


def test_answers_are_lists_and_numbers(run: Run, tmp_path: Path) -> None:
    asked = {"size": [1.5, -1.5, None], "color": ["red", "blue", None]}
    answers = tk.load(run.path).predict(asked)
    columns = {"price", "tags", "tags=big", "tags=huge", "tags=red", "is_big", "is_big=1"}
    assert set(answers.column_names) == columns
    assert answers.column("tags").to_pylist()[:2] == [["big", "huge", "red"], []]
    price = answers.column("price").to_pylist()
    assert price[0] == pytest.approx(np.exp(10), rel=0.5) and price[1] == pytest.approx(np.exp(6.5), rel=0.5)
    assert price[1] < price[2] < price[0], "of a row that nothing is known of, something in between"
    for name in ("a.csv", "a.parquet", "a.arrow"):
        write_table(answers, tmp_path / name)
        again = tk.data.readers.read_table(tmp_path / name).data
        assert again.column("tags").to_pylist()[0] in (["big", "huge", "red"], "big|huge|red")
        assert again.column("price").to_pylist() == price


def test_fresh_rows_are_measured_and_new_labels_counted(run: Run) -> None:
    fresh = table(seed=1)
    before = run.evaluate(fresh)
    assert before.metrics["tags/f1_micro"].value > 0.9
    assert "rows_with_new_labels" not in before.protocol["tasks"]["tags"]
    with_new = [text if row % 4 else "round, " + (text or "") for row, text in enumerate(fresh["tags"])]
    after = run.evaluate({**fresh, "tags": with_new})
    assert after.protocol["tasks"]["tags"]["rows_with_new_labels"] == 100
    assert "100 rows with a label that training never had" in protocol_line(after.protocol)
    known = [row for row, text in enumerate(fresh["tags"]) if text is not None]
    alone = run.evaluate({name: [values[row] for row in known] for name, values in fresh.items()})
    again = run.evaluate({name: [values[row] for row in known] for name, values in {**fresh, "tags": with_new}.items()})
    assert again.metrics["tags/f1_micro"] == alone.metrics["tags/f1_micro"], "the known labels count as before"


@pytest.mark.parametrize(
    ("head", "changed", "message"),
    [
        (
            {**TAGS, "separator": "|"},
            {},
            r"goods\.csv: The label column 'tags' never has the separator '\|' between labels, but \d+% of its \d+ texts have "
            r"',' \(for example '.*, .*'\)\. Set separator: ','",
        ),
        (
            PRICE,
            {"price": [*["1.5", "2.5"] * 199, "a lot", "3"]},
            r"goods\.csv: The column 'price' must hold numbers; row 399 has 'a lot'\. Correct the value",
        ),
        (
            PRICE,
            {"price": [*[1.5, 2.5] * 199, 1.0, -2.5]},
            r"goods\.csv: The label column 'price' is learned as log\(1 \+ value\), .* row 400 has -2\.5 \(1 such rows\)",
        ),
        (PRICE, {"price": [7.0] * ROWS}, r"goods\.csv: The label column 'price' holds one value only \(7\)"),
        (
            TAGS,
            {"tags": ["big"] * ROWS},
            r"goods\.csv: Every row with a value in the label column 'tags' has the same labels",
        ),
    ],
)
def test_what_can_be_no_label_is_refused_with_its_place(
    tmp_path: Path, head: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    path = tmp_path / "goods.csv"
    columns = table(**changed)
    lines = [
        "\t".join("" if value is None else str(value) for value in row) for row in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join(["\t".join(columns), *lines]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        tk.fit(spec_of({"it": head}), tk.read(path))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({**TAGS, "separator": ""}, r"separator"),
        ({**PRICE, "loss": "mae"}, r"loss.*'mse' or 'huber'"),
        ({**PRICE, "transform": "sqrt"}, r"transform.*'none' or 'log'"),
    ],
)
def test_a_head_that_is_none_is_refused(head: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tk.fit(spec_of({"it": head}), tk.read(table()))
