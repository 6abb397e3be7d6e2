"""EfficientNet-Lite0: a light convolutional network for pictures, written here since no library that is needed anyway has it.

Reference: Tan and Le, EfficientNet, ICML 2019 (arXiv 1905.11946); Lite has no squeeze and excitation, ReLU6 in place of
swish, and leaves stem and head as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MODEL_TYPE = "efficientnet_lite0"
"""What ``config.json`` calls it."""
DIM = 1280
"""Width of its vectors."""
_EPSILON = 1e-3
_STEM = 32
_STAGES = (
    # repeats, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConvolution(nn.Conv2d):
    """A convolution whose output has the input's edge over the stride, rounded up; what is missing is zeros, more behind."""

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, in, h, w]`` to ``[n, out, ceil(h / stride), ceil(w / stride)]``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-edge // stride) - 1) * stride + kernel - edge, 0) for edge in maps.shape[-2:]]
        above, left = pads[0] // 2, pads[1] // 2
        padded = functional.pad(maps, (left, pads[1] - left, above, pads[0] - above))
        return functional.conv2d(padded, self.weight, None, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class Block(nn.Module):
    """Widen, look around, narrow; the input is added where the shape allows it (Sandler et al., CVPR 2018).

    Args:
        channels: Of the input.
        out_channels: Of the output.
        kernel: Edge of what each place looks at.
        stride: By which the edge shrinks.
        expansion: By which it widens.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand_conv = SameConvolution(channels, wide, 1, bias=False) if expansion > 1 else None
        self.bn0 = _norm(wide) if expansion > 1 else None
        self.depthwise_conv = SameConvolution(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn1 = _norm(wide)
        self.project_conv = SameConvolution(wide, out_channels, 1, bias=False)
        self.bn2 = _norm(out_channels)
        self.adds = stride == 1 and channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, channels, h, w]`` to ``[n, out_channels, h', w']``."""
        wide = maps
        if self.expand_conv is not None and self.bn0 is not None:
            wide = functional.relu6(self.bn0(self.expand_conv(maps)))
        wide = functional.relu6(self.bn1(self.depthwise_conv(wide)))
        narrow: Tensor = self.bn2(self.project_conv(wide))
        return narrow + maps if self.adds else narrow


class EfficientNetLite0(nn.Module):
    """Pictures to vectors of 1,280 numbers: the network without its classifier."""

    DIM = DIM

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConvolution(3, _STEM, 3, 2, bias=False)
        self.bn0 = _norm(_STEM)
        blocks, channels = [], _STEM
        for repeats, kernel, stride, expansion, out_channels in _STAGES:
            for place in range(repeats):
                blocks.append(Block(channels, out_channels, kernel, stride if place == 0 else 1, expansion))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = SameConvolution(channels, DIM, 1, bias=False)
        self.bn1 = _norm(DIM)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """``[n, 3, h, w]`` normalised pixels to ``[n, 1280]``."""
        maps = functional.relu6(self.bn0(self.conv_stem(pixel_values.contiguous(memory_format=torch.channels_last))))
        for block in self.blocks:
            maps = block(maps)
        return functional.relu6(self.bn1(self.conv_head(maps))).mean(dim=(2, 3))
