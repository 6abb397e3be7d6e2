"""Texts to vectors by a pretrained encoder (`towerkit.pretrained.texts`, `.pooling`).

Invariants: a vector is what transformers itself gives for the text, pooled in a few lines here, to 1e-5; it does not depend
on the other texts of a batch; the second reading loads no encoder; another pooling, length, prefix, precision or encoder
never takes the vectors of this one; an odd text (of 100 kB, of unknown signs, of nothing but spaces) has a finite vector.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import SpecError
from towerkit.data import padding
from towerkit.pretrained import Pretrained, load_module, texts
from towerkit.pretrained.pooling import Pooled, longest_text, pooling_of
from towerkit.pretrained.texts import TextEncoder, TextReader, encode_tokens, most_tokens
from towerkit.testing.encoders import as_sentence_transformer

TEXTS = [
    "A soft wool scarf, warm and red.",
    "tea",
    "The cup is red and the tea is warm. " * 9,
    "毛 wool é",
    "??",
    "\u200b",
]
POOLED = [
    Pooled("mean", normalize=True),
    Pooled("mean", normalize=False),
    Pooled("cls", normalize=False),
    Pooled("max", normalize=False),
]


def encoder_of(folder: Path, pooled: Pooled = POOLED[0], tokens: int = 24) -> TextEncoder:
    return TextEncoder(TextReader(Pretrained.of(folder), tokens), pooled)


def by_transformers(folder: Path, text: str, pooled: Pooled, tokens: int) -> Any:
    """One text at a time, by the library's own classes."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found = tokenizer([text], truncation=True, max_length=tokens, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        states = AutoModel.from_pretrained(folder, local_files_only=True).eval()(**found).last_hidden_state[0]
    vector = {"mean": states.mean(dim=0), "cls": states[0], "max": states.amax(dim=0)}[pooled.how]
    return (vector / vector.norm() if pooled.normalize else vector).numpy()


@pytest.mark.parametrize("pooled", POOLED, ids=lambda pooled: f"{pooled.how}-{pooled.normalize}")
def test_vectors_are_those_of_minilm_itself(minilm: Path, pooled: Pooled) -> None:
    texts = [text for text in TEXTS if text != "\u200b"]
    encoder = encoder_of(minilm, pooled)
    expected = np.stack([by_transformers(minilm, text, pooled, 24) for text in texts])
    for _ in ("computed", "read"):
        np.testing.assert_allclose(encoder.vectors(texts), expected, atol=1e-5)


