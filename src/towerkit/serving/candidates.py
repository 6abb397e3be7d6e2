"""What a Run must show before it takes the place of another one: it is whole, answers the same questions, and answers them well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from towerkit.core.errors import TowerkitError, listed
from towerkit.run import Run
from towerkit.serving.engine import Engine, engines_of
from towerkit.serving.problems import Problem
from towerkit.serving.recommending import recommend, warm
from towerkit.serving.requests import Recommend
from towerkit.serving.stored import LEAST_RECALL

_ASKED, _DEPTH = 32, 10
LEAST_QUALITY = 0.9
"""Share of the measured figure of the model that is served, which a candidate must reach."""
STAYS = "The model that is served stays."


def loaded(name: str, path: Path, old: Sequence[Engine]) -> list[Engine]:
    """A candidate, loaded and looked at.

    Args:
        name: Of the Run whose place it shall take.
        path: Its folder, or a link to it; an index may stand beside it.
        old: What is served under that name.

    Raises:
        Problem: With the reason why it cannot take that place.
    """
    index = path.with_name(f"{path.name}.index")
    try:
        folder = path.resolve()
        fresh = engines_of(name, Run.load(folder), index if index.is_dir() else None)
    except (TowerkitError, OSError) as error:
        told = str(error)
        for private in (index, folder, path):
            told = told.replace(str(private), f"the candidate '{private.name}'")
        raise Problem(409, "A candidate is a whole Run that answers its golden request.", told, STAYS) from None
    if [engine.name for engine in old] != [engine.name for engine in fresh]:
        names = listed(engine.name for engine in fresh)
        raise Problem(409, f"A candidate answers as {listed(e.name for e in old)} does.", names, STAYS)
    for before, after in zip(old, fresh, strict=True):
        _check_same_questions(before, after)
        _check_quality(before, after)
    return fresh


def _check_same_questions(old: Engine, new: Engine) -> None:
    """Whoever asks must not notice anything but other answers."""
    if (old.live is None) != (new.live is None) or (old.live is None and old.run.tasks != new.run.tasks):
        raise Problem(409, f"A candidate answers what a {old.run.kind} answers.", new.run.kind, STAYS)
    if old.live is not None and new.live is not None:
        before, after = (_entities(each) for each in (old, new))
        if before != after:
            raise Problem(409, f"A candidate ranks {before[1]} for {before[0]}.", f"{after[1]} for {after[0]}", STAYS)
        if old.users is not None and new.users is None:
            raise Problem(409, "A candidate learns from events as the served model does.", "one that does not", STAYS)


def _entities(engine: Engine) -> tuple[str, str]:
    model = engine.ranking("rank").model
    return model.query_entity, model.candidate_entity


def _check_quality(old: Engine, new: Engine) -> None:
    """A candidate that was measured on the same rows must not be much worse."""
    before, after = old.measured, new.measured
    if before is None or after is None or (before.rows, before.name) != (after.rows, after.name):
        return
    if after.value < LEAST_QUALITY * before.value:
        rule = f"A candidate's {before.name} is at least {LEAST_QUALITY:.0%} of {before.value:.4f}."
        raise Problem(409, rule, f"{after.value:.4f}", STAYS)


class Gate:
    """Asks a loaded model through the service and its Run directly, and compares. Each step is short, for requests wait meanwhile.

    Args:
        engine: Not yet served.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.keys = [] if engine.live is None else list(engine.live.query_rows)[:_ASKED]
        self._served: list[list[object]] = []
        self._shares: list[float] = []

    def ask_served(self) -> None:
        """The first step: all at once, as the service asks.

        Raises:
            Problem: If an answer repeats a candidate, or holds a score that is no number.
        """
        engine = self.engine
        warm(engine)
        if engine.live is None:
            return
        # Only what both know: candidates that came later, and what queries met since, the Run knows nothing of.
        plain = engine
        if engine.users or engine.live.changes:
            plain = Engine.load(engine.name, engine.run)
            plain.index = engine.index
        for key, answer in zip(
            self.keys, recommend(plain, [Recommend(query=key, k=_DEPTH) for key in self.keys]), strict=True
        ):
            if isinstance(answer, Problem):
                raise Problem(409, "A candidate answers known queries.", answer.rule, STAYS)
            items = [item["item"] for item in answer["items"]]
            if len(set(items)) < len(items) or not np.isfinite([item["score"] for item in answer["items"]]).all():
                raise Problem(409, "A candidate names each item once, with a score.", f"for {key}: {items[:3]}", STAYS)
            self._served.append(items)

    def ask_run(self, place: int) -> None:
        """The step for each key: the Run alone.

        Args:
            place: Of the key.
        """
        exact = self.engine.run.recommend(self.keys[place], k=_DEPTH)
        column = next(name for name in exact.column_names if name not in ("query", "rank", "score", "cold", "title"))
        right = set(exact.column(column).to_pylist())
        self._shares.append(len(right & set(self._served[place])) / max(len(right), 1))

    def check(self) -> None:
        """The last step.

        Raises:
            Problem: If the answers differ by more than those of an index may.
        """
        found = float(np.mean(self._shares)) if self._shares else 1.0
        if found < LEAST_RECALL:
            raise Problem(
                409, f"A candidate's answers have a recall of {LEAST_RECALL} of the exact ones.", f"{found:.3f}", STAYS
            )
