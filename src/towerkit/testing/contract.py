"""What every model kind keeps, from raw files to answers in another process.

One :class:`ModelContract` takes one spec the whole way: train, write the Run, delete the training data, load in a new
process, answer raw rows, evaluate, compare, tamper. A new kind joins by one more instance; a subclass may override
:meth:`ModelContract.questions` to ask its kind something more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from towerkit.artifact.arrow import save_table
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.run import Run
from towerkit.run_writer import write_run
from towerkit.spec import ExperimentSpec, load_spec, plain
from towerkit.testing.promises import require, require_same, untouched_global_state
from towerkit.testing.saved_run import (
    Answers,
    answers_of,
    check_comparison,
    check_files,
    check_new_process,
    check_single_rows,
    check_tampering,
)
from towerkit.training.progress import Silent

NOBODY = "no one has this key"


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
        is_random: Whether another seed gives another model; a closed form says False, and must then give the same.
    """

    name: str
    spec: Mapping[str, Any]
    examples: pa.Table
    roles: Mapping[str, str] = field(default_factory=dict)
    entities: Mapping[str, pa.Table] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=lambda: {"kind": "random", "validation": 0.15, "test": 0.25})
    num_fresh: int = 60
    is_random: bool = True

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
        check_new_process(run, questions, folder / "answers", expected, before.evaluate(questions / "fresh.arrow"))
        check_files(run, questions, folder, expected)
        check_single_rows(run, questions, expected)
        check_comparison(run, second, is_random=self.is_random)
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
        model = self.spec["model"]
        kinds = {model["kind"], *(member["kind"] for member in model.get("members", {}).values())}
        return bool(kinds & {"two_tower", "ranker", "joint", "bm25"})

    def _pair_columns(self) -> tuple[str, ...]:
        if not self._ranks():
            return tuple(self.entities)
        candidate = self.roles.get("candidate") or next(iter(self.spec["model"]["candidates"]))
        return self.roles["query"], candidate

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


def _check_json(spec: ExperimentSpec) -> None:
    again = parse(ExperimentSpec, json.loads(json.dumps(dict(plain(spec)))))
    require(again == spec, "a spec must come back from JSON as it was")


def _check_repeatable(spec: ExperimentSpec, dataset: Dataset, outcome: Outcome) -> None:
    again = train_and_evaluate(spec, dataset, Silent()).evaluation
    require(again.as_dict() == outcome.evaluation.as_dict(), "the same seed must give the same figures")


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
