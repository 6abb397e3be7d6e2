"""Losses: tensors to tensors, one value per row. ``AnyRetrievalLossSpec`` is the menu; a new loss is one file and one name here."""

from typing import Annotated

from pydantic import Field

from towerkit.losses.retrieval import BprSpec, RetrievalLoss, SampledSoftmaxSpec, bpr, sampled_softmax

AnyRetrievalLossSpec = Annotated[SampledSoftmaxSpec | BprSpec, Field(discriminator="kind")]

__all__ = [
    "AnyRetrievalLossSpec",
    "BprSpec",
    "RetrievalLoss",
    "SampledSoftmaxSpec",
    "bpr",
    "sampled_softmax",
]
