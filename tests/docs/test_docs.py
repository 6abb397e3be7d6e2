"""The pages tell the truth about the package.

- Every ``towerkit.x.y`` in backticks can be imported, every path of this repository exists, every relative link leads to a file.
- Every dotted spec key and every ``kind`` in backticks is one that a spec can have.
- YAML blocks marked ``spec`` parse; Python blocks marked ``run`` run, page by page in a new process.
- Commands in ``console`` blocks and command tables exist with the options they show.
- The tables of keys on the spec page have the keys, the order and the defaults of the classes, and no class of a spec is left out.
- The picture of the floors shows the folders of the package in the order of the import contract.
- The page on Runs lists every file of a Run of each kind, and no other.
- The shapes on the architecture page are those of the real first batches.
- The checks find what they are for (controls with planted errors).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer.main
from pydantic import BaseModel

import towerkit as tk
from towerkit.cli import app
from towerkit.core.random import stream
from towerkit.core.spec import Spec, parse
from towerkit.data.batch import Bag
from towerkit.data.dataset import read_dataset
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.spec import ExperimentSpec, load_spec, parse_yaml
from towerkit.training.fit import batches_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import PredictionRecipe, RetrievalRecipe
from towerkit.training.state import seeded_torch, train_step

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] != "reference")
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"towerkit(\.\w+)+")
PATH = re.compile(r"(src|docs|tests|examples|tools)/[\w./-]+")
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")
KEY = re.compile(r"(data|model|objective|update|balance|training|evaluation)(\.[a-z_]+)+")
KIND = re.compile(r"\bkind: ?(\w+)|\bkind=(\w+)")
TABLE = re.compile(r"<!-- (more )?keys: (\S+?)(?: beside (\S+))? -->\n\n((?:\|.*\n)+)")


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text)


def blocks(text: str, info: str) -> list[str]:
    """The bodies of the fenced blocks with this info line."""
    return [found["body"] for found in FENCE.finditer(text) if found["info"].strip() == info]


def resolved(name: str) -> Any:
    """The object of a dotted name; an annotated field of a class counts, its annotation is returned."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name.removesuffix(".*")):
                raise
            continue
        for part in parts[length:]:
            annotations = getattr(found, "__annotations__", {})
            found = getattr(found, part, None) or annotations.get(part)
            if found is None:
                raise AttributeError(f"{name}: nothing is called '{part}'")
        return found
    raise ModuleNotFoundError(name)


def wrong_names(text: str) -> list[str]:
    """Names in backticks that cannot be imported."""
    wrong = []
    for code in CODE.findall(prose(text)):
        if NAME.fullmatch(code):
            try:
                resolved(code)
            except (ImportError, AttributeError):
                wrong.append(code)
    return wrong


def wrong_paths(text: str, page: Path) -> list[str]:
    """Paths in backticks and relative links without a file behind them."""
    named = [code for code in CODE.findall(prose(text)) if PATH.fullmatch(code)]
    wrong = [path for path in named if not (ROOT / path).exists()]
    links = [link for link, _ in LINK.findall(prose(text))]
    return wrong + [link for link in links if not (page.parent / link).exists()]


def specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The spec classes that an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from specs_in(inner)


def all_specs(root: type[Spec] = ExperimentSpec) -> list[type[Spec]]:
    """Every class of the spec tree."""
    found: list[type[Spec]] = [root]
    for spec in found:
        inner = (inner for field in spec.model_fields.values() for inner in specs_in(field.annotation))
        found += [each for each in dict.fromkeys(inner) if each not in found]
    return found


def has_key(path: str) -> bool:
    """Whether some spec has a key at this dotted path; a name that a user gives (of a tower, a task) may be skipped."""
    places: list[type[Spec]] = [ExperimentSpec]
    for part in path.split("."):
        fields = [spec.model_fields[part] for spec in places if part in spec.model_fields]
        if not fields:
            return False
        places = [inner for field in fields for inner in specs_in(field.annotation)]
    return True


def kinds() -> set[str]:
    """Every kind that a spec can have."""
    fields = (spec.model_fields.get("kind") for spec in all_specs())
    return {field.default for field in fields if field is not None}


