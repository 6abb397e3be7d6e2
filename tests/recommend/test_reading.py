"""Rows that come later: of another shape than the training's.

Invariants:
- a file with the extension of the training's table is read as that was: separator, decimal sign, encoding, names of a file
  without a header, which it may also have; any other file, and what the spec cannot speak for, is read by itself;
- the order of columns and extra columns do not matter; a missing one is told with the nearest name, a text among numbers with row
  and value, in the name of the file, for every kind of model;
- keys that differ by white space are strangers, and it is said;
- rows of keys alone are answered as the keys; the key's column may be called as in the examples or as in its own table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.recommend.conftest import EVENTS, ITEMS, SPEC, USERS

import towerkit as tk
from towerkit.api import fit
from towerkit.data.alike import read_alike, source_like
from towerkit.run import Run


def written(
    path: Path, columns: dict[str, Any], separator: str = ";", *, header: bool = True, encoding: str = "utf-8"
) -> Path:
    """A text table with a comma before the decimal places."""
    lines = [separator.join(columns)] if header else []
    for row in zip(*columns.values(), strict=True):
        lines.append(separator.join("" if value is None else str(value).replace(".", ",") for value in row))
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with foreign ways of writing, and a spec that says so."""
    place = tmp_path_factory.mktemp("foreign")
    written(place / "events.data", EVENTS, "::", header=False)
    written(
        place / "items.csv",
        {"id": ITEMS["item"], **{k: v for k, v in ITEMS.items() if k != "item"}},
        encoding="latin-1",
    )
    written(place / "users.csv", USERS, "|")
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """A Run of these files."""
    how = {"separator": ";", "decimal": ",", "encoding": "latin-1"}
    data = {
        "examples": {
            "path": str(folder / "events.data"), "format": "delimited", "separator": "::", "header": False,
            "names": ["user", "item"], "query": "user", "candidate": "item",
        },
        "entities": {
            "item": {"path": str(folder / "items.csv"), "key": "id", "title": "name", **how},
            "user": {"path": str(folder / "users.csv"), "separator": "|", "decimal": ","},
        },
    }  # fmt: skip
    return fit({"data": data, **SPEC}, run=folder / "run")


def test_files_are_read_as_those_of_the_training(run: Run, folder: Path) -> None:
    pairs = written(folder / "new.data", {"user": ["u1", "u2"], "item": ["i3", "i4"]}, "::", header=False)
    scores = run.predict(pairs)
    assert scores.column("user").to_pylist() == ["u1", "u2"] and not any(scores.column("cold").to_pylist())
    headed = written(folder / "headed.data", {"user": ["u1", "u2"], "item": ["i3", "i4"]}, "::")
    assert run.predict(headed).equals(scores)
    assert run.predict(written(folder / "other.csv", {"item": ["i3", "i4"], "user": ["u1", "u2"]}, ",")).equals(scores)
    fresh = written(folder / "fresh.data", {"user": ["u1"] * 40, "item": ITEMS["item"]}, "::", header=False)
    assert run.evaluate(fresh).protocol["part"].startswith("new data")
    users = written(folder / "ask.csv", {"user": ["u1", "new"], "age": [30.5, 41.5]}, "|")
    asked = {"user": ["u1", "new"], "age": [30.5, 41.5]}
    assert run.recommend(rows=users, k=3).equals(run.recommend(rows=asked, k=3))
    stock = written(folder / "stock.csv", {"id": ["i3", "i9"], "left": [1.5, 2.5]})
    chosen = run.recommend("u1", allow=stock, exclude_seen=False)
    assert sorted(chosen.column("item").to_pylist()) == ["i3", "i9"]
    newcomers = written(folder / "more.csv", {"price": [9.5, None], "name": ["Tür", "x"]}, encoding="latin-1")
    assert run.queries_for(newcomers, k=2).num_rows == 4
    assert run.embed(newcomers, side="candidate").equals(run.embed({"price": [9.5, None]}, side="candidate"))


def test_what_the_spec_cannot_speak_for_is_read_by_itself(tmp_path: Path) -> None:
    table = {"a": [1, 2], "b": ["x", "y"]}
    path = written(tmp_path / "t.csv", table, ",")
    examples = {"path": "train.tsv", "separator": "|", "header": False, "names": ["q", "c"]}
    assert read_alike(str(path), examples).data.column_names == ["a", "b"]
    assert read_alike(path, None).data.column_names == ["a", "b"]
    assert read_alike(table, examples).data.column_names == ["a", "b"]
    assert read_alike("builtin:shop-small/products", examples).data.num_rows == 80
    like = source_like({"examples": examples, "entities": {}}, "user")
    assert like is not None and "names" not in like and like["separator"] == "|"
    assert source_like(None) is None and source_like({"collection": {}}, "user") is None
    packed = {"path": "some.zip::deep/u.data", "separator": "|", "header": False, "names": ["q", "c"]}
    assert read_alike(
        written(tmp_path / "u.data", {"q": [1], "c": [2]}, "|", header=False), packed
    ).data.to_pylist() == [{"q": 1, "c": 2}]


