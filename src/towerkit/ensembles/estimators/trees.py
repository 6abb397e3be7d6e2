"""Ensembles of trees: random forests, extremely random ones, and boosting over histograms, all as lists of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.ensembles.estimators.base import (
    Arrays,
    Estimator,
    EstimatorSpec,
    Features,
    Floats,
    Goal,
    agreeing,
    floats,
    from_sklearn,
    linked,
)

Whole = NDArray[np.int64]
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Trees:
    """The nodes of all trees, one tree after the other; a child stands behind its parent."""

    starts: Whole
    """``[trees + 1]`` the first node of each tree, and the number of nodes."""
    children: Whole
    """``[nodes, 2]`` the child of those at or below the threshold and of the others; -1 in a leaf."""
    feature: Whole
    """``[nodes]``."""
    threshold: Floats
    """``[nodes]``."""
    value: Floats
    """``[nodes, width]`` what a leaf says."""

    def leaves(self, features: NDArray[np.float32], tree: int) -> Whole:
        """``[rows]`` the node that each row ends in."""
        node = np.full(len(features), self.starts[tree])
        going = np.flatnonzero(self.children[node, 0] >= 0)
        while len(going):
            here = node[going]
            above = features[going, self.feature[here]] > self.threshold[here]
            node[going] = self.children[here, above.astype(np.int64)]
            going = going[self.children[node[going], 0] >= 0]
        return node

    def summed(self, features: NDArray[np.float32], outputs: int) -> Floats:
        """``[rows, outputs]`` the sum over the trees; where a leaf says one number, trees take turns with the outputs."""
        found = np.zeros((len(features), outputs))
        for start in range(0, len(features), _CHUNK):
            rows = features[start : start + _CHUNK]
            for tree in range(len(self.starts) - 1):
                said = self.value[self.leaves(rows, tree)]
                column = slice(None) if said.shape[1] == outputs else slice(tree % outputs, tree % outputs + 1)
                found[start : start + _CHUNK, column] += said
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As they stand; places in half the space."""
        return {name: each.astype(np.int32) if each.dtype == np.int64 else each for name, each in vars(self).items()}


def restored_trees(arrays: Arrays, goal: Goal, width: int) -> Trees:
    """From stored arrays, checked so that every row ends in a leaf.

    Raises:
        KeyError: If an array is missing.
        ValueError: If these are no trees over so many inputs.
    """
    starts, children, feature = (_whole(arrays, name) for name in ("starts", "children", "feature"))
    nodes = len(feature)
    trees = Trees(
        starts, children, feature, floats(arrays, "threshold", (nodes,)), floats(arrays, "value", (nodes, width))
    )
    if starts.ndim != 1 or len(starts) < 2 or starts[0] != 0 or starts[-1] != nodes or (np.diff(starts) < 1).any():
        raise ValueError(f"the trees do not cover the {nodes:,} nodes")
    if children.shape != (nodes, 2) or ((feature < 0) | (feature >= goal.inputs)).any():
        raise ValueError(f"a node splits by a column that is not among the {goal.inputs:,} there are")
    own = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    inner = children[:, 0] >= 0
    if (children[~inner] != -1).any() or (children[inner] <= np.flatnonzero(inner)[:, None]).any():
        raise ValueError("a child does not stand behind its parent")
    if (children[inner] >= starts[own[inner] + 1][:, None]).any():
        raise ValueError("a child stands in another tree")
    return trees


