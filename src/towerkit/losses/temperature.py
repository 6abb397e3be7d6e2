"""The temperature of a softmax loss: a number, or a parameter that is learned with the towers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.losses.base import RetrievalLoss, RetrievalLossSpec

COLDEST, HOTTEST = 0.01, 100.0
"""A learned temperature stays between them."""
_BOUNDS = math.log(COLDEST), math.log(HOTTEST)


class LearnedTemperature(nn.Module):
    """A loss whose temperature is learned, as its logarithm, and kept between 0.01 and 100.

    The parameter itself is put back between the bounds before each use. Clamping only what is used would give a
    parameter beyond a bound no gradient, and it would stay there for good.

    Args:
        loss: Takes ``temperature``.
        start: The first temperature.

    Reference: Radford et al., 2021 (arXiv 2103.00020), which clips the same parameter at a temperature of 0.01.
    """

    def __init__(self, loss: RetrievalLoss, start: float) -> None:
        super().__init__()
        self.loss = loss
        self.log_temperature = nn.Parameter(torch.tensor(math.log(start)))

    @property
    def temperature(self) -> Tensor:
        """``[]`` as it stands, between its bounds."""
        return self.log_temperature.clamp(*_BOUNDS).exp()

    def forward(
        self, positive: Tensor, negative: Tensor, *, log_q: Tensor | None = None, collision: Tensor | None = None
    ) -> Tensor:
        """The loss at the temperature as it stands.

        Args:
            positive: ``[batch]`` scores.
            negative: ``[batch, drawn]`` scores.
            log_q: As the loss takes it.
            collision: As the loss takes it.

        Returns:
            ``[batch]``.
        """
        if (
            not _BOUNDS[0] <= self.log_temperature.item() <= _BOUNDS[1]
        ):  # an update may ask for several losses of a step
            with torch.no_grad():
                self.log_temperature.clamp_(*_BOUNDS)
        return self.loss(positive, negative, temperature=self.temperature, log_q=log_q, collision=collision)


class TemperedLossSpec(RetrievalLossSpec):
    """A loss that divides scores by a temperature: small for cosines, 1 for dot products that find their own scale."""

    temperature: float = Field(1.0, gt=0.0)
    learn_temperature: bool = False

    @model_validator(mode="after")
    def _starts_within_bounds(self) -> TemperedLossSpec:
        if self.learn_temperature and not COLDEST <= self.temperature <= HOTTEST:
            raise ValueError(
                f"a learned temperature starts and stays between {COLDEST} and {HOTTEST:g}; received {self.temperature}. "
                "Choose a start between them, or set learn_temperature: false."
            )
        return self

    def tempered(self, loss: RetrievalLoss, **settings: Any) -> RetrievalLoss:
        """The loss with its settings and its temperature, fixed or learned."""
        if self.learn_temperature:
            return LearnedTemperature(partial(loss, **settings) if settings else loss, self.temperature)
        return partial(loss, temperature=self.temperature, **settings)
