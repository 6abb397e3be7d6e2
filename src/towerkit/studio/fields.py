"""What a model reads of a row, as fields that a person can fill in; an empty one is a missing value, which models can take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from towerkit.features.encoder import Encoder
from towerkit.features.image import FileSpec
from towerkit.reporting.markup import Markup, element, foreign, text

Shape = Literal["number", "text", "long", "picture", "sound"]
_LONG = ("ngrams", "text_vectors", "tokens", "words")
_NUMBERS = ("number", "quantile", "piecewise")
_MOST_CHOICES = 200


@dataclass(frozen=True)
class Field:
    """One column."""

    column: str
    shape: Shape
    choices: tuple[str, ...] = ()
    """Values that the model knows, some of them."""


def fields_of(encoders: Iterable[Encoder], entity: str) -> list[Field]:
    """The columns of an entity that some encoders read, each once.

    Args:
        encoders: Of a model or of its members.
        entity: Whose columns.
    """
    found: dict[str, Field] = {}
    for encoder in encoders:
        for fitted in encoder.features.get(entity, ()):
            for column in fitted.spec.column_names():
                new = Field(column, _shape(fitted.spec), _choices(fitted.feature))
                found[column] = _joined(found.get(column), new)
    return list(found.values())


def _shape(spec: Any) -> Shape:
    if isinstance(spec, FileSpec):
        return "sound" if spec.kind == "audio" else "picture"  # type: ignore[attr-defined]
    kind = str(spec.kind)
    return "long" if kind in _LONG else "number" if kind in _NUMBERS else "text"


def _joined(old: Field | None, new: Field) -> Field:
    """Two readers of one column: the one that takes files, then numbers, says what it is."""
    if old is None:
        return new
    order: tuple[Shape, ...] = ("picture", "sound", "number", "long", "text")
    shape = min(old.shape, new.shape, key=order.index)
    return replace(old, shape=shape, choices=old.choices or new.choices)


def _choices(feature: Any) -> tuple[str, ...]:
    vocabulary = feature.state().vocabulary
    if vocabulary is None or len(vocabulary.values) > 20 * _MOST_CHOICES or pa.types.is_binary(vocabulary.values.type):
        return ()
    return tuple(str(each) for each in vocabulary.values.slice(0, _MOST_CHOICES).to_pylist() if each is not None)


def form_field(field: Field, prefix: str) -> Markup:
    """One field of a form.

    Args:
        field: The column.
        prefix: Begins its id, so that no other form of the page has it.
    """
    name = f"{prefix}-{field.column}"
    if field.shape in ("picture", "sound"):
        return _drop(field, name)
    about: dict[str, object] = {
        "id": name,
        "data-column": field.column,
        "data-shape": field.shape,
        "autocomplete": "off",
    }
    if field.shape == "long":
        control = element("textarea", about)
    elif field.shape == "number":
        control = element("input", {**about, "type": "number", "step": "any", "placeholder": "missing"})
    else:
        names = f"{name}-values" if field.choices else None
        control = element("input", {**about, "type": "text", "list": names, "placeholder": "missing"})
    values = [element("option", {"value": each}) for each in field.choices] if field.shape == "text" else []
    known = [element("datalist", {"id": f"{name}-values"}, *values)] if values else []
    return element("div", {"class": "field"}, element("label", {"for": name}, foreign(field.column)), control, *known)


def _drop(field: Field, name: str) -> Markup:
    """A place for a file."""
    accept = "image/*" if field.shape == "picture" else "audio/*,.wav"
    picker = element("input", {"type": "file", "id": name, "accept": accept})
    words = f"Drop a {field.shape} here, or choose one"
    label = element("label", {"for": name}, foreign(field.column), text(f": {words}"))
    clear = element("button", {"type": "button", "class": "plain", "data-clear": ""}, text("Take it away"))
    look = element("div", {"data-look": ""})
    about = {"class": "field drop", "data-file": field.column, "data-shape": field.shape}
    return element("div", dict(about), label, picker, look, clear)
