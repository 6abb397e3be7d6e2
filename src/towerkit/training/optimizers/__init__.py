"""Optimizers that move all rows of a table at each step, or only those of the batch. ``AnyOptimizerSpec`` is the menu."""

from typing import Annotated

from pydantic import Field

from towerkit.core.spec import kind_or
from towerkit.training.optimizers.adagrad import Adagrad, AdagradSpec, RowwiseAdagradSpec
from towerkit.training.optimizers.adam import AdamSpec, RowAdam
from towerkit.training.optimizers.base import Optimizer, OptimizerSpec
from towerkit.training.optimizers.sgd import Sgd, SgdSpec

AnyOptimizerSpec = Annotated[
    Annotated[AdamSpec | AdagradSpec | RowwiseAdagradSpec | SgdSpec, Field(discriminator="kind")], kind_or("adam")
]

__all__ = [
    "Adagrad",
    "AdagradSpec",
    "AdamSpec",
    "AnyOptimizerSpec",
    "Optimizer",
    "OptimizerSpec",
    "RowAdam",
    "RowwiseAdagradSpec",
    "Sgd",
    "SgdSpec",
]
