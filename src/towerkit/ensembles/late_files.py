"""A late fusion to files and back: the combiner, and each member in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.artifact.models import check_labels, decisions_in, load_predictor
from towerkit.artifact.pretrained import save_pretrained
from towerkit.core.errors import RunError, listed
from towerkit.core.spec import parse
from towerkit.ensembles.late import Answers, Combiner, LateFusion, given_combiners, names_of
from towerkit.ensembles.late_spec import AnyPredictingSpec, LateFusionSpec, StackSpec
from towerkit.ensembles.member_files import HELD_OUT
from towerkit.ensembles.members import Member, load_member, save_member
from towerkit.ensembles.mixtures import Mixture, Votes
from towerkit.ensembles.run_spec import RunMemberSpec
from towerkit.ensembles.stackers import restored_stacker
from towerkit.features.labels import Labels
from towerkit.models.answer import TaskPredictor
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import read_json, write_json
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.storage.tensors import load_tensors, save_tensors

LATE_FUSION_KEYS = ("spec", "tasks")
"""Of ``model.json``, where the members predict."""
OPTIONAL_KEYS = ("decisions",)
"""Not in Runs of a time when a fusion decided from a half on."""


def save_late_fusion(folder: Path, fusion: LateFusion) -> None:
    """Write the combiner, what it was fitted on, and each member into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, member in fusion.members.items():
        place = folder / "members" / name
        if name in fusion.files:
            fusion.files[name].copy(place)
            own = any(file.startswith("pretrained/") for file in fusion.files[name].names)
            if not (own or isinstance(member, LateFusion)):  # its pretrained encoders stood beside its fusion
                save_pretrained(place, member.encoder.pretrained().values())
        elif isinstance(member, LateFusion):
            save_late_fusion(place, member)
        else:
            save_member(place, member)
    tasks = {task: label.as_dict() for task, label in fusion.tasks.items()}
    decisions = {task: decision.as_dict() for task, decision in fusion.decisions.items()}
    content = {"spec": fusion.spec.model_dump(mode="json"), "tasks": tasks, "decisions": decisions}
    write_json(folder / "model.json", content)
    tensors: dict[str, NDArray[Any]] = {}
    for number, task in enumerate(sorted(fusion.combiners)):
        combiner = fusion.combiners[task]
        names = ("weights", "temperatures") if isinstance(combiner, Mixture) else ("coefficients", "intercept")
        tensors |= {f"{number}/{name}": getattr(combiner, name) for name in names}
    save_tensors(folder / "combiner.safetensors", tensors)
    if fusion.held_out is not None:
        numbers = {task: number for number, task in enumerate(sorted(fusion.tasks))}
        arrays = {
            f"{name}/{numbers[task]}": values.astype(np.float32)
            for name, own in fusion.held_out.items()
            for task, values in own.items()
        }
        save_tensors(folder / HELD_OUT, arrays)


def load_late_fusion(folder: Path, version: int = FORMAT_VERSION) -> LateFusion:
    """Read a late fusion and its members.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing or damaged.
    """
    content = read_document(folder / "model.json", version, LATE_FUSION_KEYS, OPTIONAL_KEYS)
    spec = parse(LateFusionSpec, content["spec"], str(folder / "model.json"))
    tasks = {task: Labels.from_dict(label) for task, label in content["tasks"].items()}
    check_labels(folder / "model.json", tasks)
    members = {name: _loaded(folder / "members" / name, each, version) for name, each in spec.predictors.items()}
    for task, labels in tasks.items():
        if not names_of(members, labels):
            raise RunError(f"{folder / 'model.json'}: no member predicts the task '{task}'; train the Run again.")
    if isinstance(spec.combine, StackSpec) or spec.reads_validation:
        combiners = _restored(folder / "combiner.safetensors", spec, members, tasks)
    else:
        combiners = given_combiners(spec, members, tasks)
    decisions = decisions_in(folder, content.get("decisions", {}), tasks)
    return LateFusion(spec, members, tasks, combiners, decisions=decisions)


def load_held_out(folder: Path, fusion: LateFusion) -> Answers:
    """What the combiner of a saved fusion was fitted on; empty where it was not fitted.

    Raises:
        RunError: If the file is missing or damaged.
    """
    if not (isinstance(fusion.spec.combine, StackSpec) or fusion.spec.reads_validation):
        return {}
    path = folder / HELD_OUT
    if not path.exists():
        raise RunError(
            f"{folder} lacks {HELD_OUT}: an earlier towerkit wrote it, and its combiner cannot be fitted again. Train it anew."
        )
    tasks, found = sorted(fusion.tasks), {name: dict[str, NDArray[np.float64]]() for name in fusion.members}
    for place, values in load_tensors(path).items():
        name, _, number = place.rpartition("/")
        if name not in found or not number.isdigit() or int(number) >= len(tasks) or values.ndim != 2:
            raise RunError(f"{path}: '{place}' is of no member and task there is; train the Run again.")
        found[name][tasks[int(number)]] = values.astype(np.float64)
    return found


def load_model(folder: Path, version: int) -> TaskPredictor | LateFusion:
    """A tower model or a late fusion, whichever the folder holds."""
    kind = (read_json(folder / "model.json").get("spec") or {}).get("kind")
    return load_late_fusion(folder, version) if kind == "late_fusion" else load_predictor(folder, version)


def _loaded(folder: Path, spec: AnyPredictingSpec, version: int) -> Member:
    if isinstance(spec, LateFusionSpec):
        return load_late_fusion(folder, version)
    return load_model(folder, version) if isinstance(spec, RunMemberSpec) else load_member(folder, spec, version)


def _restored(
    path: Path, spec: LateFusionSpec, members: Mapping[str, Member], tasks: Mapping[str, Labels]
) -> dict[str, Combiner]:
    tensors, combiners = load_tensors(path), dict[str, Combiner]()
    votes: Votes = getattr(spec.combine, "votes", "soft")
    for number, task in enumerate(sorted(tasks)):
        names = ("coefficients", "intercept") if isinstance(spec.combine, StackSpec) else ("weights", "temperatures")
        wanted = [f"{number}/{name}" for name in names]
        missing = [name for name in wanted if name not in tensors]
        if missing:
            raise RunError(f"{path} lacks {listed(missing)}; train the Run again.")
        first, second = (tensors[name] for name in wanted)
        if isinstance(spec.combine, StackSpec):
            combiners[task] = restored_stacker(tasks[task], first, second)
            continue
        count = len(names_of(members, tasks[task]))
        if not (_positive(first, count, or_zero=True) and _positive(second, count, or_zero=False)):
            raise RunError(
                f"{path}: the task '{task}' needs a weight and a temperature of each of its {count} members; train the Run again."
            )
        combiners[task] = Mixture(first, second, votes)
    return combiners


def _positive(values: NDArray[Any], count: int, *, or_zero: bool) -> bool:
    good = values.shape == (count,) and values.dtype.kind == "f" and np.isfinite(values).all()
    return bool(good and ((values >= 0) if or_zero else (values > 0)).all() and values.sum() > 0)
