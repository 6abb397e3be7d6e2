"""Texts by a pretrained encoder: their vectors, computed once and kept, or their tokens for a tower that trains the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import short
from towerkit.data.batch import Bag, Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, Feature, FeatureSpec, State, as_text
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.pooling import Pooled, Pooling, longest_text, pooling_of
from towerkit.pretrained.source import PretrainedSource
from towerkit.pretrained.texts import Precision, TextEncoder, TextReader, most_tokens

_SAMPLE = "a short golden request"


class _TextSpec(FeatureSpec):
    """What both ways of reading share."""

    columns: tuple[str, ...]
    source: PretrainedSource
    pooling: Literal["auto"] | Pooling = "auto"
    max_tokens: int | None = Field(None, ge=4, le=65536)
    prefix: str | None = None

    def column_names(self) -> tuple[str, ...]:
        """The text columns."""
        return self.columns

    def _begin(self, table: pa.Table) -> State:
        """What is read off the encoder's folder, once."""
        for name in self.columns:
            values_of(table, name)
        pretrained = self.source.find()
        pooled = pooling_of(pretrained.folder, self.pooling)
        places, trained = most_tokens(pretrained), longest_text(pretrained.folder)
        if self.max_tokens is not None and places is not None and self.max_tokens > places:
            raise SpecError(
                f"max_tokens must be at most {places}, for which the encoder in {pretrained.folder} has places; received "
                f"{self.max_tokens}."
            )
        tokens = self.max_tokens or min(trained or 256, 256, places or 256)
        return State({"pooling": pooled.how, "normalize": pooled.normalize, "max_tokens": tokens}, None, pretrained)

    def _reader(self, state: State) -> TextReader:
        tokens = state.values["max_tokens"]
        if type(tokens) is not int or not 4 <= tokens <= 65536:
            raise RunError(f"A stored text feature has max_tokens {short(tokens)}; train the Run again.")
        return TextReader(state.encoder(), tokens, self.prefix or "")

    def _name(self, kind: str, pretrained: Pretrained, state: State, *settings: object) -> str:
        by = (pretrained.folder_name, *(state.values[key] for key in ("pooling", "normalize", "max_tokens")))
        return ":".join(str(part) for part in (kind, "+".join(self.columns), *by, *settings, self.prefix or ""))


def _pooled(state: State) -> Pooled:
    how, normalize = state.values["pooling"], state.values["normalize"]
    if how not in ("mean", "cls", "max") or type(normalize) is not bool:
        raise RunError(f"A stored text feature has the pooling {short(how)}; train the Run again.")
    return Pooled(how, normalize)


def read_together(table: pa.Table, columns: Sequence[str]) -> list[str | None]:
    """The texts of each row, one column after the other, each in a line; None where no column has any.

    Example:
        >>> read_together(pa.table({"a": ["soft", " ", None], "b": ["wool", None, ""]}), ["a", "b"])
        ['soft\\nwool', None, None]
    """
    texts = [as_text(values_of(table, name)).to_pylist() for name in columns]
    joined = ("\n".join(part for part in row if part and not part.isspace()) for row in zip(*texts, strict=True))
    return [text or None for text in joined]


@dataclass(frozen=True)
class TextVectorsFeature(Feature):
    """``[rows, dim + 1]``: the vector of the encoder (zeros where there is no text) and 1 where there is none."""

    name: str
    columns: tuple[str, ...]
    encoder: TextEncoder
    dtype: torch.dtype
    stored: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """Width of the encoder's vectors."""
        return self.encoder.dim

    def encode(self, table: pa.Table) -> Column:
        """Look each distinct text up; compute and keep what is new."""
        texts = read_together(table, self.columns)
        present = [text for text in texts if text is not None]
        found = np.zeros((len(texts), self.dim + 1), np.float32)
        is_missing = np.array([text is None for text in texts], bool)
        found[is_missing, -1] = 1.0
        if present:
            found[~is_missing, :-1] = self.encoder.vectors(present)
        return torch.from_numpy(found).to(self.dtype)

    def state(self) -> State:
        """The encoder, and how it is read."""
        return State(self.stored, None, self.encoder.reader.pretrained)

    def sample(self) -> Mapping[str, Any]:
        """A short text."""
        return dict.fromkeys(self.columns, _SAMPLE)


class TextVectorsSpec(_TextSpec):
    """Vectors of a pretrained encoder that is not trained on."""

    kind: Literal["text_vectors"] = "text_vectors"
    precision: Precision = "float32"
    vectors: Literal["float32", "float16"] = "float32"
    """How they are held in memory."""

    def fit(self, table: pa.Table) -> TextVectorsFeature:
        """Nothing is learned; the encoder is found and hashed."""
        return self.restore(self._begin(table))

    def restore(self, state: State) -> TextVectorsFeature:
        """Rebuild from the encoder's files."""
        encoder = TextEncoder(self._reader(state), _pooled(state), self.precision)
        dtype = torch.float32 if self.vectors == "float32" else torch.float16
        name = self._name(self.kind, state.encoder(), state, self.precision, self.vectors)
        return TextVectorsFeature(name, self.columns, encoder, dtype, dict(state.values))


@dataclass(frozen=True)
class TokensFeature(CodedFeature):
    """A :class:`Bag` per row: the tokens in their order, each with weight 1; empty where there is no text."""

    name: str
    columns: tuple[str, ...]
    reader: TextReader
    pooled: Pooled
    stored: Mapping[str, Any]

    @property
    def num_codes(self) -> int:
        """Tokens that the encoder knows."""
        return self.reader.num_codes

    def encode(self, table: pa.Table) -> Column:
        """Tokenize every row."""
        texts = read_together(table, self.columns)
        tokens = iter(self.reader.tokens([text for text in texts if text is not None]))
        rows = [[] if text is None else next(tokens) for text in texts]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        codes = np.fromiter((code for row in rows for code in row), np.int64, offsets[-1])
        if len(codes) and codes.max() >= self.num_codes:
            raise SpecError(f"The tokenizer gives the token {codes.max()}, and the encoder knows {self.num_codes:,}.")
        return Bag(torch.from_numpy(codes), torch.from_numpy(offsets), torch.ones(len(codes)))

    def state(self) -> State:
        """The encoder without its weights, which are among the model's own, and how it is read."""
        return State(self.stored, None, _read_by(self.reader.pretrained))

    def sample(self) -> Mapping[str, Any]:
        """A short text."""
        return dict.fromkeys(self.columns, _SAMPLE)


class TokensSpec(_TextSpec):
    """Tokens of a pretrained encoder, for a tower that trains it."""

    kind: Literal["tokens"] = "tokens"

    def fit(self, table: pa.Table) -> TokensFeature:
        """Nothing is learned; the encoder is found and hashed."""
        return self.restore(self._begin(table))

    def restore(self, state: State) -> TokensFeature:
        """Rebuild from the tokenizer's file."""
        name = self._name(self.kind, _read_by(state.encoder()), state)
        return TokensFeature(name, self.columns, self._reader(state), _pooled(state), dict(state.values))


def _read_by(pretrained: Pretrained) -> Pretrained:
    """The files that tokens are made by; the same before and after the weights have moved into the model's own."""
    return pretrained.without_weights(("config.json", "tokenizer.json"))
