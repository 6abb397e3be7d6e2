"""A small convolutional network, trained from scratch: for pictures, and for sounds as pictures of their frequencies."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

_MOST_GROUPS = 8


class Stage(nn.Module):
    """Half the edge, then a residual block of two convolutions.

    Normalised in groups of channels within each row (Wu and He, ECCV 2018): with batch normalisation a row's vector would
    depend on its company.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        groups = gcd(_MOST_GROUPS, out_channels)
        self.down = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.first = nn.GroupNorm(groups, out_channels)
        self.same = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.second = nn.GroupNorm(groups, out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, in_channels, h, w]`` to ``[n, out_channels, h / 2, w / 2]``."""
        maps = functional.silu(self.first(self.down(maps)))
        return functional.silu(maps + self.second(self.same(maps)))


class SmallConvolution(nn.Module):
    """Stages that each halve the edge, then the mean over what is left of it.

    Args:
        in_channels: Colors, or one for a sound.
        channels: Of each stage.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (in_channels, *channels)
        self.stages = nn.Sequential(*(Stage(one, other) for one, other in zip(widths, channels, strict=False)))
        self.out_dim = channels[-1]

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, in_channels, h, w]`` to ``[n, out_dim]``."""
        found: Tensor = self.stages(maps.contiguous(memory_format=torch.channels_last))
        return found.mean(dim=(2, 3))


def checked_channels(channels: tuple[int, ...]) -> tuple[int, ...]:
    """The widths of the stages, if each is between 1 and 1,024.

    Raises:
        ValueError: If one is not.
    """
    for width in channels:
        if not 1 <= width <= 1024:
            raise ValueError(f"each stage has between 1 and 1,024 channels; received {width}.")
    return channels
