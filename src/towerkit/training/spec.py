"""How long, how fast and how carefully to train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from towerkit.core.spec import Spec
from towerkit.training.optimizers import AdamSpec, AnyOptimizerSpec


class TrainingSpec(Spec):
    """The training loop's settings."""

    engine: Literal["auto", "torch"] = "auto"
    """``auto`` takes the fastest engine that can run the spec; there is one today."""
    epochs: int = Field(50, ge=1)
    batch_size: int = Field(1024, ge=1, le=1 << 20)
    drop_last: bool = False
    """Leave out the last batch of an epoch when it is short."""
    optimizer: AnyOptimizerSpec = AdamSpec()
    patience: int = Field(5, ge=1)
    """Epochs without a better validation result before training stops."""
    refit: bool = True
    """Train again on training and validation rows together, for the best number of epochs found."""
    seed: int = Field(0, ge=0, lt=2**63)
