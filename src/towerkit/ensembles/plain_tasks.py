"""What a member that is no tower model cannot do with a task."""

from __future__ import annotations

from towerkit.core.errors import listed
from towerkit.heads import HeadSpec


def check_plain(task: HeadSpec, who: str) -> None:
    """Refuse a task that asks for rows to be learned from unequally.

    By value, and not by whether the key was given: a spec that was stored has every default written out.

    Args:
        task: Of the member.
        who: What to call the member in the message.

    Raises:
        ValueError: With the keys.
    """
    emphasis = [name for name in ("class_weights", "focal", "smoothing") if getattr(task, name, None)]
    if emphasis:
        raise ValueError(
            f"{who} learns from each row alike; received {listed(emphasis)} in the task of '{task.column}'. Remove it, or use a "
            "tower_model as the member."
        )
