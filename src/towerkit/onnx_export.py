"""Towers as ONNX files: encoded columns in, vectors out, for machines without PyTorch. Needs the extra ``onnx``.

Each file is asked the same as its tower, with 1, 7 and 64 rows, before it is written: a tower whose code follows its input in a
way that a file cannot is refused, with the difference, and leaves no file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towerkit._version import __version__
from towerkit.core.errors import RunError, SpecError
from towerkit.core.optional import optional_import
from towerkit.data.batch import Bag, Column, Columns, take
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.golden import sample_rows
from towerkit.models.answer import Retriever, TaskPredictor, bags
from towerkit.run import Run
from towerkit.storage.atomic import atomic_folder
from towerkit.storage.hashes import sha256_file, write_json

_OPSET = 17
_BATCHES = (1, 7, 64)
_TOLERANCE = 1e-4
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """One file."""

    name: str
    """Of the side or the tower; the file is ``NAME.onnx``."""
    entity: str
    """Whose rows it reads."""
    dim: int
    inputs: dict[str, dict[str, Any]]
    """Name -> type and shape; of a ragged column ``.codes``, ``.offsets`` and ``.weights``."""
    difference: float
    """The largest one to the tower, over all rows and batch sizes that were asked."""

    def path(self, folder: Path) -> Path:
        """Where it stands in the folder of an export."""
        return folder / f"{self.name}.onnx"


@dataclass(frozen=True)
class _Part:
    """Something that turns columns into vectors, and columns of real rows to ask it with."""

    name: str
    entity: str
    vectors: Callable[[Columns], Tensor]
    columns: Columns
    weights: nn.Module
    """Whose parameters it uses."""


def export_onnx(run: Run, out: Path) -> list[Exported]:
    """Write each side of a two-tower, or each tower of a tower model or ranker, as an ONNX file.

    ``export.json`` beside the files says what each of them reads. A side's vectors are those that the match sees, so that a
    product (or, under euclidean, a distance) of both is the score.

    Args:
        run: A verified Run.
        out: The folder to make.

    Returns:
        What was written.

    Raises:
        RunError: If the folder is there, or a tower cannot be exported.
        SpecError: If the Run has no towers of its own.
        MissingExtraError: If onnx or onnxruntime is not installed.
    """
    for package in ("onnx", "onnxruntime"):
        optional_import(package, extra="onnx")
    with atomic_folder(out) as draft:
        found = [_exported(part, draft) for part in _parts(run)]
        files = {path.name: vars(each) | {"sha256": sha256_file(path)} for each in found for path in [each.path(draft)]}
        told = {"towerkit": __version__, "kind": run.kind, "space": run.space, "opset": _OPSET, "files": files}
        write_json(draft / "export.json", told)
    return found


def _parts(run: Run) -> Iterator[_Part]:
    model = run.model
    if isinstance(model, Retriever):
        yield from _sides(model)
    elif isinstance(model, TaskPredictor):
        yield from _towers(model)
    else:
        raise SpecError(
            f"ONNX files are made of a two_tower, a tower_model or a ranker; received {run.path}, a {run.kind}. "
            "Export the Runs of its members."
        )


def _sides(model: Retriever) -> Iterator[_Part]:
    model.model.eval()
    for name, side, entity, catalogue in (
        ("query", model.model.query, model.query_entity, model.query),
        ("candidate", model.model.candidate, model.candidate_entity, model.candidate),
    ):
        table = catalogue.table
        columns = model.encoder.encode(entity, Table(table.data.slice(0, max(_BATCHES)), table.name))
        rows = np.arange(min(catalogue.table.data.num_rows, max(_BATCHES)) + 1)
        own = dict(columns) | bags(side, model.events if name == "query" else None, rows)
        yield _Part(name, entity, lambda asked, side=side: model.model.match.prepare(side(asked)), own, model.model)  # type: ignore[misc]


def _towers(model: TaskPredictor) -> Iterator[_Part]:
    model.model.eval()
    tables = {name: catalogue.table for name, catalogue in model.entities.items()}
    if EXAMPLE in model.encoder.features:
        tables[EXAMPLE] = Table(sample_rows(model), "made-up rows", 0)
    columns = {entity: model.encoder.encode(entity, table) for entity, table in tables.items()}
    for name, entity in model.model.entities.items():
        yield _Part(name, entity, lambda asked, name=name: model.model.part(name, asked), columns[entity], model.model)  # type: ignore[misc]


class _Flat(nn.Module):
    """A part whose columns are plain tensors, side by side."""

    def __init__(self, part: _Part) -> None:
        super().__init__()
        self._part, self.weights = part, part.weights

    def forward(self, *tensors: Tensor) -> Tensor:
        """``[rows, dim]``."""
        rest = iter(tensors)
        columns: dict[str, Column] = {
            name: Bag(next(rest), next(rest), next(rest)) if isinstance(column, Bag) else next(rest)
            for name, column in self._part.columns.items()
        }
        return self._part.vectors(columns)


def _flat(columns: Columns) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, column in columns.items():
        if isinstance(column, Tensor):
            found[name] = column
        elif isinstance(column, Bag):
            found |= {
                f"{name}.codes": column.codes,
                f"{name}.offsets": column.offsets,
                f"{name}.weights": column.weights,
            }
        else:
            raise RunError(f"Pictures and sounds are read from files, and an ONNX file cannot; received '{name}'.")
    return found


def _exported(part: _Part, folder: Path) -> Exported:
    import onnxruntime

    path = folder / f"{part.name}.onnx"
    try:
        _traced(part, path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs = {each.name: {"type": each.type, "shape": list(each.shape)} for each in session.get_inputs()}
        difference, dim = _difference(part, lambda asked: session.run(None, {name: asked[name] for name in inputs})[0])
    except RunError as error:
        raise RunError(f"The tower '{part.name}' cannot be exported. {error}") from None
    except Exception as error:  # of the exporter and the runtime, which have dozens of their own
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise RunError(f"The tower '{part.name}' cannot be exported to ONNX: {told}") from error
    if not difference <= _TOLERANCE:
        raise RunError(
            f"The tower '{part.name}' cannot be exported: its ONNX file answers as it does up to {_TOLERANCE:g}; received a "
            f"difference of {difference:.3g}. Its code follows its input in a way that a file cannot."
        )
    return Exported(part.name, part.entity, dim, inputs, difference)


@torch.no_grad()
def _traced(part: _Part, path: Path) -> None:
    few = _flat(take(part.columns, _rows(part, 3)))
    axes: dict[str, dict[int, str]] = {"vector": {0: "rows"}}
    for name in few:
        stem, _, kind = name.rpartition(".")
        axes[name] = {
            0: {"codes": f"{stem} entries", "weights": f"{stem} entries", "offsets": "rows + 1"}.get(kind, "rows")
        }
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that this exporter is the older one, and each place where a trace may go wrong
        torch.onnx.export(
            _Flat(part),
            tuple(few.values()),
            str(path),
            input_names=list(few),
            output_names=["vector"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


@torch.no_grad()
def _difference(part: _Part, answer: Callable[[Arrays], NDArray[Any]]) -> tuple[float, int]:
    """The largest difference over several numbers of rows, and the width; what is no number on one side only differs."""
    largest, dim = 0.0, 0
    for count in _BATCHES:
        columns = take(part.columns, _rows(part, count))
        right = part.vectors(columns).numpy()
        found = answer({name: tensor.numpy() for name, tensor in _flat(columns).items()})
        if found.shape != right.shape:
            return float("inf"), right.shape[1]
        largest = max(largest, float(np.abs(found - right).max()))
        dim = right.shape[1]
    return largest, dim


def _rows(part: _Part, count: int) -> Tensor:
    """So many rows, the unknown one first and each again when there are no more."""
    return torch.arange(count) % len(next(iter(part.columns.values())))
