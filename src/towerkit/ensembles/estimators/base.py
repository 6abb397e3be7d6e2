"""What an estimator is: scikit-learn fits it, a few arrays hold it, and NumPy answers from these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import TrainingError
from towerkit.core.optional import optional_import
from towerkit.core.spec import Spec

Floats: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Features: TypeAlias = NDArray[np.float32] | csr_array
"""``[rows, inputs]``."""

_CHECKED_ROWS = 200
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Goal:
    """What is predicted from what."""

    inputs: int
    """Columns of the features."""
    classes: int
    """0 for a number."""

    @property
    def outputs(self) -> int:
        """Columns of an answer."""
        return max(1, self.classes)


class Estimator(Protocol):
    """A fitted estimator: plain arrays, and how to answer from them."""

    def predict(self, features: Features) -> Floats:
        """``[rows, classes]`` probabilities; of a number ``[rows, 1]``."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All it consists of."""


class EstimatorSpec(Spec):
    """An estimator of the menu; its keys are those of scikit-learn."""

    reads_sparse: ClassVar[bool] = False
    """Whether texts, whose n-grams are a wide and empty matrix, may be among its columns."""
    predicts_classes: ClassVar[bool] = True
    predicts_numbers: ClassVar[bool] = True

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """Fit it.

        Args:
            features: ``[rows, inputs]``.
            truth: ``[rows]`` codes of classes, each of which occurs, or numbers.
            weight: ``[rows]``, above 0.
            goal: Sizes.
            seed: Of what it draws.
        """
        raise NotImplementedError

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """The inverse of :meth:`Estimator.arrays`.

        Raises:
            KeyError: If an array is missing.
            ValueError: If the arrays do not fit each other or the goal.
        """
        raise NotImplementedError


def from_sklearn(module: str) -> ModuleType:
    """A module of scikit-learn, imported when first used."""
    return optional_import(f"sklearn.{module}", extra="sklearn")


@contextmanager
def untouched_random() -> Iterator[None]:
    """Put NumPy's global random state back: some estimators draw a seed from it that they have no use for."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def agreeing(found: Estimator, theirs: Any, features: Features, goal: Goal) -> Estimator:
    """The estimator, once it answered some rows as scikit-learn's own does.

    Args:
        found: Ours.
        theirs: What it was made from.
        features: What it was fitted on.
        goal: Sizes.

    Raises:
        TrainingError: If the answers differ, which says that this version of scikit-learn keeps its numbers otherwise.
    """
    asked = features[: min(_CHECKED_ROWS, features.shape[0])]
    wanted = theirs.predict_proba(asked) if goal.classes else theirs.predict(asked)[:, None]
    gap = float(np.abs(found.predict(asked) - wanted).max(initial=0.0))
    if not gap <= _TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0))):
        version = from_sklearn("base").__dict__.get("__version__", "this version")
        raise TrainingError(
            f"{type(theirs).__name__} of scikit-learn ({version}) and what was read off it differ by {gap:.3g} on the training "
            "rows. Use a version of scikit-learn that towerkit was tested with (constraints.txt), or another estimator."
        )
    return found


def floats(arrays: Arrays, name: str, shape: tuple[int | None, ...]) -> Floats:
    """An array of finite numbers of some shape, where None is any length.

    Raises:
        KeyError: If it is missing.
        ValueError: If it is another sort of array.
    """
    found = np.asarray(arrays[name])
    fits = found.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=False)
    )
    if found.dtype.kind != "f" or not fits or not np.isfinite(found).all():
        raise ValueError(f"'{name}' is {found.dtype} of shape {found.shape}, not finite numbers of shape {shape}")
    return np.asarray(found, np.float64)


def sigmoids(logits: Floats) -> Floats:
    """``[rows]`` log-odds to ``[rows, 2]``."""
    from scipy.special import expit

    return np.stack([expit(-logits), expit(logits)], axis=1)


def softmax(logits: Floats) -> Floats:
    """``[rows, classes]`` to probabilities."""
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)


def linked(logits: Floats, goal: Goal) -> Floats:
    """``[rows, 1]`` log-odds, ``[rows, classes]`` logits or ``[rows, 1]`` numbers to answers."""
    if not goal.classes:
        return logits
    return sigmoids(logits[:, 0]) if logits.shape[1] == 1 else softmax(logits)
