"""Texts by a pretrained encoder: its vectors as they are, or an encoder that is trained on with the tower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError
from towerkit.data.batch import Bag, Columns, dense
from towerkit.features.base import Feature, FeatureSpec
from towerkit.features.text import TextVectorsFeature, TextVectorsSpec, TokensFeature, TokensSpec
from towerkit.pretrained.modules import load_module, new_module, width_of
from towerkit.pretrained.pooling import Pooled, Pooling
from towerkit.pretrained.source import PretrainedSource
from towerkit.pretrained.texts import Precision, encode_tokens
from towerkit.towers.adapters import Training, adapted
from towerkit.towers.layers import perceptron
from towerkit.towers.text_base import TextEncoderSpec, TextPlan, TextTower

ProjectionKind = Literal["linear", "residual", "none"]


class Projection(nn.Module):
    """From an encoder's vectors to the tower's, and a learned vector in the place of those that are not there.

    Args:
        in_dim: Width of the encoder's vectors.
        out_dim: Width of the tower's.
        kind: What is done to the vectors; see :attr:`PretrainedTextSpec.projection`.
        layers: Hidden widths of a linear one.
        dropout: Share of the input and of hidden units dropped in training.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        kind: ProjectionKind = "linear",
        layers: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind, self.dropout = kind, nn.Dropout(dropout)
        self.norm = nn.LayerNorm(in_dim) if kind == "linear" else nn.Identity()
        self.layers = nn.Identity() if kind == "none" else perceptron(in_dim, layers, out_dim, dropout=dropout)
        if kind == "residual":
            nn.init.zeros_(self.layers[-1].weight)  # type: ignore[index, arg-type]
            nn.init.zeros_(self.layers[-1].bias)  # type: ignore[index, arg-type]
        self.absent = nn.Parameter(torch.randn(out_dim) * 0.01)  # not zeros: a cosine has no gradient there

    def forward(self, vectors: Tensor, is_missing: Tensor) -> Tensor:
        """The tower's vectors.

        Args:
            vectors: ``[rows, in_dim]``; those of missing rows are not looked at.
            is_missing: ``[rows]`` bool.

        Returns:
            ``[rows, out_dim]``.
        """
        projected = self.layers(self.dropout(self.norm(vectors)))  # [rows, out_dim]
        if self.kind == "residual":
            projected = vectors + projected
        return torch.where(is_missing[:, None], self.absent.to(projected.dtype), projected)


class VectorsTower(TextTower):
    """A projection of vectors that were computed before training.

    Args:
        feature: Key of the column, ``[rows, dim + 1]`` with the missing flag last.
        projection: To the tower's own width.
        out_dim: That width.
    """

    def __init__(self, feature: str, projection: Projection, out_dim: int) -> None:
        super().__init__()
        self.feature, self.out_dim = feature, out_dim
        self.projection = projection

    def forward(self, columns: Columns) -> Tensor:
        """Project, or the absent vector."""
        column = dense(columns, self.feature).float()
        return self.projection(column[:, :-1], column[:, -1] > 0.5)


class TokensTower(TextTower):
    """An encoder that is trained with the tower, its pooling and a projection.

    Args:
        feature: Key of the bag of tokens.
        module: The encoder.
        pooled: Tokens' vectors to one.
        projection: To the tower's own width.
        out_dim: That width.
        in_dim: Width of the encoder's vectors.
        lr_factor: Of the step size of the encoder's parameters.
        trained: Its parts that have dropout in training; what is frozen has none.
    """

    def __init__(
        self,
        feature: str,
        module: nn.Module,
        pooled: Pooled,
        projection: Projection,
        out_dim: int,
        *,
        in_dim: int,
        lr_factor: float,
        trained: list[nn.Module],
    ) -> None:
        super().__init__()
        self.feature, self.out_dim, self.in_dim = feature, out_dim, in_dim
        self.pooled, self.lr_factor = pooled, lr_factor
        self.module, self.projection = module, projection
        self._trained = trained

    def train(self, mode: bool = True) -> TokensTower:
        """Switch modes; what is frozen has no dropout."""
        super().train(mode)
        self.module.eval()
        for part in self._trained:
            part.train(self.training)
        return self

    def rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """The encoder's parameters."""
        return ((parameter, self.lr_factor) for parameter in self.module.parameters() if parameter.requires_grad)

    def forward(self, columns: Columns) -> Tensor:
        """Encode and project, or the absent vector."""
        bag = columns[self.feature]
        assert isinstance(bag, Bag)
        is_missing = bag.is_empty
        present = torch.nonzero(~is_missing)[:, 0]
        vectors = self.projection.absent.new_zeros(len(bag), self.in_dim)
        if len(present):
            texts = bag.take(present)
            vectors = vectors.index_copy(
                0, present, encode_tokens(self.module, texts.codes, texts.offsets, self.pooled)
            )
        return self.projection(vectors, is_missing)