def test_bfloat16_is_close_to_float32(minilm: Path) -> None:
    exact = encoder_of(minilm).vectors(TEXTS)
    coarse = replace(encoder_of(minilm), precision="bfloat16").vectors(TEXTS)
    assert coarse.dtype == np.float32 and not np.array_equal(exact, coarse)
    assert (exact * coarse).sum(axis=1).min() > 0.999


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(st.text(min_size=1, max_size=30), st.sampled_from(TEXTS)), min_size=1, max_size=9))
def test_a_text_does_not_depend_on_its_company(small_encoder: Path, texts: list[str]) -> None:
    encoder = encoder_of(small_encoder)
    together = encoder.compute(texts)
    assert together.shape == (len(texts), 32) and np.isfinite(together).all()
    alone = np.concatenate([encoder.compute([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("pooled", POOLED, ids=lambda pooled: f"{pooled.how}-{pooled.normalize}")
def test_gradients_do_not_depend_on_the_batches(
    small_encoder: Path, pooled: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = TextReader(Pretrained.of(small_encoder), 24)
    tokens = reader.tokens(TEXTS)
    codes, offsets = torch.tensor(list(chain(*tokens))), torch.tensor([0, *np.cumsum([len(each) for each in tokens])])
    weights = torch.linspace(-1.0, 1.0, 32)
    found = []
    for budget in (8192, 30, 1):
        monkeypatch.setattr(padding, "ENTRIES_AT_A_TIME", budget)
        module = load_module(reader.pretrained)
        vectors = encode_tokens(module, codes, offsets, pooled)
        (vectors * weights).sum().backward()
        found.append((vectors.detach(), module.embeddings.word_embeddings.weight.grad))  # type: ignore[union-attr]
    assert found[0][1].abs().sum() > 0.1
    for vectors, gradient in found[1:]:
        torch.testing.assert_close(vectors, found[0][0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(gradient, found[0][1], atol=1e-5, rtol=1e-4)


def test_a_second_reading_loads_no_encoder(
    small_encoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOWERKIT_CACHE", str(tmp_path))
    first = encoder_of(small_encoder).vectors(TEXTS)

    def no_module(*_: object) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(texts, "_loaded", no_module)
    moved = Path(shutil.copytree(small_encoder, tmp_path / "elsewhere"))
    np.testing.assert_array_equal(encoder_of(moved).vectors(TEXTS[::-1]), first[::-1])
    others = [encoder_of(moved, pooled) for pooled in POOLED[1:]] + [encoder_of(moved, tokens=23)]
    others += [replace(encoder_of(moved), precision="bfloat16")]
    others += [TextEncoder(TextReader(Pretrained.of(moved), 24, "query: "), POOLED[0])]
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    for other in [*others, encoder_of(moved)]:
        with pytest.raises(AssertionError, match="the encoder was loaded"):
            other.vectors(TEXTS)


def test_a_prefix_is_put_in_front(small_encoder: Path) -> None:
    plain = TextReader(Pretrained.of(small_encoder), 24)
    assert replace(plain, prefix="tea ").tokens(["wool"]) == plain.tokens(["tea wool"]) != plain.tokens(["wool"])


def test_a_text_of_100_kb_is_cut(small_encoder: Path) -> None:
    reader = TextReader(Pretrained.of(small_encoder), 24)
    (codes,) = reader.tokens(["wool and tea " * 8000])
    assert len(codes) == 24
    assert np.isfinite(encoder_of(small_encoder).compute(["x" * 100_000])).all()


def test_what_a_folder_says_about_pooling_is_followed(small_encoder: Path, minilm: Path, tmp_path: Path) -> None:
    assert pooling_of(small_encoder, "auto") == Pooled("mean", normalize=False) and longest_text(small_encoder) is None
    assert pooling_of(minilm, "auto") == Pooled("mean", normalize=True) and longest_text(minilm) == 256
    assert pooling_of(minilm, "cls") == Pooled("cls", normalize=False)
    copy = as_sentence_transformer(Path(shutil.copytree(small_encoder, tmp_path / "copy")))
    assert pooling_of(copy, "auto") == Pooled("cls", normalize=True) and longest_text(copy) == 32
    as_sentence_transformer(copy, pooling="mean_sqrt_len_tokens")
    with pytest.raises(SpecError, match="asks for a pooling that is not built; say pooling: mean"):
        pooling_of(copy, "auto")
    (copy / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(SpecError, match="puts 'Dense' behind the encoder, which pooling: auto does not do"):
        pooling_of(copy, "auto")


def test_places_of_an_encoder_are_counted(small_encoder: Path, tmp_path: Path) -> None:
    assert most_tokens(Pretrained.of(small_encoder)) == 64
    copy = Path(shutil.copytree(small_encoder, tmp_path / "copy"))
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"model_type": "bert"', '"model_type": "roberta"'))
    assert most_tokens(Pretrained.of(copy)) == 62


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"version": "9", "model": {"type": "Nothing"}}'])
def test_a_damaged_tokenizer_is_a_typed_error(small_encoder: Path, tmp_path: Path, content: str) -> None:
    copy = Path(shutil.copytree(small_encoder, tmp_path / "copy"))
    (copy / "tokenizer.json").write_text(content)
    with pytest.raises(SpecError, match=r"tokenizer\.json is no tokenizer that can be read"):
        TextReader(Pretrained.of(copy), 24).tokens(["a"])
    (copy / "tokenizer.json").unlink()
    with pytest.raises(
        SpecError, match=r"has no tokenizer\.json; it has 'config\.json', 'model\.safetensors'\. Write one with"
    ):
        TextReader(Pretrained.of(copy), 24).tokens(["a"])
