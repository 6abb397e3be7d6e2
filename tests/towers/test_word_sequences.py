"""Text towers over the order of words (`towerkit.towers.word_sequences`, `towerkit.features.words`, `towerkit.data.padding`).

Invariants: the convolution and the padding are those of a loop over one text at a time, in value and gradient; a text does not
depend on its company; the order of words counts; no text has the learned absent vector; words are read to the limit and no
further; a settings pair that cannot be built is refused.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data import padding
from towerkit.data.batch import Bag
from towerkit.data.padding import by_length
from towerkit.features.words import WordsSpec
from towerkit.towers import TextTowerSpec
from towerkit.towers.text_base import TextPlan
from towerkit.towers.word_sequences import ConvolutionSpec, TransformerSpec, WordsTower
from towerkit.training.state import seeded_torch

KINDS: dict[str, Any] = {
    "convolution": ConvolutionSpec(buckets=97, channels=8, words=5),
    "transformer": TransformerSpec(buckets=97, channels=8, words=5, layers=2, heads=2),
}
WORDS = st.sampled_from(["soft", "wool", "tea", "red", "毛", "?"])
TEXTS = st.lists(st.one_of(st.none(), st.lists(WORDS, max_size=8).map(" ".join)), min_size=1, max_size=9)


def tower_of(kind: str, dim: int = 4, *, sparse: bool = False) -> tuple[WordsTower, Any]:
    feature = KINDS[kind].feature(("a",)).fit(pa.table({"a": ["x"]}))
    with seeded_torch(0):
        return KINDS[kind].build(feature, TextPlan(dim, 0.0, sparse)), feature


def vectors(kind: str, texts: list[str | None]) -> torch.Tensor:
    tower, feature = tower_of(kind)
    found: torch.Tensor = tower.eval()({feature.name: feature.encode(pa.table({"a": pa.array(texts, pa.string())}))})
    return found


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(texts=TEXTS)
def test_a_text_does_not_depend_on_its_company(kind: str, texts: list[str | None]) -> None:
    together = vectors(kind, texts)
    alone = torch.cat([vectors(kind, [text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    absent = vectors(kind, [None])[0]
    for text, vector in zip(texts, together, strict=True):
        assert torch.equal(vector, absent) == (not text)


@pytest.mark.parametrize("kind", KINDS)
def test_order_counts_and_words_behind_the_limit_do_not(kind: str) -> None:
    one, turned, longer = vectors(
        kind, ["soft red wool tea red", "red tea wool red soft", "soft red wool tea red wool wool"]
    )
    assert (one - turned).abs().max() > 1e-4 and torch.equal(one, longer)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_convolution_is_a_loop_over_texts(monkeypatch: pytest.MonkeyPatch, sparse: bool) -> None:
    texts = ["soft", "wool tea red soft red", "tea wool", "red red red"]
    tower, feature = tower_of("convolution", sparse=sparse)
    bag = feature.encode(pa.table({"a": texts}))
    kernel = tower.encoder.convolution
    expected = []
    for start, end in zip(bag.offsets[:-1], bag.offsets[1:], strict=True):
        words = functional.pad(tower.table[bag.codes[start:end]], (0, 0, 1, 1))  # [words + 2, channels]
        places = [
            (kernel.weight * words[at : at + 3].T).sum(dim=(1, 2)) + kernel.bias for at in range(int(end - start))
        ]
        expected.append(tower.projection(torch.stack(places).clamp(min=0.0).amax(dim=0)))
    torch.stack(expected).square().sum().backward()
    wanted = tower.table.grad.clone()
    for budget in (8192, 4):
        monkeypatch.setattr(padding, "ENTRIES_AT_A_TIME", budget)
        tower.zero_grad()
        found = tower({feature.name: bag})
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=1e-5)
        found.square().sum().backward()
        assert tower.table.grad.is_sparse is sparse and wanted.abs().sum() > 0
        torch.testing.assert_close(tower.table.grad.to_dense(), wanted, atol=1e-6, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 40))
def test_rectangles_hold_every_row_once(lengths: list[int], budget: int) -> None:
    seen: list[tuple[int, int]] = []

    def encode(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(ids.shape))  # type: ignore[arg-type]
        assert ids.min() >= 0 and bool((ids[~mask] == 7).all())
        return torch.stack([(ids * mask).sum(dim=1), mask.sum(dim=1)], dim=1)

    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "ENTRIES_AT_A_TIME", budget)
        found = by_length(torch.arange(int(offsets[-1])) + 100, offsets, encode, padding=7)
    rows = [
        sum(range(100 + start, 100 + end))
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ]
    assert found.tolist() == [[total, length] for total, length in zip(rows, lengths, strict=True)]
    assert all(rows * longest <= budget or rows == 1 for rows, longest in seen)


def test_words_are_hashed_alike_wherever_they_stand() -> None:
    feature = WordsSpec(columns=("a", "b"), buckets=1 << 20, words=3).fit(pa.table({"a": ["x"], "b": ["y"]}))
    bag = feature.encode(
        pa.table({"a": ["Soft wool", None, "wool", "one two three four"], "b": ["tea", "tea", "", None]})
    )
    assert isinstance(bag, Bag)
    rows = [bag.codes[start:end].tolist() for start, end in zip(bag.offsets[:-1], bag.offsets[1:], strict=True)]
    assert [len(row) for row in rows] == [3, 1, 1, 3]
    assert rows[0][1:] == [rows[2][0], rows[1][0]] and len(set(rows[0])) == 3
    again = WordsSpec(columns=("a", "b"), buckets=1 << 20, words=3).restore(feature.state())
    assert again == feature and feature.num_codes == 1 << 20
    with pytest.raises(DataError, match="The column 'b' is missing"):
        WordsSpec(columns=("b",)).fit(pa.table({"a": ["x"]}))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"kind": "convolution", "reach": 4}, "'reach' must be odd, .*; received 4"),
        (
            {"kind": "transformer", "channels": 10},
            "received channels: 10 and heads: 4. Use heads: 1, 2, 5 or 10",
        ),
        ({"kind": "convolutional"}, "unknown kind 'convolutional'; did you mean 'convolution'"),
        ({"kind": "convolution", "together": True}, "unknown key 'together'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(keys: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse(TextTowerSpec, {"columns": ["a"], "encoder": keys})


def test_an_encoder_without_a_kind_is_the_bag_of_ngrams() -> None:
    assert parse(TextTowerSpec, {"columns": ["a"], "encoder": {"buckets": 7}}).encoder.kind == "hashed_ngrams"
