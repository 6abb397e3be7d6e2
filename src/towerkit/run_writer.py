"""From a spec and a data set to a Run: saved on the way, written as one folder, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from towerkit.artifact.arrow import save_table
from towerkit.artifact.card import CardFacts, model_card
from towerkit.artifact.joint import save_joint
from towerkit.artifact.models import save_predictor, save_retriever
from towerkit.artifact.rankers import save_pair_scorer
from towerkit.artifact.space import space_on_disk
from towerkit.core.errors import RunError
from towerkit.core.world import ALONE, World
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import rows_fingerprint
from towerkit.data.roles import EXAMPLE
from towerkit.data.schema import ColumnInfo
from towerkit.data.stream.log import Log
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_files import save_late_fusion
from towerkit.ensembles.rank_files import save_rank_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.ensembles.rank_members import PairsMember, TowersMember
from towerkit.evaluation.result import protocol_line
from towerkit.evaluation.segments import segment_columns
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.experiment import Outcome, checkpoints_of, train_and_evaluate
from towerkit.golden import golden_request
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.run import Run
from towerkit.spec import ModelingSpec, plain, ranks
from towerkit.storage.atomic import atomic_folder, check_target
from towerkit.storage.hashes import content_hash, write_json
from towerkit.storage.manifest import write_manifest
from towerkit.trained import Model
from towerkit.training.carry import Base
from towerkit.training.checkpoint import Checkpoints, differences
from towerkit.training.history_file import HistoryFile, history_line
from towerkit.training.progress import Progress, Several
from towerkit.training.signals import StopSignals


def train_run(
    folder: Path,
    spec: ModelingSpec,
    dataset: Dataset | Log,
    progress: Progress,
    *,
    overwrite: bool = False,
    resume: bool = False,
    base: Run | None = None,
    stop: StopSignals | None = None,
    say: Callable[[str], None] = lambda text: None,
    world: World = ALONE,
) -> tuple[Run, Outcome]:
    """Train, evaluate and write a Run; the state is saved beside it on the way, until it is written.

    Args:
        folder: The Run's folder; must not exist, unless ``overwrite``.
        spec: What to train.
        dataset: Raw tables with their split.
        progress: Told after each step and epoch, and at the end.
        overwrite: Replace an existing Run; without ``resume`` also forget an interrupted training of it.
        resume: Go on where an interrupted training of this Run was saved; begins anew where there is none.
        base: A Run to go on from: its weights are carried over by key, its vocabularies grow.
        stop: Signals that end the training after a whole step.
        say: Told what a person should know.
        world: The processes that train together; this is the first of them, see :func:`towerkit.experiment.train_beside`.

    Raises:
        RunError: If the folder cannot be written, or an interrupted training is in the way or belongs to another spec.
        TrainingError: If a loss is not a number, or a signal stopped the training.
    """
    check_target(folder, overwrite)
    before = None if base is None else base_of(base, spec)
    checkpoints = checkpoints_of(folder, spec, dataset, base=before, stop=stop, say=say)
    with checkpoints.held():
        clear_the_way(checkpoints, folder, overwrite=overwrite, resume=resume, say=say)
        history = HistoryFile(checkpoints.folder / "history.jsonl")
        outcome = train_and_evaluate(spec, dataset, Several([progress, history]), checkpoints, before, world=world)
        written = write_run(folder, spec, dataset, outcome, overwrite=overwrite)
        checkpoints.remove()
    return written, outcome


def clear_the_way(
    checkpoints: Checkpoints, folder: Path, *, overwrite: bool, resume: bool, say: Callable[[str], None]
) -> None:
    """Decide about an interrupted training of a Run: go on from it, forget it, or refuse.

    Args:
        checkpoints: Of the Run.
        folder: The Run's.
        overwrite: Forget it.
        resume: Go on from it.
        say: Told what a person should know.

    Raises:
        RunError: If it is in the way.
    """
    if checkpoints.exists and not resume and not overwrite:
        raise RunError(
            f"An interrupted training of {folder} is in {checkpoints.folder}. Continue it with --resume (resume=True in "
            "Python), or begin anew with --overwrite."
        )
    if not resume:
        checkpoints.remove()
    elif not checkpoints.exists:
        say(f"There is nothing to resume in {checkpoints.folder}; the training begins at the start.")


def base_of(run: Run, spec: ModelingSpec) -> Base:
    """What a training of ``spec`` goes on from.

    Args:
        run: A trained Run.
        spec: What is trained; its model must be the Run's.

    Raises:
        RunError: If the model is another one, or is not one training; names what differs.
    """
    model = run.model
    if isinstance(model, JointRetriever):
        raise RunError(f"{run.path} is a joint model, which does not go on from a Run yet; train it without --from.")
    if isinstance(model, LateFusion | RankFusion):
        raise RunError(f"{run.path} is a late_fusion, which is fitted anew from its members; train it without --from.")
    was, now = plain(model.spec), plain(spec.model)
    if was != now:
        changed = differences({"model": was}, {"model": now})
        raise RunError(
            f"{run.path} holds another model: {changed}. A training goes on with the same model; give the spec of the Run "
            "(its spec.json), or train anew."
        )
    weights = {name: tensor.detach().clone() for name, tensor in model.model.state_dict().items()}
    seal = content_hash({name: entry.sha256 for name, entry in run.manifest.files.items()})
    if isinstance(model, TaskPredictor):
        return Base(str(run.path), model.encoder, weights, model.entities, seal)
    catalogues = {model.query_entity: model.query, model.candidate_entity: model.candidate}
    if isinstance(model, PairScorer):
        catalogues |= model.others
    return Base(str(run.path), model.encoder, weights, catalogues, seal, model.seen)


def write_run(
    folder: Path, spec: ModelingSpec, dataset: Dataset | Log, outcome: Outcome, *, overwrite: bool = False
) -> Run:
    """Write a Run, all or nothing, and open it.

    Args:
        folder: The Run's folder; must not exist, unless ``overwrite``.
        spec: What it was trained with; where it left the fusion to validation, the Run's spec has what was chosen.
        dataset: Its columns, roles and split are described in the Run; its rows are not stored.
        outcome: The model and what was measured.
        overwrite: Replace an existing Run.

    Raises:
        RunError: If the folder cannot be written.
    """
    check_target(folder, overwrite)
    spec = spec if outcome.chosen is None else outcome.chosen.spec
    fusions = None if outcome.chosen is None else outcome.chosen.table
    model, evaluation = outcome.model, outcome.evaluation
    with atomic_folder(folder, overwrite=overwrite) as draft:
        save_model(draft / "model", model, spec.evaluation)
        write_json(draft / "spec.json", plain(spec))
        described = described_data(dataset)
        write_json(draft / "data.json", described)
        files = {name: f"details-{number}.arrow" for number, name in enumerate(evaluation.details)}
        for name, file in files.items():
            save_table(draft / file, evaluation.details[name])
        write_json(
            draft / "metrics.json",
            {
                "model": evaluation.as_dict(),
                "baselines": {name: baseline.as_dict() for name, baseline in outcome.baselines.items()},
                "details": files,
                **({} if fusions is None else {"fusions": fusions.as_dict()}),
            },
        )
        (draft / "history.jsonl").write_text(
            "".join(history_line(record) for record in outcome.history.records), encoding="utf-8"
        )
        write_json(draft / "golden.json", golden_request(model))
        extra: dict[str, Any] = {"seconds": round(outcome.seconds, 2), "epochs": outcome.history.best_epoch}
        if outcome.base is not None:
            extra["continues"] = {"run": Path(outcome.base.name).name, "sha256": outcome.base.seal}
        if outcome.replaces is not None:
            extra["replaces"] = dict(outcome.replaces)
        space = space_on_disk(draft) if isinstance(model, Retriever) else None
        facts = CardFacts(
            spec=plain(spec),
            data=described,
            protocol=protocol_line(evaluation.protocol),
            seconds=outcome.seconds,
            parameters=num_parameters(model),
            bytes=sum(path.stat().st_size for path in (draft / "model").rglob("*") if path.is_file()),
            space=space,
            continues=extra.get("continues"),
            replaces=extra.get("replaces"),
            ranks=ranks(spec.model),
            fusions=None if fusions is None else (*fusions.lines(), fusions.sentence()),
        )
        (draft / "card.md").write_text(model_card(facts, evaluation, outcome.baselines), encoding="utf-8")
        write_manifest(draft, kind=spec.model.kind, extra=extra, space=space)
    return Run.load(folder)


def save_model(folder: Path, model: Model, evaluation: EvaluationSpec | None = None) -> None:
    """Write a trained model of any kind into a folder: all that answers later, and nothing of what was measured.

    Args:
        folder: Made if it is not there.
        model: What to write.
        evaluation: Columns that its segments name are kept, so that new rows can be measured alike.
    """
    segments = () if evaluation is None else evaluation.segments
    if isinstance(model, Retriever):
        save_retriever(folder, model, query_columns=segment_columns(segments, model.query_entity))
    elif isinstance(model, TaskPredictor):
        save_predictor(folder, model, {entity: segment_columns(segments, entity) for entity in model.entities})
    elif isinstance(model, PairScorer):
        save_pair_scorer(folder, model, query_columns=segment_columns(segments, model.query_entity))
    elif isinstance(model, RankFusion):
        save_rank_fusion(folder, model, query_columns=segment_columns(segments, model.query_entity))
    elif isinstance(model, JointRetriever):
        save_joint(folder, model)
    else:
        save_late_fusion(folder, model)


def num_parameters(model: Model) -> int:
    """Learned numbers of the modules, those that two towers share counted once; trees and counts of words have none."""
    if isinstance(model, RankFusion):
        members = model.members.values()
        two_towers = sum(num_parameters(each.retriever) for each in members if isinstance(each, TowersMember))
        return two_towers + sum(num_parameters(each.scorer) for each in members if isinstance(each, PairsMember))
    if isinstance(model, LateFusion):
        return sum(num_parameters(each) for each in model.towers())
    if isinstance(model, JointRetriever):
        shared = {id(each): each.numel() for one in model.members.values() for each in one.model.parameters()}
        return sum(shared.values())
    return sum(parameter.numel() for parameter in model.model.parameters())


def described_data(dataset: Dataset | Log) -> dict[str, Any]:
    """What the data looked like, in plain data: columns, roles, sizes and split, without a row of it."""
    if isinstance(dataset, Log):
        return {
            "examples": dataset.name,
            "roles": vars(dataset.roles),
            "columns": {EXAMPLE: [_without_example(column) for column in dataset.columns]},
            "entities": {},
            "rows": dict(dataset.sizes),
            "split": dict(dataset.split),
            "times": {},
        }
    return {
        "examples": dataset.examples.name,
        "roles": vars(dataset.roles),
        "columns": {name: [_without_example(c) for c in schema.columns] for name, schema in dataset.schemas.items()},
        "entities": {
            name: {"key": e.key, "title": e.title, "table": e.table.name} for name, e in dataset.entities.items()
        },
        "rows": dataset.parts.sizes(),
        "fingerprint": rows_fingerprint(dataset),
        "split": dict(dataset.split),
        "times": _times(dataset),
    }


def _times(dataset: Dataset) -> dict[str, list[str]]:
    """Part -> its first and its last time, as texts; nothing without a time column."""
    column = dataset.roles.time
    found = {}
    for part, rows in vars(dataset.parts).items():
        if column is not None and len(rows):
            ends = pc.min_max(dataset.labelled(column, rows)).as_py()
            if ends["min"] is not None:
                found[part] = [str(ends["min"]), str(ends["max"])]
    return found


def _without_example(column: ColumnInfo) -> dict[str, Any]:
    """What a column is; the example that a printed schema shows is somebody's."""
    return {key: value for key, value in vars(column).items() if key != "example"}
