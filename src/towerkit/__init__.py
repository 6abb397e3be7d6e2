"""towerkit: from tables to a live recommender, search engine, ad ranker or multimodal classifier.

The names below load what they need at first use, so that ``import towerkit`` itself is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from towerkit._version import __version__

if TYPE_CHECKING:
    from towerkit.ablation.study import ablate
    from towerkit.api import fit, read
    from towerkit.core.errors import (
        DataError,
        MissingExtraError,
        RunError,
        ShapeError,
        SpecError,
        TowerkitError,
        TrainingError,
    )
    from towerkit.data.dataset import Dataset
    from towerkit.evaluation.compare import compare
    from towerkit.recommend.notes import notes_of
    from towerkit.run import Run
    from towerkit.run import load_run as load
    from towerkit.spec import ExperimentSpec, ModelingSpec, load_spec
    from towerkit.tuning.tune import tune

_HOMES = {
    "Dataset": "towerkit.data.dataset",
    "ExperimentSpec": "towerkit.spec",
    "ModelingSpec": "towerkit.spec",
    "Run": "towerkit.run",
    "ablate": "towerkit.ablation.study",
    "compare": "towerkit.evaluation.compare",
    "fit": "towerkit.api",
    "load": "towerkit.run:load_run",
    "load_spec": "towerkit.spec",
    "notes_of": "towerkit.recommend.notes",
    "read": "towerkit.api",
    "tune": "towerkit.tuning.tune",
    **dict.fromkeys(
        ["DataError", "MissingExtraError", "RunError", "ShapeError", "SpecError", "TowerkitError", "TrainingError"],
        "towerkit.core.errors",
    ),
}

__all__ = [
    "DataError",
    "Dataset",
    "ExperimentSpec",
    "MissingExtraError",
    "ModelingSpec",
    "Run",
    "RunError",
    "ShapeError",
    "SpecError",
    "TowerkitError",
    "TrainingError",
    "__version__",
    "ablate",
    "compare",
    "fit",
    "load",
    "load_spec",
    "notes_of",
    "read",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'towerkit' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__() -> list[str]:
    return __all__
