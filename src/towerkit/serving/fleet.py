"""The served models by name: loaded, taken out, and put in the place of each other while requests go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from towerkit.core.errors import RunError, SpecError, TowerkitError, listed
from towerkit.serving.problems import Problem
from towerkit.serving.requests import Recommend
from towerkit.serving.settings import check_name
from towerkit.serving.stored import LEAST_RECALL, StoredModel

if TYPE_CHECKING:  # a service that answers from stored vectors loads none of these
    from towerkit.serving.engine import Engine
    from towerkit.serving.journal import Journal
    from towerkit.serving.pipelines import Pipeline, PipelineSpec

_LOG = logging.getLogger("towerkit.serving")
_GATE_QUERIES, _GATE_K = 32, 10
LEAST_QUALITY = 0.9
"""Share of the measured figure of the model that is served, which a candidate must reach."""


@dataclass(frozen=True)
class Source:
    """A Run that the service was started with."""

    name: str
    path: Path


def source_of(text: str) -> Source:
    """``NAME=FOLDER``, or a folder that gives its own name.

    Raises:
        SpecError: If the name is none.

    Example:
        >>> source_of("runs/shop").name, source_of("home=runs/shop-7").name
        ('shop', 'home')
    """
    name, sign, folder = text.partition("=")
    if not sign:
        name, folder = Path(text).name, text
    return Source(check_name(name), Path(folder))


class Fleet:
    """All models of a service.

    Args:
        sources: What it is started with; the first one answers requests that name no model.
        journal: The log of events and new candidates; None keeps none.
        pipelines: Two stages each, under names of their own.
        indexes: Name of a model -> the folder of an index of its candidates.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        journal: Journal | None = None,
        pipelines: Mapping[str, PipelineSpec] | None = None,
        indexes: Mapping[str, Path] | None = None,
    ) -> None:
        names = [*(source.name for source in sources), *(pipelines or ())]
        if len(set(names)) < len(names):
            raise SpecError(f"Served models have names that differ; received {listed(names)}. Say NAME=FOLDER.")
        self.sources, self.journal = list(sources), journal
        self.engines: Mapping[str, Engine] = {}
        """Replaced whole, so that whoever asks sees all of one state or all of another."""
        self.stored: Mapping[str, StoredModel] = {}
        """Those that answer from stored vectors, their models not loaded; replaced whole."""
        self._previous: dict[str, list[Engine]] = {}
        self._stages, self._indexes = dict(pipelines or {}), dict(indexes or {})
        unknown = sorted(self._indexes.keys() - set(names))
        if unknown:
            raise SpecError(
                f"An index is of a served model; received '{unknown[0]}', and there are {listed(names)}. Say NAME=FOLDER."
            )

    def load(self) -> None:
        """Load all of them, with what was told of each; of one whose index keeps the queries, only the vectors.

        Raises:
            RunError: If one cannot be loaded.
        """
        engines: dict[str, Engine] = {}
        stored: dict[str, StoredModel] = {}
        for source in self.sources:
            vectors = self._stored(source)
            if vectors is not None:
                stored[source.name] = vectors
            else:
                engines |= self._loaded(source)
        for name, stages in self._stages.items():
            for stage in (stages.retrieve, stages.rerank):
                if stage not in engines:
                    raise SpecError(
                        f"The pipeline '{name}' names served models; received '{stage}', and there are {listed(engines)}."
                    )
        self.engines, self.stored = engines, stored

    def _loaded(self, source: Source) -> dict[str, Engine]:
        from towerkit.run import Run
        from towerkit.serving.engine import engines_of

        engines = engines_of(source.name, Run.load(source.path), self._indexes.get(source.name))
        for engine in engines:
            self._catch_up(engine, 0)
        return {engine.name: engine for engine in engines}

    def _stored(self, source: Source) -> StoredModel | None:
        """The vectors of a Run, where they are all that is needed now: nothing was told of it, and no pipeline has it."""
        index = self._indexes.get(source.name)
        if index is None or any(source.name in (each.retrieve, each.rerank) for each in self._stages.values()):
            return None
        if self.journal is not None and self.journal.knows(source.name):
            return None
        return StoredModel.open(source.name, source.path, index)

    def stored_model(self, name: str | None) -> StoredModel | None:
        """The model of that name, or the first one, if it answers from stored vectors."""
        return self.stored.get(self.sources[0].name if name is None else name)

    def wake(self, stored: StoredModel) -> list[Engine]:
        """Load the model behind stored vectors; see :meth:`woken`. The log has nothing of it, else it would be there.

        Args:
            stored: The vectors.

        Raises:
            RunError: If it cannot be loaded, or is not the one that the vectors are of any more.
        """
        from towerkit.run import Run
        from towerkit.serving.engine import engines_of

        engines = engines_of(stored.name, Run.load(stored.path), self._indexes[stored.name])
        if [engine.version for engine in engines] != [stored.version]:
            raise RunError(f"{stored.path} is another Run than when the service started. Swap it in, or start again.")
        return engines

    def woken(self, engines: Sequence[Engine]) -> None:
        """Let loaded models answer in the place of their stored vectors.

        Args:
            engines: What :meth:`wake` loaded.
        """
        all_engines = dict(self.engines) | {engine.name: engine for engine in engines}
        self.engines = {name: all_engines[name] for name in sorted(all_engines, key=self._place)}
        self.stored = {name: each for name, each in self.stored.items() if name not in all_engines}

    def _place(self, name: str) -> int:
        """Of the Run of a model, among those that the service was started with; a pipeline comes behind them."""
        of = (name == source.name or name.startswith(f"{source.name}.") for source in self.sources)
        return next((place for place, is_of in enumerate(of) if is_of), len(self.sources))

    def pipeline(self, name: str | None) -> Pipeline | None:
        """The pipeline of that name, with the models that are served now."""
        if name is None or name not in self._stages:
            return None
        from towerkit.serving.pipelines import Pipeline

        return Pipeline(name, self._stages[name], self.engines)

    def describe(self) -> list[dict[str, Any]]:
        """All models and pipelines."""
        pipelines = [self.pipeline(name) for name in self._stages]
        models: list[StoredModel | Engine] = [*self.stored.values(), *self.engines.values()]
        told = [each.describe() for each in sorted(models, key=lambda each: self._place(each.name))]
        return told + [each.describe() for each in pipelines if each is not None]

    def engine(self, name: str | None) -> Engine:
        """The model of that name, or the first one.

        Raises:
            Problem: If there is none.
        """
        if name is None:
            return next(iter(self.engines.values()))
        if name not in self.engines:
            known = listed([*self.stored, *self.engines])
            raise Problem(404, f"The models here are {known}.", name, "Name one of these, or none.")
        return self.engines[name]

    def _catch_up(self, engine: Engine, after: int) -> int:
        """Take in what the log has of a model behind a place; the place of the last one."""
        if self.journal is None or engine.live is None:
            return after
        if after == 0:
            rows = self.journal.items(engine.name)
            if rows:
                engine.install(engine.with_items(rows))
            removed = self.journal.removed(engine.name)
            if removed:
                engine.install(engine.live.without(removed))
            if engine.users is not None:
                self.journal.compact(engine.name, engine.users.keep)
        events = self.journal.read(engine.name, after)
        if engine.users is not None:
            from towerkit.serving.users import replay

            replay(engine.users, engine.live, events)
        return max((event.place for event in events), default=after)

    # One in the place of another ------------------------------------------------------------------------------------

    def current(self, name: str) -> list[Engine]:
        """The models that were loaded from one Run.

        Raises:
            Problem: If there are none of that name.
        """
        found = [each for each in self.engines.values() if each.name == name or each.name.startswith(f"{name}.")]
        if name not in [source.name for source in self.sources] or not found:
            raise Problem(
                404, f"The models here are {listed(s.name for s in self.sources)}.", name, "Name one of these."
            )
        return found

    def candidate(self, name: str, path: Path) -> list[Engine]:
        """Load a candidate and look at it; nothing changes yet.

        Args:
            name: Of the model whose place it shall take.
            path: Its folder.

        Raises:
            Problem: With the reason why it cannot take that place.
        """
        old = self.current(name)
        from towerkit.run import Run
        from towerkit.serving.engine import engines_of

        try:
            run = Run.load(path)
            index = path.with_name(f"{path.name}.index")
            fresh = engines_of(name, run, index if index.is_dir() else None)
        except TowerkitError as error:
            told = str(error).replace(str(path), f"the candidate '{path.name}'")
            raise Problem(409, "A candidate is a whole Run that answers its golden request.", told, _STAYS) from None
        if [engine.name for engine in old] != [engine.name for engine in fresh]:
            names = listed(engine.name for engine in fresh)
            raise Problem(409, f"A candidate answers as {listed(e.name for e in old)} does.", names, _STAYS)
        for before, after in zip(old, fresh, strict=True):
            _check_same_questions(before, after)
            _check_quality(before, after)
        return fresh

    def caught_up(self, fresh: Sequence[Engine], journal: Journal) -> list[tuple[Engine, int]]:
        """Take in the log, in the thread that writes it; with the place up to which each did."""
        del journal
        return [(engine, self._catch_up(engine, 0)) for engine in fresh]

    def switch(self, name: str, fresh: Sequence[tuple[Engine, int]]) -> list[Engine]:
        """Put loaded models in the place of others, at once; with a log in the thread that writes it.

        Args:
            name: Of the Run.
            fresh: The models, and the place in the log up to which each has taken in.

        Returns:
            Those that were served before.
        """
        old = self.current(name)
        for engine, place in fresh:
            if place >= 0:
                self._catch_up(engine, max(place, 1))
        taken = {engine.name: engine for engine, _ in fresh}
        self.engines = {key: taken.get(key, engine) for key, engine in self.engines.items()}
        self._previous[name] = old
        return old

    def previous(self, name: str) -> list[Engine]:
        """The models that were served before the last switch.

        Raises:
            Problem: If there was none.
        """
        self.current(name)
        if name not in self._previous:
            raise Problem(409, "One can go back after a swap.", "no swap so far", "Nothing changed.")
        return self._previous[name]


