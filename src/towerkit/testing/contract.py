"""What every model kind keeps, from raw files to answers in another process.

One :class:`ModelContract` takes one spec the whole way: train, write the Run, delete the training data, load in a new
process, answer raw rows, evaluate, compare, tamper. A new kind joins by one more instance; a subclass may override
:meth:`ModelContract.questions` to ask its kind something more.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import RunError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.evaluation.compare import compare
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.run import Run, load_run, write_run
from towerkit.spec import ExperimentSpec, load_spec, plain
from towerkit.storage.hashes import read_json, write_json
from towerkit.training.loop import Silent

TOLERANCE = 1e-6
"""How far a number may move between two ways to the same answer on one machine."""
NOBODY = "no one has this key"
Answers = dict[str, pa.Table]


@dataclass(frozen=True, kw_only=True)
class ModelContract:
    """One model kind and the tables it is put through the contract with.

    Attributes:
        name: What messages call it.
        spec: The spec in plain data, without ``data``.
        examples: The example table; its last ``num_fresh`` rows are kept from training and used as new rows.
        roles: Role -> column of the example table.
        entities: Example column -> its table, with a key column of the same name.
        split: The split in plain data.
        num_fresh: Rows kept from training.
    """

    name: str
    spec: Mapping[str, Any]
    examples: pa.Table
    roles: Mapping[str, str] = field(default_factory=dict)
    entities: Mapping[str, pa.Table] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=lambda: {"kind": "random", "validation": 0.15, "test": 0.25})
    num_fresh: int = 60

    def check(self, folder: Path) -> None:
        """Go the whole way.

        Args:
            folder: An empty folder to work in.

        Raises:
            AssertionError: If a promise is not kept; the message says which, and of which kind.
        """
        try:
            self._check(folder)
        except AssertionError as error:
            raise AssertionError(f"{self.name}: {error}") from error

    def fresh_rows(self) -> pa.Table:
        """Rows of the example table that training never sees."""
        return self.examples.slice(self.examples.num_rows - self.num_fresh)

    def questions(self) -> Answers:
        """What is asked before saving and in the new process: ``<method>-<case>`` -> rows.

        The methods are ``predict``, ``recommend`` (raw query rows), ``keys`` (recommendations by key) and ``newcomers``
        (raw candidate rows, who wants them).
        """
        fresh = self.fresh_rows().slice(0, 20)
        asked = {f"predict-{case}": rows for case, rows in self._variants(fresh, self._pair_columns()).items()}
        if self._ranks():
            query, candidate = self._pair_columns()
            asked["keys-known"] = pa.table({query: self.examples.column(query).slice(0, 5)})
            asked["keys-unseen"] = pa.table({query: [NOBODY]})
            for method, entity in (("recommend", query), ("newcomers", candidate)):
                rows = self._entity_rows(entity).slice(0, 8)
                asked |= {f"{method}-{case}": table for case, table in self._variants(rows, (entity,)).items()}
        return asked

    def _check(self, folder: Path) -> None:
        spec, dataset = self._write_data(folder)
        _check_json(spec)
        with untouched_global_state():
            outcome = train_and_evaluate(spec, dataset, Silent())
        _check_repeatable(spec, dataset, outcome)
        run = write_run(folder / "run", spec, dataset, outcome)
        other = _with_seed(spec, spec.training.seed + 1)
        second = write_run(folder / "second", other, dataset, train_and_evaluate(other, dataset, Silent()))
        questions, before = folder / "questions", _with_model(run, outcome)
        _write_tables(questions, {**self.questions(), "fresh": self.fresh_rows()})
        shutil.rmtree(folder / "data")
        expected = answers_of(before, questions)
        self._check_answers(expected)
        _check_new_process(run, questions, folder / "answers", expected, before.evaluate(questions / "fresh.arrow"))
        _check_files(run, questions, folder, expected)
        _check_single_rows(run, questions, expected)
        _check_comparison(run, second)
        check_tampering(run.path)

    def _write_data(self, folder: Path) -> tuple[ExperimentSpec, Dataset]:
        """Examples as CSV and entities as Parquet, with a spec file beside them."""
        data = folder / "data"
        data.mkdir(parents=True)
        known = self.examples.slice(0, self.examples.num_rows - self.num_fresh)
        pa.csv.write_csv(known, data / "examples.csv")
        for name, table in self.entities.items():
            pa.parquet.write_table(table, data / f"{name}.parquet")
        described = {
            "examples": {"path": "data/examples.csv", **self.roles},
            "entities": {name: {"path": f"data/{name}.parquet"} for name in self.entities},
            "split": dict(self.split),
        }
        path = folder / "spec.json"
        path.write_text(json.dumps({"data": described, **self.spec}), encoding="utf-8")
        spec = load_spec(path)
        return spec, read_dataset(spec.data, base=folder, seed=spec.training.seed)

    def _ranks(self) -> bool:
        return self.spec["model"]["kind"] == "two_tower"

    def _pair_columns(self) -> tuple[str, ...]:
        return (self.roles["query"], self.roles["candidate"]) if self._ranks() else tuple(self.entities)

    def _entity_rows(self, entity: str) -> pa.Table:
        return self.entities.get(entity, self.examples.select([entity]))

    def _variants(self, rows: pa.Table, keys: tuple[str, ...]) -> Answers:
        """The same rows as they are, in another layout, with unseen keys, and with nothing but keys."""
        unseen = rows
        for key in keys:
            place = rows.column_names.index(key)
            unseen = unseen.set_column(place, key, pa.array([NOBODY] * rows.num_rows))
        nothing = pa.table({name: pa.nulls(rows.num_rows, rows.schema.field(name).type) for name in rows.column_names})
        turned = rows.select(rows.column_names[::-1]).append_column("useless", pa.array(range(rows.num_rows)))
        return {"plain": rows, "turned": turned, "unseen": unseen, "nothing": nothing}

    def _check_answers(self, answers: Answers) -> None:
        for name, table in answers.items():
            require(table.num_rows > 0, f"'{name}' must be answered; there was no row")
            for column in table.column_names:
                values = table.column(column)
                require(values.null_count == 0 or name.endswith("nothing"), f"'{name}' left '{column}' empty")
                if pa.types.is_floating(values.type):
                    require(
                        bool(np.isfinite(values.to_numpy()).all()), f"'{name}': '{column}' must hold finite numbers"
                    )
            if name.endswith(("plain", "turned")):
                kind = name.partition("-")[0]
                require_same(answers[f"{kind}-plain"], table, f"'{name}': the order of columns must not matter")
            if "cold" in table.column_names and name.endswith(("unseen", "nothing")):
                require(all(table.column("cold").to_pylist()), f"'{name}': an answer for an unseen key must say so")


def answers_of(run: Run, questions: Path) -> Answers:
    """Ask a Run every question of a folder that :meth:`ModelContract.questions` described."""
    return {file.stem: _answer(run, file) for file in sorted(questions.glob("*-*.arrow"))}


def _answer(run: Run, file: Path) -> pa.Table:
    method = file.stem.partition("-")[0]
    if method == "recommend":
        return run.recommend(rows=file)
    if method == "newcomers":
        return run.queries_for(file, k=3)
    if method == "keys":
        return pa.concat_tables([run.recommend(key) for key in load_table(file).column(0).to_pylist()])
    return run.predict(file)


@contextmanager
def untouched_global_state() -> Iterator[None]:
    """Fail if the block moves a global random generator or leaves torch in another mode."""
    before = _global_state()
    yield
    moved = [name for name, state in _global_state().items() if state != before[name]]
    require(not moved, f"training must leave global state as it was; it changed {', '.join(moved)}")


def _global_state() -> dict[str, object]:
    return {
        "Python's random state": random.getstate(),
        "NumPy's random state": str(np.random.get_state()),  # noqa: NPY002 - it is being watched
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
    }


def require(holds: bool, promise: str) -> None:
    """Say which promise was broken; unlike ``assert`` this stays under ``python -O``.

    Raises:
        AssertionError: If it does not hold.
    """
    if not holds:
        raise AssertionError(promise)


def require_same(first: pa.Table, second: pa.Table, promise: str) -> None:
    """Two tables of answers agree: numbers to :data:`TOLERANCE`, everything else exactly."""
    require(first.column_names == second.column_names, f"{promise}: {first.column_names} and {second.column_names}")
    require(first.num_rows == second.num_rows, f"{promise}: {first.num_rows} and {second.num_rows} rows")
    for name in first.column_names:
        one, other = first.column(name), second.column(name)
        if pa.types.is_floating(one.type):
            gap = float(np.max(np.abs(one.to_numpy() - other.to_numpy()), initial=0.0))
            require(gap <= TOLERANCE, f"{promise}: '{name}' differs by {gap:.3g}")
        else:
            require(one.to_pylist() == other.to_pylist(), f"{promise}: '{name}' differs")


def check_tampering(path: Path) -> None:
    """Flip one byte of each file of a Run in turn: opening it must fail and name that file.

    Args:
        path: The Run; each file is put back.
    """
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        try:
            load_run(path)
        except RunError as error:
            require(file.name in str(error), f"a changed {file.name} must be named; the message was: {error}")
        else:
            raise AssertionError(f"a Run with a changed {file.relative_to(path)} must not open")
        finally:
            file.write_bytes(whole)
    load_run(path)


def _check_json(spec: ExperimentSpec) -> None:
    again = parse(ExperimentSpec, json.loads(json.dumps(dict(plain(spec)))))
    require(again == spec, "a spec must come back from JSON as it was")


def _check_repeatable(spec: ExperimentSpec, dataset: Dataset, outcome: Outcome) -> None:
    again = train_and_evaluate(spec, dataset, Silent()).evaluation
    require(again.as_dict() == outcome.evaluation.as_dict(), "the same seed must give the same figures")


def _check_new_process(run: Run, questions: Path, out: Path, expected: Answers, fresh: Any) -> None:
    """The Run answers and evaluates in a process that has seen nothing but its folder, as before it was saved."""
    out.mkdir()
    command = [sys.executable, "-m", "towerkit.testing.contract", str(run.path), str(questions), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out, check=False)  # noqa: S603 - our own module
    require(done.returncode == 0, f"a new process must load the Run and answer; it said:\n{done.stderr}")
    for name, answer in expected.items():
        require_same(answer, load_table(out / f"{name}.arrow"), f"'{name}' in a new process must be as before saving")
    stored = read_json(out / "evaluation.json")
    require(stored == run.evaluate().as_dict(), "the stored evaluation must come back as it was")
    found = read_json(out / "fresh.json")
    require(found["protocol"] == json.loads(json.dumps(fresh.as_dict()["protocol"])), "the fresh protocol must agree")
    for metric, interval in fresh.metrics.items():
        gap = abs((found["metrics"][metric]["value"] or 0.0) - np.nan_to_num(interval.value))
        require(gap <= TOLERANCE, f"the fresh {metric} must be as before saving; it differs by {gap:.3g}")


def _check_files(run: Run, questions: Path, folder: Path, expected: Answers) -> None:
    """The same rows from a CSV file, from a data frame's worth of columns, and from Arrow give the same answers."""
    rows = load_table(questions / "predict-plain.arrow")
    pa.csv.write_csv(rows, folder / "rows.csv")
    require_same(expected["predict-plain"], run.predict(folder / "rows.csv"), "rows from a CSV must answer the same")
    require_same(expected["predict-plain"], run.predict(rows), "rows from memory must answer the same")