def wrong_keys(text: str) -> list[str]:
    """Dotted spec keys and kinds in backticks that no spec has."""
    codes = CODE.findall(prose(text))
    keys = [code.partition("=")[0] for code in codes if KEY.fullmatch(code.partition("=")[0])]
    keys = [key for key in keys if not key.endswith(".json")]  # the file data.json of a Run
    named = [one or other for code in codes for one, other in KIND.findall(code)]
    known = kinds() | {"x"} | set(re.findall(r'kind: Literal\["(\w+)"\]', text))  # those that the page itself adds, too
    return [key for key in keys if not has_key(key)] + [kind for kind in named if kind not in known]


def wrong_commands(lines: list[str]) -> list[str]:
    """Commands that towerkit does not have, or options that a command does not have."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong = []
    for line in lines:
        name, *words = line.removeprefix("$ ").removeprefix("towerkit ").split()
        command = commands.get(name)
        if hasattr(command, "commands") and words:  # a command that has commands of its own
            command = command.commands.get(words.pop(0))
        if command is None:
            wrong.append(line)
            continue
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        wrong += [f"{line}: {word}" for word in words if word.startswith("-") and word not in options]
    return wrong


def shown(value: Any) -> str:
    """A default as the tables write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"`{value}`".replace("|", r"\|")  # inside a table
    if isinstance(value, tuple | list):
        return "[" + ", ".join(shown(each) for each in value) + "]"
    if isinstance(value, dict):
        return "`{}`"
    return f"`{{kind: {value.model_dump()['kind']}}}`" if isinstance(value, BaseModel) else str(value)


def rows_of(spec: type[Spec], beside: type[Spec] | None) -> list[tuple[str, str]]:
    """Key and default of each field, as the tables write them."""
    found = []
    for name, field in spec.model_fields.items():
        if beside is None or name not in beside.model_fields:
            required = field.is_required()
            found.append(
                (
                    f"`{field.alias or name}`",
                    "*required*" if required else shown(field.get_default(call_default_factory=True)),
                )
            )
    return found


def table_problems(text: str) -> list[str]:
    """Tables of keys that are not as their classes are."""
    problems = []
    for _, name, beside, table in TABLE.findall(text):
        lines = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|\n "))] for line in table.splitlines()[2:]
        ]
        told = [(line[0], line[1]) for line in lines]
        wanted = rows_of(resolved(name), resolved(beside) if beside else None)
        if told != wanted:
            problems.append(f"{name}: the page has {told}, the class {wanted}")
    return problems


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert wrong_names(text) == []
    assert wrong_paths(text, page) == []
    assert wrong_keys(text) == []
    consoles = [line for body in blocks(text, "console") for line in body.splitlines() if line.startswith("$ towerkit")]
    tables = [code for code in CODE.findall(prose(text)) if code.startswith("towerkit ")]
    assert wrong_commands(consoles + tables) == []


