"""What a saved Run keeps: the same answers in another process, from a file, for a row alone; and no changed byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import RunError
from towerkit.evaluation.compare import compare
from towerkit.run import Run, load_run
from towerkit.storage.hashes import read_json, write_json
from towerkit.testing.promises import TOLERANCE, require, require_same

Answers = dict[str, pa.Table]


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


def check_tampering(path: Path) -> None:
    """Flip one byte of each file of a Run in turn: opening it must fail and name that file.

    Args:
        path: The Run; each file is put back.
    """
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = bytes(byte ^ 1 for byte in whole[middle : middle + 1]) or b"x"  # an empty file gets a byte
        file.write_bytes(whole[:middle] + flipped + whole[middle + 1 :])
        try:
            load_run(path)
        except RunError as error:
            require(file.name in str(error), f"a changed {file.name} must be named; the message was: {error}")
        else:
            raise AssertionError(f"a Run with a changed {file.relative_to(path)} must not open")
        finally:
            file.write_bytes(whole)
    load_run(path)


def check_new_process(run: Run, questions: Path, out: Path, expected: Answers, fresh: Any) -> None:
    """The Run answers and evaluates in a process that has seen nothing but its folder, as before it was saved."""
    out.mkdir()
    command = [sys.executable, "-m", "towerkit.testing.saved_run", str(run.path), str(questions), str(out)]
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


def check_files(run: Run, questions: Path, folder: Path, expected: Answers) -> None:
    """The same rows from a CSV file, from a data frame's worth of columns, and from Arrow give the same answers."""
    rows = load_table(questions / "predict-plain.arrow")
    pa.csv.write_csv(rows, folder / "rows.csv")
    require_same(expected["predict-plain"], run.predict(folder / "rows.csv"), "rows from a CSV must answer the same")
    require_same(expected["predict-plain"], run.predict(rows), "rows from memory must answer the same")


def check_single_rows(run: Run, questions: Path, expected: Answers) -> None:
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


def check_comparison(run: Run, second: Run, *, is_random: bool = True) -> None:
    """A Run equals itself, and a Run of another seed differs in some figure, or in none where nothing is drawn."""
    same = compare(run.evaluate(), load_run(run.path).evaluate())
    require(bool(same), "a Run must be comparable with itself")
    for metric, found in same.items():
        require(found.difference == 0.0 and not found.is_clear, f"{metric}: a Run must equal itself")
        require(found.p_value in (None, 1.0), f"{metric}: p of a Run against itself must be 1, not {found.p_value}")
    differing = compare(run.evaluate(), second.evaluate())
    require(differing.keys() == same.keys(), "two seeds must be comparable in every metric")
    differs = any(found.difference != 0.0 for found in differing.values())
    wanted = "another model and figures" if is_random else "the same figures, since nothing is random"
    require(differs == is_random, f"another seed must give {wanted}")


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
