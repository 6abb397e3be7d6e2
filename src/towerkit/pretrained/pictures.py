"""Pretrained encoders of pictures: a network of transformers, EfficientNet-Lite0, or an ONNX file, to one vector per picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towerkit.core.errors import SpecError, listed
from towerkit.core.optional import optional_import
from towerkit.core.spec import short
from towerkit.pretrained.cache import ContentCache, cache_folder
from towerkit.pretrained.efficientnet import DIM, MODEL_TYPE, EfficientNetLite0
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.modules import load_module, new_module
from towerkit.pretrained.reading import PictureReader
from towerkit.pretrained.texts import Precision
from towerkit.storage.tensors import load_tensors

PicturePooling = Literal["mean", "cls"]
PICTURES_AT_A_TIME = 32
_MOST_DIM = 65_536


class PictureModule(nn.Module):
    """A network with what turns its answer into one vector per picture.

    Batch normalisation keeps the statistics it was trained with, in training too: else a row's vector would depend on its
    company.

    Args:
        network: Takes ``pixel_values``.
        pooling: Of answers that are vectors of patches; maps are averaged, and a vector stays as it is.
    """

    def __init__(self, network: nn.Module, pooling: PicturePooling) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling

    def train(self, mode: bool = True) -> PictureModule:
        """Switch modes, but for batch normalisation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """``[n, 3, h, w]`` normalised pictures to ``[n, dim]`` float32."""
        answer = self.network(pixel_values=pictures)
        return pooled(answer if isinstance(answer, Tensor) else answer.last_hidden_state, self.pooling)


def pooled(states: Tensor, pooling: PicturePooling) -> Tensor:
    """One vector per picture.

    Args:
        states: ``[n, dim]``, ``[n, patches, dim]`` with the picture's own vector first, or ``[n, dim, h, w]``.
        pooling: Of patches.

    Returns:
        ``[n, dim]`` float32.

    Raises:
        SpecError: If it is nothing of the kind.
    """
    if states.ndim == 4:
        return states.float().mean(dim=(2, 3))
    if states.ndim == 3:
        return states[:, 0].float() if pooling == "cls" else states.float().mean(dim=1)
    if states.ndim != 2:
        raise SpecError(
            f"An encoder of pictures gives [n, dim], patches or maps; received the shape {list(states.shape)}."
        )
    return states.float()


def picture_module(pretrained: Pretrained, pooling: PicturePooling) -> PictureModule:
    """The network with its weights, or at random where they are kept elsewhere; in evaluation mode.

    Raises:
        SpecError: If the weights do not fit, or the file is one that cannot be trained.
    """
    if "model.onnx" in pretrained.files and "config.json" not in pretrained.files:
        raise SpecError(
            f"{pretrained.folder} holds an ONNX file, which gives vectors and is not trained; use train: frozen."
        )
    if pretrained.json("config.json").get("model_type") != MODEL_TYPE:
        network = load_module(pretrained) if pretrained.has_weights else new_module(pretrained)
        return PictureModule(network, pooling).eval()
    if not pretrained.has_weights:
        return PictureModule(EfficientNetLite0(), pooling).eval()
    with torch.random.fork_rng(devices=[]):  # its start is overwritten, and must cost no one a random number
        network = EfficientNetLite0()
    load_checked(network, pretrained)
    return PictureModule(network, pooling).eval()


def load_checked(network: nn.Module, pretrained: Pretrained) -> None:
    """Fill a network of ours with the weights of a folder, name by name.

    Raises:
        SpecError: If a name or a shape is another.
    """
    path = pretrained.path("model.safetensors")
    found = {name: torch.from_numpy(np.array(array)) for name, array in load_tensors(path).items()}
    wanted = network.state_dict()
    lacks, has = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if lacks or has:
        raise SpecError(f"{path} does not fit {MODEL_TYPE}: it lacks [{listed(lacks)}] and has [{listed(has)}] beside.")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise SpecError(
                f"{path}: the tensor '{name}' has the shape {list(found[name].shape)}, and the network {list(tensor.shape)}."
            )
    network.load_state_dict(found)