def test_the_checks_find_planted_errors() -> None:
    page = DOCS / "planted.md"
    assert wrong_names("`towerkit.spec.load_specs` `towerkit.nowhere.x` `towerkit.fit`") == [
        "towerkit.spec.load_specs",
        "towerkit.nowhere.x",
    ]
    assert wrong_names(
        "`towerkit.training.state.TrainState.optimizer` `towerkit.training.state.TrainState.nothing`"
    ) == ["towerkit.training.state.TrainState.nothing"]
    assert wrong_paths("`src/towerkit/spec.py` `src/towerkit/nothing.py` [a](nothing.md)", page) == [
        "src/towerkit/nothing.py",
        "nothing.md",
    ]
    assert wrong_keys("`training.epochs=5` `training.epoch` `data.split.kind` `{kind: gated}` `{kind: gathe}`") == [
        "training.epoch",
        "gathe",
    ]
    assert wrong_commands(
        [
            "$ towerkit train x.yaml --run y",
            "$ towerkit data fetch x --to y",
            "$ towerkit fit x.yaml",
            "$ towerkit data get x",
            "$ towerkit data list --at y",
            "$ towerkit train --runs y",
        ]
    ) == [
        "$ towerkit fit x.yaml",
        "$ towerkit data get x",
        "$ towerkit data list --at y: --at",
        "$ towerkit train --runs y: --runs",
    ]
    planted = "<!-- keys: towerkit.fusion.GatedSpec -->\n\n| key | default |\n|---|---|\n| `kind` | `gated` |\n| `dim` | 32 |\n"
    assert len(table_problems(planted)) == 1
    assert table_problems(planted.replace("32", "64")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_specs_on_a_page_parse(page: Path) -> None:
    for body in blocks(page.read_text(encoding="utf-8"), "yaml spec"):
        parse(ExperimentSpec, parse_yaml(body, str(page)), str(page))


def runnable() -> dict[str, str]:
    """Page -> its Python blocks marked ``run``, joined."""
    found = {page.stem: "\n".join(blocks(page.read_text(encoding="utf-8"), "python run")) for page in PAGES}
    return {name: code for name, code in found.items() if code}


def test_python_on_the_pages_runs(tmp_path: Path) -> None:
    """One process for all pages, each in a namespace and a folder of its own."""
    pages = runnable()
    assert {"quickstart", "specs"} <= pages.keys()
    for name, code in pages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.py").write_text(code, encoding="utf-8")
    each = f"import os, runpy\nfor name in {sorted(pages)!r}:\n    os.chdir(name)\n    runpy.run_path('page.py')\n"
    each += "    os.chdir('..')\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-W", "error", "-c", each]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_tables_of_keys_are_those_of_the_classes() -> None:
    text = (DOCS / "specs.md").read_text(encoding="utf-8")
    assert table_problems(text) == []
    told = {resolved(name) for _, name, _, _ in TABLE.findall(text)}
    without_keys = {spec for spec in all_specs() if set(spec.model_fields) <= {"kind"}}
    alike = {
        "BinaryHeadSpec",
        "MulticlassHeadSpec",
        "SourceSpec",
        "ExperimentSpec",
    }  # said in words, or by another table
    left = {spec.__name__ for spec in set(all_specs()) - told - without_keys} - alike
    assert left == set()
    for spec in without_keys:
        assert f"`{spec.model_fields['kind'].default}`" in text, spec


def test_every_page_is_in_the_index() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {line for block in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL) for line in block.splitlines()}
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} == {name for name in listed if name.isidentifier()}


def test_the_whole_tree_lists_the_keys_of_a_spec() -> None:
    text = (DOCS / "specs.md").read_text(encoding="utf-8")
    tree = text[text.index("## The whole tree") : text.index("## data")]
    assert set(re.findall(r"^\| `(\w+)`", tree, re.MULTILINE)) == set(ExperimentSpec.model_fields)


def floors() -> list[str]:
    """The names of the import contract, the highest first."""
    text = (ROOT / ".importlinter").read_text(encoding="utf-8")
    lines = re.search(r"^layers =\n((?:    .*\n)+)", text, re.MULTILINE)
    assert lines is not None
    return re.findall(r"\w+", lines[1])


