"""The spec of a late fusion: its members, which may be fusions themselves, and what combines them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, Union

from pydantic import Field, model_validator

from towerkit.baselines import BaselineSpec, BM25Spec
from towerkit.core.errors import SpecError, listed, nearest
from towerkit.core.spec import Name, Spec
from towerkit.data.dataset import Dataset
from towerkit.ensembles.decide import DecideSpec, check_decided
from towerkit.ensembles.gate import GateSpec
from towerkit.ensembles.members import RANKERS, AnyPredictorSpec
from towerkit.ensembles.mixtures import Votes
from towerkit.ensembles.pair_members import AnyPairsSpec
from towerkit.ensembles.rank_combine import AverageSpec, RerankSpec, RRFSpec, Weight, WeightedSpec
from towerkit.ensembles.run_spec import RunMemberSpec
from towerkit.features.encoder import Demand, LabelSpec
from towerkit.fusion import AutoSpec
from towerkit.heads import HeadSpec
from towerkit.heads.decision import UNTOUCHED, Calibration
from towerkit.models.ranker import RankerSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.retrieval import RetrievalObjectiveSpec

MOST_LEVELS = 3
"""Late fusions within late fusions, the outermost included."""


class VoteSpec(Spec):
    """Each member votes for a class, or for every label of which a row may have several; not for numbers."""

    kind: Literal["vote"] = "vote"
    votes: Votes = "hard"
    """``hard``: the share of the members whose answer a class is; ``soft``: the mean of their probabilities."""
    weights: dict[Name, Weight] | None = None
    """Member -> weight of its vote, of which only the proportions count; all alike when not given."""
    calibrate: Calibration = "none"
    """As of ``average``."""


class StackSpec(Spec):
    """A logistic regression on the members' log-odds, or a ridge regression on their numbers, fitted on out-of-fold predictions."""

    kind: Literal["stack"] = "stack"
    folds: int = Field(5, ge=2, le=50)
    l2: float = Field(1.0, ge=0.0)


_COMBINE = {True: ("average", "weighted", "rrf", "rerank", "gate"), False: ("average", "weighted", "vote", "stack")}
"""Whether the members rank -> the combiners that are for them."""

AnyCombineSpec = Annotated[
    AverageSpec | VoteSpec | StackSpec | WeightedSpec | RRFSpec | RerankSpec | GateSpec, Field(discriminator="kind")
]
"""The menu of combiners."""


