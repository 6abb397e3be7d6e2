"""How long, how fast and how carefully to train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from towerkit.core.spec import Spec
from towerkit.training.distill_spec import DistillSpec
from towerkit.training.forward import Precision
from towerkit.training.optimizers import AdamSpec, AnyOptimizerSpec
from towerkit.training.tower_spec import TowerTrainingSpec
from towerkit.training.track import AnyTrackSpec


class TrainingSpec(Spec):
    """The training loop's settings."""

    engine: Literal["auto", "compiled", "torch"] = "auto"
    """``compiled`` trains two id towers by kernels; ``auto`` takes it where it can run the spec and the training is long enough
    to be worth compiling. Both draw the same and differ by the rounding of float32."""
    epochs: int = Field(50, ge=1)
    batch_size: int = Field(1024, ge=1, le=1 << 20)
    window_rows: int = Field(1 << 22, ge=1)
    """Rows that are shuffled together; blocks of more rows than these come in a random order, window by window."""
    partition: Literal["auto", "rows", "query"] = "auto"
    """Who of several workers computes a row: any of them, or all rows of a query the same one, which alone has the query's
    vector. ``auto`` is ``query`` where an update moves queries without a gradient. The result is the same."""
    tables: Literal["whole", "sharded"] = "whole"
    """Whether each of several workers has and moves all rows of the candidates' id tables, or only its own. The result is the
    same."""
    drop_last: bool = False
    """Leave out the last batch of an epoch when it is short."""
    accumulate: int = Field(1, ge=1, le=10_000)
    """Batches per step: their mean gradient moves the weights. In-batch negatives stay within a batch."""
    chunk: int | None = Field(None, ge=1)
    """Rows that a two-tower's side encodes at a time, keeping only their vectors: big batches in little memory."""
    precision: Precision = "auto"
    """Of towers and backbones; scores and losses are float32 always. ``auto`` is float32 on a CPU."""
    optimizer: AnyOptimizerSpec = AdamSpec()
    validate_every: int = Field(1, ge=1)
    """Epochs from one validation to the next; the last epoch is always validated."""
    patience: int = Field(5, ge=1)
    """Validations without a better result before training stops."""
    refit: bool = True
    """Train again on training and validation rows together, for the best number of epochs found."""
    checkpoint_every: Annotated[int, Field(ge=0)] | Literal["epoch"] = "epoch"
    """Save the state after so many steps, or after an ``epoch`` unless saving took more than a twentieth of the time; 0
    only when a signal stops the training."""
    towers: dict[str, TowerTrainingSpec] = Field(default_factory=dict)
    """Tower (of a two-tower ``query.NAME`` or ``candidate.NAME``) -> where it starts, whether it moves, and how fast."""
    distill: DistillSpec | None = None
    """A trained Run whose ranking of each batch's candidates a two-tower learns beside its positives."""
    track: tuple[AnyTrackSpec, ...] = ()
    """Who else is told the figures while training goes."""
    seed: int = Field(0, ge=0, lt=2**63)

    def total_steps(self, num_rows: int) -> int:
        """Steps of all epochs over so many rows; a schedule runs over them.

        Example:
            >>> TrainingSpec(epochs=2, batch_size=32).total_steps(100)
            8
        """
        size = min(self.batch_size, max(1, num_rows))
        batches = num_rows // size if self.drop_last else -(-num_rows // size)
        return self.epochs * max(1, -(-batches // self.accumulate))