def _check_single_rows(run: Run, questions: Path, expected: Answers) -> None:
    """A row alone has the answer it has among others."""
    for name, answer in expected.items():
        if name.startswith("predict-"):
            rows = load_table(questions / f"{name}.arrow")
            for place in range(0, rows.num_rows, 7):
                alone = run.predict(rows.slice(place, 1))
                require_same(answer.slice(place, 1), alone, f"'{name}': row {place} alone must answer as in the batch")
        elif name == "recommend-plain":
            rows = load_table(questions / f"{name}.arrow")
            alone = pa.concat_tables([run.recommend(rows=rows.slice(place, 1)) for place in range(rows.num_rows)])
            require_same(answer, alone, f"'{name}': each row alone must answer as in the batch")


def _check_comparison(run: Run, second: Run) -> None:
    same = compare(run.evaluate(), load_run(run.path).evaluate())
    require(bool(same), "a Run must be comparable with itself")
    for metric, found in same.items():
        require(found.difference == 0.0 and not found.is_clear, f"{metric}: a Run must equal itself")
        require(found.p_value in (None, 1.0), f"{metric}: p of a Run against itself must be 1, not {found.p_value}")
    differing = compare(run.evaluate(), second.evaluate())
    require(differing.keys() == same.keys(), "two seeds must be comparable in every metric")
    require(
        any(found.difference != 0.0 for found in differing.values()), "another seed must give another model and figures"
    )


