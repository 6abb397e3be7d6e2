"""What is searched: ranges in a spec, the data that every trial learns from, and the figure that they are compared by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.data.stream.opening import open_data
from towerkit.spec import ExperimentSpec, ModelingSpec, plain, spec_data
from towerkit.training.loop import Selection
from towerkit.tuning.defaults import default_ranges
from towerkit.tuning.objective import selection_of
from towerkit.tuning.space import Space, check_space, space_of, with_ranges
from towerkit.tuning.study import Pruner, Sampler, Searching


@dataclass(frozen=True)
class Problem:
    """What is searched: ranges in a spec, and the data that every trial learns from."""

    space: Space
    spec_type: type[ModelingSpec]
    default: ModelingSpec
    dataset: Dataset | Log
    selection: Selection
    place: Path | None
    """Where relative paths of the spec start."""

    def spec(self, values: Mapping[str, Any]) -> ModelingSpec:
        """The ordinary spec of a configuration."""
        return parse(self.spec_type, self.space.filled(values), "the trial")


def problem_of(
    spec: Mapping[str, Any] | str | os.PathLike[str], dataset: Dataset | Log | None, settings: Iterable[str] = ()
) -> Problem:
    """Read a search space and its data, and refuse what cannot be searched before any trial.

    Args:
        spec: As of :func:`tune`.
        dataset: As of :func:`tune`.
        settings: As of :func:`tune`.

    Raises:
        SpecError: If a range is none, or does not fit its place, or there is nothing to compare trials by.
    """
    source, place = "the spec", None
    if isinstance(spec, Mapping):
        data: Mapping[str, Any] = spec
    else:
        source, place = str(spec), Path(spec).resolve().parent
        data = spec_data(Path(spec), settings)
    kind = ExperimentSpec if "data" in data else ModelingSpec
    space = space_of(data, source)
    if not space.ranges:
        as_is = parse(kind, dict(data), source)
        space = space_of(with_ranges(data, default_ranges(as_is), plain(as_is)), source)
    default = check_space(space, kind, source)
    if dataset is None:
        if not isinstance(default, ExperimentSpec):
            raise SpecError(
                "The spec says nothing of data: add the key data, or give a data set: tune(spec, read(…), out=…)."
            )
        dataset = open_data(default.data, base=place, seed=default.training.seed)
    return Problem(space, kind, default, dataset, selection_of(default, dataset), place)


def searching(problem: Problem, sampler: Sampler, pruner: Pruner) -> Searching:
    """How a study searches: by the seed of the default configuration, and as long as the longest training that there may be.

    Args:
        problem: What is searched.
        sampler: What proposes.
        pruner: What gives up.
    """
    epochs = [problem.default.training.epochs]
    searched = problem.space.ranges.get("training.epochs")
    epochs += [] if searched is None else list(searched.probes())
    seed, higher = problem.default.training.seed, problem.selection.higher_is_better
    return Searching(sampler, pruner, seed, max(epochs), higher)
