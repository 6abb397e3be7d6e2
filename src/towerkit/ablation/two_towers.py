"""Two-towers without some of their towers: each tower speaks once of every row, both sides are merged again for each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from towerkit.ablation.game import Mode, Part, columns_of, replaced, shuffled, size_of
from towerkit.data.batch import take
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.data.table import Table
from towerkit.evaluation.ranking import ranking_values
from towerkit.evaluation.ranking_task import RankingTask
from towerkit.evaluation.samples import Block, Means, Sample
from towerkit.features.base import FeatureSpec
from towerkit.features.encoder import Encoder
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.metrics.gains import Gain
from towerkit.models.answer import Retriever, bags
from towerkit.models.side import Side, side_reads

Which = Literal["query", "candidate"]
SIDES: tuple[Which, ...] = ("query", "candidate")
FEW = 256
"""Raw rows that a cost is measured on."""


@dataclass(frozen=True)
class Asked:
    """The queries of the held-out part and the figures that are wanted of their rankings."""

    task: RankingTask
    metrics: Sequence[str]
    """``ndcg@10``, ``auc`` and the like."""
    gain: Gain = "linear"
    prefix: str = ""
    """What the names begin with in the answer."""

    def of(self, ranker: Ranker) -> Sample:
        """Every query's figures.

        Args:
            ranker: What ranks, by query row; row 0 is the unknown query.
        """
        ks = sorted({int(name.partition("@")[2]) for name in self.metrics if "@" in name}) or [1]
        found = ranking_values(ranker, self.task, ks, auc="auc" in self.metrics, gain=self.gain)
        return {self.prefix.rstrip("/"): Means({f"{self.prefix}{name}": found[name] for name in self.metrics})}


@dataclass(frozen=True, eq=False)
class SideGame:
    """One side: what its towers say of every known row, and what it says without some of them."""

    retriever: Retriever
    which: Which
    reads: Mapping[str, Sequence[FeatureSpec]]
    """Tower -> what it reads."""
    shuffles: Tensor
    """``[n]`` rows that are shuffled among each other."""

    @property
    def side(self) -> Side:
        """The module."""
        return self.retriever.model.query if self.which == "query" else self.retriever.model.candidate

    @property
    def entity(self) -> str:
        """Whose rows."""
        return self.retriever.query_entity if self.which == "query" else self.retriever.candidate_entity

    @property
    def table(self) -> Table:
        """All known rows."""
        return self.retriever.query.table if self.which == "query" else self.retriever.candidate.table

    @cached_property
    def vectors(self) -> dict[str, Tensor]:
        """Tower -> ``[rows + 1, dim_i]``; row 0 is the unknown row."""
        return self.retriever.parts_of(self.side, self.entity, self.table)

    @torch.no_grad()
    def merged(self, missing: Sequence[str], mode: Mode, draw: int) -> Tensor:
        """``[rows + 1, dim]`` as the match sees them."""
        parts = self.vectors
        unknown = {name: own[0] for name, own in parts.items()}

        def source() -> Tensor:
            return shuffled(self.shuffles, len(next(iter(parts.values()))), self.which, draw)

        return self._match(replaced(parts, missing, mode, unknown, lambda name: parts[name][1:].mean(dim=0), source))

    @torch.no_grad()
    def with_column(self, tower: str, column: str, draw: int) -> Tensor:
        """The same with a raw column shuffled among the rows that are shuffled, for one tower alone."""
        source = shuffled(self.shuffles, len(self.vectors[tower]), self.which, column, draw)[1:] - 1
        data = self.table.data
        place = data.column_names.index(column)
        mixed = data.set_column(place, data.schema.field(place), data.column(column).take(source.numpy()))
        spoken = self.retriever.parts_of(self.side, self.entity, replace(self.table, data=mixed))[tower]
        return self._match({**self.vectors, tower: spoken})

    def _match(self, parts: Mapping[str, Tensor]) -> Tensor:
        prepared: Tensor = self.retriever.model.match.prepare(self.side.merge(parts))
        return prepared

    def parts(self) -> dict[str, Part]:
        """Its towers with their cost."""
        found = {}
        for name, tower in self.side.each():
            parameters, size = size_of([tower])
            found[name] = Part(self.which, columns_of(self.reads[name]), parameters, size, self._runner(name))
        return found

    def _runner(self, name: str) -> Callable[[], int]:
        """Raw rows to this tower's vectors."""
        own, tower = set(self.reads[name]), self.side.towers[name]
        features = tuple(each for each in self.retriever.encoder.features[self.entity] if each.spec in own)
        encoder = Encoder({self.entity: features}, {})
        few = replace(self.table, data=self.table.data.slice(0, FEW))
        rows = torch.arange(1, few.data.num_rows + 1)

        @torch.no_grad()
        def run() -> int:
            columns = take(encoder.encode(self.entity, few), rows)
            events = self.retriever.events if self.which == "query" else None
            tower(columns | bags(self.side, events, rows.numpy()))
            return len(rows)

        return run

    def rest(self) -> int:
        """The backbone and the match's part of the work, on some rows."""
        with torch.no_grad():
            self._match({name: own[1 : FEW + 1] for name, own in self.vectors.items()})
        return min(FEW, self.table.data.num_rows)


