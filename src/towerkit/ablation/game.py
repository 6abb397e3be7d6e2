"""A trained model as a game of its towers: what it answers to the held-out rows when some of them are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from towerkit.core.random import generator
from towerkit.evaluation.samples import Sample
from towerkit.features.base import FeatureSpec

Mode = Literal["absent", "mean", "permute"]
"""What stands in the place of a tower that is missing, without training anything again."""
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class Part:
    """One tower or member: what it reads and what it costs."""

    group: str
    """Those of one group work for the same request: ``query``, ``candidate``, ``row``."""
    reads: tuple[str, ...]
    """Raw columns."""
    parameters: int
    """Learned numbers."""
    bytes: int
    """Of its weights and fitted arrays in memory; of a member that is no network, of its files."""
    run: Callable[[], int]
    """Does its work on some raw rows once, and says how many."""


class Game(Protocol):
    """A model whose towers have spoken once; what is asked again and again is only what follows them."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """The towers or members by name, two or more."""

    @property
    def rest(self) -> Mapping[str, Callable[[], int]]:
        """Group -> what follows its towers (backbone, heads), on some rows once; says how many."""

    def answers(self, missing: frozenset[str], mode: Mode, draw: int) -> Sample:
        """The held-out rows without some towers.

        Args:
            missing: Names of parts.
            mode: What stands in their place.
            draw: Number of the shuffle, for ``permute``; the missing towers of one group get the values of one other row.
        """

    def with_column(self, part: str, column: str, draw: int) -> Sample:
        """The held-out rows with one raw column of one tower shuffled, all else as it is.

        Args:
            part: The tower.
            column: One that it reads.
            draw: Number of the shuffle.
        """


def replaced(
    parts: Mapping[str, Tensor],
    missing: Iterable[str],
    mode: Mode,
    unknown: Mapping[str, Tensor],
    mean: Callable[[str], Tensor],
    source: Callable[[], Tensor],
) -> dict[str, Tensor]:
    """The vectors of all towers, with something else in the place of those that are missing.

    Args:
        parts: Tower -> ``[rows, dim_i]``.
        missing: Towers.
        mode: What stands there.
        unknown: Tower -> ``[dim_i]`` what it says of a row that nothing is known of.
        mean: Tower -> ``[dim_i]``.
        source: ``[rows]`` whose vector each row gets, for ``permute``.
    """
    found = dict(parts)
    for name in missing:
        if mode == "permute":
            found[name] = parts[name][source()]
        else:
            stand_in = unknown[name] if mode == "absent" else mean(name)
            found[name] = stand_in.to(parts[name].dtype).expand(len(parts[name]), -1)
    return found


def shuffled(rows: Tensor, count: int, *names: object) -> Tensor:
    """``[count]`` places, with those of some rows exchanged among these.

    Args:
        rows: ``[n]`` distinct places that are shuffled.
        count: All places.
        *names: Of the stream that draws; the same names give the same order.
    """
    source = torch.arange(count)
    order = generator(0, "ablation", *names).permutation(len(rows))
    source[rows] = rows[torch.from_numpy(order)]
    return source


def size_of(modules: Iterable[nn.Module]) -> tuple[int, int]:
    """Learned numbers, and bytes of weights and buffers; what several modules share counts once.

    Args:
        modules: Of one part.
    """
    weights: dict[int, Tensor] = {}
    buffers: dict[int, Tensor] = {}
    for module in modules:
        weights |= {id(each): each for each in module.parameters()}
        buffers |= {id(each): each for each in module.buffers()}
    every = [*weights.values(), *buffers.values()]
    return sum(each.numel() for each in weights.values()), sum(each.numel() * each.element_size() for each in every)


def columns_of(features: Iterable[FeatureSpec]) -> tuple[str, ...]:
    """The raw columns that some features read, each once."""
    return tuple(dict.fromkeys(name for feature in features for name in feature.column_names()))
