"""The served models by name: loaded, taken out, and put in the place of each other while requests go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towerkit.core.errors import RunError, SpecError, TowerkitError, listed
from towerkit.serving.problems import Problem
from towerkit.serving.sources import Source
from towerkit.serving.stored import StoredModel

if TYPE_CHECKING:  # a service that answers from stored vectors loads none of these
    from towerkit.run import Run
    from towerkit.serving.engine import Engine, Measured
    from towerkit.serving.journal import Journal
    from towerkit.serving.pipelines import Pipeline, PipelineSpec

_LOG = logging.getLogger("towerkit.serving")


@dataclass(eq=False)
class Behind:
    """A model, and how much of the log it has taken in."""

    engine: Engine
    place: int = 0
    """Of the last event."""
    item_changes: int = -1
    """Of the log, as it was then."""


@dataclass(frozen=True)
class Former:
    """A model that was served before another one: its Run stays loaded, and nothing of what users did."""

    name: str
    run: Run
    index: Path | None
    measured: Measured | None

    def loaded(self) -> Engine:
        """The model once more."""
        from towerkit.serving.engine import Engine

        try:
            found = Engine.load(self.name, self.run, self.index)
        except TowerkitError as error:
            if self.index is None:
                raise
            _LOG.warning("'%s' goes back without its index, and ranks all candidates: %s", self.name, error)
            found = Engine.load(self.name, self.run)
        return replace(found, measured=self.measured)


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
        self.paths: dict[str, Path] = {}
        """Name of a source -> its folder, where a link pointed when it was loaded."""
        self.following: Sequence[Behind] = ()
        """Models that may take the place of others, and take in the log meanwhile."""
        self._previous: dict[str, list[Former]] = {}
        self._source_of: dict[str, str] = {}
        """Name of a model -> that of the source it is one of; a joint one has several."""
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
        self.paths = {source.name: source.folder() for source in self.sources}
        self._source_of = {}
        engines: dict[str, Engine] = {}
        stored: dict[str, StoredModel] = {}
        for source in self.sources:
            vectors = self._stored(source)
            if vectors is not None:
                stored[source.name], self._source_of[source.name] = vectors, source.name
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

        engines = engines_of(source.name, Run.load(self.paths[source.name]), self._indexes.get(source.name))
        for engine in engines:
            if self._source_of.setdefault(engine.name, source.name) != source.name:
                raise SpecError(
                    f"Served models have names that differ; received '{engine.name}', which is a ranking of a joint model "
                    "too. Say NAME=FOLDER."
                )
            if self.journal is not None and engine.users is not None:
                self.journal.compact(engine.name, engine.users.keep)
            self.catch_up(Behind(engine))
        return {engine.name: engine for engine in engines}

    def _stored(self, source: Source) -> StoredModel | None:
        """The vectors of a Run, where they are all that is needed now: nothing was told of it, and no pipeline has it."""
        index = self._indexes.get(source.name)
        if index is None or any(source.name in (each.retrieve, each.rerank) for each in self._stages.values()):
            return None
        if self.journal is not None and self.journal.knows(source.name):
            return None
        return StoredModel.open(source.name, self.paths[source.name], index)

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
        names = [source.name for source in self.sources]
        return names.index(self._source_of[name]) if name in self._source_of else len(names)

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

    def catch_up(self, behind: Behind, *, items: bool = True) -> None:
        """Let a model take in what the log has and it has not; with a log in the thread that writes it.

        Args:
            behind: The model.
            items: Also candidates that came, changed or went. Not so while the model is asked: an index is not written then.
        """
        engine, journal = behind.engine, self.journal
        if journal is None or engine.live is None:
            return
        if items and behind.item_changes != journal.item_changes:
            rows, removed = journal.items(engine.name), journal.removed(engine.name)
            if rows:
                _install(engine, rows)
            if removed:
                engine.install(engine.live.without(removed))
            behind.item_changes = journal.item_changes
        if engine.users is not None:
            for event in journal.read(engine.name, behind.place):
                engine.users.take(engine.live, event)
                behind.place = event.place

    # One in the place of another ------------------------------------------------------------------------------------

    def current(self, name: str) -> list[Engine]:
        """The models that were loaded from one Run.

        Raises:
            Problem: If there are none of that name.
        """
        found = [each for each in self.engines.values() if self._source_of[each.name] == name]
        if not found:
            raise Problem(
                404, f"The models here are {listed(s.name for s in self.sources)}.", name, "Name one of these."
            )
        return found

    def candidate(self, name: str, path: Path) -> list[Behind]:
        """Load a candidate and look at it; nothing changes yet.

        Args:
            name: Of the model whose place it shall take.
            path: Its folder.

        Raises:
            Problem: With the reason why it cannot take that place.
        """
        from towerkit.serving.candidates import loaded

        return [Behind(engine) for engine in loaded(name, path, self.current(name))]

    def follow(self, fresh: Sequence[Behind]) -> None:
        """Take in the log from now on, and forget whom the service forgets; with a log in the thread that writes it.

        Args:
            fresh: Models that may take the place of others.
        """
        self.following = list(fresh)
        for each in fresh:
            self.catch_up(each)

    def switch(self, name: str, fresh: Sequence[Behind]) -> list[Engine]:
        """Put loaded models in the place of others, at once; with a log in the thread that writes it.

        Args:
            name: Of the Run.
            fresh: The models.

        Returns:
            Those that were served before.
        """
        old = self.current(name)
        for each in fresh:
            self.catch_up(each)
        taken = {each.engine.name: each.engine for each in fresh}
        self.engines = {key: taken.get(key, engine) for key, engine in self.engines.items()}
        self._previous[name] = [Former(engine.name, engine.run, engine.index_path, engine.measured) for engine in old]
        return old

    def previous(self, name: str) -> list[Behind]:
        """The models that were served before the last switch, loaded anew: what was told since then counts too.

        An index that is not there any more, or is another one by now, is left out: its Run then ranks all candidates.

        Raises:
            Problem: If there was none.
        """
        self.current(name)
        if name not in self._previous:
            raise Problem(409, "One can go back after a swap.", "no swap so far", "Nothing changed.")
        return [Behind(each.loaded()) for each in self._previous[name]]


def _install(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Candidates of the log, those left out that this model has no columns for: they were told to another one."""
    fresh = engine.guarded(engine.with_items, rows)
    if not isinstance(fresh, Problem):
        engine.install(fresh)
        return
    for row in rows:
        fresh = engine.guarded(engine.with_items, [row])
        if isinstance(fresh, Problem):
            key = row.get(engine.ranking("have candidates").model.candidate.key)
            _LOG.warning(
                "'%s' does not take the item %r of the log in: %s Received %s.",
                engine.name, key, fresh.rule, fresh.received,
            )  # fmt: skip
        else:
            engine.install(fresh)
