"""Keep what acceptance/6.sh wrote: python benchmarks/results/known.py FOLDER

FOLDER has, for each data set NAME, ``NAME-ablation.json``, ``NAME-folds/crossval.json`` and ``NAME-tuned/tuning.json``, as the
commands wrote them. What ``docs/results.md`` shows of them goes into ``known.json`` beside this file;
data sets whose files are not in the folder stay as they were.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from known_page import WORLDS

HERE = Path(__file__).parent
KEPT = HERE / "known.json"


def main() -> None:
    """Read, shorten, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for world in WORLDS:
        found = of_world(folder, world.name)
        if found:
            kept[world.name] = kept.get(world.name, {}) | found
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def of_world(folder: Path, name: str) -> dict[str, Any]:
    """What the commands wrote for one data set."""
    readers = {
        "ablation": (f"{name}-ablation.json", ablation),
        "again": (f"{name}1-ablation.json", ablation),
        "folds": (f"{name}-folds/crossval.json", folds),
        "tuning": (f"{name}-tuned/tuning.json", tuning),
    }
    found = {
        part: read(json.loads((folder / file).read_text()))
        for part, (file, read) in readers.items()
        if (folder / file).exists()
    }
    return found and {**found, "measured": mark()}


def ablation(content: Mapping[str, Any]) -> dict[str, Any]:
    """The whole model, and each tower by the first mode."""
    mode = next(iter(content["modes"]))
    own = content["modes"][mode]
    towers = {
        name: {
            "without": own["without"].get(name, {}),
            "shapley": own["shapley"].get(name, {}),
            **{key: cost[key] for key in ("parameters", "ms_per_row", "share", "verdict")},
        }
        for name, cost in content["towers"].items()
    }
    return {"mode": mode, "metrics": content["metrics"], "towers": towers}


def folds(content: Mapping[str, Any]) -> dict[str, Any]:
    """The figures over all folds, and how far they lie apart."""
    return {
        "folds": len(content["folds"]),
        "by": content["plan"]["kind"],
        "metrics": content["metrics"],
        "spread": content["spread"],
        "baselines": content["baselines"],
    }


def tuning(content: Mapping[str, Any]) -> dict[str, Any]:
    """How many trials of which sort, default and best, and their difference on test rows."""
    states = [each["state"] for each in content["trials"]]
    return {
        "metric": content["metric"],
        "trials": {state: states.count(state) for state in dict.fromkeys(states)},
        "seconds": content["saved"]["seconds"],
        "saved_s": content["saved"]["saved_s"],
        "best": {key: content["best"][key] for key in ("trial", "value", "reproduced")},
        "default": content["default"] and {key: content["default"][key] for key in ("value", "reproduced")},
        "comparison": content.get("comparison", {}).get("metrics", {}),
        "parts": content["importance"]["parts"],
    }


def mark() -> str:
    """The day, and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
    )
    return f"{datetime.datetime.now(datetime.UTC).date()} at {commit.stdout.strip()}"


if __name__ == "__main__":
    main()
