"""What a look at a trained Run found: what was measured, what is normal, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    measured: str
    """In words, with the figures."""
    normal: str
    next: str
    """What to do; empty where all is well."""
    values: dict[str, float]

    @property
    def is_odd(self) -> bool:
        """Whether it is not as it normally is."""
        return bool(self.next)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no nan."""
        values = {name: None if value != value else value for name, value in self.values.items()}
        told = {"check": self.check, "measured": self.measured, "normal": self.normal, "next": self.next or None}
        return {**told, "odd": self.is_odd, "values": values}


def finding_line(found: Mapping[str, Any]) -> str:
    """A finding for people.

    Args:
        found: In plain data.
    """
    ending = f" -> {found['next']}" if found["next"] else ""
    return f"{'odd ' if found['odd'] else 'ok  '} {found['check']}: {found['measured']} (normal: {found['normal']}){ending}"
