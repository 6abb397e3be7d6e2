"""Write raw rows that a spec's training holds out, as a request would bring them: python tools/example_rows.py SPEC ROWS.parquet

The rows are the first twenty of the test part (of the validation part, where there is none), with every column of the examples,
labels included; ``towerkit predict RUN ROWS.parquet`` reads the columns that its towers need.
"""

from __future__ import annotations

import sys
from pathlib import Path

from towerkit.data.dataset import read_dataset
from towerkit.data.writers import write_table
from towerkit.spec import load_spec

ROWS = 20


def main(spec: Path, out: Path) -> None:
    """Write the rows."""
    loaded = load_spec(spec)
    dataset = read_dataset(loaded.data, base=spec.resolve().parent, seed=loaded.training.seed)
    part = dataset.parts.test if len(dataset.parts.test) else dataset.parts.validation
    write_table(dataset.examples.data.take(part[:ROWS]), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
