"""A small text encoder with weights at random, written as a real one is: for tests that need no quality."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch

from towerkit.core.optional import optional_import

_WORDS = ("the", "a", "soft", "wool", "red", "tea", "warm", "cup", "is", "and", "##s", "##y")


def small_text_encoder(folder: Path, *, seed: int = 0, dim: int = 32, layers: int = 2) -> Path:
    """Write a BERT of some thousand weights with its tokenizer, in the files that the hub has.

    Args:
        folder: Made if it is not there.
        seed: Of the weights; torch's own generator is left as it was.
        dim: Width of its vectors.
        layers: Blocks.

    Returns:
        The folder.
    """
    transformers, tokenizers = (
        optional_import("transformers", extra="text"),
        optional_import("tokenizers", extra="text"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    letters = [*string.ascii_lowercase, *string.digits]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *_WORDS]
    vocabulary = {token: code for code, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * dim,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


def as_sentence_transformer(folder: Path, *, pooling: str = "cls", normalize: bool = True) -> Path:
    """Put the files of sentence-transformers beside an encoder, which say how it is pooled.

    Args:
        folder: The encoder's.
        pooling: ``cls``, ``mean_tokens`` or ``max_tokens``.
        normalize: Whether its vectors have length 1.

    Returns:
        The folder.
    """
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [{"idx": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in enumerate(kinds)]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    key = "pooling_mode_cls_token" if pooling == "cls" else f"pooling_mode_{pooling}"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({key: True}), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}), encoding="utf-8")
    return folder


def small_picture_encoder(folder: Path, kind: str = "resnet", *, seed: int = 0, size: int = 32) -> Path:
    """Write a ResNet or a ViT of some thousand weights, in the files that the hub has.

    Args:
        folder: Made if it is not there.
        kind: ``resnet`` or ``vit``.
        seed: Of the weights; torch's own generator is left as it was.
        size: Of the pictures that it takes.

    Returns:
        The folder.
    """
    transformers = optional_import("transformers", extra="text")
    if kind == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        model = transformers.ResNetModel
    else:
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=size,
            patch_size=8,
        )
        model = transformers.ViTModel
    told = {
        "size": {"height": size, "width": size},
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder
