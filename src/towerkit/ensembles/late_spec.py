"""The spec of a late fusion: its members and what combines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from towerkit.baselines.bm25 import BM25Spec
from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import Name, Spec
from towerkit.data.dataset import Dataset
from towerkit.ensembles.members import RANKERS, AnyMemberSpec, AnyPredictorSpec, check_alike, heads_of
from towerkit.ensembles.rank_combine import AverageSpec, RRFSpec, WeightedSpec
from towerkit.features.encoder import Demand, LabelSpec
from towerkit.heads.decision import UNTOUCHED
from towerkit.models.tower_model import TowerModelSpec


class StackSpec(Spec):
    """A logistic regression on the members' log-odds, or a ridge regression on their numbers, fitted on out-of-fold predictions."""

    kind: Literal["stack"] = "stack"
    folds: int = Field(5, ge=2, le=50)
    l2: float = Field(1.0, ge=0.0)


_COMBINE = {True: ("average", "weighted", "rrf"), False: ("average", "stack")}
"""Whether the members rank -> the combiners that are for them."""

AnyCombineSpec = Annotated[AverageSpec | StackSpec | WeightedSpec | RRFSpec, Field(discriminator="kind")]
"""The menu of combiners."""


class LateFusionSpec(Spec):
    """Members of any family, each on its own columns, merged at the level of decisions."""

    kind: Literal["late_fusion"] = "late_fusion"
    members: dict[Name, AnyMemberSpec] = Field(min_length=2)
    combine: AnyCombineSpec = StackSpec()

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
        check_alike(self.members)
        combine, wanted = self.combine.kind, _COMBINE[self.ranks]
        if combine not in wanted:
            raise ValueError(
                f"combine: '{combine}' is not for members that {'rank' if self.ranks else 'predict'}; use {listed(wanted)}."
            )
        return self

    @property
    def ranks(self) -> bool:
        """Whether the members rank candidates; else they predict labels."""
        return all(member.kind in RANKERS for member in self.members.values())

    @property
    def predictors(self) -> dict[str, AnyPredictorSpec]:
        """The members that predict labels."""
        return {name: each for name, each in self.members.items() if isinstance(each, AnyPredictorSpec)}

    @model_validator(mode="after")
    def _labels_are_read_alike(self) -> LateFusionSpec:
        first: dict[str, tuple[str, LabelSpec]] = {}
        for name, member in self.predictors.items():
            for label in (head.label() for head in heads_of(member)):
                other, known = first.setdefault(label.column, (name, label))
                if not _alike(known, label):
                    raise ValueError(
                        f"the members must read the column '{label.column}' in one way to be combined; '{other}' reads it as "
                        f"{known.kind}, '{name}' as {label.kind}{' written otherwise' if known.kind == label.kind else ''}. "
                        "Give both heads one kind (and one separator)."
                    )
        return self

    @model_validator(mode="after")
    def _no_member_decides(self) -> LateFusionSpec:
        for name, member in self.predictors.items():
            for task, head in member.heads.items() if isinstance(member, TowerModelSpec) else ():
                if head.threshold_rule != UNTOUCHED.thresholds[0]:
                    raise ValueError(
                        "a member's probabilities are combined, and the class is decided after that, from a half on; the "
                        f"threshold of the task '{task}' of '{name}' would decide nothing. Remove it; calibration may stay."
                    )
        return self

    def demand(self, dataset: Dataset) -> Demand:
        """What all members read together, and the labels that all predict; BM25 reads texts as they are."""
        read = {name: member for name, member in self.members.items() if not isinstance(member, BM25Spec)}
        demands = [member.demand(dataset) for member in read.values()]
        # A tower model's heads have names of their own, a tree's task is only called by its column: a name goes first.
        by_column = {
            label.column: task for demand in demands for task, label in demand.labels.items() if task != label.column
        }
        positive = {label.column: label for demand in demands for label in demand.labels.values() if label.positive}
        shared = Demand(
            labels={
                by_column.get(label.column, task): positive.get(label.column, label)
                for task, label in (demands[0].labels.items() if demands else ())
            }
        )
        for name, demand in zip(read, demands, strict=True):
            for entity, features in demand.features.items():
                shared.add(entity, features)
            if {label.column for label in demand.labels.values()} != {label.column for label in shared.labels.values()}:
                raise SpecError(
                    f"All members must predict the same columns; '{next(iter(read))}' predicts "
                    f"{sorted(label.column for label in shared.labels.values())}, '{name}' predicts "
                    f"{sorted(label.column for label in demand.labels.values())}. Give them the same label columns."
                )
        return shared


_NUMBERS_AND_SETS = ("regression", "count", "multilabel")


def _alike(one: LabelSpec, other: LabelSpec) -> bool:
    """Whether two members' predictions of a column mean the same; classes with and without an order do."""
    if one.kind == other.kind:
        return one.form == other.form
    return one.kind not in _NUMBERS_AND_SETS and other.kind not in _NUMBERS_AND_SETS
