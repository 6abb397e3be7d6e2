"""Another member in a trained late fusion: the others stay as they are, only what combines them is fitted again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from towerkit.core.errors import RunError, SpecError, listed, nearest
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import rows_fingerprint
from towerkit.ensembles.fit_late import Known
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_files import load_held_out
from towerkit.ensembles.late_spec import AnyPredictingSpec, LateFusionSpec, StackSpec
from towerkit.ensembles.member_files import files_below
from towerkit.ensembles.members import Member
from towerkit.ensembles.run_spec import RunMemberSpec, TrainedRun
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.models.answer import TaskPredictor
from towerkit.models.tower_model import TowerModelSpec
from towerkit.run import Run
from towerkit.run_writer import write_run
from towerkit.spec import ExperimentSpec, ModelingSpec, beside, parse_yaml
from towerkit.storage.atomic import check_target, is_run
from towerkit.storage.hashes import read_json
from towerkit.training.progress import Progress


def replace_member(
    folder: Path,
    run: Run,
    name: str,
    new: Mapping[str, Any],
    dataset: Dataset,
    progress: Progress,
    *,
    overwrite: bool = False,
) -> tuple[Run, Outcome]:
    """Train a new member in the place of another, fit the combiner again, measure, and write a Run.

    The files of the other members are copied byte for byte. A combiner that was fitted is fitted on what the Run kept of the others
    (their held-out predictions) and on the same of the new member: out of the same folds, or on the validation rows.

    Args:
        folder: The new Run's folder; must not exist, unless ``overwrite``.
        run: A late fusion of members that predict.
        name: The member that goes.
        new: The spec of a member in plain data, ``{kind: run, path: …}`` among them.
        dataset: The data that the Run was trained with, under the same split.
        progress: Told after each epoch of the new member.
        overwrite: Replace an existing Run.

    Raises:
        RunError: If the Run is no such fusion, has no such member, or was trained with other rows.
        SpecError: If the new member is none that towerkit knows, or does not fit the others.
    """
    check_target(folder, overwrite)
    model = _fusion(run, name)
    _check_rows(run, dataset)
    spec = spec_with(run, model, name, new)
    assert isinstance(spec.model, LateFusionSpec)
    outcome = train_and_evaluate(spec, dataset, progress, known=_kept(run, model, name, spec.model, dataset))
    told = {"run": run.path.name, "sha256": TrainedRun(run.path).seal, "member": name, "fitted": fitted_on(spec.model)}
    return write_run(folder, spec, dataset, replace(outcome, replaces=told), overwrite=overwrite), outcome


def member_from(path: Path) -> dict[str, Any]:
    """The spec of a member, from a trained Run, or from a YAML file of a member or of a whole training.

    Args:
        path: A Run folder or a file.

    Raises:
        SpecError: If it is neither.
    """
    if is_run(path):
        return {"kind": "run", "path": str(path)}
    if not path.is_file():
        raise SpecError(f"{path} is neither a Run nor a file with the spec of a member; check the path.")
    found = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    found = found.get("model", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or "kind" not in found:
        raise SpecError(
            f"{path} must hold the spec of a member, with a key 'kind'; see the members in examples/shop_late.yaml."
        )
    placed: dict[str, Any] = beside(path.parent, found)
    return placed


def spec_with(run: Run, model: LateFusion, name: str, new: Mapping[str, Any]) -> ModelingSpec:
    """The spec of a Run with another member; a member that came from a Run is told as what that Run is.

    Args:
        run: Whose spec.
        model: Its fusion.
        name: The member that goes.
        new: The one that comes, in plain data.

    Raises:
        SpecError: If the new member does not fit the others.
    """
    kept = {each: _as_trained(own, model.members[each]) for each, own in model.spec.predictors.items() if each != name}
    members = {each: own.model_dump(mode="json") for each, own in kept.items()} | {name: dict(new)}
    fused = {**model.spec.model_dump(mode="json"), "members": members}
    kind = ExperimentSpec if "data" in run.spec else ModelingSpec
    return parse(kind, {**run.spec, "model": fused}, f"{run.path.name} with another '{name}'")


def fitted_on(spec: LateFusionSpec) -> str:
    """What the combiner was fitted on, in words."""
    if isinstance(spec.combine, StackSpec):
        what = "the combiner and what decides" if spec.chooses else "the combiner"
        return (
            f"{what} again, on the kept out-of-fold predictions of the other members and those of the new one in the same "
            f"{spec.combine.folds} folds"
        )
    if spec.reads_validation:
        what = "weights, temperatures and thresholds" if spec.chooses else "weights and temperatures"
        return f"{what} again, on what all members said of the validation rows before they learned from them"
    return "the new member alone; what combines the members is given"


def _fusion(run: Run, name: str) -> LateFusion:
    model = run.model
    if not isinstance(model, LateFusion):
        what = "a late fusion of rankers" if run.kind == "late_fusion" else f"a {run.kind}"
        raise RunError(
            f"{run.path} is {what}; a member can be replaced in a late fusion of members that predict. Train anew."
        )
    if name not in model.members:
        inner = name.partition("/")[0]
        hint = f" Replace the group '{inner}' as a whole." if "/" in name and inner in model.members else ""
        raise RunError(
            f"{run.path} has no member '{name}'{nearest(name, model.members) or '.'} Its members are {listed(model.members)}.{hint}"
        )
    return model


def _check_rows(run: Run, dataset: Dataset) -> None:
    known = read_json(run.path / "data.json").get("fingerprint")
    found = rows_fingerprint(dataset)
    differs = sorted(part for part in found if (known or {}).get(part) != found[part])
    if differs:
        raise RunError(
            f"{run.path} was trained with other rows: its {', '.join(differs)} differ from this data, so what its members said of "
            "held-out rows would not belong to them. Give the data it was trained with, or train the fusion anew."
        )


def _kept(run: Run, model: LateFusion, name: str, spec: LateFusionSpec, dataset: Dataset) -> dict[str, Known]:
    """The members that stay, with what they said of held-out rows under the task names of the new fusion."""
    held_out, opened = load_held_out(run.path / "model", model), TrainedRun(run.path)
    reads = isinstance(spec.combine, StackSpec) or spec.reads_validation
    named = {label.column: task for task, label in spec.demand(dataset).labels.items()}
    found = {}
    for each, member in model.members.items():
        if each == name:
            continue
        said: dict[str, Any] = dict(held_out.get(each, {}))
        if reads and not said:
            raise RunError(f"{run.path} has no held-out predictions of its member '{each}'; train the fusion anew.")
        answers = {named[model.tasks[task].column]: np.asarray(values) for task, values in said.items()}
        files = files_below(opened, f"model/members/{each}/")
        found[each] = Known(member, answers if reads else None, files)
    return found


def _as_trained(spec: AnyPredictingSpec, member: Member) -> AnyPredictingSpec:
    """The spec of a member without the paths of Runs, which may be gone: its model went into this one."""
    if isinstance(spec, RunMemberSpec):
        assert isinstance(member, TaskPredictor | LateFusion)
        own = member.spec
        assert isinstance(own, TowerModelSpec | LateFusionSpec)
        return _as_trained(own, member)
    if not isinstance(spec, LateFusionSpec):
        return spec
    assert isinstance(member, LateFusion)
    members = {name: _as_trained(own, member.members[name]) for name, own in spec.predictors.items()}
    changed: AnyPredictingSpec = spec.model_copy(update={"members": members})
    return changed