@dataclass(frozen=True)
class PictureEncoder:
    """A pretrained encoder with all that its vectors depend on.

    Attributes:
        pretrained: The files.
        reader: Pictures to what it takes.
        pooling: Of patches.
        precision: In which it computes; vectors are float32 always.
    """

    pretrained: Pretrained
    reader: PictureReader
    pooling: PicturePooling
    precision: Precision = "float32"

    @property
    def settings(self) -> str:
        """What vectors depend on beside the files, for the name of a file."""
        own = self.reader
        scales = "-".join(f"{value:g}" for value in (*own.mean, *own.std))
        return f"image-1-{own.size}-{own.fit}-{own.resample}-{scales}-{self.pooling}-{self.precision}"

    @property
    def cache(self) -> ContentCache:
        """Where the vectors are kept; another encoder or setting has another file."""
        return ContentCache(cache_folder() / "vectors" / self.pretrained.fingerprint / f"{self.settings}.sqlite")

    def width(self) -> int:
        """How wide its vectors are, by a look at an empty picture.

        Raises:
            SpecError: If it cannot look at pictures.
        """
        config = self.pretrained.json("config.json") if "config.json" in self.pretrained.files else {}
        if config.get("model_type") == MODEL_TYPE:
            return DIM
        found = self.compute(np.zeros((1, 3, self.reader.size, self.reader.size), np.uint8)).shape[1]
        if not 0 < found <= _MOST_DIM:
            raise SpecError(
                f"The encoder in {self.pretrained.folder} gives vectors of {found:,} numbers; {_MOST_DIM:,} at most."
            )
        return found

    @torch.no_grad()
    def compute(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vector of each picture, computed now.

        Args:
            pixels: ``[n, 3, size, size]``.

        Returns:
            ``[n, dim]``.
        """
        run = _loaded(self.pretrained.fingerprint, str(self.pretrained.folder), self.pooling, self.precision)(self)
        try:
            parts = [run(self.reader.normalized(part)) for part in torch.from_numpy(pixels).split(PICTURES_AT_A_TIME)]
        except SpecError:
            raise
        except Exception as error:  # a network's own word on a size that it was not made for
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SpecError(
                f"The encoder in {self.pretrained.folder} cannot look at {len(pixels):,} pictures of {self.reader.size} x "
                f"{self.reader.size} pixels ({short(told, 200)}). Set size to what it was trained on; an ONNX file is exported for "
                "any number of pictures."
            ) from None
        return torch.cat(parts).numpy()


@lru_cache(maxsize=2)
def _loaded(
    fingerprint: str, folder: str, pooling: PicturePooling, precision: Precision
) -> Callable[[PictureEncoder], Callable[[Tensor], Tensor]]:
    """One network for all that see by the same files in the same way; loaded at the first call of what is returned."""
    runs: list[Callable[[Tensor], Tensor]] = []

    def run(encoder: PictureEncoder) -> Callable[[Tensor], Tensor]:
        if not runs:
            runs.append(_onnx(encoder) if "model.onnx" in encoder.pretrained.files else _torch(encoder))
        return runs[0]

    return run


def _torch(encoder: PictureEncoder) -> Callable[[Tensor], Tensor]:
    module = picture_module(encoder.pretrained, encoder.pooling)
    is_half = encoder.precision == "bfloat16"
    module = module.to(torch.bfloat16) if is_half else module
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it

    def run(pictures: Tensor) -> Tensor:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        found: Tensor = module(pictures.to(torch.bfloat16) if is_half else pictures)
        return found

    return run


def _onnx(encoder: PictureEncoder) -> Callable[[Tensor], Tensor]:
    """The network of an ONNX file; from memory, so that it can name no other file."""
    path, pooling = encoder.pretrained.path("model.onnx"), encoder.pooling
    runtime = optional_import("onnxruntime", extra="image")
    try:
        session: Any = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except Exception as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(f"{path} cannot be opened by ONNX Runtime ({short(told, 200)}).") from None
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise SpecError(f"{path} must take pictures and nothing else; it takes {listed(each.name for each in inputs)}.")

    def run(pictures: Tensor) -> Tensor:
        answer = session.run([session.get_outputs()[0].name], {inputs[0].name: pictures.numpy()})[0]
        return pooled(torch.from_numpy(np.asarray(answer, np.float32)), pooling)

    return run
