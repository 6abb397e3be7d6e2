"""From a Run back to the data that it was trained and measured with."""

from __future__ import annotations

from pathlib import Path

from towerkit.core.errors import DataError, RunError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import rows_fingerprint
from towerkit.data.stream.log import Log
from towerkit.data.stream.opening import open_data
from towerkit.run import Run
from towerkit.spec import ExperimentSpec, ModelingSpec
from towerkit.storage.hashes import content_hash, read_json


def spec_of(run: Run) -> ModelingSpec:
    """The spec of a Run, checked again."""
    kind = ExperimentSpec if "data" in run.spec else ModelingSpec
    return parse(kind, dict(run.spec), str(run.path / "spec.json"))


def seal_of(run: Run) -> str:
    """A hash of all files of a Run."""
    return content_hash({name: entry.sha256 for name, entry in run.manifest.files.items()})


def dataset_of(run: Run, base: Path | None = None) -> Dataset | Log:
    """The tables of a Run, read again and split as they were.

    Args:
        run: Trained from a spec with a data part.
        base: The folder that relative paths start from; the one that the program runs in when not given.

    Raises:
        RunError: If the Run does not say where its data lies.
        DataError: If a file is not there or cannot be used.
    """
    spec = spec_of(run)
    if not isinstance(spec, ExperimentSpec):
        raise RunError(
            f"{run.path} was trained on tables in memory, so it does not know where its held-out rows are. Give the data set: "
            "towerkit.ablate(run, dataset) in Python."
        )
    try:
        return open_data(spec.data, base=(base or Path()).resolve(), seed=spec.training.seed)
    except DataError as error:
        raise DataError(
            f"The data of {run.path} cannot be read again: {error} Relative paths start from {(base or Path()).resolve()}; "
            "--base names another folder."
        ) from None


def check_same_rows(run: Run, dataset: Dataset | Log) -> None:
    """Refuse data whose rows or parts are others than those that the Run was trained and measured with.

    Args:
        run: What was trained.
        dataset: What it would be measured with.

    Raises:
        RunError: Naming what differs.
    """
    known = read_json(run.path / "data.json").get("fingerprint")
    if isinstance(dataset, Log) or not isinstance(known, dict):
        return
    found = rows_fingerprint(dataset)
    differs = sorted(part for part in found if known.get(part) != found[part])
    if differs:
        raise RunError(
            f"{run.path} was trained with other rows: its {', '.join(differs)} differ from this data, so held-out rows may have "
            "been learned from. Give the data that it was trained with, or train it anew."
        )
