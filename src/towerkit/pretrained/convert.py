"""Weights in a format of old to a folder of plain files: the one place that reads a foreign weight file, tensors only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import short
from towerkit.pretrained.efficientnet import MODEL_TYPE, EfficientNetLite0
from towerkit.storage.atomic import atomic_folder
from towerkit.storage.hashes import write_json
from towerkit.storage.tensors import save_tensors

KINDS = (MODEL_TYPE,)
"""The networks whose old weights can be converted."""
_CLASSIFIER = ("_fc.weight", "_fc.bias")
_READING = {
    "do_center_crop": True,
    "crop_size": 224,
    "size": 224,
    "resample": 3,
    "do_normalize": True,
    "image_mean": [127.0 / 255.0] * 3,
    "image_std": [128.0 / 255.0] * 3,
}
"""As EfficientNet-Lite was trained: (byte - 127) / 128, on the middle of the picture."""


def convert_encoder(source: Path, target: Path, kind: str = MODEL_TYPE) -> int:
    """Write an encoder's folder from a state dict that ``torch.save`` wrote; no code in it is run.

    Args:
        source: The file of weights.
        target: The folder; must not exist.
        kind: The network whose weights they are.

    Returns:
        How many tensors were taken.

    Raises:
        SpecError: If the file holds anything but tensors, or not those of the network.
    """
    if kind not in KINDS:
        raise SpecError(f"Weights of {short(kind)} cannot be converted; the networks are {listed(KINDS)}.")
    with torch.device("meta"):
        network = EfficientNetLite0()
    weights = _fitting(source, _tensors(source), network)
    with atomic_folder(target) as folder:
        save_tensors(folder / "model.safetensors", weights)
        write_json(folder / "config.json", {"model_type": kind})
        write_json(folder / "preprocessor_config.json", _READING)
    return len(weights)


def _tensors(source: Path) -> dict[str, Tensor]:
    try:
        found: Any = torch.load(source, map_location="cpu", weights_only=True)  # noqa: TID251 - tensors only
    except OSError as error:
        raise SpecError(f"{source} cannot be read ({error.strerror or error}); give the file of weights.") from None
    except Exception as error:  # a file that is none reaches every corner of the reader
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(
            f"{source} holds something beside plain tensors, or is damaged ({short(told, 160)}); it is not read further. Get the "
            "weights as safetensors."
        ) from None
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        raise SpecError(f"{source} must hold tensors by name; it holds {short(type(found).__name__)}.")
    return {str(name): tensor for name, tensor in found.items()}


def _fitting(source: Path, tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors under the names of our network, each of its shape; the classifier is left."""
    renamed = {
        ".".join(part.removeprefix("_") for part in name.split(".")): tensor
        for name, tensor in tensors.items()
        if name not in _CLASSIFIER
    }
    wanted = network.state_dict()
    lacks, has = wanted.keys() - renamed.keys(), renamed.keys() - wanted.keys()
    if lacks or has:
        raise SpecError(
            f"{source} holds other weights: the network needs [{listed(lacks)}] and does not know [{listed(has)}]."
        )
    for name, tensor in renamed.items():
        if tensor.shape != wanted[name].shape:
            raise SpecError(
                f"{source}: '{name}' has the shape {list(tensor.shape)}, and the network {list(wanted[name].shape)}."
            )
        if tensor.is_floating_point() and not math.isfinite(float(tensor.double().abs().sum())):
            raise SpecError(f"{source}: '{name}' holds numbers that are not finite.")
    return {name: renamed[name].to(wanted[name].dtype).contiguous().clone() for name in wanted}
