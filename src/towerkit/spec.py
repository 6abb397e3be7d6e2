"""The root of the spec tree: it only composes the parts' specs, and reads them from YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, model_validator

from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec, parse, short
from towerkit.data.spec import DataSpec
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.evaluation.spec import EvaluationSpec
from towerkit.matching.updates import AnyUpdateSpec, OneBackpropSpec, TwoBackpropSpec
from towerkit.matching.updates.base import UpdateSpec
from towerkit.models.joint import JointSpec
from towerkit.models.ranker import RankerSpec
from towerkit.models.side import towers_of
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.balance import AnyBalanceSpec, FixedBalanceSpec
from towerkit.objectives.retrieval import RetrievalObjectiveSpec
from towerkit.towers import GraphTowerSpec
from towerkit.training.engines.choice import unsupported
from towerkit.training.spec import TrainingSpec

AnyModelSpec = Annotated[
    TwoTowerSpec | TowerModelSpec | RankerSpec | JointSpec | LateFusionSpec, Field(discriminator="kind")
]
"""The menu of model kinds."""

_ONLY_FOR = {
    "objective": (("two_tower", "ranker", "joint"), "a tower model's losses belong to its heads"),
    "update": (("two_tower",), "only a two-tower has a query side that can move without a gradient"),
    "balance": (("tower_model", "ranker", "joint"), "only a model of several tasks has several losses to balance"),
}


class ModelingSpec(Spec):
    """A model and how it is trained and measured, without the data."""

    model: AnyModelSpec
    objective: RetrievalObjectiveSpec = RetrievalObjectiveSpec()
    update: AnyUpdateSpec = TwoBackpropSpec()
    balance: AnyBalanceSpec = FixedBalanceSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()

    @model_validator(mode="after")
    def _parts_fit_the_model(self) -> ModelingSpec:
        has = {self.model.kind}
        has |= {each.kind for each in trained_rankers(self.model).values()}
        for part, (kinds, reason) in _ONLY_FOR.items():
            if part in self.model_fields_set and not has & set(kinds):
                default = type(self).model_fields[part].default
                if getattr(self, part) != default:
                    raise ValueError(
                        f"'{part}' belongs to {_any_of(kinds)}, but the model is a {self.model.kind}: {reason}. Remove "
                        f"'{part}'."
                    )
        for name, model in trained_rankers(self.model).items():
            if isinstance(model, RankerSpec):
                _check_scores_pairs(self.objective_of(name))
                continue
            refusal = self.objective_of(name).loss.refusal(model.match.kind)
            if refusal is not None:
                raise ValueError(f"objective.loss does not fit model.match: {refusal}")
            _check_update(model, self.update)
        if isinstance(self.model, JointSpec):
            _check_joint(self.model, self.objective, self.evaluation)
        _check_synergy(self)
        _check_training(self)
        if self.evaluation.select_by is not None and isinstance(self.model, LateFusionSpec) and not self.model.ranks:
            raise ValueError(
                f"'evaluation.select_by' cannot be chosen for a late_fusion; received '{self.evaluation.select_by}': each "
                "member selects by its own loss on validation. Remove it."
            )
        if self.evaluation.single_task and not (isinstance(self.model, TowerModelSpec) and len(self.model.heads) > 1):
            raise ValueError(
                "'evaluation.single_task' compares a tower_model of several tasks with one of each task alone; the model is a "
                f"{self.model.kind}{' of one task' if isinstance(self.model, TowerModelSpec) else ''}. Remove it."
            )
        if self.evaluation.baselines is not None and not ranks(self.model):
            raise ValueError(
                f"'evaluation.baselines' are those of rankings, but the model is a {self.model.kind}, which is always "
                "compared with the majority and a logistic regression. Remove it."
            )
        return self

    def objective_of(self, member: str) -> RetrievalObjectiveSpec:
        """The loss and the negatives of a member of a late fusion, or of the model itself.

        Args:
            member: Its name; of the model itself the empty one.
        """
        own = self.model.objectives if isinstance(self.model, LateFusionSpec) else {}
        return own.get(member, self.objective)


def _any_of(kinds: tuple[str, ...]) -> str:
    """Kinds in words: a tower_model, a ranker or a joint."""
    *others, last = (f"a {kind}" for kind in kinds)
    return f"{', '.join(others)} or {last}" if others else last


def trained_rankers(model: AnyModelSpec) -> dict[str, TwoTowerSpec | RankerSpec]:
    """The two-towers and rankers that a model has as members, by name, or is, by no name."""
    parts = model.members if isinstance(model, LateFusionSpec) else {"": model}
    return {name: part for name, part in parts.items() if isinstance(part, TwoTowerSpec | RankerSpec)}


def ranks(model: AnyModelSpec) -> bool:
    """Whether a model ranks candidates; else it predicts labels."""
    return isinstance(model, TwoTowerSpec | RankerSpec | JointSpec) or (
        isinstance(model, LateFusionSpec) and model.ranks
    )


def _check_synergy(spec: ModelingSpec) -> None:
    """Refuse towers that are told of the other side where there is no other side, or its gradient is another."""
    parts = {"": spec.model} if isinstance(spec.model, JointSpec) else trained_rankers(spec.model)
    kinds = [part.kind for name, part in parts.items() if spec.objective_of(name).synergy is not None]
    if not kinds:
        return
    others = [kind for kind in kinds if kind != "two_tower"]
    if others:
        raise ValueError(
            f"'objective.synergy' tells the towers of a two_tower what its other side looks like; received a {others[0]}. Remove "
            "it, or give a two_tower of a fusion its own: model.objectives."
        )
    if not isinstance(spec.update, TwoBackpropSpec):
        raise ValueError(
            f"'objective.synergy' pulls towers by gradients, and update: {{kind: {spec.update.kind}}} decides otherwise "
            "what moves a side. Use update: {kind: two_backprop}, or remove synergy."
        )


def _check_joint(model: JointSpec, objective: RetrievalObjectiveSpec, evaluation: EvaluationSpec) -> None:
    refusal = objective.loss.refusal(model.match.kind)
    if refusal is not None:
        raise ValueError(f"objective.loss does not fit model.match: {refusal}")
    if evaluation.segments:
        raise ValueError(
            "evaluation.segments are those of one ranking, and a joint model has several. Remove them, or train a two_tower of one "
            "candidate."
        )


def _check_scores_pairs(objective: RetrievalObjectiveSpec) -> None:
    refusal = objective.loss.refusal("dot")
    if refusal is not None:
        raise ValueError(
            f"objective.loss does not fit a ranker, whose scores are those of no match and have no bounds: {objective.loss.kind} "
            "wants cosines. Use loss: {kind: sampled_softmax}, softmax, bpr, bce or triplet."
        )
    if any(negatives.kind == "queue" for negatives in objective.negatives):
        raise ValueError(
            "the negatives 'queue' keep vectors of earlier steps, and a ranker scores pairs. Use negatives: [{kind: uniform}]."
        )


def _check_update(model: TwoTowerSpec, update: UpdateSpec) -> None:
    graphs = [name for name, tower in towers_of(model.query).items() if isinstance(tower, GraphTowerSpec)]
    if graphs and not isinstance(update, TwoBackpropSpec):
        raise ValueError(
            f"update: {{kind: {getattr(update, 'kind')}}} treats the two sides differently, but the graph tower "  # noqa: B009
            f"'{graphs[0]}' makes every vector from the tables of both. Use update: {{kind: two_backprop}}, or id towers."
        )


def _check_training(spec: ModelingSpec) -> None:
    model, training = spec.model, spec.training
    if training.towers:
        _check_towers(model, spec.update, training)
    if training.distill is not None and not isinstance(model, TwoTowerSpec):
        raise ValueError(
            f"'training.distill' teaches a two_tower to rank as another Run does; the model is a {model.kind}. Remove it, or train "
            "the two_tower by itself."
        )
    if training.chunk is not None and not any(
        isinstance(each, TwoTowerSpec) for each in trained_rankers(model).values()
    ):
        raise ValueError(
            f"'training.chunk' is for the big batches that in-batch negatives want, and the model is a {model.kind}; use "
            "training.accumulate, which comes to the same for it."
        )
    if training.engine == "compiled":
        reason = f"the model is a {model.kind}"
        if isinstance(model, TwoTowerSpec):
            reason = unsupported(model, spec.objective, spec.update, training) or ""
        if reason:
            raise ValueError(
                f"'training.engine: compiled' trains two id towers on pairs; here {reason}. Use "
                "training.engine: auto, which takes it where it can."
            )


def _check_towers(model: AnyModelSpec, update: UpdateSpec, training: TrainingSpec) -> None:
    """Refuse starts and paces of towers where nothing would look at them."""
    if isinstance(model, JointSpec | LateFusionSpec):
        raise ValueError(
            f"'training.towers' are those of one training; the model is a {model.kind}. Remove it, or train that part by itself."
        )
    moved = [name for name, own in training.towers.items() if name.startswith("query.") and (own.start or own.freeze)]
    if isinstance(update, OneBackpropSpec) and moved:
        raise ValueError(
            f"training.towers.{moved[0]}: with update: {{kind: one_backprop}} the queries follow the candidates from the first "
            "step, wherever they start. Start the candidate's tower, or use update: {kind: two_backprop}."
        )


class ExperimentSpec(ModelingSpec):
    """A whole program: data, model, training and evaluation."""

    data: DataSpec


def load_spec(path: Path, settings: Iterable[str] = ()) -> ExperimentSpec:
    """Read a spec file and apply ``--set`` settings.

    Args:
        path: A YAML (or JSON) file.
        settings: ``key.of.part=value`` texts; the value is YAML.

    Raises:
        SpecError: If the file is missing or not YAML, or a key or value is not one that towerkit knows.
    """
    return parse(ExperimentSpec, spec_data(path, settings), str(path))


def spec_data(path: Path, settings: Iterable[str] = ()) -> dict[str, Any]:
    """The plain data of a spec file, not yet checked, with ``--set`` settings applied.

    Args:
        path: A YAML (or JSON) file.
        settings: ``key.of.part=value`` texts; the value is YAML.

    Raises:
        SpecError: If the file is missing or not YAML, or a setting does not fit it.
    """
    if not path.is_file():
        near = sorted(str(file) for pattern in ("*.yaml", "*.yml") for file in path.parent.glob(pattern))[:8]
        hint = f" Spec files there: {', '.join(near)}." if near else ""
        raise SpecError(f"The spec file {path} does not exist.{hint} See examples/ for specs to copy.")
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path} is not a UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8."
        ) from None
    if not isinstance(data, dict):
        raise SpecError(f"{path} must hold keys such as data and model; received {short(data)}.")
    for setting in settings:
        apply_setting(data, setting)
    if isinstance(data.get("model"), dict):
        data["model"] = beside(path.parent, data["model"])
    training = data.get("training")
    for part in ("towers", "distill"):
        if isinstance(training, dict) and part in training:
            training[part] = beside(path.parent, training[part])
    return data


def beside(folder: Path, part: Any) -> Any:
    """The same part of a model; a relative ``path`` in it, of a pretrained encoder or a Run, starts at the spec file.

    Args:
        folder: Of the spec file.
        part: Plain data.
    """
    if isinstance(part, dict):
        return {key: _placed(folder, value) if key == "path" else beside(folder, value) for key, value in part.items()}
    return [beside(folder, each) for each in part] if isinstance(part, list) else part


def _placed(folder: Path, value: Any) -> Any:
    is_relative = isinstance(value, str) and value and not value.startswith(("${", "~"))
    return str(folder / value) if is_relative else value


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, refusing a key that stands twice: the first one would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, or say which key repeats and where."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice, the second time in line {line}"
                )
            seen.add(key if isinstance(key, str) else id(key))
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """YAML through the safe loader: it builds plain data only and imports nothing.

    Raises:
        SpecError: If the text is not YAML or a key stands twice.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506, TID251 - a subclass of the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{source}{where}: not valid YAML: {problem}.") from None
    except (ValueError, TypeError, AttributeError) as error:  # what PyYAML lets through: a 13th month, "!!int x"
        raise SpecError(
            f"{source}: not valid YAML: a value does not have the form of its type ({error}); quote it if it is a text."
        ) from None
    except RecursionError:
        raise SpecError(f"{source}: is nested too deeply; a spec has a handful of levels.") from None


