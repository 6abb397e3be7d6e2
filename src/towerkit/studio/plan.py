"""A model as boxes and wires: what is read, by which tower, what merges it, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from towerkit.data.roles import EXAMPLE
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.models.side import Side, towers_of
from towerkit.run_writer import num_parameters
from towerkit.trained import Model, column_groups, named_columns

LAYERS = ("columns", "towers", "merged by", "out")


@dataclass(frozen=True)
class Box:
    """One part of the model."""

    name: str
    """Unique in its plan; of a tower, what an ablation calls it."""
    layer: int
    title: str
    lines: tuple[str, ...] = ()
    parameters: int | None = None
    """Learned numbers, where it has any."""
    is_tower: bool = False


@dataclass
class Plan:
    """Boxes, and which leads to which."""

    boxes: list[Box] = field(default_factory=list)
    wires: list[tuple[str, str]] = field(default_factory=list)

    def add(self, box: Box, after: Iterable[str] = ()) -> str:
        """A box behind some others; gives its name."""
        self.boxes.append(box)
        self.wires += [(each, box.name) for each in after]
        return box.name


def plan_of(model: Model) -> Plan:
    """The plan of a trained model of any kind."""
    plan = Plan()
    if isinstance(model, Retriever):
        _match(plan, model, _side(plan, model, "query"), _side(plan, model, "candidate"), "")
    elif isinstance(model, JointRetriever):
        first = next(iter(model.members.values()))
        query = _side(plan, first, "query")
        for name, member in model.members.items():
            _match(plan, member, query, _side(plan, member, "candidate", f"{name}/"), f"{name}/")
    elif isinstance(model, TaskPredictor):
        _merged(plan, model, {})
    elif isinstance(model, PairScorer):
        _merged(plan, model, {"score": "ranks the candidates"})
    elif isinstance(model, LateFusion):
        _members(plan, model, [f"{name} ({labels.kind})" for name, labels in model.tasks.items()])
    else:
        _members(plan, model, ["ranks the candidates"])
    return plan


def _side(plan: Plan, model: Retriever, which: str, prefix: str = "") -> str:
    """The boxes of one side of a two-tower; gives the last of them."""
    spec: Any = model.spec.query if which == "query" else model.spec.candidate
    side: Side = model.model.query if which == "query" else model.model.candidate
    entity = model.query_entity if which == "query" else model.candidate_entity
    catalogue = model.query if which == "query" else model.candidate
    specs = towers_of(spec)
    names = []
    for name, tower in side.each():
        reads = sorted(named_columns(specs[name].model_dump(exclude={"of"})) & set(model.encoder.columns(entity)))
        if tower.reach is not None:
            reads.append(f"what the {which} met")
        named = f"{prefix}{which}.{name}"
        read = _columns(plan, named, entity, reads or [catalogue.key])
        names.append(plan.add(_tower(named, name, specs[name], tower), [read]))
    if side.backbone is None:
        return names[0]
    title = f"{which}: {spec.backbone.kind}"
    return plan.add(Box(f"{prefix}{which} side", 2, title, (f"{side.out_dim} wide",), _count(side.backbone)), names)


def _match(plan: Plan, model: Retriever, query: str, candidate: str, prefix: str) -> None:
    counts = (
        f"{len(model.query.keys):,} {model.query_entity}",
        f"{len(model.candidate.keys):,} {model.candidate_entity}",
    )
    title = f"match: {model.model.match.similarity}"
    plan.add(Box(f"{prefix}match", 3, title, (f"{model.model.query.out_dim} wide", *counts)), [query, candidate])


def _merged(plan: Plan, model: TaskPredictor | PairScorer, also: Mapping[str, str]) -> None:
    """Towers, a backbone, and heads."""
    names = []
    for name, entity in model.model.entities.items():
        spec: Any = model.spec.towers[name]
        known = {*model.encoder.columns(entity)}
        reads = sorted(named_columns(spec.model_dump(exclude={"of"})) & known)
        read = _columns(plan, name, "" if entity == EXAMPLE else entity, reads or [entity])
        tower: Any = model.model.towers[name]
        names.append(plan.add(_tower(name, name, spec, tower), [read]))
    backbone = model.model.backbone
    kind = str(getattr(model.spec.backbone, "kind", "concat"))
    merged = plan.add(Box("backbone", 2, kind, (f"{backbone.out_dim} wide",), _count(backbone)), names)
    tasks = model.encoder.labels
    for name, head in model.model.heads.items():
        about = also.get(name) or (tasks[name].kind if name in tasks else "ranks the candidates")
        outputs = (f"{tasks[name].num_outputs} outputs",) if name in tasks and tasks[name].num_outputs > 1 else ()
        plan.add(Box(f"head {name}", 3, name, (about, *outputs), _count(head)), [merged])


def _members(plan: Plan, model: LateFusion | RankFusion, outs: Sequence[str]) -> None:
    """Members that were fitted apart, and what combines them."""
    groups = column_groups(model) if isinstance(model, LateFusion) else {}
    names = []
    for name, member in model.members.items():
        spec: Any = model.spec.members[name]
        reads = groups.get(name) or _read_by(member)
        read = _columns(plan, name, "", list(reads))
        known = (
            num_parameters(member) if isinstance(member, Retriever | TaskPredictor | PairScorer | LateFusion) else None
        )
        names.append(plan.add(Box(name, 1, name, (str(spec.kind),), known or None, is_tower=True), [read]))
    combined = plan.add(Box("combine", 2, str(model.spec.combine.kind), ("of all members",)), names)
    for out in outs:
        plan.add(Box(f"out {out}", 3, out), [combined])


def _read_by(member: Any) -> list[str]:
    encoder = getattr(member, "encoder", None)
    if encoder is None:
        return ["the texts of both sides"]
    return sorted({column for entity in encoder.features for column in encoder.columns(entity)})


def _columns(plan: Plan, tower: str, entity: str, columns: Sequence[str]) -> str:
    title = f"{entity}" if entity else "row"
    return plan.add(Box(f"{tower} reads", 0, title, tuple(columns)))


def _tower(named: str, name: str, spec: Any, module: Any) -> Box:
    encoder = getattr(spec, "encoder", None)
    kind = str(spec.kind) + (f", {encoder.kind}" if encoder is not None and hasattr(encoder, "kind") else "")
    width = getattr(module, "out_dim", None)
    lines = (kind,) if width is None else (kind, f"{width} wide")
    return Box(named, 1, name, lines, _count(module), is_tower=True)


def _count(module: nn.Module) -> int | None:
    return sum(each.numel() for each in module.parameters()) or None
