"""Pictures by a pretrained encoder: their vectors, computed once and kept, or pixels for a tower that trains the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.errors import DataError, RunError
from towerkit.core.notices import notice
from towerkit.core.spec import short
from towerkit.data.batch import Column
from towerkit.data.table import Table, values_of
from towerkit.features.base import Feature, State
from towerkit.features.cells import cells_of
from towerkit.features.image import FileSpec, ImageFeature
from towerkit.features.media import Files
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.pictures import PictureEncoder, PicturePooling
from towerkit.pretrained.reading import Fit, PictureReader
from towerkit.pretrained.source import PretrainedSource
from towerkit.pretrained.texts import Precision
from towerkit.pretrained.vectors import content_key

_MOST_DIM = 65_536


class _PretrainedSpec(FileSpec):
    """What both ways of reading share."""

    source: PretrainedSource
    size: int | None = Field(None, ge=8, le=1024)
    fitting: Fit | None = None
    pooling: Literal["auto"] | PicturePooling = "auto"

    def _begin(self, table: pa.Table) -> tuple[PictureEncoder, dict[str, Any]]:
        """What is read off the encoder's folder, once."""
        cells_of(values_of(table, self.column), self.column)
        pretrained = self.source.find()
        reader = PictureReader.of(pretrained, self.size, self.fitting)
        pooling: PicturePooling = "cls" if self.pooling == "auto" else self.pooling
        return PictureEncoder(pretrained, reader, pooling), {"reader": reader.as_dict(), "pooling": pooling}

    def _stored(self, state: State) -> PictureEncoder:
        reader, pooling = state.values["reader"], state.values["pooling"]
        if not isinstance(reader, Mapping) or pooling not in ("mean", "cls"):
            raise RunError(f"A stored feature reads pictures as {short(dict(state.values), 200)}; train the Run again.")
        return PictureEncoder(state.encoder(), PictureReader.from_dict(reader), pooling)

    def _pixels(self, encoder: PictureEncoder, kind: str, *more: object) -> ImageFeature:
        reader = encoder.reader
        settings = (
            self.column,
            self.root,
            self.pattern,
            self.on_error,
            encoder.pretrained.folder_name,
            encoder.settings,
            *more,
        )
        name = f"{kind}:{settings!r}"
        return ImageFeature(name, self.column, self.place, self.on_error, reader.size, reader.fit, reader.resample)


@dataclass(frozen=True)
class ImageVectorsFeature(Feature):
    """``[rows, dim + 1]``: the vector of the encoder (zeros where there is no picture) and 1 where there is none."""

    name: str
    pixels: ImageFeature
    encoder: PictureEncoder
    dim: int

    def encode(self, table: pa.Table) -> Column:
        """Rows from memory; paths start at the current directory."""
        return self.read(Table(table, "the given rows"))

    def read(self, table: Table, *, kept: bool = False) -> Column:
        """Look each distinct file up; decode, compute and keep what is new.

        Args:
            table: Raw rows; paths start at its folder.
            kept: Vectors are kept always: they are small, and cost much.

        Raises:
            DataError: As :meth:`towerkit.features.media.MediaFeature.read`.
        """
        cells = cells_of(values_of(table.data, self.pixels.column), self.pixels.column)
        files = Files(self.pixels, cells, replace(self.pixels.place, folder=table.folder))
        found = np.zeros((len(cells), self.dim + 1), np.float32)
        found[:, -1] = 1.0
        for rows, contents in files.contents(range(len(cells))):
            keys = [content_key(content) for content in contents]
            vectors, computed = self._vectors(files, dict(zip(keys, contents, strict=True)))
            for row, key in zip(rows, keys, strict=True):
                vector = vectors[key]
                if isinstance(vector, str):
                    files.fault(row, vector)
                else:
                    found[row, :-1], found[row, -1] = vector, 0.0
            if computed and rows[-1] + 1 < len(cells):  # what is only looked up takes no time worth a word
                notice(f"encoding pictures: {rows[-1] + 1:,} of {len(cells):,}")
        if files.faults:
            self.pixels.tell(table, files.faults, len(cells) - cells.null_count)
        return torch.from_numpy(found)

    def portable(self, table: Table) -> Mapping[str, pa.ChunkedArray]:
        """The column with the files themselves in place of paths."""
        return self.pixels.portable(table)

    def state(self) -> State:
        """The encoder, and how it is read."""
        values = {"reader": self.encoder.reader.as_dict(), "pooling": self.encoder.pooling, "dim": self.dim}
        return State(values, None, self.encoder.pretrained)

    def sample(self) -> Mapping[str, Any]:
        """A made-up picture."""
        return self.pixels.sample()

    def _vectors(
        self, files: Files, contents: Mapping[bytes, bytes]
    ) -> tuple[dict[bytes, NDArray[np.float32] | str], int]:
        """Key -> the vector, or why there is none; and how many were computed."""
        cache = self.encoder.cache
        entries = cache.read(list(contents))
        found: dict[bytes, NDArray[np.float32] | str] = {
            key: np.frombuffer(value, "<f4") for key, value in entries.items() if len(value) == 4 * self.dim
        }
        decoded = files.decoded({key: content for key, content in contents.items() if key not in found})
        good = {key: row for key, row in decoded.items() if not isinstance(row, str)}
        found |= {key: row for key, row in decoded.items() if isinstance(row, str)}
        if good:
            computed = np.ascontiguousarray(self.encoder.compute(np.stack(list(good.values()))), "<f4")
            if computed.shape[1] != self.dim or not np.isfinite(computed).all():
                raise DataError(
                    f"The encoder gives no {self.dim:,} finite numbers for a picture of the column '{self.pixels.column}'; use "
                    "precision: float32, or another encoder."
                )
            fresh = dict(zip(good, computed, strict=True))
            cache.write({key: vector.tobytes() for key, vector in fresh.items()})
            found |= fresh
        return found, len(good)