class LateFusionSpec(Spec):
    """Members of any family, each on its own columns, merged at the level of decisions."""

    kind: Literal["late_fusion"] = "late_fusion"
    members: dict[Name, AnyMemberSpec] = Field(min_length=2)
    combine: AnyCombineSpec = StackSpec()
    objectives: dict[Name, RetrievalObjectiveSpec] = Field(default_factory=dict)
    """Member that ranks -> its loss and negatives, where they are not those of the whole spec."""
    decide: dict[str, DecideSpec] = Field(default_factory=dict)
    """Task -> from which probability a class is predicted, and how sure the merged probabilities are."""
    abstain: bool = False
    """A member that has nothing of what it reads in a row says nothing of it: its weight goes to the others. Not of a stack."""

    @model_validator(mode="before")
    @classmethod
    def _rankers_are_weighted(cls, data: Any) -> Any:
        """What is combined when the spec does not say: stacking is for predictors."""
        members = data.get("members") if isinstance(data, Mapping) else None
        if isinstance(members, Mapping) and "combine" not in data:
            kinds = [dict(each).get("kind") for each in members.values() if isinstance(each, Mapping | Spec)]
            if kinds and all(kind in RANKERS for kind in kinds):
                return {**data, "combine": {"kind": "weighted"}}
        return data

    @model_validator(mode="after")
    def _members_are_alike_and_fit_the_combiner(self) -> LateFusionSpec:
        _check_alike(self.members)
        combine, wanted = self.combine.kind, _COMBINE[self.ranks]
        if combine not in wanted:
            raise ValueError(
                f"combine: '{combine}' is not for members that {'rank' if self.ranks else 'predict'}; use {listed(wanted)}."
            )
        if self.levels > MOST_LEVELS:
            raise ValueError(
                f"late fusions stand {self.levels} deep within each other, and {MOST_LEVELS} are the most. Merge two levels."
            )
        _check_weights(self)
        _check_calibration(self)
        _check_first(self)
        _check_objectives(self)
        if self.abstain and (self.ranks or isinstance(self.combine, StackSpec)):
            kind = "ranks" if self.ranks else "is stacked"
            raise ValueError(
                f"abstain: a fusion that {kind} needs what every member says. Use combine: {{kind: weighted}}, average or vote of "
                "members that predict, or leave abstain out."
            )
        return self

    @property
    def ranks(self) -> bool:
        """Whether the members rank candidates; else they predict labels."""
        return all(member.kind in RANKERS for member in self.members.values())

    @property
    def levels(self) -> int:
        """1 without a fusion among the members."""
        return 1 + max((each.levels for each in self.members.values() if isinstance(each, LateFusionSpec)), default=0)

    @property
    def predictors(self) -> dict[str, AnyPredictingSpec]:
        """The members that predict labels."""
        kinds = AnyPredictorSpec | RunMemberSpec | LateFusionSpec
        return {name: each for name, each in self.members.items() if isinstance(each, kinds)}

    @property
    def reads_validation(self) -> bool:
        """Whether weights, temperatures or thresholds are fitted on validation rows; those of a stack are not."""
        combine = self.combine
        fits = isinstance(combine, WeightedSpec) and combine.weights is None
        chooses = self.chooses and not isinstance(combine, StackSpec)
        return not self.ranks and (fits or chooses or getattr(combine, "calibrate", "none") != "none")

    @property
    def chooses(self) -> bool:
        """Whether a temperature or a threshold of the whole fusion is read off held-out rows."""
        return any(rule.is_chosen for rule in self.decide.values())

    def towers(self) -> Iterator[tuple[str, TowerModelSpec]]:
        """The tower models at all levels, as ``member`` or ``member/member``."""
        for name, member in self.members.items():
            if isinstance(member, TowerModelSpec):
                yield name, member
            elif isinstance(member, LateFusionSpec):
                yield from ((f"{name}/{inner}", each) for inner, each in member.towers())

    def remarks(self, dataset: Dataset, where: str = "model") -> list[str]:
        """What looks like a slip within a member; several members may well read one column.

        Args:
            dataset: What it would learn from.
            where: The part of the spec that this is.
        """
        kinds = TowerModelSpec | TwoTowerSpec | RankerSpec | LateFusionSpec
        members = {f"{where}.members.{name}": each for name, each in self.members.items() if isinstance(each, kinds)}
        return [told for place, each in members.items() for told in each.remarks(dataset, place)]

    @model_validator(mode="after")
    def _labels_are_read_alike(self) -> LateFusionSpec:
        _check_labels({name: [head.label() for head in heads_of(member)] for name, member in self.predictors.items()})
        return self

    @model_validator(mode="after")
    def _no_member_chooses(self) -> LateFusionSpec:
        for name, member in self.members.items():
            if isinstance(member, TowerModelSpec) and isinstance(member.backbone, AutoSpec):
                raise ValueError(
                    f"backbone: {{kind: auto}} is for a tower_model by itself, whose late fusion it looks at, too; '{name}' is a "
                    "member. Train it by itself, and name the backbone that was chosen."
                )
        return self

    @model_validator(mode="after")
    def _no_member_decides(self) -> LateFusionSpec:
        if self.decide and self.ranks:
            raise ValueError(
                f"decide is for members that predict, and these rank; received {listed(self.decide)}. Remove it."
            )
        for name, member in self.predictors.items():
            for task, head in member.heads.items() if isinstance(member, TowerModelSpec) else ():
                if head.threshold_rule != UNTOUCHED.thresholds[0]:
                    raise ValueError(
                        "a member's probabilities are combined, and the class is decided after that; the threshold of the task "
                        f"'{task}' of '{name}' would decide nothing. Give it to the fusion, as decide: {{{task}: "
                        "{threshold: …}}; calibration may stay."
                    )
            if isinstance(member, LateFusionSpec) and member.decide:
                raise ValueError(
                    f"the outermost fusion decides; the one called '{name}' is a member, and what it decides of "
                    f"{listed(member.decide)} would decide nothing. Give it to the outermost one."
                )
        return self

    def demand(self, dataset: Dataset) -> Demand:
        """What all members read together, and the labels that they predict; baselines read texts and keys as they are.

        A task need not be every member's, but each member shares one with another.
        """
        demands = {
            name: each.demand(dataset) for name, each in self.members.items() if not isinstance(each, BaselineSpec)
        }
        _check_labels({name: list(demand.labels.values()) for name, demand in demands.items()}, SpecError)
        shared = Demand(labels=_shared_labels(demands))
        check_decided(self.decide, shared.labels)
        for name, demand in demands.items():
            for entity, features in demand.features.items():
                shared.add(entity, features)
            own = {label.column for label in demand.labels.values()}
            others = {label.column for other, d in demands.items() if other != name for label in d.labels.values()}
            if own and others and not own & others:
                raise SpecError(
                    f"A member must predict a column that another predicts, too; '{name}' predicts {sorted(own)}, the others "
                    f"predict {sorted(others)}. Give it one of these, or train it by itself."
                )
        return shared


AnyPredictingSpec: TypeAlias = AnyPredictorSpec | RunMemberSpec | LateFusionSpec
"""Everything that can predict as a member."""

AnyMemberSpec = Annotated[
    Union[AnyPredictorSpec, RunMemberSpec, TwoTowerSpec, RankerSpec, BM25Spec, AnyPairsSpec, "LateFusionSpec"],
    Field(discriminator="kind"),
]
"""The menu of members: those that predict, and those that rank (:mod:`towerkit.ensembles.rank_members`)."""

LateFusionSpec.model_rebuild()


