"""Questions of the Try it page to a model that predicts: a row, files for its pictures and sounds, towers that are switched off."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.remarks import collecting
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import Table, values_of
from towerkit.ensembles.late import LateFusion
from towerkit.features.encoder import Encoder
from towerkit.models.answer import TaskPredictor
from towerkit.serving.live import table_of_rows
from towerkit.serving.problems import Problem
from towerkit.studio.asking import Strict
from towerkit.studio.fields import Field as FormField
from towerkit.studio.fields import fields_of
from towerkit.studio.opened import Missing, Opened

Predictor = TaskPredictor | LateFusion
Probabilities = dict[str, NDArray[np.float64]]


class Row(Strict):
    """A row as it was filled in."""

    row: Annotated[dict[str, str | float | None], Field(max_length=500)]
    files: dict[str, str] = Field(default_factory=dict, max_length=20)
    """Column -> the content of a file, in base 64."""
    off: list[str] = Field(default_factory=list, max_length=100)
    """Towers or members that say nothing."""


@dataclass(frozen=True)
class Answer:
    """What is said with all towers, and without some."""

    whole: Probabilities
    without: Probabilities | None
    """None where nothing is switched off."""
    remarks: tuple[str, ...]


def predictor_of(opened: Opened) -> Predictor:
    """The model, if it predicts.

    Raises:
        Missing: If it ranks.
    """
    model = opened.run.model
    if not isinstance(model, TaskPredictor | LateFusion):
        raise Missing(f"{opened.entry.name} ranks, and predicts nothing.")
    return model


def form_of(model: Predictor) -> list[FormField]:
    """What a row holds: keys of entities, and the columns that towers or members read."""
    several = list(model.towers()) if isinstance(model, LateFusion) else [model]
    keys = dict.fromkeys(name for each in several for name in each.entities)
    found = fields_of(_encoders(model), EXAMPLE)
    known = {each.column for each in found}
    return [*(FormField(name, "text") for name in keys if name not in known), *found]


def parts_of(model: Predictor) -> list[str]:
    """What can be switched off, where there are two or more."""
    names = list(model.members) if isinstance(model, LateFusion) else list(model.model.towers)
    return names if len(names) > 1 else []


def _encoders(model: Predictor) -> list[Encoder]:
    return [each.encoder for each in model.members.values()] if isinstance(model, LateFusion) else [model.encoder]


def predicted(opened: Opened, asked: Row) -> Answer:
    """The answer to a row.

    Raises:
        Problem: If a column is none of the model's, a file is none, or a part cannot be switched off.
        DataError: If a value is of another kind.
    """
    model = predictor_of(opened)
    table = _table(opened, model, asked)
    unknown = [name for name in asked.off if name not in parts_of(model)]
    if unknown:
        raise Problem(422, "What is switched off is a tower or a member.", unknown[0], "Load the page again.")
    with torch.no_grad(), collecting() as remarks:
        whole = model.predict(table)
        without = _without(model, table, set(asked.off)) if asked.off else None
    return Answer(whole, without, tuple(dict.fromkeys(remarks)))


def _table(opened: Opened, model: Predictor, asked: Row) -> Table:
    """The row as the model reads tables; a file comes as its content, and no text names one of this machine."""
    fields = {each.column: each for each in form_of(model)}
    row: dict[str, Any] = {}
    for name, field in fields.items():
        if field.shape in ("picture", "sound"):
            row[name] = _content(name, asked.files[name]) if name in asked.files else None
        else:
            value = asked.row.get(name)
            row[name] = None if value == "" else value
    files = {name for name, field in fields.items() if field.shape in ("picture", "sound")}
    strange = [
        *(name for name in asked.row if name not in fields),
        *(name for name in asked.files if name not in files),
    ]
    if strange:
        raise Problem(422, "A row holds columns that the model reads.", strange[0], "Load the page again.")
    table = table_of_rows(opened.run, [row], None)
    data = table.data
    for name in files & {*data.column_names}:
        if not pa.types.is_binary(data.schema.field(name).type):  # all are missing: nulls of any type will do
            place = data.column_names.index(name)
            data = data.set_column(place, name, pa.nulls(1, pa.binary()))
    return replace(table, data=data)


def _content(column: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(
            422, f"The file of '{column}' comes in base 64.", "another text", "Drop the file again."
        ) from None


def _without(model: Predictor, table: Table, off: Collection[str]) -> Probabilities:
    """The answer when some parts say what they say of a row that nothing is known of."""
    if isinstance(model, TaskPredictor):
        parts, unknown = model.parts(table), model.unknown_parts(table)
        return model.answers({name: unknown[name][None] if name in off else own for name, own in parts.items()})
    nobody = pa.table({name: pa.nulls(1, values_of(table.data, name).type) for name in table.data.column_names})
    blank = replace(table, data=nobody)
    told, silent = model.member_predictions(table), model.member_predictions(blank)
    said = {name: silent[name] if name in off else told[name] for name in model.members}
    gone = dict.fromkeys(off, np.ones(table.data.num_rows, bool)) if model.spec.abstain else {}
    return model.combined(said, {**model.silent(table), **gone})


def some_row(opened: Opened, number: int) -> Mapping[str, Any]:
    """The values of one measured row, by column; pictures as base 64.

    Args:
        opened: A Run that predicts.
        number: Any; the rows are counted round.

    Raises:
        Missing: If the rows cannot be read again.
    """
    model, data = predictor_of(opened), opened.with_data.data
    if data is None:
        raise Missing(f"The rows of this Run are not there: {opened.why_no_rows()}")
    place = int(data.rows[number % len(data.rows)])
    examples = data.dataset.examples
    found: dict[str, str | int | float | None] = {}
    for field in form_of(model):
        value = values_of(examples.data, field.column)[place].as_py()
        if field.shape in ("picture", "sound"):
            found[field.column] = base64.b64encode(value).decode() if isinstance(value, bytes) else None
        else:
            found[field.column] = value if isinstance(value, str | int | float | None) else str(value)
    return {"row": found, "from": examples.where(place)}
