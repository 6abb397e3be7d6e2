"""From an encoder's files to a module: the classes of transformers, never code that comes with the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from towerkit.core.errors import SpecError, TowerkitError
from towerkit.core.optional import optional_import
from towerkit.core.spec import short
from towerkit.pretrained.folder import Pretrained
from towerkit.storage.tensors import tensor_shapes

_EXTRA = "text"
_RUNS_CODE = ("auto_map", "custom_pipelines")
_OF_THE_MACHINE = ("_attn_implementation", "attn_implementation", "torch_dtype", "dtype")
MAX_LAYERS = 512
"""More blocks than any encoder has: a config that asks for a billion is refused before one is made."""


def width_of(pretrained: Pretrained) -> int:
    """How wide its vectors are, by its ``config.json``.

    Raises:
        SpecError: If it does not say.
    """
    config = pretrained.json("config.json")
    for key in ("hidden_size", "dim", "d_model", "n_embd"):
        if isinstance(config.get(key), int) and not isinstance(config[key], bool) and 0 < config[key] <= 65536:
            return int(config[key])
    raise SpecError(
        f"{pretrained.folder / 'config.json'} does not say how wide the encoder's vectors are (hidden_size)."
    )


def new_module(pretrained: Pretrained) -> nn.Module:
    """The module that a config describes, with weights at random; under ``torch.device("meta")`` it takes no memory.

    Raises:
        SpecError: If the installed transformers cannot build it.
    """
    with _typed(pretrained), _quiet():
        transformers = optional_import("transformers", extra=_EXTRA)
        return _trimmed(transformers.AutoModel.from_config(_config(pretrained), trust_remote_code=False))


def load_module(pretrained: Pretrained) -> nn.Module:
    """The module with its weights, in float32 and evaluation mode. No random number is drawn from outside.

    Raises:
        SpecError: If the weights do not fit the config.
    """
    for name in pretrained.files:
        if name.endswith(".safetensors"):
            tensor_shapes(pretrained.path(name))  # its header is checked before a library reads it
    with _typed(pretrained), _quiet(), torch.random.fork_rng(devices=[]):
        transformers = optional_import("transformers", extra=_EXTRA)
        module, told = transformers.AutoModel.from_pretrained(
            str(pretrained.folder),
            config=_config(pretrained),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    lacks = sorted(name for name in told["missing_keys"] if "pooler" not in name.split("."))
    if lacks or told["mismatched_keys"]:
        raise SpecError(
            f"The weights in {pretrained.folder} do not fit its config.json: {short(lacks or told['mismatched_keys'], 200)} "
            "is missing or of another shape. Give a folder whose files belong together."
        )
    return _trimmed(module).eval()


def _config(pretrained: Pretrained) -> Any:
    data = pretrained.json("config.json")
    kind = data.get("model_type")
    mapping = optional_import("transformers.models.auto.configuration_auto", extra=_EXTRA).CONFIG_MAPPING
    if not isinstance(kind, str) or kind not in mapping:
        by = " It brings code of its own, which towerkit never runs." if "auto_map" in data else ""
        raise SpecError(
            f"{pretrained.folder / 'config.json'}: the installed transformers has no model_type {short(kind)}.{by} Use an encoder "
            "of a kind that transformers itself has."
        )
    if data.get("quantization_config"):
        raise SpecError(
            f"{pretrained.folder / 'config.json'} asks for quantized weights; give the encoder in float32 or bfloat16."
        )
    config = mapping[kind].from_dict({key: v for key, v in data.items() if key not in (*_RUNS_CODE, *_OF_THE_MACHINE)})
    if getattr(config, "is_encoder_decoder", False):
        raise SpecError(
            f"{pretrained.folder} is a {kind}, an encoder with a decoder; give an encoder, such as a bert or vit."
        )
    layers = getattr(config, "num_hidden_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= MAX_LAYERS:
        raise SpecError(
            f"{pretrained.folder / 'config.json'}: num_hidden_layers must be at most {MAX_LAYERS}, received "
            f"{short(layers)}. Give an encoder that transformers itself wrote."
        )
    return config


def _trimmed(module: nn.Module) -> nn.Module:
    """Without the head that was trained for another task and that no pooling here reads."""
    pooler = getattr(module, "pooler", None)
    if pooler is not None and any(
        True for _ in pooler.parameters()
    ):  # one that only averages maps has none, and is called
        module.pooler = None  # type: ignore[assignment]  # as transformers itself does without one
    return module


@contextmanager
def _typed(pretrained: Pretrained) -> Iterator[None]:
    """A library's own error says which folder it is about."""
    try:
        yield
    except TowerkitError:
        raise
    except Exception as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpecError(
            f"The encoder in {pretrained.folder} cannot be loaded ({type(error).__name__}: {short(told, 200)}); give a folder "
            "that transformers itself loads from safetensors."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No bar and no advice from transformers while it loads; its settings are as before afterwards."""
    logging = optional_import("transformers.utils.logging", extra=_EXTRA)
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()
