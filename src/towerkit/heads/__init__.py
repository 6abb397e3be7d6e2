"""Heads: a state to the logits of one task."""

from typing import Annotated

from pydantic import Field

from towerkit.heads.count import CountHeadSpec
from towerkit.heads.heads import BinaryHeadSpec, Head, HeadSpec, MulticlassHeadSpec, OrdinalHeadSpec
from towerkit.heads.multilabel import MultilabelHeadSpec
from towerkit.heads.regression import RegressionHeadSpec

AnyHeadSpec = Annotated[
    BinaryHeadSpec | MulticlassHeadSpec | OrdinalHeadSpec | MultilabelHeadSpec | RegressionHeadSpec | CountHeadSpec,
    Field(discriminator="kind"),
]
"""The menu of heads."""

__all__ = [
    "AnyHeadSpec",
    "BinaryHeadSpec",
    "CountHeadSpec",
    "Head",
    "HeadSpec",
    "MulticlassHeadSpec",
    "MultilabelHeadSpec",
    "OrdinalHeadSpec",
    "RegressionHeadSpec",
]
