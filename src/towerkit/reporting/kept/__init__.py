"""What ablate, tune and crossval kept as JSON, as sections of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from towerkit.core.errors import DataError, listed
from towerkit.reporting.blocks import Section
from towerkit.reporting.kept.ablation import ablation_section
from towerkit.reporting.kept.crossval import crossval_section
from towerkit.reporting.kept.tuning import tuning_section
from towerkit.storage.hashes import read_json

KINDS: Mapping[str, Callable[[Mapping[str, Any], str], Section]] = {
    "ablation": ablation_section,
    "tuning": tuning_section,
    "crossval": crossval_section,
}
"""The ``kind`` of a kept file -> how it is shown."""


def kept_sections(paths: Sequence[Path]) -> list[Section]:
    """A section for each file.

    Args:
        paths: JSON objects with a ``kind``.

    Raises:
        DataError: If one cannot be read, is of no known kind, or lacks what its kind has.
    """
    return [_section(path, f"kept-{number + 1}") for number, path in enumerate(paths)]


def _section(path: Path, anchor: str) -> Section:
    content = read_json(path)
    kind = content.get("kind") if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(
            f"{path}: a report shows what 'towerkit ablate', 'tune' and 'crossval' write, JSON with a kind of {listed(KINDS)}; "
            f"received kind {kind!r}. Give the file that --out of one of them wrote."
        )
    try:
        return KINDS[kind](content, anchor)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path}: it says kind '{kind}', and what such a file holds is not there or is something else ({error!r}). Write it "
            "anew with this version of towerkit."
        ) from None