def apply_setting(data: dict[str, Any], setting: str) -> None:
    """Change one place of a spec, in place.

    ``a.b=value`` sets a value; ``a.b.kind=x`` replaces the part ``a.b`` by the defaults of kind ``x``.

    Args:
        data: The spec as plain data.
        setting: The path, an equals sign, and a YAML value.

    Raises:
        SpecError: If the setting has no ``=``, or its path runs through a value that has no keys.

    Example:
        >>> data = {"update": {"kind": "one_backprop", "beta": 0.9}}
        >>> apply_setting(data, "update.kind=two_backprop"); data
        {'update': {'kind': 'two_backprop'}}
    """
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise SpecError(f"--set needs key=value, for example --set training.epochs=5; received '{setting}'.")
    *parents, last = path.strip().split(".")
    place: Any = data
    for depth, key in enumerate(parents):
        within = parents[depth + 1] if depth + 1 < len(parents) else ""
        place = _step(place, key, parents[: depth + 1], empty=[{}] if within == "0" else {})
    value = parse_yaml(text, f"--set {path}")
    if last == "kind" and isinstance(place, dict) and place.get("kind") not in (None, value):
        place.clear()
    if isinstance(place, list):
        place[_position(place, last, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise SpecError(f"--set {path}: '{'.'.join(parents)}' is the value {short(place)} and has no key '{last}'.")


def _step(place: Any, key: str, path: list[str], *, empty: Any) -> Any:
    """What stands under a key; ``empty`` is put there where the file leaves the part to its default."""
    if isinstance(place, list):
        return place[_position(place, key, ".".join(path))]
    if not isinstance(place, dict):
        raise SpecError(f"--set {'.'.join(path)}: its parent is the value {short(place)} and has no keys.")
    if place.get(key) is None:
        place[key] = empty
    return place[key]


def _position(place: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise SpecError(f"--set {path}: expected a position from 0 to {len(place) - 1}; received '{key}'.")
    return int(key)


def plain(spec: Spec) -> Mapping[str, Any]:
    """A spec as plain data for JSON, every default written out."""
    return spec.model_dump(mode="json")