class PretrainedTextSpec(TextEncoderSpec, PretrainedSource):
    """A pretrained encoder: its vectors, computed once and kept on disk, or trained on with the tower."""

    kind: Literal["pretrained"] = "pretrained"
    train: Training = "frozen"
    """How much of the encoder is trained."""
    pooling: Literal["auto"] | Pooling = "auto"
    """How tokens become a vector; ``auto`` as the encoder's folder says, else the mean."""
    max_tokens: int | None = Field(None, ge=4, le=65536)
    """A longer text is cut; when not given, what the encoder was trained to read, 256 at most."""
    prefix: str | None = None
    """Put in front of each text, as some encoders were trained to see (``"query: "``)."""
    projection: ProjectionKind = "linear"
    """From the encoder's vectors to the tower's: ``linear`` behind a normalization, at random; ``residual`` adds a learned
    correction that begins at nothing; ``none`` leaves them. The latter two want ``dim`` to be the encoder's width."""
    layers: tuple[int, ...] = ()
    """Hidden widths of the projection."""
    precision: Precision = "float32"
    """In which a frozen encoder computes; one that is trained goes by ``training.precision``."""
    vectors: Literal["float32", "float16"] = "float32"
    """How a frozen encoder's vectors are held in memory."""
    lr_factor: float = Field(1.0, gt=0.0, le=1000.0)
    """Of the step size, for the encoder's own parameters."""

    @model_validator(mode="after")
    def _settings_belong_together(self) -> PretrainedTextSpec:
        if self.layers and self.projection == "none":
            raise ValueError(
                f"'layers' are those of the projection; received {list(self.layers)} with projection: none. Remove one."
            )
        if self.train == "frozen" and self.lr_factor != 1.0:
            raise ValueError(
                f"'lr_factor' is for an encoder that is trained; received {self.lr_factor} with train: frozen. Remove it, or train "
                "the encoder."
            )
        if self.train != "frozen" and (self.precision, self.vectors) != ("float32", "float32"):
            raise ValueError(
                "'precision' and 'vectors' are for a frozen encoder, whose vectors are computed once; one that is trained goes by "
                "training.precision. Remove them."
            )
        return self

    def feature(self, columns: tuple[str, ...]) -> FeatureSpec:
        """Vectors of a frozen encoder, tokens for one that is trained."""
        shared = {"columns": columns, "source": self.source(), "pooling": self.pooling}
        shared |= {"max_tokens": self.max_tokens, "prefix": self.prefix}
        if self.train == "frozen":
            return TextVectorsSpec(**shared, precision=self.precision, vectors=self.vectors)
        return TokensSpec(**shared)

    def build(self, feature: Feature, plan: TextPlan) -> VectorsTower | TokensTower:
        """The projection, and the encoder's module where it is trained; or those of the candidate side."""
        if plan.like is not None:
            assert isinstance(plan.like, VectorsTower | TokensTower)
            return plan.like.over(feature.name)
        if isinstance(feature, TextVectorsFeature):
            return VectorsTower(feature.name, self._projection(feature.dim, plan), plan.dim)
        assert isinstance(feature, TokensFeature)
        pretrained = feature.reader.pretrained  # without weights of its own the module gets those of the Run afterwards
        module = load_module(pretrained) if pretrained.has_weights else new_module(pretrained)
        width = width_of(pretrained)
        return TokensTower(
            feature.name,
            module,
            feature.pooled,
            self._projection(width, plan),
            plan.dim,
            in_dim=width,
            lr_factor=self.lr_factor,
            trained=adapted(module, self.train),
        )

    def _projection(self, width: int, plan: TextPlan) -> Projection:
        if self.projection != "linear" and plan.dim != width:
            raise SpecError(
                f"projection: {self.projection} keeps the encoder's own width, which is {width}; the text tower has dim "
                f"{plan.dim}. Set dim: {width}, or projection: linear."
            )
        return Projection(width, plan.dim, kind=self.projection, layers=self.layers, dropout=plan.dropout)
