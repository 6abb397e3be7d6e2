"""The text tower: an encoder turns texts into vectors. ``AnyTextEncoderSpec`` is the menu of encoders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from towerkit.core.errors import SpecError
from towerkit.core.spec import kind_or
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.towers.base import TowerContext, TowerSpec
from towerkit.towers.ngrams import HashedNgramsSpec
from towerkit.towers.pretrained_text import PretrainedTextSpec
from towerkit.towers.text_base import TextPlan, TextTower
from towerkit.towers.word_sequences import ConvolutionSpec, TransformerSpec

AnyTextEncoderSpec = Annotated[
    HashedNgramsSpec | ConvolutionSpec | TransformerSpec | PretrainedTextSpec,
    Field(discriminator="kind"),
    kind_or("hashed_ngrams"),
]
"""The menu of text encoders."""


class TextTowerSpec(TowerSpec):
    """One or more text columns, read one after the other."""

    kind: Literal["text"] = "text"
    columns: tuple[str, ...] = Field(min_length=1)
    encoder: AnyTextEncoderSpec = HashedNgramsSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    of: Literal["own", "candidate"] = "own"
    """Whose weights it has: its own, or those of the candidate side's text tower, so that a word means one thing."""
    start: Literal["random", "spectral"] = "random"
    """Where the vectors of the words begin: ``spectral`` at the strongest directions of the texts that training has."""

    @model_validator(mode="after")
    def _begins_once(self) -> TextTowerSpec:
        if self.of == "candidate" and self.start != "random":
            raise ValueError("of: candidate takes the vectors of the other side, wherever they begin. Set start there.")
        if self.start == "spectral" and not isinstance(self.encoder, HashedNgramsSpec):
            raise ValueError(
                f"start: spectral is where the vectors of hashed n-grams begin; received the encoder {self.encoder.kind}. "
                "Remove start."
            )
        return self

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """What the encoder reads."""
        for name in self.columns:
            schema.require(name, "the text tower's columns")
        return [self.encoder.feature(self.columns)]

    def build(self, context: TowerContext) -> TextTower:
        """What the encoder makes, with weights of its own or those of the candidate side."""
        like = None
        if self.of == "candidate":
            like = None if context.candidates is None else context.candidates.texts
            if like is None:
                raise SpecError(
                    "of: candidate has the vectors of the candidate side's text tower, and there is not one."
                )
        plan = TextPlan(self.dim, self.dropout, context.sparse_rows, spectral=self.start == "spectral", like=like)
        return self.encoder.build(context.feature(self.encoder.feature(self.columns)), plan)