@dataclass(frozen=True, eq=False)
class TwoTowerGame:
    """A trained two-tower; its parts are ``query.NAME`` and ``candidate.NAME``."""

    retriever: Retriever
    asked: Asked
    sides: Mapping[Which, SideGame]

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The towers of both sides."""
        return {f"{which}.{name}": part for which, side in self.sides.items() for name, part in side.parts().items()}

    @property
    def rest(self) -> dict[str, Callable[[], int]]:
        """The backbones."""
        return {which: side.rest for which, side in self.sides.items()}

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        each = {which: [n.partition(".")[2] for n in missing if n.startswith(f"{which}.")] for which in SIDES}
        return self._ranked({which: self.sides[which].merged(names, mode, draw) for which, names in each.items()})

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        which, _, tower = part.partition(".")
        vectors = {each: side.merged([], "absent", 0) for each, side in self.sides.items() if each != which}
        changed = next(each for each in SIDES if each == which)
        return self._ranked({**vectors, changed: self.sides[changed].with_column(tower, column, draw)})

    def _ranked(self, vectors: Mapping[Which, Tensor]) -> Sample:
        query, candidate = vectors["query"].numpy(), vectors["candidate"].numpy()
        return self.asked.of(VectorRanker(query, candidate[1:], self.retriever.model.match.similarity))


def two_tower_game(retriever: Retriever, dataset: Dataset | Log, asked: Asked) -> TwoTowerGame:
    """The game of a two-tower.

    Args:
        retriever: Trained.
        dataset: What it was trained with; it says which columns a tower reads.
        asked: Which queries.
    """
    spec, sides = retriever.spec, {}
    queries = torch.unique(torch.from_numpy(asked.task.queries))
    rows = {"query": queries[queries > 0], "candidate": torch.arange(1, retriever.candidate.table.data.num_rows + 1)}
    for which, side, entity in zip(
        SIDES, (spec.query, spec.candidate), (retriever.query_entity, retriever.candidate_entity), strict=True
    ):
        if isinstance(dataset, Log):  # streams are for towers of ids, which read all that is encoded
            every = [each.spec for each in retriever.encoder.features[entity]]
            own = retriever.model.query if which == "query" else retriever.model.candidate
            reads: Mapping[str, Sequence[FeatureSpec]] = {name: every for name, _ in own.each()}
        else:
            reads = side_reads(side, dataset, entity)
        sides[which] = SideGame(retriever, which, reads, rows[which])
    return TwoTowerGame(retriever, asked, sides)


@dataclass(frozen=True, eq=False)
class JointGame:
    """A trained joint model: ``query.NAME`` are towers of the side that all rankings share, ``RANKING.NAME`` those of one."""

    games: Mapping[str, TwoTowerGame]

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The towers of all sides."""
        first = next(iter(self.games.values()))
        found = {name: part for name, part in first.parts.items() if name.startswith("query.")}
        for ranking, game in self.games.items():
            for name, part in game.sides["candidate"].parts().items():
                found[f"{ranking}.{name}"] = replace(part, group=ranking)
        return found

    @property
    def rest(self) -> dict[str, Callable[[], int]]:
        """The backbones."""
        first = next(iter(self.games.values()))
        return {"query": first.sides["query"].rest} | {
            n: game.sides["candidate"].rest for n, game in self.games.items()
        }

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        found: dict[str, Block] = {}
        for ranking, game in self.games.items():
            own = frozenset(filter(None, (_inner(ranking, name) for name in missing)))
            found |= game.answers(own, mode, draw)
        return found

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """See :class:`towerkit.ablation.game.Game`."""
        found: dict[str, Block] = {}
        for ranking, game in self.games.items():
            inner = _inner(ranking, part)
            found |= game.answers(frozenset(), "absent", 0) if inner is None else game.with_column(inner, column, draw)
        return found


def _inner(ranking: str, part: str) -> str | None:
    """What a part of the joint model is called in the two-tower of one ranking; None where it has none of it."""
    group, _, name = part.partition(".")
    if group == "query":
        return part
    return f"candidate.{name}" if group == ranking else None