def heads_of(spec: AnyPredictingSpec) -> tuple[HeadSpec, ...]:
    """What a member predicts, as far as its spec says; a Run is asked when there is data."""
    if isinstance(spec, TowerModelSpec):
        return tuple(spec.heads.values())
    if isinstance(spec, LateFusionSpec):
        return tuple(head for each in spec.predictors.values() for head in heads_of(each))
    return () if isinstance(spec, RunMemberSpec) else (spec.task,)


def _check_alike(members: Mapping[str, Any]) -> None:
    """Refuse members of which some rank and some predict."""
    ranking = [name for name, member in members.items() if member.kind in RANKERS]
    others = [name for name in members if name not in ranking]
    if ranking and others:
        raise ValueError(
            f"the members must all rank ({listed(RANKERS)}) or all predict a label (tower_model, xgboost, sklearn, run, "
            f"late_fusion); received '{ranking[0]}', a {members[ranking[0]].kind}, beside '{others[0]}', a "
            f"{members[others[0]].kind}. Fuse them apart."
        )
    fused = [name for name, member in members.items() if isinstance(member, LateFusionSpec) and member.ranks]
    if fused:
        raise ValueError(
            f"a fusion of rankers is no member of another; '{fused[0]}' is one. Give its members to the outer one."
        )


def _check_weights(spec: LateFusionSpec) -> None:
    weights = getattr(spec.combine, "weights", None)
    if weights is None:
        return
    if weights.keys() != spec.members.keys():
        raise ValueError(
            f"combine.weights must name every member ({listed(spec.members)}) and no other; received {listed(weights)}."
        )
    if not sum(weights.values()) > 0:
        raise ValueError(f"combine.weights must not all be 0; received {weights}. Give one member a weight above 0.")


def _check_first(spec: LateFusionSpec) -> None:
    combine = spec.combine
    if isinstance(combine, RerankSpec) and combine.first not in spec.members:
        raise ValueError(
            f"combine.first names the member that retrieves; there is no '{combine.first}'"
            f"{nearest(combine.first, spec.members) or '.'} The members are {listed(spec.members)}."
        )
    heads = [name for name, each in spec.members.items() if isinstance(each, RankerSpec) and each.heads]
    if heads:
        raise ValueError(
            f"a ranker that is a member of a fusion ranks and answers no other task; '{heads[0]}' has heads. Remove them, or train "
            "it by itself."
        )


def _check_objectives(spec: LateFusionSpec) -> None:
    for name in spec.objectives:
        if not isinstance(spec.members.get(name), TwoTowerSpec | RankerSpec):
            trained = [each for each, member in spec.members.items() if isinstance(member, TwoTowerSpec | RankerSpec)]
            raise ValueError(
                f"objectives are of members that are a two_tower or a ranker ({listed(trained) or 'there is none'}); received "
                f"'{name}'{nearest(name, trained) or '.'} Remove it."
            )


def _check_calibration(spec: LateFusionSpec) -> None:
    calibrates = getattr(spec.combine, "calibrate", "none") != "none"
    if calibrates and spec.ranks:
        raise ValueError("combine.calibrate is for probabilities, and the members rank; remove it.")
    heads = [head for member in spec.predictors.values() for head in heads_of(member)]
    numbers = sorted({head.column for head in heads if head.label().kind in _NUMBERS})
    if numbers and (
        isinstance(spec.combine, VoteSpec) or (calibrates and len(numbers) == len({h.column for h in heads}))
    ):
        what = "vote" if isinstance(spec.combine, VoteSpec) else "calibrate"
        raise ValueError(
            f"combine: {what} is for classes, and {listed(numbers)} are numbers; use average, weighted without calibrate, or stack."
        )


def _check_labels(labels: Mapping[str, list[LabelSpec]], error: type[ValueError] = ValueError) -> None:
    """Refuse two members that read one column in two ways."""
    first: dict[str, tuple[str, LabelSpec]] = {}
    for name, label in ((name, label) for name, own in labels.items() for label in own):
        other, known = first.setdefault(label.column, (name, label))
        if not _alike(known, label):
            raise error(
                f"the members must read the column '{label.column}' in one way to be combined; '{other}' reads it as "
                f"{known.kind}, '{name}' as {label.kind}{' written otherwise' if known.kind == label.kind else ''}. "
                "Give both heads one kind (and one separator)."
            )


def _shared_labels(demands: Mapping[str, Demand]) -> dict[str, LabelSpec]:
    """Task -> label. A tower model's heads have names, a tree's task is only called by its column: a name goes first."""
    every = [(task, label) for demand in demands.values() for task, label in demand.labels.items()]
    by_column = {label.column: task for task, label in every if task != label.column}
    positive = {label.column: label for _, label in every if label.positive}
    found: dict[str, LabelSpec] = {}
    for task, label in every:
        found.setdefault(by_column.get(label.column, task), positive.get(label.column, label))
    return found


_NUMBERS = ("regression", "count")
_NUMBERS_AND_SETS = (*_NUMBERS, "multilabel")


def _alike(one: LabelSpec, other: LabelSpec) -> bool:
    """Whether two members' predictions of a column mean the same; classes with and without an order do."""
    if one.kind == other.kind:
        return one.form == other.form
    return one.kind not in _NUMBERS_AND_SETS and other.kind not in _NUMBERS_AND_SETS
