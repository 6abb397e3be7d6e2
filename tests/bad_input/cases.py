"""Bad input, case by case: what is done, and what the answer must name.

A case is a function of an empty folder. It raises a towerkit error, or gives back what a user is told where bad input has
an answer (a note, a warning, a flag). ``names`` are the file, column, row and value without which nobody could mend it.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import towerkit as tk
from towerkit.data.dataset import read_dataset
from towerkit.data.search.collection import read_judged
from towerkit.data.search.spec import CollectionSpec
from towerkit.data.spec import DataSpec
from towerkit.data.writers import write_table
from towerkit.run import Run
from towerkit.spec import load_spec

ROLES = {"query": "user", "candidate": "item"}
ID = {"kind": "id", "dim": 4}
TRAINING = {"epochs": 1, "batch_size": 64}
TWO_TOWER: dict[str, Any] = {
    "model": {"kind": "two_tower", "query": ID, "candidate": ID},
    "update": {"kind": "one_backprop"},
    "training": TRAINING,
    "evaluation": {"k": [5]},
}


@dataclass(frozen=True)
class Case:
    """One bad input."""

    name: str
    call: Callable[[Path], object]
    names: tuple[str, ...]


CASES: list[Case] = []


def case(name: str, *names: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Add a case; its answer must hold each of ``names``."""

    def add(call: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES.append(Case(name, call, names))
        return call

    return add


def pairs(rows: int = 240) -> dict[str, list[Any]]:
    """A small log of clicks."""
    draw = np.random.default_rng(0)
    return {
        "user": [f"u{n}" for n in draw.integers(0, 30, rows)],
        "item": [f"i{n}" for n in draw.integers(0, 20, rows)],
        "time": [f"2026-03-{1 + n * 28 // rows:02d} 10:{n % 60:02d}:00" for n in range(rows)],
    }


def people(rows: int = 240) -> dict[str, list[Any]]:
    """A small table to predict from."""
    draw = np.random.default_rng(0)
    return {
        "age": draw.normal(40, 10, rows).round(1).tolist(),
        "city": [("Rome", "Oslo", "Lima")[n] for n in draw.integers(0, 3, rows)],
        "liked": draw.integers(0, 2, rows).tolist(),
    }


def with_value(table: dict[str, list[Any]], column: str, row: int, value: Any) -> dict[str, list[Any]]:
    """The table with one other value; rows count from 0."""
    values = list(table[column])
    values[row] = value
    return {**table, column: values}


def csv(path: Path, table: dict[str, list[Any]], separator: str = ",") -> Path:
    """Columns as a text table; None is an empty place."""
    rows = zip(*table.values(), strict=True)
    lines = [separator.join(table), *(separator.join("" if v is None else str(v) for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def predicting(columns: tuple[str, ...] = ("age", "city"), head: dict[str, Any] | None = None) -> dict[str, Any]:
    """The spec of a tower model over the people."""
    towers = {"table": {"kind": "table", "columns": list(columns), "layers": [4]}}
    heads = {"task": head or {"kind": "binary", "column": "liked"}}
    return {"model": {"kind": "tower_model", "towers": towers, "heads": heads}, "training": TRAINING}


def fit_file(path: Path, **data: Any) -> Run:
    """Train on a file, as ``towerkit train`` would."""
    return tk.fit({**TWO_TOWER, "data": {"examples": {"path": str(path), **ROLES, **data}}})


@cache
def ranker() -> Run:
    """A trained two-tower of 30 users and 20 items."""
    return tk.fit(TWO_TOWER, tk.read(pairs(), **ROLES), run=Path(mkdtemp()) / "ranker")


@cache
def predictor() -> Run:
    """A trained tower model of age and city."""
    return tk.fit(predicting(), tk.read(people()), run=Path(mkdtemp()) / "predictor")


def spec_file(folder: Path, text: str) -> Path:
    """A spec as a user would write it."""
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


# ---------------------------------------------------------------- files


@case("a file that is not there", "evnets.csv", "did you mean 'events.csv'?")
def _(folder: Path) -> object:
    csv(folder / "events.csv", pairs())
    return fit_file(folder / "evnets.csv")


@case("a folder without tables", "empty")
def _(folder: Path) -> object:
    (folder / "empty").mkdir()
    return fit_file(folder / "empty")


@case("an empty file", "events.csv", "0 bytes")
def _(folder: Path) -> object:
    (folder / "events.csv").write_text("")
    return fit_file(folder / "events.csv")


@case("a header and nothing below", "events.csv")
def _(folder: Path) -> object:
    (folder / "events.csv").write_text("user,item\n")
    return fit_file(folder / "events.csv")


@case("a wrong separator in the spec", "events.csv", "';'", "separator: ','")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", pairs()), separator=";")


@case("a separator that the file does not have", "events.csv", "separator: ';'")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", pairs(), separator=";"), separator=",")


@case("a row with a field too few", "events.csv", "line 4")
def _(folder: Path) -> object:
    path = csv(folder / "events.csv", pairs())
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0]
    path.write_text("\n".join(lines))
    return fit_file(path)


@case("an open quote", "events.csv", "line 3", "quote")
def _(folder: Path) -> object:
    path = csv(folder / "events.csv", pairs())
    lines = path.read_text().splitlines()
    lines[2] = '"' + lines[2]
    path.write_text("\n".join(lines))
    return fit_file(path)


@case("a file that is not UTF-8", "events.csv", "encoding: latin-1")
def _(folder: Path) -> object:
    (folder / "events.csv").write_bytes("user,item\nJos\u00e9,Oc\u00e9an\nAna,Ren\u00e9\n".encode("latin-1"))
    return fit_file(folder / "events.csv")


@case("a line of a gigabyte", "events.csv.gz", "line 2")
def _(folder: Path) -> object:
    piece = gzip.compress(b"x" * (16 << 20))  # members of a gzip file may follow each other
    with open(folder / "events.csv.gz", "wb") as file:
        file.write(gzip.compress(b"user,item\nu1,"))
        for _ in range(64):
            file.write(piece)
    return fit_file(folder / "events.csv.gz")


@case("a Parquet file that is a text", "events.parquet")
def _(folder: Path) -> object:
    (folder / "events.parquet").write_text("user,item\nu1,i1\n")
    return fit_file(folder / "events.parquet")


@case("a Parquet file cut short", "events.parquet")
def _(folder: Path) -> object:
    pq.write_table(pa.table(pairs()), folder / "events.parquet")
    whole = (folder / "events.parquet").read_bytes()
    (folder / "events.parquet").write_bytes(whole[: len(whole) // 2])
    return fit_file(folder / "events.parquet")


@case("a compressed file cut short", "events.csv.gz")
def _(folder: Path) -> object:
    whole = gzip.compress(csv(folder / "plain.csv", pairs()).read_bytes())
    (folder / "events.csv.gz").write_bytes(whole[: len(whole) // 2])
    return fit_file(folder / "events.csv.gz")


@case("JSON lines with a broken one", "events.jsonl", "line 3")
def _(folder: Path) -> object:
    lines = [json.dumps({"user": f"u{n}", "item": f"i{n % 5}"}) for n in range(10)]
    lines[2] = lines[2][:-4]
    (folder / "events.jsonl").write_text("\n".join(lines))
    return fit_file(folder / "events.jsonl")


@case("a column named twice", "events.csv", "'item'")
def _(folder: Path) -> object:
    (folder / "events.csv").write_text("user,item,item\nu1,i1,i2\nu2,i2,i1\n")
    return fit_file(folder / "events.csv")


# ---------------------------------------------------------------- columns and roles


@case("a query column that is not there", "events.csv", "'usr'", "did you mean 'user'?")
def _(folder: Path) -> object:
    return tk.read(csv(folder / "events.csv", pairs()), query="usr", candidate="item")


@case("one column for query and candidate", "'user'")
def _(folder: Path) -> object:
    return tk.read(csv(folder / "events.csv", pairs()), query="user", candidate="user")


@case("a feature column that is not there", "'agge'", "did you mean 'age'?")
def _(folder: Path) -> object:
    return tk.fit(predicting(columns=("agge", "city")), tk.read(people()))


@case("a label that is also a feature", "'liked'")
def _(folder: Path) -> object:
    return tk.fit(predicting(columns=("age", "liked")), tk.read(people()))


@case("keys that are lists", "'user'")
def _(folder: Path) -> object:
    pq.write_table(pa.table({"user": [["u1"], ["u2"]], "item": ["i1", "i2"]}), folder / "events.parquet")
    return fit_file(folder / "events.parquet")


@case("numbers with one text among them", "people.csv", "'age'", "row 8", "'forty'")
def _(folder: Path) -> object:
    path = csv(folder / "people.csv", with_value(people(), "age", 7, "forty"))
    spec = predicting()
    spec["model"]["towers"]["table"]["columns"] = [{"column": "age", "as": "standard"}, "city"]
    return tk.fit({**spec, "data": {"examples": {"path": str(path)}}})


@case("decimals with a comma", "'age'", "decimal: ','")
def _(folder: Path) -> object:
    table = people()
    table["age"] = [str(age).replace(".", ",") for age in table["age"]]
    path = csv(folder / "people.csv", table, separator=";")
    return "\n".join(tk.read(path).examples.notes)


# ---------------------------------------------------------------- values


@case("a user without an id", "events.csv", "'user'", "line 7")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", with_value(pairs(), "user", 5, None)))


@case("ids that differ by white space only", "events.csv", "'user'", "'u1 '")
def _(folder: Path) -> object:
    table = pairs()
    table["user"] = [f"{user} " if n % 2 and user == "u1" else user for n, user in enumerate(table["user"])]
    return "\n".join(tk.read(csv(folder / "events.csv", table), **ROLES).examples.notes)


@case("an infinite number", "people.csv", "'age'", "row 4", "inf")
def _(folder: Path) -> object:
    path = csv(folder / "people.csv", with_value(people(), "age", 3, "inf"))
    return tk.fit({**predicting(), "data": {"examples": {"path": str(path)}}})


@case("a weight that is not a number", "events.csv", "'weight'", "nan")
def _(folder: Path) -> object:
    table = {**pairs(), "weight": [1.0] * 239 + [float("nan")]}
    return fit_file(csv(folder / "events.csv", table), weight="weight")


@case("a negative weight", "events.csv", "'weight'", "-2.0")
def _(folder: Path) -> object:
    table = {**pairs(), "weight": [1.0] * 200 + [-2.0] + [1.0] * 39}
    return fit_file(csv(folder / "events.csv", table), weight="weight")


@case("a time that is none", "events.csv", "'time'", "line 9", "yesterday")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", with_value(pairs(), "time", 7, "yesterday")), time="time")


@case("a time long before all others", "events.csv", "'time'", "-62135596800", "line 9")
def _(folder: Path) -> object:
    times = [1_700_000_000 + 60 * n for n in range(240)]
    times[7] = -62_135_596_800
    path = csv(folder / "events.csv", {**pairs(), "time": times})
    return "\n".join(tk.read(path, time="time", **ROLES).examples.notes)


@case("a time in the far future", "events.csv", "'time'", "9999", "line 9")
def _(folder: Path) -> object:
    path = csv(folder / "events.csv", with_value(pairs(), "time", 7, "9999-12-31 00:00:00"))
    return "\n".join(tk.read(path, time="time", **ROLES).examples.notes)


@case("times that are all missing", "events.csv", "'time'")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", {**pairs(), "time": [None] * 240}), time="time")


@case("the same row again and again", "events.csv", "'u1'")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", {"user": ["u1"] * 240, "item": ["i1"] * 240}))


@case("one item only", "'item'")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", {**pairs(), "item": ["i1"] * 240}))


@case("a query with a hundred thousand events", "3 answers")
def _(folder: Path) -> object:
    draw = np.random.default_rng(0)
    users = ["robot"] * 100_000 + [f"u{n}" for n in draw.integers(0, 30, 6_000)]
    items = [f"i{n % 1_000}" for n in range(100_000)] + [f"i{n}" for n in draw.integers(0, 2_000, 6_000)]
    spec = {**TWO_TOWER, "training": {"epochs": 1, "batch_size": 8192}}
    run = tk.fit(spec, tk.read({"user": users, "item": items}, **ROLES))
    return f"trained; {run.recommend('robot', k=3, exclude_seen=False).num_rows} answers for it"


@case("a query that has met every item", "20 candidates")
def _(folder: Path) -> object:
    draw = np.random.default_rng(0)
    users = ["robot"] * 60 + [f"u{n}" for n in draw.integers(0, 30, 180)]
    items = [f"i{n % 20}" for n in range(60)] + [f"i{n}" for n in draw.integers(0, 20, 180)]
    return tk.fit(TWO_TOWER, tk.read({"user": users, "item": items}, **ROLES))


@case("three rows in all", "3 rows")
def _(folder: Path) -> object:
    return fit_file(csv(folder / "events.csv", {"user": ["u1", "u2", "u3"], "item": ["i1", "i2", "i1"]}))


# ---------------------------------------------------------------- labels and splits


@case("labels of one class", "'liked'", "'1'")
def _(folder: Path) -> object:
    return tk.fit(predicting(), tk.read({**people(), "liked": [1] * 240}))


@case("five classes for a binary head", "'stars'", "5 classes")
def _(folder: Path) -> object:
    table = {**people(), "stars": [1 + n % 5 for n in range(240)]}
    return tk.fit(predicting(head={"kind": "binary", "column": "stars"}), tk.read(table))


@case("ids for a multiclass head", "'name'", "is it an id?")
def _(folder: Path) -> object:
    table = {**people(2400), "name": [f"n{n}" for n in range(2400)]}
    return tk.fit(predicting(head={"kind": "multiclass", "column": "name"}), tk.read(table))


@case("a positive class that does not occur", "'liked'", "'yes'")
def _(folder: Path) -> object:
    head = {"kind": "binary", "column": "liked", "positive": "yes"}
    return tk.fit(predicting(head=head), tk.read(people()))


@case("labels that are all missing", "'liked'")
def _(folder: Path) -> object:
    return tk.fit(predicting(), tk.read({**people(), "liked": [None] * 240}))


@case("a split that holds nothing out")
def _(folder: Path) -> object:
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    return tk.fit(predicting(), tk.read(people(), split=split))


@case("a split that leaves nothing to learn from", "0.6")
def _(folder: Path) -> object:
    return tk.read(people(), split={"kind": "random", "validation": 0.6, "test": 0.6})


@case("test rows that training has all", "240 rows")
def _(folder: Path) -> object:
    path = csv(folder / "events.csv", pairs())
    data = {"examples": {"path": str(path), **ROLES}, "test": {"path": str(path)}, "split": {"kind": "given"}}
    return tk.fit({**TWO_TOWER, "data": data})


# ---------------------------------------------------------------- specs


@case("a key that no spec has", "'epoch'", "did you mean 'epochs'?")
def _(folder: Path) -> object:
    return tk.fit({**TWO_TOWER, "training": {"epoch": 3}}, tk.read(pairs(), **ROLES))


@case("a kind that there is not", "'two_towers'", "did you mean 'two_tower'?")
def _(folder: Path) -> object:
    return tk.fit({**TWO_TOWER, "model": {"kind": "two_towers"}}, tk.read(pairs(), **ROLES))


@case("a spec that is not YAML", "spec.yaml", "line 3")
def _(folder: Path) -> object:
    return load_spec(spec_file(folder, "model:\n  kind: [two_tower\ntraining: {}\n"))


@case("a spec that is a list", "spec.yaml")
def _(folder: Path) -> object:
    return load_spec(spec_file(folder, "- model\n- data\n"))


@case("a spec of a newer version", "spec.yaml", "'mixture_of_towers'")
def _(folder: Path) -> object:
    return load_spec(spec_file(folder, "data: {examples: {path: a.csv}}\nmodel: {kind: mixture_of_towers}\n"))


@case("a text for a number", "training.epochs", "'many'")
def _(folder: Path) -> object:
    return tk.fit({**TWO_TOWER, "training": {"epochs": "many"}}, tk.read(pairs(), **ROLES))


@case("sides of two widths", "4", "8")
def _(folder: Path) -> object:
    model = {"kind": "two_tower", "query": ID, "candidate": {"kind": "id", "dim": 8}}
    return tk.fit({**TWO_TOWER, "model": model}, tk.read(pairs(), **ROLES))


@case("a variable that is not set", "TOWERKIT_NOWHERE")
def _(folder: Path) -> object:
    spec = load_spec(
        spec_file(
            folder,
            "data: {examples: {path: '${TOWERKIT_NOWHERE}/a.csv', query: user, candidate: item}}\n"
            "model: {kind: two_tower, query: {kind: id}, candidate: {kind: id}}\n",
        )
    )
    return tk.fit(spec)


# ---------------------------------------------------------------- a trained Run and new rows


@case("a column missing at serving", "rows.csv", "'city'")
def _(folder: Path) -> object:
    return predictor().predict(str(csv(folder / "rows.csv", {"age": [40.0]})))


@case("a column of another kind at serving", "rows.csv", "'age'", "row 2", "'old'")
def _(folder: Path) -> object:
    return predictor().predict(str(csv(folder / "rows.csv", {"age": ["40.0", "old"], "city": ["Rome", "Oslo"]})))


@case("columns in another order, and one more", "the same answer")
def _(folder: Path) -> object:
    one = predictor().predict(str(csv(folder / "a.csv", {"age": [40.0], "city": ["Rome"]})))
    other = predictor().predict(str(csv(folder / "b.csv", {"more": ["x"], "city": ["Rome"], "age": [40.0]})))
    return "the same answer" if one.equals(other) else "another answer"


@case("a value that training never saw", "answered")
def _(folder: Path) -> object:
    found = predictor().predict(str(csv(folder / "rows.csv", {"age": [40.0], "city": ["Kyiv"]})))
    return f"answered, {found.num_rows} row"


@case("a user that training never saw", "cold: True")
def _(folder: Path) -> object:
    return f"answered, cold: {ranker().recommend('nobody', k=1).to_pylist()[0]['cold']}"


@case("a history with an item that is not there", "'i99'", "did you mean")
def _(folder: Path) -> object:
    return ranker().recommend(history=["i1", "i99"])


@case("no answers asked for", "k", "0")
def _(folder: Path) -> object:
    return ranker().recommend("u1", k=0)


@case("recommendations of a predictor", "tower_model")
def _(folder: Path) -> object:
    return predictor().recommend("u1")


@case("new rows without labels to measure", "rows.csv", "'liked'")
def _(folder: Path) -> object:
    table = people()
    del table["liked"]
    return predictor().evaluate(str(csv(folder / "rows.csv", table)))


@case("new pairs that training had all", "1 of 1")
def _(folder: Path) -> object:
    return ranker().evaluate(str(csv(folder / "pairs.csv", {"user": ["u1"], "item": [_seen_by_u1()]})))


def _seen_by_u1() -> str:
    kept = set(ranker().recommend("u1", k=50)["item"].to_pylist())
    return next(item for item in sorted(set(pairs()["item"])) if item not in kept)


# ---------------------------------------------------------------- Run folders


@case("a folder that is no Run", "nothing")
def _(folder: Path) -> object:
    (folder / "nothing").mkdir()
    return tk.load(folder / "nothing")


@case("a Run that is there already", "ranker")
def _(folder: Path) -> object:
    return tk.fit(TWO_TOWER, tk.read(pairs(), **ROLES), run=ranker().path)


@case("a Run with a changed file", "data.json")
def _(folder: Path) -> object:
    copy = shutil.copytree(ranker().path, folder / "run")
    (copy / "data.json").write_text((copy / "data.json").read_text().replace("user", "loser", 1))
    return tk.load(copy)


@case("a Run of a newer version", "format 99")
def _(folder: Path) -> object:
    copy = shutil.copytree(ranker().path, folder / "run")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    return tk.load(copy)


@case("two Runs of different protocols", "part: test against validation")
def _(folder: Path) -> object:
    spec = {**TWO_TOWER, "evaluation": {"k": [5], "baselines": ["popularity"]}}
    other = tk.fit(spec, tk.read(pairs(), split={"kind": "random", "validation": 0.2, "test": 0.0}, **ROLES))
    return tk.compare(ranker().evaluation, other.evaluation)


@case("answers to a file of no known kind", "answers.xlsx")
def _(folder: Path) -> object:
    return write_table(ranker().recommend("u1", k=1), folder / "answers.xlsx")


# ---------------------------------------------------------------- labels that are sets and numbers


def tagged() -> dict[str, list[Any]]:
    """People with tags, several in a place, and a price."""
    tags = [("red|big", "big", "red|old", "old")[n % 4] for n in range(240)]
    return {**people(), "tags": tags, "price": [round(1.5 + n % 7, 2) for n in range(240)]}


@case("a separator that no label has", "'tags'", "';'")
def _(folder: Path) -> object:
    head = {"kind": "multilabel", "column": "tags", "separator": ";"}
    run = tk.fit(predicting(head=head), tk.read(str(csv(folder / "people.csv", tagged()))))
    return run.evaluation.protocol["tasks"]["task"]["classes"]


@case("a text among the labels of a regression", "people.csv", "'price'", "row 8", "'cheap'")
def _(folder: Path) -> object:
    path = csv(folder / "people.csv", with_value(tagged(), "price", 7, "cheap"))
    return tk.fit(predicting(head={"kind": "regression", "column": "price"}), tk.read(str(path)))


@case("an infinite label of a regression", "people.csv", "'price'", "row 8", "inf")
def _(folder: Path) -> object:
    path = csv(folder / "people.csv", with_value(tagged(), "price", 7, "inf"))
    return tk.fit(predicting(head={"kind": "regression", "column": "price"}), tk.read(str(path)))


@case("a threshold without validation rows", "threshold", "validation")
def _(folder: Path) -> object:
    head = {"kind": "binary", "column": "liked", "threshold": {"choose": "f1"}}
    return tk.fit(predicting(head=head), tk.read(people(), split={"kind": "random", "validation": 0.0, "test": 0.2}))


@case("a segment of an unknown column", "'cty'", "did you mean 'city'?")
def _(folder: Path) -> object:
    return tk.fit({**predicting(), "evaluation": {"segments": ["cty"]}}, tk.read(people()))


@case("a segment of a table that is not there", "'item.price'")
def _(folder: Path) -> object:
    return tk.fit({**TWO_TOWER, "evaluation": {"k": [5], "segments": ["item.price"]}}, tk.read(pairs(), **ROLES))


# ---------------------------------------------------------------- choosing candidates


@case("a condition that is none", "character 6", "==")
def _(folder: Path) -> object:
    return ranker().recommend("u1", where="item = 'i1'")


@case("a condition on an unknown column", "'itm'", "did you mean 'item'?")
def _(folder: Path) -> object:
    return ranker().recommend("u1", where="itm == 'i1'")


@case("a condition that calls a function", "character 11")
def _(folder: Path) -> object:
    return ranker().recommend("u1", where="__import__('os')")


@case("a condition that is no UTF-8", "where", "'\\udce9'")
def _(folder: Path) -> object:
    return ranker().recommend("u1", where="item == '\udce9'")


@case("a key that is no UTF-8", "'u\\udce9'")
def _(folder: Path) -> object:
    return ranker().recommend("u\udce9")


@case("an allow-list of unknown keys", "allow", "'i98'", "20 known")
def _(folder: Path) -> object:
    return ranker().recommend("u1", allow=["i98", "i99"])


@case("an allow-list with one unknown key", "allow", "'i99'")
def _(folder: Path) -> object:
    return tk.notes_of(ranker().recommend("u1", k=1, allow=["i1", "i2", "i3", "i99"], exclude_seen=False))


@case("an allow-list without the column of keys", "keys.csv", "'item'")
def _(folder: Path) -> object:
    return ranker().recommend("u1", allow=str(csv(folder / "keys.csv", {"product": ["i1"], "price": [1]})))


# ---------------------------------------------------------------- search collections


def collection(folder: Path, qrels: str) -> object:
    """Read three documents and two queries with these judgements."""
    (folder / "qrels").mkdir()
    texts = ("a cat in the sun", "a dog in the rain", "a horse in the snow")
    documents = [json.dumps({"_id": f"d{n}", "title": "", "text": text}) for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(documents))
    queries = [json.dumps({"_id": f"q{n}", "text": text}) for n, text in enumerate(("cat", "dog"))]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    (folder / "qrels" / "train.tsv").write_text(qrels, newline="")
    return read_dataset(DataSpec.model_validate({"collection": {"format": "beir", "path": str(folder)}}))


HEADER = "query-id\tcorpus-id\tscore\n"


@case("a judgement with too few fields", "train.tsv", "line 3")
def _(folder: Path) -> object:
    return collection(folder, f"{HEADER}q0\td0\t1\nq1\td1\n")


@case("a judgement of one field", "train.tsv", "line 2")
def _(folder: Path) -> object:
    return collection(folder, f"{HEADER}q0\n")


@case("a negative grade", "train.tsv", "line 3", "-1")
def _(folder: Path) -> object:
    return collection(folder, f"{HEADER}q0\td0\t1\nq1\td1\t-1\n")


@case("a grade that is a text", "train.tsv", "line 3", "'good'")
def _(folder: Path) -> object:
    return collection(folder, f"{HEADER}q0\td0\t1\nq1\td1\tgood\n")


@case("judgements of another collection", "train.tsv", "'x0'")
def _(folder: Path) -> object:
    return collection(folder, f"{HEADER}x0\td0\t1\nx1\td1\t1\n")


@case("judgements with Windows line ends and a byte order mark", "[1, 2, 0]")
def _(folder: Path) -> object:
    lines = ("\ufeffquery-id\tcorpus-id\tscore", "q0\td0\t1", "q1\td1\t2", "q1\td2\t0", "")
    (folder / "test.tsv").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    spec = CollectionSpec.model_validate({"format": "beir", "path": str(folder)})
    found = read_judged(spec, str(folder / "test.tsv")).data
    return f"read as they are: {found.column('document').to_pylist()}, {found.column('relevance').to_pylist()}"


@case("towers whose columns overlap", "'ages', 'people'", "'age'", "overlap: [age]")
def _(folder: Path) -> object:
    towers = {"ages": {"kind": "table", "columns": ["age"]}, "people": {"kind": "table", "columns": ["age", "city"]}}
    model = {"kind": "tower_model", "towers": towers, "heads": {"task": {"kind": "binary", "column": "liked"}}}
    run = tk.fit({"model": model, "training": TRAINING}, tk.read(people()))
    return run.evaluate().protocol["split"]["warnings"]


def choosing(*towers: str) -> dict[str, Any]:
    """A tower model whose fusion is left to validation."""
    found = predicting()
    found["model"] |= {"backbone": {"kind": "auto"}}
    found["model"]["towers"] = {name: {"kind": "table", "columns": [name]} for name in towers}
    return found


@case("a choice of fusion with one tower", "auto", "'age'")
def _(folder: Path) -> object:
    return tk.fit(choosing("age"), tk.read(people()))


@case("a choice of fusion without validation rows", "auto", "split.validation")
def _(folder: Path) -> object:
    return tk.fit(choosing("age", "city"), tk.read(people(), split={"kind": "random", "validation": 0.0, "test": 0.2}))
