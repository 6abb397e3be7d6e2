"""The ``data`` part of a spec, ready to paste: YAML that quotes what needs quotes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from towerkit.data.table import Table


def snippet_of(source: Mapping[str, Any], roles: Mapping[str, str]) -> str:
    """YAML that reads a file in these roles.

    Args:
        source: The keys that read the file; with a ``key`` it is an entity table, which a comment explains.
        roles: Role -> column.
    """
    if "key" in source:
        data: dict[str, Any] = {"entities": {source["key"]: dict(source)}}
        head = "# under data: beside examples; the name is the column of the examples that points here\n"
        return head + _yaml(data)
    return _yaml({"data": {"examples": {**source, **roles}}})


def title_of(table: Table) -> dict[str, str]:
    """The key ``title`` of an entity table, if a column is called so or like it."""
    named = {name.lower(): name for name in table.data.column_names}
    found = next((named[word] for word in ("title", "name") if word in named), None)
    return {} if found is None else {"title": found}


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=None)
