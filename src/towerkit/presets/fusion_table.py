"""What ``backbone: {kind: auto}`` found: each fusion with its loss, what it costs, and which of them was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from towerkit.core.errors import RunError

Way = Literal["early", "alone", "late", "hybrid"]


@dataclass(frozen=True)
class Fusion:
    """One fusion that was compared."""

    name: str
    way: Way
    loss: float
    """Relative to that of the answer that looks at no column, on rows that neither it nor its epoch was chosen by."""
    behind: float
    """How far above the lowest loss."""
    low: float
    """Of the 95 % paired bootstrap interval of ``behind``."""
    high: float
    ties: bool
    """The interval holds 0, or it is the best itself."""
    parameters: int
    seconds: float
    """Of training; of a late fusion, of its members."""
    ms_per_row: float
    """Raw rows to answers, once over the rows that were compared on."""
    epochs: int
    """Trained until the best one; of a late fusion the most of its members."""


@dataclass(frozen=True)
class FusionTable:
    """The fusions from the lowest loss on, and how they were compared."""

    fusions: Sequence[Fusion]
    chosen: str
    """The name of the one with the fewest parameters among those that tie."""
    rows: Mapping[str, int]
    """``train``, ``epochs`` (the rows that chose epochs and weights of late fusions) and ``compared``."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Name -> why it was not compared."""

    @property
    def best(self) -> Fusion:
        """The one with the lowest loss."""
        return self.fusions[0]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "chosen": self.chosen,
            "rows": dict(self.rows),
            "fusions": [dict(vars(each)) for each in self.fusions],
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FusionTable:
        """The inverse of :meth:`as_dict`.

        Raises:
            RunError: If the data is no such table.
        """
        try:
            fusions = tuple(Fusion(**each) for each in data["fusions"])
            found = cls(fusions, str(data["chosen"]), dict(data["rows"]), dict(data["left_out"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"A stored table of fusions cannot be read ({error!r}); train the Run again.") from None
        if found.chosen not in {each.name for each in fusions}:
            raise RunError(f"A stored table of fusions lacks the one that was chosen, '{found.chosen}'; train again.")
        return found

    def lines(self) -> tuple[list[str], list[list[str]]]:
        """Head and cells of the table, for people."""
        head = ["fusion", "loss", "behind the best", "verdict", "parameters", "training s", "ms per row", "epochs"]
        cells = [
            [
                each.name,
                f"{each.loss:.4f}",
                "–" if each is self.best else f"{each.behind:.4f} [{each.low:.4f}, {each.high:.4f}]",
                " ".join(["ties"] * each.ties + ["chosen"] * (each.name == self.chosen)),
                f"{each.parameters:,}",
                f"{each.seconds:.1f}",
                f"{each.ms_per_row:.3f}",
                f"{each.epochs}",
            ]
            for each in self.fusions
        ]
        return head, cells

    def sentence(self) -> str:
        """What the table says and rests on, for people."""
        rows = self.rows
        left = "".join(f" Left out: {name}: {reason}" for name, reason in self.left_out.items())
        return (
            f"Compared on {rows['compared']:,} validation rows, after training on {rows['train']:,} rows with epochs chosen on "
            f"{rows['epochs']:,} others; the loss is a share of that of the answer that looks at no column. Of those that tie "
            f"with the best, {self.chosen} has the fewest parameters and was trained.{left}"
        )
