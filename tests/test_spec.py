"""Specs: what is refused, and in which words.

Pinned: every problem is a SpecError that names the file, the keys as the user wrote them, the received value and the
nearest right one; no other library's exception comes out, whatever the text; YAML builds plain data and imports
nothing, whatever stands in ``kind``; ``--set`` sets a value or replaces a part; the order of keys means nothing; every
example parses and survives JSON.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.losses import SampledSoftmaxSpec
from towerkit.matching.negatives import UniformSpec
from towerkit.spec import ExperimentSpec, ModelingSpec, apply_setting, load_spec, parse_yaml, plain
from towerkit.training.optimizers import AdamSpec

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.yaml"))
RETRIEVAL: dict[str, Any] = {
    "data": {"examples": {"path": "a.csv", "query": "user", "candidate": "item"}},
    "model": {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}},
    "objective": {"negatives": [{"kind": "uniform", "count": 5}]},
}
PREDICTION: dict[str, Any] = {
    "data": {"examples": {"path": "a.csv"}},
    "model": {
        "kind": "tower_model",
        "towers": {"id": {"kind": "text", "columns": ["text"], "encoder": {"kind": "hashed_ngrams"}}},
        "heads": {"liked": {"kind": "binary", "column": "liked"}},
    },
}


def changed(base: dict[str, Any], *settings: str) -> dict[str, Any]:
    """The base with some ``--set`` settings."""
    data = copy.deepcopy(base)
    for setting in settings:
        apply_setting(data, setting)
    return data


def refusal(base: dict[str, Any], *settings: str) -> str:
    """The message that refuses the changed base."""
    with pytest.raises(SpecError, match=r"^spec\.yaml") as caught:
        parse(ExperimentSpec, changed(base, *settings), "spec.yaml")
    return str(caught.value)


def test_set_reaches_into_parts_that_the_file_leaves_to_their_defaults() -> None:
    data = {"data": {"examples": {"path": "x.csv", "query": "u", "candidate": "i"}}, "model": RETRIEVAL["model"]}
    for setting in ("objective.loss.temperature=0.1", "objective.negatives.0.count=20", "training.optimizer.lr=0.05"):
        apply_setting(data, setting)
    spec = parse(ExperimentSpec, data)
    assert spec.objective.loss == SampledSoftmaxSpec(temperature=0.1)
    assert spec.objective.negatives == (UniformSpec(count=20),)
    assert spec.training.optimizer == AdamSpec(lr=0.05)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.negatives={kind: uniform}", "objective.negatives: must be a list, as in [{'kind': 'uniform'}]; received"),
        ("objective.loss.kind=softmax", "received negatives uniform. Remove them (--set objective.negatives=[])"),
        ("update=one_backprop", "update: must be a mapping of keys, as in {kind: one_backprop}; received 'one_backprop'."),
        ("models.kind=x", "spec.yaml: the top level: unknown key 'models'; did you mean 'model'? The keys here are 'balance',"),
        ("model.query.dimm=3", "model.query: unknown key 'dimm'; did you mean 'dim'? The keys here are 'dim', 'entity',"),
        ("model.kind=two_towr", "model: unknown kind 'two_towr'; did you mean 'two_tower'? The kinds here are 'joint',"),
        ("model.query.kind=idd", "model.query: unknown kind 'idd'; did you mean 'id'? The kinds here are 'audio',"),
        ("model.match.kind=dott", "model.match: unknown kind 'dott'; did you mean 'dot'?"),
        ("objective.loss.kind=bprr", "objective.loss: unknown kind 'bprr'; did you mean 'bpr'?"),
        ("objective.negatives.0.kind=hrd", "objective.negatives.0: unknown kind 'hrd'; did you mean 'hard'?"),
        ("update.kind=onebackprop", "update: unknown kind 'onebackprop'; did you mean 'one_backprop'?"),
        ("training.optimizer.kind=adma", "training.optimizer: unknown kind 'adma'; did you mean 'adam'?"),
        ("data.split.kind=tme", "data.split: unknown kind 'tme'; did you mean 'time'?"),
        ("model.query.dim=-1", "model.query.dim: input should be greater than or equal to 1; received -1."),
        ("model.query.dim=wide", "model.query.dim: input should be a valid integer"),
        ("objective.negatives.0.count=0", "objective.negatives.0.count: input should be greater than or equal to 1; received 0."),
        ("training.epochs=2.5", "a valid integer, got a number with a fractional part; received 2.5."),
        ("training.optimizer.lr=.inf", "training.optimizer.lr: input should be a finite number; received inf."),
        ("evaluation.k=5", "evaluation.k: must be a list, as in [1, 2]; received 5."),
        ("evaluation.k=[]", "evaluation.k: needs 1 or more entries; received []."),
        ("evaluation.k=[5, 5]", "evaluation.k: every k must be at least 1 and stand once; received [5, 5]."),
        ("evaluation.k=[0]", "evaluation.k: every k must be at least 1 and stand once; received [0]."),
        ("evaluation.k=[2147483648]", "evaluation.k: every k must be below 2**31; received [2147483648]."),
        ("training.epochs=true", "training.epochs: input should be a valid integer; received True."),
        ("model.query.kind=text", "model.query.columns: is required and was not given."),
        ("data.examples={}", "data.examples.path: is required and was not given."),
        ("data=null", "data: must be a mapping of keys; received None."),
        ("model.query=5", "model.query: must be a mapping of keys; received 5."),
        ("update={beta: 0.5}", "update: needs a key 'kind' that says which part this is; received {'beta': 0.5}."),
        ("balance.kind=uncertainty", "'balance' belongs to a tower_model, a ranker or a joint, but the model is a two_tower"),
        ("training.seed=-1", "training.seed: input should be greater than or equal to 0; received -1."),
    ],
)  # fmt: skip
def test_a_bad_key_kind_or_value_of_a_two_tower(setting: str, message: str) -> None:
    told = refusal(RETRIEVAL, setting)
    assert message in told
    assert "\n" not in told, "one problem is one line"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.loss.kind=bpr", "the model is a tower_model: a tower model's losses belong to its heads. Remove 'objective'."),
        ("update.kind=one_backprop", "'update' belongs to a two_tower, but the model is a tower_model: only a two-tower"),
        ("model.heads.liked.kind=binry", "model.heads.liked: unknown kind 'binry'; did you mean 'binary'?"),
        ("model.heads.liked.weight=0", "model.heads.liked.weight: input should be greater than 0; received 0."),
        ("model.towers={}", "model.towers: needs 1 or more entries; received {}."),
        ("model.towers.id.columns=[]", "model.towers.id.columns: needs 1 or more entries; received []."),
        ("model.towers.id.encoder.kind=glove", "id.encoder: unknown kind 'glove'. The kinds here are 'convolution', 'hashed_"),
        ("model.backbone.kind=gatd", "model.backbone: unknown kind 'gatd'; did you mean 'gated'?"),
        ("model.towers.9a={kind: table, columns: [a]}", "model.towers.9a: a name must begin with a letter"),
        ("model.kind=late_fusion", "model.members: is required and was not given."),
    ],
)  # fmt: skip
def test_a_bad_key_kind_or_value_of_a_tower_model(setting: str, message: str) -> None:
    assert message in refusal(PREDICTION, setting)


def test_the_place_holds_only_keys_that_were_written() -> None:
    """A tower may be called like a kind: its name stays, the kind that pydantic chose goes."""
    told = refusal(PREDICTION, "model.towers.id.dim=0")
    assert told == "spec.yaml: model.towers.id.dim: input should be greater than or equal to 1; received 0."
    side = "model.query={towers: {many: {kind: id, dim: 0}, one: {kind: id, dim: 3}}}"
    assert refusal(RETRIEVAL, side).startswith("spec.yaml: model.query.towers.many.dim: input")


def test_several_problems_are_told_together_once_each() -> None:
    told = refusal(RETRIEVAL, "training.epochs=0", "objective.negatives.0.count=x", "model.query.dimm=1").splitlines()
    assert told[0] == "spec.yaml has 3 problems:"
    assert [line.split(":")[0].strip() for line in told[1:]] == [
        "model.query",
        "objective.negatives.0.count",
        "training.epochs",
    ]


def test_late_fusion_takes_no_select_by_and_needs_two_members() -> None:
    member = PREDICTION["model"]
    data = {**PREDICTION, "model": {"kind": "late_fusion", "members": {"a": member, "b": member}}}
    assert parse(ExperimentSpec, data).model.kind == "late_fusion"
    assert "received 'auc': each member selects by its own loss" in refusal(data, "evaluation.select_by=auc")
    data["model"] = {"kind": "late_fusion", "members": {"a": member}}
    assert "model.members: needs 2 or more entries; received {'a': {" in refusal(data)


def test_given_test_table_and_a_test_share_exclude_each_other() -> None:
    told = refusal(RETRIEVAL, "data.test={path: b.csv}", "data.split={kind: random, test: 0.2}")
    assert "split.test must be absent or 0; received 0.2" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {}\nmodel: 1\ntraining: {}\n", r"\.yaml: not valid YAML: the key 'training' stands twice, .* in line 3"),
        ("model: {kind: two_tower,\n  kind: late_fusion}\n", "the key 'kind' stands twice, the second time in line 2"),
        ("a: [1\n", r"spec\.yaml, line 2, column 1: not valid YAML: expected ',' or '\]'"),
        ("- 1\n", r"spec\.yaml must hold keys such as data and model; received \[1\]"),
        ("", "must hold keys such as data and model; received None"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1, column 4: not valid YAML: could not determine a constructor"),
        ("\x00", "not valid YAML: special characters are not allowed"),
        ("a: 2024-13-01\n", r"spec\.yaml: not valid YAML: a value does not have the form of its type \(month must be in 1\.\.12\)"),
        ("[" * 5000, "is nested too deeply"),
        ("&a [" + "*a, " * 3 + "]", "must hold keys"),
    ],
    ids=["key twice", "nested key twice", "open list", "list", "empty", "python tag", "control", "month", "deep", "itself"],
)  # fmt: skip
def test_a_file_that_is_no_spec(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        load_spec(path)


def test_aliases_that_unfold_to_gigabytes_are_refused_shortly(tmp_path: Path) -> None:
    """Nine aliases of nine of nine …: never written out, not even for the message."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SpecError, match="12 problems|unknown key 'a0'") as caught:
        load_spec(bomb)
    assert len(str(caught.value)) < 5_000


