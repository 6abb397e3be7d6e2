"""Texts to tokens, and tokens to vectors: the one way that cached vectors and fine-tuned towers are both made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.core.optional import optional_import
from towerkit.core.spec import short
from towerkit.data.padding import by_length
from towerkit.pretrained.cache import ContentCache, cache_folder
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.modules import load_module, width_of
from towerkit.pretrained.pooling import Pooled
from towerkit.pretrained.vectors import content_key, vectors_by_content

Precision = Literal["float32", "bfloat16"]
MAX_CHARACTERS = 20_000
"""A longer text is cut before it is tokenized, unless it may have more than 1,250 tokens."""
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer")
"""Kinds whose positions begin behind the padding's, so that two of them are no place for a token."""


@dataclass(frozen=True)
class TextReader:
    """An encoder's tokenizer with its settings.

    Attributes:
        pretrained: The files.
        max_tokens: A longer text is cut there, special tokens included.
        prefix: Put in front of each text, as some encoders were trained to see.
    """

    pretrained: Pretrained
    max_tokens: int
    prefix: str = ""

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizers = optional_import("tokenizers", extra="text")
        path = self.pretrained.path("tokenizer.json")
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
            tokenizer.enable_truncation(self.max_tokens)
            tokenizer.no_padding()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise SpecError(f"{path} is no tokenizer that can be read ({short(str(error), 200)}).") from None
        return tokenizer

    @property
    def num_codes(self) -> int:
        """Tokens that the encoder knows: rows of its table."""
        size = self.pretrained.json("config.json").get("vocab_size")
        known = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise SpecError(
                f"{self.pretrained.folder / 'config.json'}: vocab_size must be a whole number, received {short(size)}."
            )
        if known > size:
            raise SpecError(
                f"The tokenizer in {self.pretrained.folder} knows {known:,} tokens and the encoder {size:,}; their files do not "
                "belong together."
            )
        return size

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The codes of each text, special tokens included; at least one each.

        Args:
            texts: Not empty ones.
        """
        limit = max(MAX_CHARACTERS, 16 * self.max_tokens)
        cut = [self.prefix + text[:limit] for text in texts]
        return [each.ids or [0] for each in self._tokenizer.encode_batch_fast(cut)]


@dataclass(frozen=True)
class TextEncoder:
    """A pretrained text encoder with all that its vectors depend on.

    Attributes:
        reader: Texts to tokens.
        pooled: Tokens' vectors to one.
        precision: In which the encoder computes; vectors are float32 always.
    """

    reader: TextReader
    pooled: Pooled
    precision: Precision = "float32"

    @property
    def dim(self) -> int:
        """Width of its vectors."""
        return width_of(self.reader.pretrained)

    @property
    def cache(self) -> ContentCache:
        """Where the vectors of this encoder with these settings are kept; another encoder or setting has another file."""
        settings = f"{self.reader.max_tokens}-{self.pooled.how}-{int(self.pooled.normalize)}-{self.precision}"
        prefix = f"-{content_key(self.reader.prefix.encode()).hex()}" if self.reader.prefix else ""
        folder = cache_folder() / "vectors" / self.reader.pretrained.fingerprint
        return ContentCache(folder / f"text-1-{settings}{prefix}.sqlite")

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vector of each text, computed once for equal ones and kept on disk.

        Args:
            texts: Not empty ones.

        Returns:
            ``[texts, dim]``.
        """
        coded = [text.encode("utf-8", "surrogatepass") for text in texts]
        keys = [content_key(each) for each in coded]
        return vectors_by_content(
            keys,
            lambda places: self.compute([texts[place] for place in places]),
            dim=self.dim,
            cache=self.cache,
            sizes=[len(each) for each in coded],
            what="texts",
        )

    @torch.no_grad()
    def compute(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vector of each text, computed now.

        Args:
            texts: Not empty ones.

        Returns:
            ``[texts, dim]``.
        """
        module = _loaded(self.reader.pretrained, self.precision)
        tokens = self.reader.tokens(texts)
        offsets = torch.tensor([0, *np.cumsum([len(each) for each in tokens])])
        codes = torch.tensor([code for each in tokens for code in each])
        return encode_tokens(module, codes, offsets, self.pooled).numpy()


def encode_tokens(module: nn.Module, codes: Tensor, offsets: Tensor, pooled: Pooled) -> Tensor:
    """The vectors of some texts by their tokens, in batches of texts that are about as long.

    Args:
        module: A transformer: ``(input_ids, attention_mask)`` to an answer with ``last_hidden_state``.
        codes: ``[tokens]`` int64, text after text.
        offsets: ``[texts + 1]``; text ``t`` owns ``codes[offsets[t]:offsets[t + 1]]``, at least one.
        pooled: Tokens' vectors to one.

    Returns:
        ``[texts, dim]`` float32.
    """

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        return pooled(module(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask)

    padding = getattr(getattr(module, "config", None), "pad_token_id", None) or 0
    return by_length(codes, offsets, encode, padding=padding)


@lru_cache(maxsize=2)
def _loaded(pretrained: Pretrained, precision: Precision) -> nn.Module:
    """One module for all that read by the same files in the same precision."""
    module = load_module(pretrained)
    return module.to(torch.bfloat16) if precision == "bfloat16" else module


def most_tokens(pretrained: Pretrained) -> int | None:
    """How many tokens an encoder has places for; None where its config does not say."""
    config = pretrained.json("config.json")
    places = config.get("max_position_embeddings")
    if not isinstance(places, int) or isinstance(places, bool) or places < 4:
        return None
    return places - 2 if config.get("model_type") in _OFFSET_POSITIONS else places
