"""Transfer: towers that begin as those of a trained Run, stay as they are, or move at a pace of their own.

A tower's weights mean something only beside what its features were fitted to, so the vocabularies, means and edges of
what it reads come along; new values stand behind the Run's own, as in a training that goes on from a Run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from towerkit.artifact.models import load_predictor, load_retriever
from towerkit.artifact.rankers import load_pair_scorer
from towerkit.core.errors import RunError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.features.base import FeatureSpec
from towerkit.features.encoded import Encoded
from towerkit.features.encoder import Encoder, Fitted
from towerkit.models.side import side_reads, towers_of
from towerkit.models.tower_model import MergedSpec
from towerkit.models.two_tower import TwoTower, TwoTowerSpec
from towerkit.storage.manifest import verify
from towerkit.towers import IdTower, SpectralTower, Tower, TowerSpec
from towerkit.training.carry import Base, grown_feature, take_weights
from towerkit.training.depths import Unfreezing, scale_towers
from towerkit.training.optimizers import Optimizer
from towerkit.training.spec import TrainingSpec
from towerkit.training.still import with_vectors
from towerkit.training.tower_spec import TowerStartSpec, TowerTrainingSpec

_LOADERS = {"two_tower": load_retriever, "tower_model": load_predictor, "ranker": load_pair_scorer}


@dataclass(frozen=True, eq=False)
class Donor:
    """The tower of a Run that another one starts as."""

    name: str
    """What messages call it."""
    tower: Tower
    features: Mapping[FeatureSpec, Fitted]
    """Of its entity."""
    spread: Tensor
    """``[vectors, dim]`` the id vectors of its model that have its width: their strongest directions are kept by a projection."""


@dataclass(frozen=True, eq=False)
class Starts:
    """What is asked for some towers of a model."""

    settings: Mapping[str, TowerTrainingSpec]
    reads: Mapping[str, tuple[str, list[FeatureSpec]]]
    """Tower -> its entity and what it reads of it."""
    specs: Mapping[str, TowerSpec]
    """Tower -> its spec."""
    donors: Mapping[str, Donor]

    @classmethod
    def of(
        cls, training: TrainingSpec, model: TwoTowerSpec | MergedSpec, dataset: Dataset, base: Base | None = None
    ) -> Starts:
        """Open the Runs that towers start from.

        Args:
            training: Its ``towers`` say what is asked.
            model: Whose towers.
            dataset: Its columns.
            base: A Run that the whole training goes on from.

        Raises:
            SpecError: If a tower is none of the model's, or starts twice.
            RunError: If a Run, or a tower of it, is not there.
        """
        if not training.towers:
            return cls({}, {}, {}, {})
        reads = reads_of(model, dataset)
        for name, own in training.towers.items():
            if name not in reads:
                raise SpecError(
                    f"training.towers: the model has no tower '{name}'{nearest(name, reads) or '.'} Its towers are {listed(reads)}."
                )
            if own.start is not None and base is not None:
                raise SpecError(
                    f"training.towers.{name}.start: the training goes on from a Run, where its towers start too; remove one of "
                    "the two."
                )
        donors = {name: donor_of(own.start, name) for name, own in training.towers.items() if own.start is not None}
        return cls(training.towers, reads, specs_of(model), donors)

    def grown(self, encoder: Encoder) -> Encoder:
        """The encoder with the vocabularies and statistics of the donors, new values behind theirs.

        Args:
            encoder: Fitted on the training rows.

        Raises:
            RunError: If a donor does not read what its tower reads.
        """
        features = {entity: list(fitted) for entity, fitted in encoder.features.items()}
        for name, donor in self.donors.items():
            entity, specs = self.reads[name]
            unknown = [spec for spec in specs if spec not in donor.features]
            if unknown:
                raise RunError(
                    f"{donor.name} does not read {listed(_told(spec) for spec in unknown)}, as the tower '{name}' does; it reads "
                    f"{listed(_told(spec) for spec in donor.features)}. Give the columns the names and types that they have there."
                )
            own = features[entity]
            features[entity] = [grown_feature(donor.features[f.spec], f) if f.spec in specs else f for f in own]
        return replace(encoder, features={entity: tuple(fitted) for entity, fitted in features.items()})

    def begin(self, model: nn.Module) -> None:
        """Give the towers their weights, and freeze those that are to stay; before an update or an optimizer looks at them.

        Args:
            model: Built, and begun.

        Raises:
            RunError: If a weight has another shape.
        """
        towers = towers_in(model)
        for name, own in self.settings.items():
            if name in self.donors:
                project = own.start is not None and own.start.project
                _start(towers[name], self.donors[name], name, project=project)
            if own.freeze:
                towers[name].requires_grad_(False)
                towers[name].still = True

    def computed(self, model: nn.Module, encoded: Encoded) -> Encoded:
        """The arrays with the vectors of frozen towers, which are the same in every step.

        Args:
            model: Whose towers have begun.
            encoded: What they read.
        """
        towers = towers_in(model)
        frozen = {name: towers[name] for name, own in self.settings.items() if own.freeze}
        return with_vectors(encoded, frozen, self.reads, self.specs)

    def pace(self, optimizer: Optimizer, model: nn.Module) -> None:
        """Let the optimizer move towers at their own pace.

        Args:
            optimizer: Over the model's parameters.
            model: Whose towers.
        """
        if self.settings:
            scale_towers(optimizer, towers_in(model), self.settings)

    def unfreezing(self, model: nn.Module) -> Unfreezing | None:
        """What lets layers move from their epoch on; None where all move from the start.

        Args:
            model: Whose towers; those that stay as they are were frozen.
        """
        if all(own.unfreeze is None for own in self.settings.values()):
            return None
        return Unfreezing(towers_in(model), self.settings)


def reads_of(model: TwoTowerSpec | MergedSpec, dataset: Dataset) -> dict[str, tuple[str, list[FeatureSpec]]]:
    """Tower -> its entity and what it reads; a two-tower's are ``query.NAME`` and ``candidate.NAME``.

    Args:
        model: Its spec.
        dataset: Its columns.
    """
    if isinstance(model, MergedSpec):
        return model.reads(dataset)
    sides = zip(("query", "candidate"), (model.query, model.candidate), model.entities(dataset), strict=True)
    return {
        f"{side}.{name}": (entity, features)
        for side, spec, entity in sides
        for name, features in side_reads(spec, dataset, entity).items()
    }


def specs_of(model: TwoTowerSpec | MergedSpec) -> dict[str, TowerSpec]:
    """Tower -> its spec, by the names of :func:`reads_of`.

    Args:
        model: Its spec.
    """
    if isinstance(model, MergedSpec):
        return dict(model.towers)
    sides = {"query": model.query, "candidate": model.candidate}
    return {f"{side}.{name}": tower for side, each in sides.items() for name, tower in towers_of(each).items()}


def towers_in(model: nn.Module) -> dict[str, Tower]:
    """The towers of a module by name, as :func:`reads_of` names them.

    Args:
        model: A two-tower, or one that merges towers.
    """
    if isinstance(model, TwoTower):
        sides = {"query": model.query, "candidate": model.candidate}
        return {f"{side}.{name}": tower for side, each in sides.items() for name, tower in each.each()}
    found: Any = model
    return dict(found.towers.items())


def donor_of(start: TowerStartSpec, name: str) -> Donor:
    """Open the Run of a start, and take the tower.

    Args:
        start: Which one.
        name: The tower that starts, whose name it has there unless another one is given.

    Raises:
        RunError: If the folder is no Run of one training, or has no such tower.
    """
    folder, wanted = start.folder, start.tower or name
    manifest = verify(folder)
    if manifest.kind not in _LOADERS:
        raise RunError(f"{folder} is a {manifest.kind}; a tower starts from a Run of kind {listed(_LOADERS)}.")
    model: Any = _LOADERS[manifest.kind](Path(folder) / "model", manifest.format)
    towers = towers_in(model.model)
    if wanted not in towers:
        raise RunError(
            f"{folder} has no tower '{wanted}'{nearest(wanted, towers) or '.'} Its towers are {listed(towers)}; name one in "
            f"training.towers.{name}.start.tower."
        )
    tower = towers[wanted]
    fitted = model.encoder.features.get(_entity_of(model, wanted), ())
    ids = [
        each.table.detach() for each in towers.values() if isinstance(each, IdTower) and each.out_dim == tower.out_dim
    ]
    spread = torch.cat(ids) if ids else torch.zeros(1, tower.out_dim)
    return Donor(f"The tower '{wanted}' of {folder}", tower, {each.spec: each for each in fitted}, spread)


def _entity_of(model: Any, tower: str) -> str:
    if hasattr(model.model, "query_entity"):
        return str(model.query_entity if tower.startswith("query.") else model.candidate_entity)
    return str(model.spec.entity_of(tower))


@torch.no_grad()
def _start(tower: Tower, donor: Donor, name: str, *, project: bool) -> None:
    if type(tower) is not type(donor.tower) or isinstance(tower, SpectralTower):
        raise RunError(
            f"{donor.name} is a {type(donor.tower).__name__}, and the tower '{name}' is a {type(tower).__name__}; a tower starts "
            "from one of its kind, and a spectral one is computed from the pairs."
        )
    weights = {key: value.detach().clone() for key, value in donor.tower.state_dict().items()}
    if donor.tower.out_dim != tower.out_dim:
        if not project:
            raise RunError(
                f"{donor.name} has {donor.tower.out_dim} dimensions, and the tower '{name}' {tower.out_dim}. Give it dim: "
                f"{donor.tower.out_dim}, or training.towers.{name}.start.project: true."
            )
        if not isinstance(tower, IdTower):
            raise RunError(
                f"project brings id vectors to another width; the tower '{name}' is a {type(tower).__name__}. Give it the same dim."
            )
        weights["table"] = _projected(weights["table"], donor.spread, tower.table)
    take_weights(tower.state_dict(), weights, donor.name)


def _projected(table: Tensor, spread: Tensor, like: Tensor) -> Tensor:
    """``[rows, dim]`` to the width of another table: onto the strongest directions, which are the same for both sides of a Run.

    Inner products of the projected vectors are the nearest to those before that this width allows; a wider table keeps all of
    them, and begins beside them as it would have begun.
    """
    width = like.shape[1]
    _, _, directions = torch.linalg.svd(spread.double(), full_matrices=False)
    found = (table.double() @ directions.T[:, :width]).to(table.dtype)  # [rows, min(dim, width)]
    beside = like[: len(table), found.shape[1] :]
    if len(beside) < len(table):  # rows that only the Run has
        beside = torch.cat([beside, beside.new_zeros(len(table) - len(beside), beside.shape[1])])
    return torch.cat([found, beside], dim=1)


def _told(spec: FeatureSpec) -> str:
    return f"{getattr(spec, 'kind')} of {', '.join(spec.column_names())}"  # noqa: B009 - each concrete spec has a kind