def test_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("a: 1\n")
    with pytest.raises(SpecError, match=r"spec\.yaml does not exist\. Spec files there: .*other\.yaml"):
        load_spec(tmp_path / "spec.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(SpecError, match=r"latin\.yaml is not a UTF-8 text \(.* at byte 6\)"):
        load_spec(tmp_path / "latin.yaml")


def test_setting_a_value_a_position_and_a_part() -> None:
    data = changed(RETRIEVAL, "training.epochs=5", "objective.negatives.0.count=7", "evaluation.k=[1, 3]")
    spec = parse(ExperimentSpec, data)
    assert spec.training.epochs == 5 and spec.objective.negatives[0].count == 7 and spec.evaluation.k == (1, 3)
    replaced = changed(PREDICTION, "model.towers.id.kind=table", "model.towers.id.columns=[age]")
    assert replaced["model"]["towers"]["id"] == {"kind": "table", "columns": ["age"]}, "the text tower's keys are gone"
    same = changed(PREDICTION, "model.towers.id.kind=text")
    assert same == PREDICTION, "naming the kind that is there keeps its keys"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "--set needs key=value, for example --set training.epochs=5; received 'epochs'"),
        ("=5", "received '=5'"),
        ("model.kind.x=1", "--set model.kind.x: 'model.kind' is the value 'two_tower' and has no key 'x'"),
        ("model.kind.x.y=1", "--set model.kind.x: its parent is the value 'two_tower' and has no keys"),
        ("objective.negatives.3.count=1", "--set objective.negatives.3: expected a position from 0 to 0; received '3'"),
        ("objective.negatives.first=1", "expected a position from 0 to 0; received 'first'"),
        ("training.epochs=[1", "--set training.epochs, line 1, column 3: not valid YAML"),
    ],
)
def test_a_setting_that_cannot_be_made(setting: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        changed(RETRIEVAL, setting)
    assert message in str(caught.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_parses_and_survives_json(path: Path) -> None:
    spec = load_spec(path)
    stored = json.dumps(dict(plain(spec)), sort_keys=True)
    again = parse(ExperimentSpec, json.loads(stored))
    assert again == spec and json.dumps(dict(plain(again)), sort_keys=True) == stored


def test_the_examples_cover_every_model_kind() -> None:
    found = [load_spec(path).model for path in EXAMPLES]
    members = [each for model in found if isinstance(model, LateFusionSpec) for each in model.members.values()]
    kinds = {"two_tower", "tower_model", "ranker", "joint", "late_fusion"}
    assert {each.kind for each in [*found, *members]} >= kinds


def test_the_order_of_keys_means_nothing() -> None:
    """Else a spec that was stored as sorted JSON would build a model that its weights do not fit."""
    heads = {"z": {"kind": "binary", "column": "z"}, "a": {"kind": "ordinal", "column": "a"}}
    towers = {"text": PREDICTION["model"]["towers"]["id"], "more": {"kind": "table", "columns": ["x"]}}
    spec = parse(ModelingSpec, {"model": {"kind": "tower_model", "towers": towers, "heads": heads}})
    assert list(spec.model.towers) == ["more", "text"] and list(spec.model.heads) == ["a", "z"]
    sides = {"towers": {"words": towers["text"], "id": {"kind": "id"}}}
    two = parse(ModelingSpec, {"model": {"kind": "two_tower", "query": {"kind": "id"}, "candidate": sides}})
    assert list(two.model.candidate.towers) == ["id", "words"]
    members = {"z": PREDICTION["model"], "b": PREDICTION["model"]}
    assert list(parse(ModelingSpec, {"model": {"kind": "late_fusion", "members": members}}).model.members) == ["b", "z"]


def _places(data: Any, path: tuple[str, ...] = ()) -> list[str]:
    """Every place of a spec that holds a ``kind``."""
    found = [".".join((*path, "kind"))] if isinstance(data, dict) and "kind" in data else []
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else []
    return found + [place for key, child in children for place in _places(child, (*path, str(key)))]


def test_three_hundred_strings_as_kind_import_nothing() -> None:
    """No kind is a path to code: a spec can only name what the library already knows."""
    draw = random.Random(7)
    known = ["antigravity", "this", "os.system", "subprocess.Popen", "builtins:eval", "__main__", "../x.py", "torch.nn"]
    letters = "abcdefghijklmnopqrstuvwxyz._:/-"
    strings = known + ["".join(draw.choices(letters, k=draw.randint(1, 24))) for _ in range(300)]
    bases = (RETRIEVAL, PREDICTION)
    before = set(sys.modules)
    for text in strings:
        base = draw.choice(bases)
        place = draw.choice(_places(base))
        with pytest.raises(SpecError) as caught:
            parse(ExperimentSpec, changed(base, f"{place}='{text}'"), "spec.yaml")
        assert f"unknown kind '{text}'" in str(caught.value)
    assert set(sys.modules) - before == set()


@given(st.text(max_size=80))
@example("? {}\n: 1")
@example("<<: 1")
@example("a: !!timestamp x")
@example("- &a\n- *b")
def test_any_text_is_yaml_or_a_spec_error(text: str) -> None:
    try:
        parse_yaml(text, "spec.yaml")
    except SpecError as error:
        assert str(error).startswith("spec.yaml")


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "dim", "towers", "path", "x"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(["data", "model", "objective", "training", "evaluation", "update", "balance"]), plain_data)
def test_any_plain_data_is_a_spec_or_a_spec_error(key: str, value: Any) -> None:
    try:
        parse(ExperimentSpec, {**RETRIEVAL, key: value}, "spec.yaml")
    except SpecError as error:
        assert str(error).startswith("spec.yaml")


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_setting_changes_the_data_or_is_a_spec_error(path: str, value: str) -> None:
    data = copy.deepcopy(RETRIEVAL)
    try:
        apply_setting(data, f"{path}={value}")
    except SpecError as error:
        assert "--set" in str(error)
