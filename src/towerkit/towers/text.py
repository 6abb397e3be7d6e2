"""The text tower: an encoder turns texts into vectors. ``AnyTextEncoderSpec`` is the menu of encoders."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from towerkit.core.spec import kind_or
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.towers.base import TowerContext
from towerkit.towers.ngrams import HashedNgramsSpec
from towerkit.towers.pretrained_text import PretrainedTextSpec
from towerkit.towers.text_base import TextPlan, TextTower
from towerkit.towers.ties import TiedTowerSpec
from towerkit.towers.word_sequences import ConvolutionSpec, TransformerSpec

AnyTextEncoderSpec = Annotated[
    HashedNgramsSpec | ConvolutionSpec | TransformerSpec | PretrainedTextSpec,
    Field(discriminator="kind"),
    kind_or("hashed_ngrams"),
]
"""The menu of text encoders."""


class TextTowerSpec(TiedTowerSpec):
    """One or more text columns, read one after the other."""

    kind: Literal["text"] = "text"
    columns: tuple[str, ...] = Field(min_length=1)
    encoder: AnyTextEncoderSpec = HashedNgramsSpec()
    dim: int = Field(64, ge=1, le=8192)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    start: Literal["random", "spectral"] = "random"
    """Where the vectors of the words begin: ``spectral`` at the strongest directions of the texts that training has."""

    @model_validator(mode="after")
    def _begins_once(self) -> TextTowerSpec:
        if self.tied_to is not None and self.start != "random":
            raise ValueError(f"of: {self.of} takes the vectors of another tower, wherever they begin. Set start there.")
        if self.start == "spectral" and not isinstance(self.encoder, HashedNgramsSpec):
            raise ValueError(
                f"start: spectral is where the vectors of hashed n-grams begin; received the encoder {self.encoder.kind}. "
                "Remove start."
            )
        return self

    def common(self) -> dict[str, Any]:
        """The dropout of hashed n-grams leaves words of a text out, which each tower may do in its own way."""
        found = super().common()
        if isinstance(self.encoder, HashedNgramsSpec):
            del found["dropout"]
        return found

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """What the encoder reads."""
        for name in self.columns:
            schema.require(name, "the text tower's columns")
        return [self.encoder.feature(self.columns)]

    def build(self, context: TowerContext) -> TextTower:
        """What the encoder makes, with weights of its own or those of another tower."""
        like = self.twin(context)
        assert like is None or isinstance(like, TextTower)
        plan = TextPlan(self.dim, self.dropout, context.sparse_rows, spectral=self.start == "spectral", like=like)
        return self.encoder.build(context.feature(self.encoder.feature(self.columns)), plan)