def test_the_picture_of_the_floors_is_the_import_contract() -> None:
    root = ElementTree.parse(DOCS / "_static" / "floors.svg").getroot()  # noqa: S314  (our own file)
    texts = [element.text or "" for element in root.iter() if element.get("class") == "floor"]
    drawn = [name for text in texts for name in text.split(" · ")]
    assert drawn == [name for name in floors() if name in drawn]
    package = ROOT / "src" / "towerkit"
    here = {path.stem for path in package.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert here - {"__init__", "__main__", "_version"} <= set(drawn)


@pytest.mark.parametrize("picture", sorted((DOCS / "_static").glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_is_well_formed_and_shown(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()  # noqa: S314  (our own file)
    assert root.tag.endswith("svg")
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert any(f"_static/{picture.name}" in page.read_text(encoding="utf-8") for page in PAGES)


def described_files() -> set[str]:
    """The files in the tables of the page on Runs, numbers and member names left open."""
    text = (DOCS / "runs.md").read_text(encoding="utf-8")
    text = text[text.index("## Its files") : text.index("## How it is verified")]
    named = re.findall(r"`([\w./-]+\.\w+)`", text)
    return {_general(name) for name in named}


def _general(name: str) -> str:
    """A file's name with members and numbers left open; a member's files are those of a model."""
    return re.sub(r"-\d+\.", "-N.", re.sub(r"model/members/\w+/", "model/", name))


def test_the_page_on_runs_lists_the_files_of_every_kind(tmp_path: Path) -> None:
    if importlib.util.find_spec("xgboost") is None:
        pytest.skip("the member of the late fusion needs towerkit[trees]")
    liked = {"kind": "binary", "column": "recommended"}
    table = {"kind": "table", "columns": ["age", "category"], "dim": 4}
    price = {"kind": "table", "entity": "product_id", "columns": ["price"], "dim": 4}
    reviews = tk.read("builtin:shop-small/reviews", entities={"product_id": "builtin:shop-small/products"})
    member = {"kind": "xgboost", "columns": ["age"], "task": liked, "rounds": 2}
    towers = {"kind": "tower_model", "towers": {"table": table, "price": price}, "heads": {"liked": liked}}
    near = {"kind": "sklearn", "estimator": {"kind": "knn"}, "columns": ["age"], "task": liked}
    combine = {"kind": "stack", "folds": 2}
    for name, model in {
        "prediction": towers,
        "late": {
            "kind": "late_fusion",
            "members": {"towers": towers, "trees": member, "near": near},
            "combine": combine,
        },
    }.items():
        tk.fit({"model": model, "training": {"epochs": 1}}, reviews, run=tmp_path / name)
    ids = {"kind": "two_tower", "query": {"kind": "id_history", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    purchases = tk.read("builtin:shop-small/purchases", query="user_id", candidate="product_id", time="time")
    tk.fit({"model": ids, "training": {"epochs": 1}}, purchases, run=tmp_path / "ranking")
    described = {"user_id": "builtin:shop-small/users", "product_id": "builtin:shop-small/products"}
    purchases = tk.read("builtin:shop-small/purchases", query="user_id", candidate="product_id", entities=described)
    words = {"kind": "bm25", "query": ["city"], "candidate": ["title"]}
    fused = {"kind": "late_fusion", "members": {"words": words, "more": {**words, "k1": 1.0}}}
    tk.fit({"model": fused}, purchases, run=tmp_path / "search")
    found = {
        _general(path.relative_to(run).as_posix())
        for run in tmp_path.iterdir()
        for path in run.rglob("*")
        if path.is_file()
    }
    assert found == described_files()


def shapes_of_the_first_batch(spec: ExperimentSpec) -> tuple[set[str], dict[str, int], float]:
    """Shapes of all arrays of the first training step, the sizes of the parts, and its loss."""
    data = read_dataset(spec.data, seed=spec.training.seed)
    recipe: Any
    if isinstance(spec.model, TwoTowerSpec):
        recipe = RetrievalRecipe(spec.model, spec.objective, spec.update, Selection("ndcg@20", True), lambda *_: {})
    else:
        assert isinstance(spec.model, TowerModelSpec)
        recipe = PredictionRecipe(spec.model, spec.balance, Selection("loss", False))
    with seeded_torch(stream(spec.training.seed, "torch")):
        prepared = recipe.prepare(data, data.parts.train, spec.training)
        batch = next(batches_of(prepared, data.parts.train, spec.training, 0))
        found: list[Any] = [*batch.index.values(), *(block.index for pool in batch.pool.values() for block in pool)]
        for columns in (*prepared.encoded.tables.values(), *batch.columns.values()):
            found += [column.offsets if isinstance(column, Bag) else column for column in columns.values()]
        model = prepared.state.model
        found += list(model.parameters())
        answer = model(batch)
        if isinstance(answer, dict):
            parts = {name: tower(batch.columns["example"]) for name, tower in model.towers.items()}
            found += [*answer.values(), *parts.values(), model.backbone(parts)]
        else:
            found += [encoding.vectors for encoding in answer]
        loss = train_step(prepared.state, batch)
    return {str(list(each.shape)) for each in found}, data.parts.sizes(), loss


@pytest.mark.parametrize("name", ["ml100k_one_backprop", "clothing_multitask"])
def test_the_shapes_of_the_walk_are_measured(name: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWERKIT_DATA", str(data_root))
    spec = load_spec(ROOT / "examples" / f"{name}.yaml")
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    start = text.index(f"## One batch of `examples/{name}.yaml`")
    walk = text[start : text.index("\n## ", start + 3)]
    shapes, sizes, loss = shapes_of_the_first_batch(spec)
    named = set(re.findall(r"`(\[[\d, ]+\])`", walk)) - {"[1024, 32]", "[100000]"}  # not kept by the step
    assert len(named) >= 8
    assert named - shapes == set()
    assert " / ".join(f"{size:,}" for size in sizes.values()) in walk
    if name == "ml100k_one_backprop":
        assert f"The first is {loss:.2f}" in walk
