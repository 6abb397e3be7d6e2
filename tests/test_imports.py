"""Import is cheap.

- ``import towerkit`` loads none of the heavy packages; they come with the modules that need them.
- The probe sees a heavy package when one is loaded (so the first claim can fail).
- The package tells type checkers that it is typed.
"""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys

HEAVY = {"torch", "pyarrow", "scipy", "numba", "pandas", "polars", "duckdb", "sklearn", "xgboost"}
PROBE = """
import json, sys, time
start = time.perf_counter()
{statement}
print(json.dumps({{"seconds": time.perf_counter() - start, "modules": sorted(sys.modules)}}))
"""


def loaded_by(statement: str) -> set[str]:
    """The heavy packages that a new process has loaded after ``statement``; the time it took is printed."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"{statement}: {told['seconds']:.3f} s, {len(told['modules'])} modules")
    return HEAVY & set(told["modules"])


def test_importing_towerkit_loads_nothing_heavy() -> None:
    assert loaded_by("import towerkit") == set()


def test_the_probe_sees_a_heavy_package() -> None:
    assert "pyarrow" in loaded_by("import towerkit, pyarrow")


def test_the_package_is_marked_as_typed() -> None:
    assert importlib.resources.files("towerkit").joinpath("py.typed").is_file()
