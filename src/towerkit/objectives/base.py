"""What an objective is: a model and a batch to named loss terms, and the little that it keeps between steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.core.world import ALONE, World
from towerkit.data.batch import Batch


class Objective(ABC):
    """Named loss terms of a batch."""

    world: World = ALONE
    """Who takes the steps together."""

    @abstractmethod
    def __call__(self, model: Any, batch: Batch) -> Mapping[str, Tensor]:
        """The loss terms; none where the batch has nothing to learn from."""

    def weights(self, model: Any, batch: Batch) -> dict[str, float | None]:
        """Term -> what the rows of a batch weigh in it, None where it has no term; for a batch that several processes share.

        Args:
            model: As it was called.
            batch: The rows.

        Raises:
            SpecError: If the terms of several processes do not add up to that of the whole batch.
        """
        raise SpecError(f"{type(self).__name__} belongs to one process; train without --workers.")

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
