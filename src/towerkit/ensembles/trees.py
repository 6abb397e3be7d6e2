"""XGBoost's JSON, checked before XGBoost reads it.

XGBoost trusts its own files: a child that is no node, or brackets nested a million deep, end the process. So a file is parsed
here, strictly, and every number that XGBoost would use as a place or a length is checked; then XGBoost is given what was
checked, written anew, and nothing else that the file may hold.
"""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from towerkit.core.errors import RunError
from towerkit.storage.hashes import parse_json, read_bytes

MAX_BYTES = 64 << 20
_ROOT = 2**31 - 1
"""XGBoost's parent of the root."""

Whole = Annotated[str, Field(pattern=r"^\d{1,9}$")]
Real = Annotated[str, Field(pattern=r"^[-+0-9.eE]{1,40}$")]
Place = Annotated[int, Field(ge=-1, lt=2**31)]
Flag = Annotated[int, Field(ge=0, le=1)]


class _Checked(BaseModel):
    """Strict types; what XGBoost writes beside the fields named here is dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class TreeSize(_Checked):
    """How many numbers each list of a tree has."""

    num_deleted: Literal["0"]
    num_feature: Whole
    num_nodes: Whole
    size_leaf_vector: Annotated[str, Field(pattern="^[01]$")] = "1"


class Tree(_Checked):
    """One tree: a list of each kind has a value for each node."""

    tree_param: TreeSize
    id: Annotated[int, Field(ge=0)]
    left_children: list[Place]
    right_children: list[Place]
    parents: list[Place]
    split_indices: list[Place]
    split_type: list[Flag]
    default_left: list[Flag]
    split_conditions: list[float]
    base_weights: list[float]
    loss_changes: list[float]
    sum_hessian: list[float]
    categories: list[Place]
    categories_nodes: list[Place]
    categories_segments: list[Place]
    categories_sizes: list[Place]

    @model_validator(mode="after")
    def _is_a_tree(self) -> Tree:
        """Each node but the root is the child of one earlier node; what is split is a feature, by categories of its own."""
        size, features = int(self.tree_param.num_nodes), int(self.tree_param.num_feature)
        lists = (
            self.left_children, self.right_children, self.parents, self.split_indices, self.split_type,
            self.default_left, self.split_conditions, self.base_weights, self.loss_changes, self.sum_hessian,
        )  # fmt: skip
        if size < 1 or any(len(each) != size for each in lists):
            raise ValueError(f"a tree of {size:,} nodes has lists of {sorted({len(each) for each in lists})} values")
        parent_of = {0: _ROOT}
        for node, (left, right) in enumerate(zip(self.left_children, self.right_children, strict=True)):
            if left == right == -1:
                continue
            if not (node < left < size and node < right < size and left != right):
                raise ValueError(f"the node {node} of {size:,} has the children {left} and {right}")
            parent_of |= {left: node, right: node}
        if [parent_of.get(node) for node in range(size)] != self.parents:
            raise ValueError("the parents of its nodes are not those that have them as children")
        if not all(0 <= feature < features for feature in self.split_indices):
            raise ValueError(f"it splits by the features {set(self.split_indices)}, and there are {features:,}")
        self._check_categories()
        return self

    def _check_categories(self) -> None:
        nodes = [node for node, kind in enumerate(self.split_type) if kind]
        starts = [
            end - size for end, size in zip(accumulate(self.categories_sizes), self.categories_sizes, strict=True)
        ]
        if (
            self.categories_nodes != nodes
            or self.categories_segments != starts
            or len(self.categories_sizes) != len(nodes)
            or min(self.categories_sizes, default=0) < 0
            or sum(self.categories_sizes) != len(self.categories)
            or not all(0 <= category < 2**24 for category in self.categories)
            or any(self.left_children[node] == -1 for node in nodes)
        ):
            raise ValueError("its categories do not fit its nodes")


class ForestSize(_Checked):
    """How many trees there are."""

    num_parallel_tree: Literal["1"]
    num_trees: Whole


class Forest(_Checked):
    """Trees in the order they grew."""

    gbtree_model_param: ForestSize
    iteration_indptr: list[Place]
    tree_info: list[Place]
    trees: list[Tree]


class Booster(_Checked):
    """The only sort of booster that is trained here."""

    name: Literal["gbtree"]
    model: Forest


class Sizes(_Checked):
    """Of the learner."""

    base_score: Annotated[str, Field(pattern=r"^\[?[-+0-9.eE,]{1,65536}\]?$")]
    boost_from_average: Annotated[str, Field(pattern="^[01]$")] = "1"
    num_class: Whole
    num_feature: Whole
    num_target: Literal["1"] = "1"


class Objective(_Checked):
    """What was lowered, with its settings."""

    name: Literal["binary:logistic", "multi:softprob", "reg:squarederror", "reg:pseudohubererror"]
    reg_loss_param: dict[Literal["scale_pos_weight"], Real] | None = None
    pseudo_huber_param: dict[Literal["huber_slope"], Real] | None = None
    softmax_multiclass_param: dict[Literal["num_class"], Whole] | None = None


class Learner(_Checked):
    """The whole model."""

    feature_types: list[Literal["q", "c"]]
    gradient_booster: Booster
    learner_model_param: Sizes
    objective: Objective

    @model_validator(mode="after")
    def _fits(self) -> Learner:
        forest, sizes = self.gradient_booster.model, self.learner_model_param
        outputs, number, features = max(1, int(sizes.num_class)), len(forest.trees), len(self.feature_types)
        steps = list(range(0, number + 1, outputs))
        softmax = self.objective.softmax_multiclass_param
        counted = [int(sizes.num_feature), *(int(tree.tree_param.num_feature) for tree in forest.trees)]
        if (
            number != int(forest.gbtree_model_param.num_trees)
            or number % outputs
            or forest.iteration_indptr != steps
            or forest.tree_info != [place % outputs for place in range(number)]
            or any(count != features for count in counted)
            or (self.objective.name == "multi:softprob") != (softmax is not None)
            or (softmax is not None and int(softmax["num_class"]) != int(sizes.num_class))
            or sizes.base_score.count(",") not in (0, outputs - 1)
            or not _are_numbers(sizes.base_score)
        ):
            raise ValueError(f"{number:,} trees over {features:,} features for {outputs:,} outputs do not fit together")
        return self


class Trees(_Checked):
    """The file."""

    learner: Learner
    version: Annotated[list[Place], Field(min_length=3, max_length=3)]


def read_trees(path: Path) -> bytearray:
    """Read and check a file of trees.

    Args:
        path: What XGBoost wrote, as JSON.

    Returns:
        The same trees as JSON for XGBoost to read.

    Raises:
        RunError: If the file is missing, too large, no JSON, or not trees.
    """
    content = parse_json(read_bytes(path, MAX_BYTES), str(path))
    try:
        found: dict[str, Any] = Trees.model_validate(content).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunError(
            f"{path}: {place}: {first['msg']}; these are no trees that can be read. Train the Run again."
        ) from None
    learner = found["learner"]
    learner |= {"attributes": {}, "feature_names": []}
    learner["gradient_booster"]["model"]["cats"] = {"enc": [], "feature_segments": [], "sorted_idx": []}
    return bytearray(json.dumps(found).encode())


def _are_numbers(text: str) -> bool:
    try:
        return all(abs(float(part)) < 1e30 for part in text.strip("[]").split(","))
    except ValueError:
        return False
