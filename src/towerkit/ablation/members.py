"""Late fusions without some of their members: each member speaks once, what combines them follows for each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from towerkit.ablation.game import Mode, Part, shuffled
from towerkit.ablation.two_towers import FEW, Asked
from towerkit.core.errors import SpecError
from towerkit.data.table import Table
from towerkit.ensembles.late import Answers, LateFusion, Silent, asked
from towerkit.ensembles.mixtures import Mixture
from towerkit.ensembles.rank_fusion import FusedRanker, RankFusion
from towerkit.ensembles.stackers import Probabilities
from towerkit.evaluation.samples import Sample, answered_tasks
from towerkit.features.labels import Labels, Truth
from towerkit.index.ranker import Ranker
from towerkit.trained import truth_of

ROW = "row"
_MOST_AVERAGED = 1_000
"""Queries over which a member's scores are averaged."""


@dataclass(frozen=True, eq=False)
class LateGame:
    """A late fusion of members that predict; its parts are the members."""

    fusion: LateFusion
    table: Table
    """The held-out rows."""
    learned: Table
    """Some training rows: what a mean is taken over."""
    metrics: tuple[str, ...]
    bytes: Mapping[str, int]
    """Member -> size of its files."""
    several: bool

    @cached_property
    def _said(self) -> Answers:
        return self.fusion.member_predictions(self.table)

    @cached_property
    def _silent(self) -> Silent:
        return self.fusion.silent(self.table)

    @cached_property
    def _truth(self) -> dict[str, Truth]:
        return truth_of(self.fusion.tasks, self.table)

    @cached_property
    def _means(self) -> dict[str, dict[str, Probabilities]]:
        said = self.fusion.member_predictions(self.learned)
        return {n: {t: v.mean(axis=0, keepdims=True) for t, v in each.items()} for n, each in said.items()}

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The members."""
        few = replace(self.table, data=self.table.data.slice(0, FEW))

        def runner(name: str) -> Callable[[], int]:
            def run() -> int:
                asked(name, self.fusion.members[name], few, self.fusion.tasks)
                return few.data.num_rows

            return run

        found = {}
        for name, member in self.fusion.members.items():
            module = getattr(member, "model", None)
            parameters = sum(each.numel() for each in module.parameters()) if module is not None else 0
            columns = [column for entity in member.encoder.features for column in member.encoder.columns(entity)]
            reads = tuple(dict.fromkeys(columns))
            found[name] = Part(ROW, reads, parameters, self.bytes.get(name, 0), runner(name))
        return found

    @property
    def rest(self) -> dict[str, Callable[[], int]]:
        """What combines the members."""

        def run() -> int:
            self.fusion.combined({n: {t: v[:FEW] for t, v in each.items()} for n, each in self._said.items()})
            return min(FEW, self.table.data.num_rows)

        return {ROW: run}

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        found = {task: self._of_task(task, labels, missing, mode, draw) for task, labels in self.fusion.tasks.items()}
        return answered_tasks(found, self._truth, self.fusion.tasks, {}, self.metrics, several=self.several)

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """Members are asked for all of their columns together.

        Raises:
            SpecError: Always.
        """
        raise _no_columns_of(part, "tower_model")

    def _of_task(self, task: str, labels: Labels, missing: frozenset[str], mode: Mode, draw: int) -> Probabilities:
        names = [name for name in self.fusion.members if task in self._said[name]]
        lost = missing & set(names)
        is_mean = isinstance(self.fusion.combiners.get(task), Mixture | None)
        if mode == "absent" and lost == set(names) and is_mean:
            return self._base(task, labels, names[0])
        each = {name: {task: self._stand_in(name, task, labels, missing, mode, draw)} for name in names}
        # The weights of those that are lost go to the others; a stack is told base rates in their place.
        gone = dict.fromkeys(lost if mode == "absent" else (), np.ones(self.table.data.num_rows, bool))
        said = {name: each.get(name, {}) for name in self.fusion.members}
        return self.fusion.merged(task, said, {**self._silent, **gone})

    def _stand_in(
        self, name: str, task: str, labels: Labels, missing: frozenset[str], mode: Mode, draw: int
    ) -> Probabilities:
        values = self._said[name][task]
        if name not in missing:
            return values
        if mode == "absent":
            return self._base(task, labels, name)
        if mode == "mean":
            return np.broadcast_to(self._means[name][task], values.shape)
        return values[shuffled(torch.arange(len(values)), len(values), ROW, draw).numpy()]

    def _base(self, task: str, labels: Labels, name: str) -> Probabilities:
        """What is known of a row without looking at it: how often each class was among the training labels."""
        shape = self._said[name][task].shape
        if len(labels.frequencies) == shape[1]:
            return np.broadcast_to(np.asarray(labels.frequencies), shape)
        return np.broadcast_to(self._means[name][task], shape)


@dataclass(frozen=True, eq=False)
class RankFusionGame:
    """A late fusion of members that rank; its parts are the members."""

    fusion: RankFusion
    asked: Asked
    bytes: Mapping[str, int]
    _averages: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The members; one has done its work once it has scored all candidates for a query."""
        queries = self.asked.task.queries[:FEW]

        def runner(name: str) -> Callable[[], int]:
            def run() -> int:
                self.fusion.members[name].ranker.scores(queries)
                return len(queries)

            return run

        found = {}
        for name, member in self.fusion.members.items():
            inner = getattr(member, "retriever", None) or getattr(member, "scorer", None)
            parameters = 0 if inner is None else sum(each.numel() for each in inner.model.parameters())
            reads = tuple(dict.fromkeys([*member.query_columns, *member.candidate_columns]))
            found[name] = Part("query", reads, parameters, self.bytes.get(name, 0), runner(name))
        return found

    @property
    def rest(self) -> dict[str, Callable[[], int]]:
        """Nothing that could be asked apart: scores are standardized where they are combined."""
        return {}

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        fusion, members = self.fusion, self.fusion.members
        rankers: dict[str, Ranker] = {name: member.ranker for name, member in members.items()}
        if not missing:
            return self.asked.of(fusion.ranker)
        if mode != "absent":
            for name in missing:
                rankers[name] = self._mean(name) if mode == "mean" else self._shuffled(rankers[name], draw)
            return self.asked.of(fusion.weighed(fusion.weights, rankers=rankers))
        left = {name: each for name, each in members.items() if name not in missing}
        if not left:
            return self.asked.of(_Constant(np.zeros(fusion.ranker.num_candidates, np.float32)))
        return self.asked.of(_without(fusion, left))

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """Members are asked for all of their columns together.

        Raises:
            SpecError: Always.
        """
        raise _no_columns_of(part, "two_tower")

    def _mean(self, name: str) -> Ranker:
        if name not in self._averages:
            queries = self.asked.task.queries[:_MOST_AVERAGED]
            self._averages[name] = self.fusion.members[name].ranker.scores(queries).mean(axis=0)
        return _Constant(self._averages[name])

    def _shuffled(self, ranker: Ranker, draw: int) -> Ranker:
        asked_rows = torch.unique(torch.from_numpy(self.asked.task.queries))
        count = len(self.fusion.query.keys) + 1
        return _Shuffled(ranker, shuffled(asked_rows, count, "query", draw).numpy())