def _with_seed(spec: ExperimentSpec, seed: int) -> ExperimentSpec:
    return spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})


def _with_model(run: Run, outcome: Outcome) -> Run:
    """The Run as it would answer had the model never been saved."""
    unsaved = replace(run)
    vars(unsaved)["model"] = outcome.model  # where its cached property would keep the loaded one
    return unsaved


def _write_tables(folder: Path, tables: Mapping[str, pa.Table]) -> None:
    folder.mkdir()
    for name, table in tables.items():
        save_table(folder / f"{name}.arrow", table.combine_chunks())


def answer_in_this_process(run_path: str, questions: str, out: str) -> None:
    """What the new process does: open the Run, answer every question, evaluate stored and fresh, write it all down.

    Args:
        run_path: The Run.
        questions: Folder of questions; its ``fresh.arrow`` is evaluated.
        out: Folder for the answers.
    """
    run = load_run(run_path)
    for name, table in answers_of(run, Path(questions)).items():
        save_table(Path(out) / f"{name}.arrow", table)
    write_json(Path(out) / "evaluation.json", run.evaluate().as_dict())
    write_json(Path(out) / "fresh.json", run.evaluate(Path(questions) / "fresh.arrow").as_dict())


if __name__ == "__main__":
    answer_in_this_process(*sys.argv[1:])
