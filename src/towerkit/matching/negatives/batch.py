"""In-batch and queued negatives: the positives of other rows, of this step or of earlier ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from towerkit.matching.negatives.base import Material, NegativesSpec, Stateless, spread


class InBatchNegatives(Stateless):
    """The positives of the batch's other rows: no tower runs again for them, and popular candidates come often.

    Args:
        material: The catalogue and the training pairs.

    Reference: Yi et al., RecSys 2019, who also give the correction by the logarithm of the sampling probability.
    """

    def __init__(self, material: Material) -> None:
        self.others = material.batch_size - 1
        self.rate = spread(material.counts, self.others)

    def fill(self, batch: int) -> float:
        """A short batch has fewer other rows."""
        return (batch - 1) / max(self.others, 1)

    def draw(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """``[batch]`` the positives themselves; each row's own is masked."""
        return positives


class InBatchSpec(NegativesSpec):
    """The other rows' positives; the batch size says how many."""

    kind: Literal["in_batch"] = "in_batch"

    def build(self, material: Material) -> InBatchNegatives:
        """The source."""
        return InBatchNegatives(material)


class QueueNegatives:
    """The positives of earlier steps as the towers saw them then: many negatives, slightly stale, at no tower's cost.

    Args:
        material: The catalogue and the training pairs.
        size: How many are remembered; the oldest go first.

    Reference: Wang et al., Cross-Batch Memory, CVPR 2020 (arXiv 1912.06798); Wang et al., Cross-batch negative
        sampling, SIGIR 2021 (arXiv 2110.15154).
    """

    draws_again = False
    refuses_known = False
    keep = None

    def __init__(self, material: Material, size: int) -> None:
        self.size = size
        self.rate: NDArray[np.float64] | None = spread(material.counts, size)
        self.rows = np.empty(0, np.int64)
        self.vectors: Tensor | None = None

    def fill(self, batch: int) -> float:
        """It fills in the first steps."""
        return len(self.rows) / self.size

    def draw(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int
    ) -> tuple[NDArray[np.int64], Tensor]:
        """All that is remembered, ``[at most size]`` and its vectors; nothing before the first step."""
        return self.rows, torch.empty(0, 0) if self.vectors is None else self.vectors

    def remember(self, rows: NDArray[np.int64], vectors: Tensor) -> None:
        """Put the positives of a step in, let the oldest out."""
        self.rows = np.concatenate([self.rows, rows])[-self.size :]
        self.vectors = torch.cat([vectors[:0] if self.vectors is None else self.vectors, vectors])[-self.size :]

    def state(self) -> dict[str, Tensor]:
        """Rows and vectors."""
        return {} if self.vectors is None else {"rows": torch.from_numpy(self.rows), "vectors": self.vectors}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take rows and vectors back."""
        self.rows = state["rows"].numpy() if state else np.empty(0, np.int64)
        self.vectors = state.get("vectors")


class QueueSpec(NegativesSpec):
    """The positives of earlier steps."""

    kind: Literal["queue"] = "queue"
    size: int = Field(4096, ge=1, le=10_000_000)

    def build(self, material: Material) -> QueueNegatives:
        """The empty queue."""
        return QueueNegatives(material, self.size)
