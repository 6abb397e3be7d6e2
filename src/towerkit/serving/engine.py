"""One served model under its name: what is loaded, what of it changes, and how a fault in it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from towerkit.core.errors import RunError, TowerkitError
from towerkit.data.table import Table
from towerkit.features.image import FileSpec
from towerkit.index.contract import Index
from towerkit.index.files import open_index
from towerkit.models.answer import Retriever
from towerkit.models.joint_retriever import JointRetriever
from towerkit.run import Run
from towerkit.serving.live import Live, table_of_rows
from towerkit.serving.problems import Problem, problem_of
from towerkit.serving.stored import version_of
from towerkit.serving.users import OnlineUsers, beta_of
from towerkit.trained import RankingModel

Answer = dict[str, Any] | Problem
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """How good a Run was found to be."""

    rows: Any
    """Which rows it was measured on."""
    name: str
    value: float

    @classmethod
    def of(cls, run: Run) -> Measured | None:
        """The first figure of its evaluation that tells of the order of answers; None where there is none.

        Args:
            run: A verified Run.
        """
        try:
            found = vars(run).get("evaluation") or replace(run).evaluation  # whose tables are not kept
        except RunError:
            return None
        name = next((each for each in found.metrics if each.startswith("ndcg")), None)
        return None if name is None else cls(found.protocol.get("rows"), name, found.metrics[name].value)


@dataclass(eq=False)
class Engine:
    """A loaded Run under a name. Asked by the inference thread only; ``live`` is replaced whole."""

    name: str
    version: str
    """Of the Run's files."""
    run: Run
    live: Live | None
    """None for a model that predicts."""
    users: OnlineUsers | None = None
    index: Index | None = None
    """Searched in place of all candidates, where one was given; row ``i`` is candidate ``i``."""
    index_path: Path | None = None
    """Where it came from."""
    measured: Measured | None = None
    """Read when it was loaded: its folder may be another Run's by the time that somebody compares."""

    @classmethod
    def load(cls, name: str, run: Run, index: Path | None = None) -> Engine:
        """Load the model of a verified Run.

        Args:
            name: What it is called.
            run: The Run, or one ranking of a joint one.
            index: The folder of an index of its candidates; None ranks all of them.

        Raises:
            RunError: If it cannot be loaded, or the index is one of other candidates or of another space.
        """
        model, spec = run.model, run.spec  # all of it now: the folder may be gone when it is asked for
        live = Live(run, model) if isinstance(model, RankingModel) else None
        users = None
        if isinstance(model, Retriever) and model.takes_history:
            users = OnlineUsers(model, beta_of(spec))
        opened = None if index is None else _index_of(run, live, index)
        return cls(name, version_of(run.manifest), run, live, users, opened, index, Measured.of(run))

    def describe(self) -> dict[str, Any]:
        """What it is, for a list of models."""
        told: dict[str, Any] = {"name": self.name, "model_version": self.model_version, "kind": self.run.kind}
        if self.live is None:
            return told | {"tasks": self.run.tasks}
        model = self.live.model
        return told | {
            "query": model.query_entity,
            "candidate": model.candidate_entity,
            "queries": len(model.query.keys),
            "candidates": self.live.num_offered,
            "online": self.users is not None,
            "index": "exact" if self.index is None else self.index.kind,
            "exact": self.live.ranker.exact if self.index is None else self.index.exact,
        }

    @property
    def model_version(self) -> str:
        """What answers are computed from: the Run, and what became of its candidates since."""
        changes = "" if self.live is None else self.live.changes
        return f"{self.version}+{changes}" if changes else self.version

    def stamped(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """An answer with the name and version of what gave it."""
        return {"model": self.name, "model_version": self.model_version, **content}

    def ranking(self, what: str) -> Live:
        """The model that ranks.

        Raises:
            Problem: If it does not rank.
        """
        if self.live is None:
            raise Problem(
                422,
                f"The model '{self.name}' is a {self.run.kind}: it predicts, and does not {what}.",
                "",
                "Use /v1/predict.",
            )
        return self.live

    def guarded(self, answer: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Problem:
        """What a function answers, or the problem that it met.

        Args:
            answer: The function.
            *args: What it is called with.
            **kwargs: The same, by name.
        """
        try:
            return answer(*args, **kwargs)
        except Problem as problem:
            return problem
        except TowerkitError as error:
            return problem_of(error, [(str(self.run.path), f"the model '{self.name}'")])

    def install(self, live: Live) -> None:
        """Serve other candidates from now on.

        Args:
            live: The model with them; candidates that were there keep their places.
        """
        if self.index is not None and self.live is not None and live.model is not self.live.model:
            new, old = live.retriever("an index has them"), self.live.retriever("an index has them")
            changed = np.ones(len(live.keys), bool)
            known = len(self.live.keys)
            changed[:known] = (new.candidate_vectors[1 : known + 1] != old.candidate_vectors[1:]).any(axis=1)
            places = np.flatnonzero(changed)
            if len(places):
                keys = new.candidate.keys.take(pa.array(places)).to_pylist()
                self.index.upsert(keys, new.candidate_vectors[places + 1])
        self.live = live

    def table(self, rows: Sequence[Mapping[str, Any]], entity: str | None) -> Table:
        """Raw rows of a request; they name no file of this machine.

        Raises:
            Problem: If a row has a column that towers read pictures or sounds from.
        """
        for name in {name for row in rows for name in row}:
            if name in self._media:
                raise Problem(
                    422,
                    "Pictures and sounds do not come with a request.",
                    name,
                    "Leave the column out, or ask with a key.",
                )
        return table_of_rows(self.run, rows, entity)

    @cached_property
    def _media(self) -> set[str]:
        """The columns that hold pictures or sounds, of whatever entity and member."""
        return set(_media_columns(self.run.model))

    def with_items(self, rows: Sequence[Mapping[str, Any]]) -> Live:
        """The model with new candidates; see :meth:`Live.with_items`."""
        return self.ranking("have candidates").with_items(rows)


def engines_of(name: str, run: Run, index: Path | None = None) -> list[Engine]:
    """A Run as it is served: of a joint one each ranking, as ``name.ranking``.

    Args:
        name: What it is called.
        run: A verified Run.
        index: The folder of an index of its candidates; None ranks all of them.

    Raises:
        RunError: If the index is not one of these candidates.
    """
    if isinstance(run.model, JointRetriever):
        if index is not None:
            raise RunError(f"An index holds one sort of candidates, and {run.path} is a joint model. Serve it without.")
        return [Engine.load(f"{name}.{ranking.lower()}", run.ranking(ranking)) for ranking in run.rankings]
    return [Engine.load(name, run, index)]


def _index_of(run: Run, live: Live | None, folder: Path) -> Index:
    """An index whose rows are the candidates of a model, in their order.

    Raises:
        RunError: If it is none.
    """
    if live is None or not isinstance(live.model, Retriever):
        raise RunError(f"An index holds vectors of candidates, and {run.path} is a {run.kind}. Serve it without.")
    index = open_index(folder, space=run.space)
    keys = live.model.candidate.keys.to_pylist()
    if index.num_rows != len(keys) or (index.rows_of(keys) != np.arange(len(keys))).any():
        raise RunError(
            f"An index holds the candidates of its Run, here {len(keys):,}; received {folder} with {len(index):,} others. "
            f"Build it: towerkit index {run.path} --out {folder}."
        )
    return index


def _media_columns(model: Any) -> list[str]:
    members = getattr(model, "members", None)
    if members is not None:
        return [name for member in members.values() for name in _media_columns(member)]
    encoder = getattr(model, "encoder", None) or getattr(getattr(model, "predictor", None), "encoder", None)
    if encoder is None:
        return []
    fitted = [each for features in encoder.features.values() for each in features]
    return [each.spec.column for each in fitted if isinstance(each.spec, FileSpec)]
