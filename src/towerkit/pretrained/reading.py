"""How an encoder was trained to see pictures: their size, how they get it, and what their colors are divided by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import short
from towerkit.pretrained.folder import Pretrained

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Resample: TypeAlias = Literal["bilinear", "bicubic"]
SIZES = (8, 1024)
"""The least and the largest edge, in pixels."""
_USUAL_MEAN, _USUAL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet: where the encoder's folder does not say, most were trained so."""
_USUAL_SIZE = 224
_RESAMPLE: Mapping[int, Resample] = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class PictureReader:
    """From a picture to what an encoder takes.

    Attributes:
        size: Pixels along each edge.
        fit: How a picture becomes a square.
        resample: How pixels are interpolated.
        mean: Of each color, taken off; between 0 and 1.
        std: Of each color, by which the rest is divided.
    """

    size: int
    fit: Fit
    resample: Resample
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, pretrained: Pretrained, size: int | None = None, fit: Fit | None = None) -> PictureReader:
        """As the encoder's ``preprocessor_config.json`` says.

        Args:
            pretrained: The encoder.
            size: In place of its own.
            fit: In place of its own.

        Raises:
            SpecError: If the file says something that is not built.
        """
        told = pretrained.json("preprocessor_config.json") if "preprocessor_config.json" in pretrained.files else {}
        crops = bool(told.get("do_center_crop", "shortest_edge" in _mapping(told.get("size"))))
        edge = _edge(told.get("crop_size") if crops and told.get("crop_size") else told.get("size"))
        found = {
            "size": size or edge or _USUAL_SIZE,
            "fit": fit or ("crop" if crops else "stretch"),
            "resample": _RESAMPLE.get(told.get("resample", 3), "bicubic"),
            "mean": told.get("image_mean", _USUAL_MEAN) if told.get("do_normalize", True) else (0.0,) * 3,
            "std": told.get("image_std", _USUAL_STD) if told.get("do_normalize", True) else (1.0,) * 3,
        }
        try:
            return cls.from_dict(found)
        except RunError as error:
            raise SpecError(f"{pretrained.folder / 'preprocessor_config.json'}: {error}") from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PictureReader:
        """The inverse of :meth:`as_dict`.

        Raises:
            RunError: If a value is none.
        """
        size, fit, resample = (data.get(key) for key in ("size", "fit", "resample"))
        mean, std = (_three(data.get(key)) for key in ("mean", "std"))
        fits = (
            type(size) is int
            and SIZES[0] <= size <= SIZES[1]
            and fit in get_args(Fit)
            and resample in get_args(Resample)
        )
        if not fits or mean is None or std is None or min(std) <= 0.0:
            raise RunError(
                f"pictures cannot be read as {short(dict(data), 200)}; train the Run again, or say size and fit."
            )
        return cls(size, fit, resample, mean, std)  # type: ignore[arg-type]  # seen above

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def normalized(self, pixels: Tensor) -> Tensor:
        """``[n, 3, size, size]`` bytes as the encoder takes them, in float32."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels.float() / 255.0 - mean) / std


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _edge(told: Any) -> int | None:
    """The edge of a square, as the files of several years write it."""
    if isinstance(told, Mapping):
        told = told.get("shortest_edge", told.get("height"))
    return told if type(told) is int else None


def _three(values: Any) -> tuple[float, ...] | None:
    is_three = isinstance(values, list | tuple) and len(values) == 3
    if not is_three or not all(type(value) in (int, float) and abs(value) < 1e6 for value in values):
        return None
    return tuple(float(value) for value in values)
