"""Format versions of a Run, and the steps that read an older one as if this version had written it.

A step is a pure function from the content of one JSON file of format N to that of format N + 1. It is applied in memory, each
time the file is read; nothing is ever rewritten in place, so an older towerkit goes on reading its own Run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

FORMAT_VERSION = 2
"""The format that this version writes; it reads every one from 1 on."""

Step: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def manifest_1_to_2(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Format 2 has the embedding-space id; None stands for one that was never written, and is worked out when asked for."""
    return {**content, "space": None}


def golden_1_to_2(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Format 2 has no version of its own in the golden request: the Run's is enough."""
    return {key: value for key, value in content.items() if key != "format"}


STEPS: Mapping[int, Mapping[str, Step]] = {1: {"manifest.json": manifest_1_to_2, "golden.json": golden_1_to_2}}
"""Format N -> name of a file -> the step to N + 1; a file that is not named did not change."""


def upgraded(name: str, content: Any, version: int) -> Any:
    """The content of a JSON file as this version would have written it.

    Args:
        name: The file's name without its folders, for example ``model.json``.
        content: What is in it.
        version: The format of its Run.

    Example:
        >>> upgraded("golden.json", {"format": 1, "answers": {}}, 1)
        {'answers': {}}
    """
    for number in range(version, FORMAT_VERSION):
        step = STEPS[number].get(name)
        content = content if step is None or not isinstance(content, Mapping) else step(content)
    return content