_STAYS = "The model that is served stays."


def _check_same_questions(old: Engine, new: Engine) -> None:
    """Whoever asks must not notice anything but other answers."""
    if (old.live is None) != (new.live is None) or (old.live is None and old.run.tasks != new.run.tasks):
        raise Problem(409, f"A candidate answers what a {old.run.kind} answers.", new.run.kind, _STAYS)
    if old.live is not None and new.live is not None:
        before, after = (_entities(each) for each in (old, new))
        if before != after:
            raise Problem(409, f"A candidate ranks {before[1]} for {before[0]}.", f"{after[1]} for {after[0]}", _STAYS)
        if old.users is not None and new.users is None:
            raise Problem(409, "A candidate learns from events as the served model does.", "one that does not", _STAYS)


def _entities(engine: Engine) -> tuple[str, str]:
    model = engine.ranking("rank").model
    return model.query_entity, model.candidate_entity


def _check_quality(old: Engine, new: Engine) -> None:
    """A candidate that was measured on the same rows must not be much worse."""
    try:
        before, after = old.run.evaluation, new.run.evaluation
    except RunError:
        return
    if before.protocol.get("rows") != after.protocol.get("rows"):
        return
    name = next((each for each in before.metrics if each.startswith("ndcg")), None)
    if name is None or name not in after.metrics:
        return
    was, is_ = before.metrics[name].value, after.metrics[name].value
    if is_ < LEAST_QUALITY * was:
        raise Problem(409, f"A candidate's {name} is at least {LEAST_QUALITY:.0%} of {was:.4f}.", f"{is_:.4f}", _STAYS)