def test_the_order_of_columns_and_extra_ones_do_not_matter(shop: Run) -> None:
    plain = shop.recommend(rows={"user": ["u1", "new"], "age": [30.0, 40.0]}, k=4)
    assert shop.recommend(rows={"age": [30.0, 40.0], "more": [1, 2], "user": ["u1", "new"]}, k=4).equals(plain)
    pairs = shop.predict({"user": ["u1"], "item": ["i2"]})
    assert shop.predict({"more": [0.5], "item": ["i2"], "user": ["u1"]}).equals(pairs)
    assert (
        pairs.column_names == ["user", "item", "title", "score", "cold"]
        and pairs.column("title")[0].as_py() == "Item 2"
    )
    strange = shop.predict({"user": ["u1", "x"], "item": ["nothing", "i2"]})
    assert strange.column("title").to_pylist() == [None, "Item 2"] and strange.column("cold").to_pylist() == [
        True,
        True,
    ]


def test_what_is_wrong_is_told_with_file_column_row_and_value(shop: Run, tmp_path: Path) -> None:
    wrong = written(tmp_path / "wrong.csv", {"user": ["u1", "u2"], "age": ["30", "forty"]}, ",")
    with pytest.raises(tk.DataError, match=r"wrong\.csv: The column 'age' must hold numbers; row 2 has 'forty'"):
        shop.recommend(rows=wrong)
    with pytest.raises(tk.DataError, match=r"wrong\.csv: The column 'age' must hold numbers; row 2 has 'forty'"):
        shop.embed(wrong, side="query")
    lacks = written(tmp_path / "lacks.csv", {"user": ["u1"], "aeg": [3]}, ",")
    with pytest.raises(tk.DataError, match=r"lacks\.csv: The column 'age' is missing.*did you mean 'aeg'\? Add it"):
        shop.recommend(rows=lacks)
    with pytest.raises(tk.DataError, match=r"'price' is missing.*\['item', 'prices'\]; did you mean 'prices'\?"):
        shop.queries_for({"item": ["x"], "prices": [3.0]})


def test_keys_that_differ_by_white_space_are_told(shop: Run) -> None:
    found = shop.recommend("u3 ", k=2)
    assert all(found.column("cold").to_pylist())
    assert tk.notes_of(found) == [
        "'u3 ' is not among the 60 known queries; 'u3' is, which differs by white space only. The answer is the one for a stranger."
    ]
    (note,) = tk.notes_of(shop.recommend("uu3", k=2))
    assert "did you mean 'u3" in note
    (note,) = tk.notes_of(shop.recommend(rows={"user": ["u1", " u3", "\u00a0u4", "new"], "age": [1.0] * 4}, k=1))
    assert (
        "row 2: the column 'user' holds ' u3', which is unknown and differs from 'u3' by white space only (2 such rows)"
        in note
    )
    (note,) = tk.notes_of(shop.predict({"user": ["u1"], "item": ["i3\t"]}))
    assert "the column 'item' holds 'i3\\t'" in note


def test_rows_of_keys_alone_are_answered_as_the_keys(shop: Run) -> None:
    found = shop.recommend(rows={"user": ["u1", "u5"], "name": ["Ann", "Bo"]}, k=4)
    for place, key in enumerate(("u1", "u5")):
        alone = shop.recommend(key, k=4)
        assert found.slice(4 * place, 4).drop_columns(["score"]).equals(alone.drop_columns(["score"]))
    with pytest.raises(tk.DataError, match="'age' is missing"):
        shop.recommend(rows={"name": ["Ann"]}, k=4)
    one = shop.queries_for({"item": ["i3"]}, k=3)
    known = shop.queries_for({"item": ["i3"], "price": [ITEMS["price"][3]]}, k=3)
    assert one.equals(known)
    assert tk.notes_of(shop.queries_for({"item": ["i3"]}, k=99)) == [
        "Fewer than the 99 answers asked for: there are 60 known queries."
    ]


def test_the_key_may_be_called_as_in_the_examples(run: Run) -> None:
    by_entity = run.embed({"item": ["i3", "i4"]}, side="candidate")
    by_table = run.embed({"id": ["i3", "i4"]}, side="candidate")
    assert by_entity.equals(by_table) and not any(by_entity.column("cold").to_pylist())
    assert run.recommend("u1", allow={"item": ["i3"]}, k=1, exclude_seen=False).num_rows == 1
