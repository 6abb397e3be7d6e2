"""Losses: tensors to tensors, one value per row. ``AnyRetrievalLossSpec`` is the menu; a new loss is one file and one name here."""

from typing import Annotated

from pydantic import Field

from towerkit.core.spec import kind_or
from towerkit.losses.alignment import DirectAUSpec, directau
from towerkit.losses.base import RetrievalLoss, RetrievalLossSpec
from towerkit.losses.pairwise import BprSpec, TripletSpec, bpr, triplet
from towerkit.losses.pointwise import BceSpec, CclSpec, ContrastiveSpec, bce, ccl, contrastive
from towerkit.losses.softmax_family import (
    BilateralSoftmaxSpec,
    SampledSoftmaxSpec,
    SoftmaxSpec,
    bilateral_softmax,
    sampled_softmax,
    softmax,
)

AnyRetrievalLossSpec = Annotated[
    Annotated[
        SampledSoftmaxSpec
        | SoftmaxSpec
        | BilateralSoftmaxSpec
        | BprSpec
        | TripletSpec
        | BceSpec
        | ContrastiveSpec
        | CclSpec
        | DirectAUSpec,
        Field(discriminator="kind"),
    ],
    kind_or("sampled_softmax"),
]

__all__ = [
    "AnyRetrievalLossSpec",
    "BceSpec",
    "BilateralSoftmaxSpec",
    "BprSpec",
    "CclSpec",
    "ContrastiveSpec",
    "DirectAUSpec",
    "RetrievalLoss",
    "RetrievalLossSpec",
    "SampledSoftmaxSpec",
    "SoftmaxSpec",
    "TripletSpec",
    "bce",
    "bilateral_softmax",
    "bpr",
    "ccl",
    "contrastive",
    "directau",
    "sampled_softmax",
    "softmax",
    "triplet",
]
