"""A choice of a fusion beside its checkpoints: a training that is resumed goes on with what was chosen, and chooses no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from towerkit.core.errors import RunError
from towerkit.core.spec import parse
from towerkit.presets.fusion_table import FusionTable
from towerkit.presets.fusions import ChosenFusion
from towerkit.spec import ModelingSpec, plain
from towerkit.storage.hashes import read_json, write_json
from towerkit.training.checkpoint import Checkpoints

_FILE = "fusion.json"


def kept_choice(
    spec: ModelingSpec, checkpoints: Checkpoints | None, choose: Callable[[], ChosenFusion]
) -> ChosenFusion:
    """What was chosen before the training was interrupted, or what is chosen now, kept.

    Args:
        spec: What is trained; the choice is of its class.
        checkpoints: Where it is kept; nothing is where there are none.
        choose: Makes the choice.

    Raises:
        RunError: If the choice that is there belongs to another training, or cannot be read.
    """
    if checkpoints is None:
        return choose()
    path = checkpoints.folder / _FILE
    if path.is_file():
        return _read(spec, checkpoints, read_json(path))
    found = choose()
    records = [{key: value for key, value in record.items() if key != "loss"} for record in found.records]  # it is nan
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path,
        {
            "identity": dict(checkpoints.identity),
            "spec": plain(found.spec),
            "table": found.table.as_dict(),
            "records": records,
        },
    )
    return found


def _read(spec: ModelingSpec, checkpoints: Checkpoints, content: Any) -> ChosenFusion:
    path = checkpoints.folder / _FILE
    if not isinstance(content, dict) or {"identity", "spec", "table", "records"} - content.keys():
        raise RunError(f"{path} cannot be read; begin anew with --overwrite.")
    if content["identity"] != plain_identity(checkpoints):
        raise RunError(f"{path} was chosen for another spec or other data; begin anew with --overwrite.")
    records = [{**record, "loss": math.nan} for record in content["records"]]
    chosen = parse(type(spec), content["spec"], str(path))
    return ChosenFusion(chosen, FusionTable.from_dict(content["table"]), records)


def plain_identity(checkpoints: Checkpoints) -> dict[str, Any]:
    """What a training is made of, as JSON gives it back: lists for tuples.

    Args:
        checkpoints: They know it.
    """
    found = _as_json(checkpoints.identity)
    assert isinstance(found, dict)
    return found


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, list | tuple) else value
