"""How long a person waits before anything happens: ``import towerkit`` and ``towerkit --help``, beside a bare interpreter.

Budgets: 0.3 s and 0.7 s.
"""

from __future__ import annotations

import subprocess
import sys

from harness import alternate, report


def run(*words: str) -> None:
    """One process of this interpreter."""
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Time the three, in turns."""
    seconds = alternate(
        {
            "bare interpreter": lambda: run("-c", "pass"),
            "import towerkit": lambda: run("-c", "import towerkit"),
            "towerkit --help": lambda: run("-m", "towerkit", "--help"),
        },
        repeats=3 if "--tiny" in sys.argv else 15,
    )
    report("start", seconds, budget_s={"import towerkit": 0.3, "towerkit --help": 0.7})


if __name__ == "__main__":
    main()
