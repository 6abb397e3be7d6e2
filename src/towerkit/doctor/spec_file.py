"""The data of a spec file: every table that it names, the sizes of the parts, and what training would refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towerkit.core.errors import SpecError, TowerkitError, listed
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.readers import SourceSpec, read_table
from towerkit.data.roles import Roles
from towerkit.data.search.collection import read_collection
from towerkit.data.search.spec import DOCUMENT, QUERY, CollectionSpec
from towerkit.data.spec import DataSpec, EntitySpec, ExamplesSpec
from towerkit.data.stream.files import LogFiles
from towerkit.doctor.keys import repeated_keys
from towerkit.doctor.tables import describe
from towerkit.spec import ExperimentSpec, load_spec, parse_yaml

_ROLES = ("query", "candidate", "time", "weight")


def examine_spec(path: Path) -> dict[str, Any]:
    """Look at the data part of a spec file; the other parts may be missing, for they are often written later.

    Args:
        path: The YAML file.
    """
    found: dict[str, Any] = {
        "kind": "spec", "path": str(path), "tables": {}, "split": None, "parts": None, "notes": [], "problems": [],
    }  # fmt: skip
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(content, dict) or "data" not in content:
            raise SpecError(f"{path}: doctor reads the key 'data' of a spec, and there is none. See docs/data.md.")
        spec = parse(DataSpec, content["data"], f"{path}, data")
        whole = None
        if "model" in content:
            whole = _whole(path, found)
        else:
            found["notes"].append("the file has no model yet; only its data was looked at")
    except (OSError, UnicodeDecodeError) as error:
        found["problems"].append(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).")
        return found
    except SpecError as error:
        found["problems"].append(str(error))
        return found
    base = path.resolve().parent
    if spec.examples.stream is not None:
        _look_at_log(found, spec.examples, base)
        return found
    if spec.collection is not None:
        _look_at_collection(found, spec.collection, base)
    else:
        for name, source, roles in _tables(spec):
            _look(found, name, source, roles, base)
    try:
        dataset = read_dataset(spec, base=base, seed=whole.training.seed if whole is not None else 0)
        found["parts"], found["split"] = dataset.parts.sizes(), dict(dataset.split)
        found["notes"] += dataset.split.get("warnings", [])
        if whole is not None:
            found["notes"] += whole.model.remarks(dataset)
    except TowerkitError as error:
        if str(error) not in found["problems"]:
            found["problems"].append(str(error))
    return found


def _whole(path: Path, found: dict[str, Any]) -> ExperimentSpec | None:
    """The whole spec, whose seed draws the split; a wrong model part is a problem, but the data is looked at all the same."""
    try:
        return load_spec(path)
    except SpecError as error:
        found["problems"].append(str(error))
        return None


def _tables(spec: DataSpec) -> list[tuple[str, SourceSpec, dict[str, str]]]:
    """Name, source and roles of every table of the spec."""
    roles = {role: value for role in _ROLES if (value := getattr(spec.examples, role, None)) is not None}
    tables: list[tuple[str, SourceSpec, dict[str, str]]] = [("examples", spec.examples, roles)]
    for part in ("validation", "test"):
        source = getattr(spec, part, None)
        if source is not None:
            kept = {name: column for name, column in roles.items() if name != "weight"}
            tables.append((part, source, kept))
    return tables + [(name, entity, {}) for name, entity in spec.entities.items()]


def _look_at_log(found: dict[str, Any], examples: ExamplesSpec, base: Path) -> None:
    """The footers alone: a log may be larger than memory."""
    roles = Roles(examples.query, examples.candidate, examples.time)
    try:
        files = LogFiles.open(examples, tuple(roles.by_column()), base)
    except TowerkitError as error:
        found["problems"].append(str(error))
        return
    told = listed(f"{column.name} ({column.type})" for column in files.schema)
    found["notes"].append(
        f"{files.name} is streamed: {files.num_rows:,} rows in {len(files.parts):,} files; their values are looked at when "
        f"they are encoded. The columns read are {told}."
    )


def _look_at_collection(found: dict[str, Any], spec: CollectionSpec, base: Path) -> None:
    try:
        collection = read_collection(spec, base=base)
    except TowerkitError as error:
        found["problems"].append(str(error))
        return
    roles = {"query": QUERY, "candidate": DOCUMENT}
    tables = {
        "examples": (collection.judgements, roles),
        QUERY: (collection.queries, {}),
        DOCUMENT: (collection.documents, {}),
    }
    for name, (table, played) in tables.items():
        facts = describe(table, played)
        found["problems"] += facts.pop("problems")
        found["notes"] += [f"{name}: {note}" for note in facts.pop("notes")]
        found["tables"][name] = {"path": table.name, **facts}


def _look(found: dict[str, Any], name: str, source: SourceSpec, roles: dict[str, str], base: Path) -> None:
    try:
        table = read_table(source, base=base)
    except TowerkitError as error:
        found["problems"].append(str(error))
        return
    present = {role: column for role, column in roles.items() if column in table.data.column_names}
    facts = describe(table, present)
    found["problems"] += facts.pop("problems")
    key = (source.key or name) if isinstance(source, EntitySpec) else None
    if key in table.data.column_names:
        repeats = repeated_keys(table, str(key))
        found["problems"] += [] if repeats is None else [repeats]
    found["notes"] += [f"{name}: {note}" for note in facts.pop("notes")]
    found["tables"][name] = {"path": source.path, **facts}
