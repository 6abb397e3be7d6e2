"""Pictures as they might have been taken otherwise: mirrored, cut and colored anew at each training step."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.spec import Spec


class AugmentationSpec(Spec):
    """What is changed at random in training; nothing where each number is 0."""

    kind: Literal["random"] = "random"
    flip: bool = True
    """Half of the pictures are mirrored left to right; not for writing and the like."""
    crop: float = Field(0.15, ge=0.0, le=0.9)
    """Up to this share of each edge is cut off, and the rest is stretched to the old size."""
    color: float = Field(0.2, ge=0.0, le=1.0)
    """Brightness, contrast and saturation change by up to this share."""

    def build(self) -> Augmentation:
        """The module that changes pictures."""
        return Augmentation(flip=self.flip, crop=self.crop, color=self.color)


class Augmentation(nn.Module):
    """Changes pictures at random in training; otherwise they stay as they are.

    The numbers come from torch's generator, as those of dropout do: a training seeds it, and saves it with its state, so that
    a resumed one draws what an uninterrupted one would have drawn.

    Args:
        flip: Mirror half of them.
        crop: Most that is cut off each edge.
        color: Most that brightness, contrast and saturation change.
    """

    def __init__(self, *, flip: bool, crop: float, color: float) -> None:
        super().__init__()
        self.flip, self.crop, self.color = flip, crop, color

    def forward(self, pictures: Tensor) -> Tensor:
        """``[n, 3, height, width]`` between 0 and 1 to the same shape and range."""
        if not self.training:
            return pictures
        if self.flip or self.crop:
            pictures = _moved(pictures, flip=self.flip, crop=self.crop)
        return _recolored(pictures, self.color) if self.color else pictures


def _moved(pictures: Tensor, *, flip: bool, crop: float) -> Tensor:
    """Mirror and cut with one resampling."""
    draw = torch.rand(4, len(pictures), dtype=pictures.dtype)
    side = 1.0 - crop * draw[0]  # what is kept of each edge
    mirrored = torch.where((draw[1] < 0.5) & flip, -1.0, 1.0)
    shift = (1.0 - side) * (2.0 * draw[2:] - 1.0)  # [2, n]
    zero = torch.zeros_like(side)
    across = torch.stack([side * mirrored, zero, shift[0]], dim=1)
    down = torch.stack([zero, side, shift[1]], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolored(pictures: Tensor, share: float) -> Tensor:
    """Brightness, contrast (around the picture's mean) and saturation (around the pixel's grey)."""
    brightness, contrast, saturation = 1.0 + share * (2.0 * torch.rand(3, len(pictures), 1, 1, 1) - 1.0)
    grey = pictures.mean(dim=1, keepdim=True)
    pictures = grey + saturation * (pictures - grey)
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    return (brightness * (mean + contrast * (pictures - mean))).clamp(0.0, 1.0)