def check_answers(engine: Engine) -> None:
    """Ask a loaded model through the service and its Run directly, and compare; in the inference thread.

    Args:
        engine: Not yet served.

    Raises:
        Problem: If the answers differ by more than an index may, repeat a candidate, or hold a score that is no number.
    """
    from towerkit.serving.engine import Engine
    from towerkit.serving.recommending import recommend, warm

    warm(engine)
    if engine.live is None:
        return
    keys = list(engine.live.query_rows)[:_GATE_QUERIES]
    # Only what both know: candidates that came later, and what queries met since, the Run knows nothing of.
    plain = engine
    if engine.users or engine.live.changes:
        plain = Engine.load(engine.name, engine.run)
        plain.index = engine.index
    served = recommend(plain, [Recommend(query=key, k=_GATE_K) for key in keys])
    shares = []
    for key, answer in zip(keys, served, strict=True):
        if isinstance(answer, Problem):
            raise Problem(409, "A candidate answers known queries.", answer.rule, _STAYS)
        items = [item["item"] for item in answer["items"]]
        if len(set(items)) < len(items) or not np.isfinite([item["score"] for item in answer["items"]]).all():
            raise Problem(409, "A candidate names each item once, with a score.", f"for {key}: {items[:3]}", _STAYS)
        exact = engine.run.recommend(key, k=_GATE_K)
        column = next(name for name in exact.column_names if name not in ("query", "rank", "score", "cold", "title"))
        right = set(exact.column(column).to_pylist())
        shares.append(len(right & set(items)) / max(len(right), 1))
    if shares and float(np.mean(shares)) < LEAST_RECALL:
        raise Problem(
            409,
            f"A candidate's answers have a recall of {LEAST_RECALL} of the exact ones.",
            f"{np.mean(shares):.3f}",
            _STAYS,
        )


def folder_of(candidates: Path | None, name: str) -> Path:
    """The folder of a candidate inside the one that the service was started with.

    Args:
        candidates: That folder.
        name: A checked name, never a path.

    Raises:
        Problem: If there is no such folder, or none was given at the start.
    """
    if candidates is None:
        raise Problem(
            409, "Candidates stand in the folder of --candidates.", "the service has none", "Start it with one."
        )
    folder = candidates / name
    if not folder.is_dir() or folder.parent.resolve() != candidates.resolve():
        raise Problem(404, "A candidate is a folder in that of --candidates.", name, "Put it there first.")
    return folder