class ImageVectorsSpec(_PretrainedSpec):
    """Vectors of a pretrained encoder that is not trained on."""

    kind: Literal["image_vectors"] = "image_vectors"
    precision: Precision = "float32"

    def fit(self, table: pa.Table) -> ImageVectorsFeature:
        """Nothing is learned; the encoder is found and hashed, and its width taken."""
        encoder, values = self._begin(table)
        dim = replace(encoder, precision=self.precision).width()
        return self.restore(State({**values, "dim": dim}, None, encoder.pretrained))

    def restore(self, state: State) -> ImageVectorsFeature:
        """Rebuild from the encoder's files."""
        encoder = replace(self._stored(state), precision=self.precision)
        dim = state.values["dim"]
        if type(dim) is not int or not 0 < dim <= _MOST_DIM:
            raise RunError(f"A stored feature has vectors of {short(dim)} numbers; train the Run again.")
        pixels = self._pixels(encoder, self.kind)
        return ImageVectorsFeature(pixels.name, pixels, encoder, dim)


@dataclass(frozen=True)
class EncoderPixelsFeature(ImageFeature):
    """Pixels of the size that an encoder takes, with the files that it is built from."""

    encoder: PictureEncoder | None = None

    def built_from(self) -> PictureEncoder:
        """The encoder."""
        assert self.encoder is not None, "made by EncoderPixelsSpec"
        return self.encoder

    def state(self) -> State:
        """The encoder without its weights, which are among the model's own, and how it is read."""
        encoder = self.built_from()
        values = {"reader": encoder.reader.as_dict(), "pooling": encoder.pooling}
        return State(values, None, _seen_by(encoder.pretrained))


class EncoderPixelsSpec(_PretrainedSpec):
    """Pixels as a pretrained encoder takes them, for a tower that trains it."""

    kind: Literal["encoder_pixels"] = "encoder_pixels"

    def fit(self, table: pa.Table) -> EncoderPixelsFeature:
        """Nothing is learned; the encoder is found and hashed."""
        encoder, values = self._begin(table)
        return self.restore(State(values, None, encoder.pretrained))

    def restore(self, state: State) -> EncoderPixelsFeature:
        """Rebuild from the encoder's config."""
        encoder = self._stored(state)
        pixels = self._pixels(replace(encoder, pretrained=_seen_by(encoder.pretrained)), self.kind)
        return EncoderPixelsFeature(
            pixels.name,
            pixels.column,
            pixels.place,
            pixels.on_error,
            pixels.size,
            pixels.fit,
            pixels.resample,
            encoder,
        )


def _seen_by(pretrained: Pretrained) -> Pretrained:
    """The files that a network is built from; the same before and after the weights have moved into the model's own."""
    return pretrained.without_weights(("config.json",))
