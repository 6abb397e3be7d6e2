"""What an objective is: a model and a batch to named loss terms, and the little that it keeps between steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from towerkit.data.batch import Batch


class Objective(ABC):
    """Named loss terms of a batch."""

    @abstractmethod
    def __call__(self, model: Any, batch: Batch) -> Mapping[str, Tensor]:
        """The loss terms; none where the batch has nothing to learn from."""

    def parameters(self) -> list[nn.Parameter]:
        """What the objective itself learns, such as a temperature."""
        return []

    def after_step(self) -> None:  # noqa: B027 - most keep nothing
        """Told that the step of the last batch is done."""

    def report(self) -> dict[str, float]:
        """Figures of the steps since the last report, for the training history."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - most keep nothing
        """The inverse of :meth:`state`."""
