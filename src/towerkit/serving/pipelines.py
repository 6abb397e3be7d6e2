"""Two stages behind one name: one model retrieves, another one orders what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import yaml
from pydantic import Field

from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec, parse
from towerkit.data.table import Table
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.serving.engine import Answer, Engine
from towerkit.serving.problems import Problem
from towerkit.serving.recommending import recommend
from towerkit.serving.requests import MOST_ANSWERS, Recommend
from towerkit.serving.settings import NAME
from towerkit.trained import RankingModel, scores_of_rows

_ModelName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class PipelineSpec(Spec):
    """One entry of the file."""

    retrieve: _ModelName
    """A served model that ranks all candidates."""
    rerank: _ModelName
    """A served model that scores pairs: a ranker, a two_tower, or a tower_model that reads both keys."""
    depth: int = Field(100, ge=1, le=MOST_ANSWERS)
    """Candidates that the second one orders."""
    task: str | None = None
    """Of a tower_model: the task whose probability (of the last class) or number is the score."""


class PipelinesSpec(Spec):
    """The file."""

    pipelines: dict[_ModelName, PipelineSpec]


def read_pipelines(path: Path) -> dict[str, PipelineSpec]:
    """The pipelines that a file declares.

    Args:
        path: A YAML file.

    Raises:
        SpecError: If it cannot be read, or declares none.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"--pipelines names a YAML file; received {str(path)!r}: {error}.") from None
    return dict(parse(PipelinesSpec, content, str(path)).pipelines)


@dataclass(eq=False)
class Pipeline:
    """Asked as a model is; it answers nothing but recommendations."""

    name: str
    spec: PipelineSpec
    engines: Mapping[str, Engine]

    @property
    def version(self) -> str:
        """Those of both stages."""
        return f"{self.engines[self.spec.retrieve].model_version}+{self.engines[self.spec.rerank].model_version}"

    def describe(self) -> dict[str, Any]:
        """What it is, for a list of models."""
        return {"name": self.name, "model_version": self.version, "kind": "pipeline", **self.spec.model_dump()}

    def recommend(self, asked: Sequence[Recommend]) -> list[Answer]:
        """The best candidates of the first stage, in the order of the second one."""
        first = self.engines[self.spec.retrieve]
        wide = [body.model_copy(update={"k": max(self.spec.depth, body.k), "why": False}) for body in asked]
        found = recommend(first, wide)
        return [
            each if isinstance(each, Problem) else first.guarded(self._ordered, body, each)
            for body, each in zip(asked, found, strict=True)
        ]

    def _ordered(self, body: Recommend, found: dict[str, Any]) -> dict[str, Any]:
        if body.query is None:
            raise Problem(422, f"The pipeline '{self.name}' is asked with a key.", "a row or a history", "Give query.")
        if body.why or body.rules is not None:
            raise Problem(422, "A pipeline tells no shares and takes no rules.", "why or rules", "Ask its first stage.")
        items = found["items"]
        scores = self._scores(body.query, [item["item"] for item in items])
        order = np.argsort(-scores, kind="stable")[: body.k]
        told = [
            items[place]
            | {
                "rank": rank,
                "score": float(scores[place]),
                "retrieved": {"rank": items[place]["rank"], "score": items[place]["score"]},
            }
            for rank, place in enumerate(order.tolist(), start=1)
        ]
        return {
            "model": self.name,
            "model_version": self.version,
            "items": told,
            "cold": found["cold"],
            "as_of": found["as_of"],
            "notes": found["notes"],
        }

    def _scores(self, query: Any, items: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        second, first = self.engines[self.spec.rerank], self.engines[self.spec.retrieve]
        if second.live is not None:
            live = second.live
            row = np.full(len(items), live.query_rows.get(str(query), 0))
            places = np.array([live.candidate_rows.get(str(item), 0) for item in items], np.int64)
            if isinstance(live.model, Retriever):
                vector = live.model.query_vectors[row[:1]]
                ranker = live.ranker.with_queries(vector)  # type: ignore[attr-defined]
                scores = np.append(ranker.scores(np.zeros(1, np.int64))[0], -np.inf)[places - 1]
            else:
                scores = scores_of_rows(live.model, row, places)
            return np.asarray(scores, np.float64)
        model = second.run.model
        if not isinstance(model, TaskPredictor):
            raise Problem(
                422, "The second stage scores pairs.", f"a {second.run.kind}", "Name a ranker or a tower_model."
            )
        entities = first.ranking("retrieve").model
        assert isinstance(entities, RankingModel)
        table = pa.table({entities.query_entity: [str(query)] * len(items), entities.candidate_entity: list(items)})
        task = self.spec.task or second.run.tasks[0]
        return np.asarray(model.predict(Table(table, "the request"))[task][:, -1], np.float64)
