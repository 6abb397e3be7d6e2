"""Going on from a trained Run on new data: vocabularies grow, weights are carried over by key, the rest stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from towerkit.core.errors import RunError, listed
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EntityTable
from towerkit.data.schema import infer_schema
from towerkit.features.aggregates import AggregateNumber, AggregateTop, continued
from towerkit.features.base import State
from towerkit.features.encoded import Catalogue
from towerkit.features.encoder import Encoder, Fitted
from towerkit.features.labels import Labels
from towerkit.features.vocabulary import Vocabulary, same_type
from towerkit.matching.updates import OneBackprop, Update
from towerkit.models.two_tower import TwoTower
from towerkit.towers import SpectralTower


@dataclass(frozen=True, eq=False)
class Base:
    """What a training goes on from."""

    name: str
    """What messages call the Run."""
    encoder: Encoder
    weights: Mapping[str, Tensor]
    catalogues: Mapping[str, Catalogue]
    """What it knew of each entity."""
    seal: str
    """A hash of its files."""
    seen: csr_array | None = None
    """``[queries, candidates]`` what each query had, by place in the catalogues; None where nothing is ranked."""

    def grown(self, fitted: Encoder) -> Encoder:
        """The Run's encoder with the new values behind its own.

        Numbers keep their mean, deviation and edges, because the weights were trained with them: a new standard would
        change what every row means to the layers above it.

        Args:
            fitted: The same features, fitted on the new rows alone.

        Raises:
            RunError: If the two do not read the same, or a label has a class that the Run does not know.
        """
        features: dict[str, tuple[Fitted, ...]] = {}
        for entity, new in fitted.features.items():
            old = {each.spec: each for each in self.encoder.features.get(entity, ())}
            unknown = [each.spec for each in new if each.spec not in old]
            if unknown:
                columns = listed(name for spec in unknown for name in spec.column_names())
                raise RunError(
                    f"{self.name} does not read {columns} of '{entity}' as the new data would have it (another type of column?). "
                    "Give the columns the types they had, or train anew."
                )
            features[entity] = tuple(grown_feature(old[each.spec], each) for each in new)
        labels = {task: self._labels(task, label) for task, label in fitted.labels.items()}
        return Encoder(features, labels)

    def _labels(self, task: str, new: Labels) -> Labels:
        old = self.encoder.labels[task]
        unknown = [name for name in new.classes if name not in old.classes]
        if unknown:
            raise RunError(
                f"The label column '{new.column}' has the classes {listed(unknown)}, which {self.name} does not know; its head "
                f"tells {listed(old.classes)} apart. Leave those rows out, or train anew."
            )
        share = dict(zip(new.classes, new.frequencies, strict=True))
        return replace(old, frequencies=tuple(share.get(name, 0.0) for name in old.classes))

    def carry(self, model: nn.Module) -> None:
        """Take the Run's weights; a row that its tables did not have begins as its unknown row, which answered so far.

        Raises:
            RunError: If a weight has another shape, beside new rows.
        """
        recomputed = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, SpectralTower))
        kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(recomputed)}
        take_weights(kept, self.weights, self.name)

    def keep_known(self, model: TwoTower, update: Update) -> None:
        """After the update began: known ids are where the Run left them, and were met before, however often.

        An update may set where ids begin (``start``), which is for new ones, and may take the first event of an id whole
        (``debias``), which is for an id that has no vector yet.
        """
        for name, parameter in model.named_parameters():
            old = self.weights.get(name)
            if old is not None and old.dim() == 2:
                parameter.data[: len(old)] = old
        if isinstance(update, OneBackprop) and update.met is not None:
            (tower,) = model.query.id_towers().values()
            known = next(len(self.weights[name]) for name, own in model.named_parameters() if own is tower.table)
            update.met[1:known] = torch.inf

    def with_seen(self, seen: csr_array, catalogues: Mapping[str, Catalogue], entities: tuple[str, str]) -> csr_array:
        """Known pairs ``[query rows, candidate rows]`` together with those that the Run knew."""
        assert self.seen is not None
        before = self.seen.tocoo()
        row, column = (
            catalogues[entity].rows(self.catalogues[entity].keys)[place]
            for entity, place in zip(entities, (before.row, before.col), strict=True)
        )
        found = csr_array(seen + csr_array((np.ones(len(row), np.float32), (row, column)), shape=seen.shape))
        found.data[:] = 1.0
        return found

    def with_known(self, dataset: Dataset) -> Dataset:
        """The data set with the keys that the Run knew among its entities, so that they are still answered."""
        entities, schemas = dict(dataset.entities), dict(dataset.schemas)
        for name, catalogue in self.catalogues.items():
            table = _with_rows(dataset, name, catalogue)
            own = dataset.entities.get(name)
            entities[name] = EntityTable(name, catalogue.key, table, None if own is None else own.title)
            schemas[name] = infer_schema(table, {catalogue.key: "key"})
        return replace(dataset, entities=entities, schemas=schemas)


@torch.no_grad()
def take_weights(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    """Take weights; a row that their tables did not have begins as their unknown row, which answered so far.

    Args:
        wanted: Name -> the tensor that is filled.
        weights: Name -> what it is filled with; its tables may be shorter.
        source: What messages call where they come from.

    Raises:
        RunError: If a weight has another shape, beside new rows.
    """
    for name, tensor in wanted.items():
        old = weights.get(name)
        if old is None or old.shape[1:] != tensor.shape[1:] or old.shape[:1] > tensor.shape[:1]:
            was = "missing" if old is None else f"of shape {list(old.shape)}"
            raise RunError(
                f"{source} does not fit: its weight {name} is {was}, and the model needs {list(tensor.shape)}. Train anew."
            )
        if old.dim() and len(old) < len(tensor):
            tensor[len(old) :] = old[0]
            tensor[: len(old)] = old
        else:
            tensor.copy_(old)


def grown_feature(old: Fitted, new: Fitted) -> Fitted:
    """The old feature, with the new values behind its own.

    Args:
        old: Of a Run.
        new: Of the same spec, fitted on new rows.
    """
    if isinstance(old.feature, AggregateNumber | AggregateTop):
        assert isinstance(new.feature, AggregateNumber | AggregateTop)
        return Fitted(old.spec, continued(old.feature, new.feature))
    state, found = old.feature.state(), new.feature.state().vocabulary
    if state.vocabulary is None or found is None:
        return old
    known = state.vocabulary
    values = same_type(found.values, known.values.type).drop_null()
    fresh = values.filter(pc.invert(pc.is_in(values, value_set=known.values)))
    grown = Vocabulary(pa.concat_arrays([known.values, fresh]), known.first_size)
    return Fitted(old.spec, old.spec.restore(State(state.values, grown)))


def _with_rows(dataset: Dataset, entity: str, catalogue: Catalogue) -> Any:
    """The entity's table with the rows of the keys that only the Run knew."""
    if entity not in dataset.entities:
        return catalogue.table
    own = dataset.entities[entity]
    keys = own.table.data.column(own.key)
    known = catalogue.table.data
    if own.key != catalogue.key:
        known = known.rename_columns([own.key if name == catalogue.key else name for name in known.column_names])
    missing = known.filter(pc.invert(pc.is_in(known.column(own.key).cast(keys.type), value_set=keys.combine_chunks())))
    missing = missing.select([name for name in missing.column_names if name in own.table.data.column_names])
    return replace(own.table, data=pa.concat_tables([own.table.data, missing], promote_options="permissive"))
