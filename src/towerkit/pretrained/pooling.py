"""From the vectors of tokens to the vector of a text, and what a folder says about how its encoder was trained to be pooled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from towerkit.core.errors import RunError, SpecError, listed
from towerkit.storage.hashes import read_json

Pooling = Literal["mean", "cls", "max"]
_MODES: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Pooled:
    """How token vectors become one vector."""

    how: Pooling
    normalize: bool
    """The vector has length 1."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        """The vectors of some texts, in float32.

        Args:
            states: ``[texts, tokens, dim]``.
            mask: ``[texts, tokens]`` bool: a token and no padding; each text has at least one.

        Returns:
            ``[texts, dim]``.

        Example:
            >>> states = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]])
            >>> Pooled("mean", normalize=True)(states, torch.tensor([[True, False]]))
            tensor([[0.6000, 0.8000]])
        """
        states = states.float()
        if self.how == "mean":
            summed = (states * mask[:, :, None]).sum(dim=1)
            pooled = summed / mask.sum(dim=1, keepdim=True)  # [texts, dim]
        elif self.how == "cls":
            pooled = states[:, 0]
        else:
            pooled = states.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)
        return functional.normalize(pooled, dim=1) if self.normalize else pooled


def pooling_of(folder: Path, wanted: Literal["auto"] | Pooling) -> Pooled:
    """How the encoder in a folder is pooled.

    ``auto`` follows the files of sentence-transformers beside the encoder (``modules.json``); where there are none it is the
    mean, not normalized.

    Args:
        folder: The encoder's.
        wanted: By the spec.

    Raises:
        SpecError: If the folder asks for something that is not built.
    """
    if wanted != "auto":
        return Pooled(wanted, normalize=False)
    modules = _content(folder / "modules.json", [])
    kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules if isinstance(each, dict)]
    strange = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize", "Dropout")]
    if strange:
        raise SpecError(
            f"{folder / 'modules.json'} puts {listed(strange)} behind the encoder, which pooling: auto does not do; say pooling: "
            "mean, cls or max."
        )
    told = _content(folder / "1_Pooling" / "config.json", {}) if "Pooling" in kinds else {}
    modes = [mode for key, mode in _MODES.items() if told.get(key)]
    if isinstance(told.get("pooling_mode"), str):  # as newer folders write it
        modes = [mode for mode in _MODES.values() if mode == told["pooling_mode"]]
    if "Pooling" in kinds and len(modes) != 1:
        raise SpecError(
            f"{folder / '1_Pooling' / 'config.json'} asks for a pooling that is not built; say pooling: mean, cls or max."
        )
    return Pooled(modes[0] if modes else "mean", normalize="Normalize" in kinds)


def longest_text(folder: Path) -> int | None:
    """How many tokens the encoder was trained to read, where the files of sentence-transformers say so."""
    told = _content(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None


def _content(path: Path, otherwise: Any) -> Any:
    if not path.is_file():
        return otherwise
    try:
        content = read_json(path)
    except RunError as error:
        raise SpecError(str(error)) from None
    return content if isinstance(content, type(otherwise)) else otherwise