class _Constant(Ranker):
    """The same scores for every query.

    Args:
        scores: ``[candidates]``.
    """

    exact = True

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self._scores, self.num_candidates = scores, len(scores)

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows."""
        return np.tile(self._scores, (len(queries), 1))


class _Shuffled(Ranker):
    """A ranker that answers each query as if it were another one.

    Args:
        ranker: What ranks.
        source: ``[queries]`` whose answer each query row gets.
    """

    def __init__(self, ranker: Ranker, source: NDArray[np.int64]) -> None:
        self._ranker, self._source = ranker, source
        self.exact, self.num_candidates = ranker.exact, ranker.num_candidates

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score every candidate for some query rows."""
        return self._ranker.scores(self._source[queries])

    def scores_at(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """The scores of some candidates of each query."""
        return self._ranker.scores_at(self._source[queries], candidates)


def _without(fusion: RankFusion, left: Mapping[str, object]) -> FusedRanker:
    """The members that are left with weights in their proportions; without the one that retrieves they rank the whole catalogue."""
    shares = {name: fusion.weights[name] for name in left}
    total = sum(shares.values())
    shares = {n: share / total if total > 0 else 1.0 / len(left) for n, share in shares.items()}
    first = getattr(fusion.spec.combine, "first", None)
    spec = fusion.spec
    if first is not None and first not in left:
        from towerkit.ensembles.rank_combine import WeightedSpec

        spec = spec.model_copy(update={"combine": WeightedSpec()})
    members = {name: member for name, member in fusion.members.items() if name in left}
    return replace(fusion, spec=spec, members=members).weighed(shares)


def _no_columns_of(part: str, kind: str) -> SpecError:
    return SpecError(
        f"Columns are shuffled within towers, and '{part}' is a member of a late fusion; ablate the Run of a {kind}, or "
        "leave --columns out."
    )
