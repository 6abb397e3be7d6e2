"""The spec of a member that was trained before: a Run, taken as it is."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from towerkit.artifact.layout import check_layout
from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import Spec, parse
from towerkit.data.dataset import Dataset
from towerkit.features.encoder import Demand
from towerkit.models.tower_model import TowerModelSpec
from towerkit.storage.hashes import content_hash, read_json
from towerkit.storage.manifest import Manifest, verify
from towerkit.storage.migrations import upgraded
from towerkit.training.spec import TrainingSpec

if TYPE_CHECKING:
    from towerkit.ensembles.late_spec import LateFusionSpec


class RunMemberSpec(Spec):
    """A trained Run that predicts: its model goes into the fusion as it is, its rows must be those of the fusion."""

    kind: Literal["run"] = "run"
    path: str
    """The folder, from where the program runs, or from the spec file; ``${VARIABLES}`` are filled in."""

    @property
    def folder(self) -> Path:
        """The folder."""
        return Path(os.path.expandvars(self.path)).expanduser()

    def demand(self, dataset: Dataset) -> Demand:
        """What its model reads and predicts."""
        return TrainedRun(self.folder).model.demand(dataset)


class TrainedRun:
    """What a fusion must know of a Run before it takes its model.

    Args:
        folder: The Run; every file is checked.

    Raises:
        RunError: If it is no Run, or damaged.
        SpecError: If it does not predict.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = verify(folder)
        check_layout(self.manifest.kind, self.manifest.files, str(folder))
        if self.manifest.kind not in ("tower_model", "late_fusion") or getattr(self.model, "ranks", False):
            raise SpecError(
                f"{folder} ranks ({self.manifest.kind}); a member of kind run must predict. Name its spec among members that rank."
            )

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The spec it was trained with, in plain data."""
        found: dict[str, Any] = upgraded("spec.json", read_json(self.folder / "spec.json"), self.manifest.format)
        return found

    @cached_property
    def model(self) -> TowerModelSpec | LateFusionSpec:
        """The spec of its model."""
        from towerkit.ensembles.late_spec import LateFusionSpec

        kind: type[TowerModelSpec | LateFusionSpec]
        kind = LateFusionSpec if self.manifest.kind == "late_fusion" else TowerModelSpec
        return parse(kind, self.spec["model"], str(self.folder / "spec.json"))

    @cached_property
    def training(self) -> TrainingSpec:
        """The settings that it was trained with."""
        return parse(TrainingSpec, self.spec["training"], str(self.folder / "spec.json"))

    @property
    def seal(self) -> str:
        """A hash of all its files."""
        return content_hash({name: entry.sha256 for name, entry in self.manifest.files.items()})

    def check_rows(self, data: dict[str, str], *, reads_validation: bool) -> None:
        """Refuse a Run that learned from rows which this training holds out.

        Args:
            data: The fingerprint of this training's data, see :func:`towerkit.data.fingerprint.rows_fingerprint`.
            reads_validation: Whether something is fitted on the validation rows here.

        Raises:
            RunError: With what differs.
        """
        known = read_json(self.folder / "data.json").get("fingerprint")
        if not isinstance(known, dict):
            raise RunError(
                f"{self.folder} does not say which rows it learned from (an earlier towerkit wrote it), so it may have seen the "
                "rows that this training holds out. Train it again, or give its spec as the member."
            )
        differs = sorted(part for part in data if known.get(part) != data[part])
        if differs:
            raise RunError(
                f"{self.folder} learned from other rows than this training: its {', '.join(differs)} differ. It may have seen the "
                "rows that are held out here. Train it with this data, split and seed, or give its spec as the member."
            )
        if reads_validation and self.training.refit:
            raise RunError(
                f"{self.folder} was refitted on the validation rows (training.refit), and weights or temperatures are to be fitted "
                "on them here. Train it with training.refit: false, give combine.weights, or use combine: {kind: stack}."
            )