def _whole(arrays: Arrays, name: str) -> Whole:
    found = np.asarray(arrays[name])
    if found.dtype.kind not in "iu" or found.ndim not in (1, 2):
        raise ValueError(f"'{name}' is {found.dtype}, not whole numbers")
    return found.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Forest:
    """The mean of the trees' answers."""

    goal: Goal
    trees: Trees

    def predict(self, features: Features) -> Floats:
        """``[rows, classes]`` probabilities; of a number ``[rows, 1]``."""
        assert isinstance(features, np.ndarray)
        return self.trees.summed(features, self.goal.outputs) / (len(self.trees.starts) - 1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The nodes."""
        return self.trees.arrays()


@dataclass(frozen=True, eq=False)
class Boosted:
    """The sum of the trees' answers, as log-odds, logits or a number."""

    goal: Goal
    trees: Trees
    start: Floats
    """``[logits]`` before the first tree."""

    def predict(self, features: Features) -> Floats:
        """``[rows, classes]`` probabilities; of a number ``[rows, 1]``."""
        assert isinstance(features, np.ndarray)
        return linked(self.start + self.trees.summed(features, len(self.start)), self.goal)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The nodes and the start."""
        return {**self.trees.arrays(), "start": self.start}


class _ForestSpec(EstimatorSpec):
    kind: Literal["random_forest", "extra_trees"]
    n_estimators: int = Field(200, ge=1, le=5000)
    max_depth: int | None = Field(None, ge=1)
    min_samples_leaf: int = Field(2, ge=1)
    max_features: Literal["sqrt", "log2"] | float = "sqrt"

    def _theirs(self) -> str:
        raise NotImplementedError

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """Grow the trees; rows and columns are drawn for each."""
        name = f"{self._theirs()}{'Classifier' if goal.classes else 'Regressor'}"
        theirs = getattr(from_sklearn("ensemble"), name)(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            random_state=seed % 2**32,
        )
        theirs.fit(features, truth, sample_weight=weight)
        grown = [each.tree_ for each in theirs.estimators_]
        return agreeing(Forest(goal, _joined([_nodes(tree, goal) for tree in grown])), theirs, features, goal)

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From the nodes."""
        return Forest(goal, restored_trees(arrays, goal, goal.outputs))


class RandomForestSpec(_ForestSpec):
    """Trees on drawn rows, each split the best of some drawn columns."""

    kind: Literal["random_forest"] = "random_forest"

    def _theirs(self) -> str:
        return "RandomForest"


class ExtraTreesSpec(_ForestSpec):
    """Trees whose thresholds are drawn, too."""

    kind: Literal["extra_trees"] = "extra_trees"

    def _theirs(self) -> str:
        return "ExtraTrees"


class HistGradientBoostingSpec(EstimatorSpec):
    """Gradient boosting over histograms of the columns."""

    kind: Literal["hist_gradient_boosting"] = "hist_gradient_boosting"
    max_iter: int = Field(100, ge=1, le=5000)
    learning_rate: float = Field(0.1, gt=0.0)
    max_leaf_nodes: int = Field(31, ge=2)
    max_depth: int | None = Field(None, ge=1)
    min_samples_leaf: int = Field(20, ge=1)
    l2_regularization: float = Field(0.0, ge=0.0)

    def fit(self, features: Features, truth: NDArray[Any], weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        """Grow ``max_iter`` trees, for several classes as many for each; none is held back to stop early."""
        name = f"HistGradientBoosting{'Classifier' if goal.classes else 'Regressor'}"
        settings = self.model_dump(exclude={"kind"}) | {"early_stopping": False, "random_state": seed % 2**32}
        theirs = getattr(from_sklearn("ensemble"), name)(**settings).fit(features, truth, sample_weight=weight)
        grown = [_boosted_nodes(each.nodes) for turn in theirs._predictors for each in turn]
        start = np.asarray(theirs._baseline_prediction, np.float64).ravel()
        return agreeing(Boosted(goal, _joined(grown), start), theirs, features, goal)

    def restore(self, arrays: Arrays, goal: Goal) -> Estimator:
        """From the nodes and the start."""
        logits = goal.classes if goal.classes > 2 else 1
        return Boosted(goal, restored_trees(arrays, goal, 1), floats(arrays, "start", (logits,)))


def _nodes(tree: Any, goal: Goal) -> Trees:
    """One tree of a forest."""
    children = np.stack([tree.children_left, tree.children_right], axis=1).astype(np.int64)
    value = np.asarray(tree.value[:, 0, :], np.float64)
    if goal.classes:
        value = value / value.sum(axis=1, keepdims=True)
    feature = np.maximum(tree.feature, 0).astype(np.int64)  # a leaf splits by nothing
    return Trees(np.array([0, len(value)]), children, feature, np.asarray(tree.threshold, np.float64), value)


def _boosted_nodes(nodes: Any) -> Trees:
    leaf = nodes["is_leaf"].astype(bool)
    children = np.stack([nodes["left"], nodes["right"]], axis=1).astype(np.int64)
    children[leaf] = -1
    feature = np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64)
    threshold = np.where(leaf, 0.0, nodes["num_threshold"])
    return Trees(np.array([0, len(nodes)]), children, feature, threshold, nodes["value"].astype(np.float64)[:, None])


def _joined(trees: list[Trees]) -> Trees:
    """Several trees behind each other."""
    starts = np.cumsum([0, *(tree.starts[-1] for tree in trees)])
    children = [
        np.where(tree.children >= 0, tree.children + start, -1) for tree, start in zip(trees, starts, strict=False)
    ]
    parts = [np.concatenate([getattr(tree, name) for tree in trees]) for name in ("feature", "threshold", "value")]
    return Trees(starts, np.concatenate(children), *parts)
