"""Random damage to a Run of our own: what an accident, or someone who can write the whole folder, may do to its files.

A mutation is a pure function of a seed and the Run, so that any one of ten thousand can be made again. *Raw* ones leave the
manifest as it was; *sealed* ones make hashes and seal agree with the damage, so that it reaches the readers behind them.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from towerkit.testing.sealing import seal_again

Change: TypeAlias = Callable[[random.Random, Path, list[Path]], str]
"""Given a source of randomness, the folder and its files, changes something and says what."""

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 10**4, 2**24, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**64, -(2**63), 10**30, 0.0, -0.5,
    1e-300, 1e308, "", "x", "id", "0", "\x00", "../x", "ä" * 50, "x" * 100_000, "2020-01-01", [], {}, [[]], [None], ["x"],
    [2**40], [64] * 300, {"kind": "id"}, {"kind": "x"}, {"a": 1}, [[0.0]] * 50,
)  # fmt: skip
"""Values that stand where others are awaited."""


@dataclass(frozen=True)
class Mutation:
    """What was done to a Run."""

    kind: str
    sealed: bool
    what: str


def mutate(folder: Path, seed: int, others: list[Path]) -> Mutation:
    """Change a Run in place.

    Args:
        folder: A copy of a Run.
        seed: Which of all mutations.
        others: Whole Runs, whose files may be put in place of its own.
    """
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    names = list(CHANGES)
    kind = draw.choices(names, weights=[CHANGES[name][0] for name in names])[0]
    _, needs_seal, change = CHANGES[kind]
    sealed = needs_seal or (kind in MAY_BE_SEALED and draw.random() < 0.6)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if sealed:
        files = [path for path in files if path.name != "manifest.json"]
    if kind == "file of another Run":
        theirs = draw.choice(others)
        what = _other_file(draw, files, theirs)
    else:
        what = change(draw, folder, files)
    if sealed:
        seal_again(folder)
    return Mutation(kind, sealed, what)


def _flip(draw: random.Random, folder: Path, files: list[Path]) -> str:
    path = draw.choice([file for file in files if file.stat().st_size])
    data = bytearray(path.read_bytes())
    # Half of the flips strike the first bytes, where lengths and offsets stand.
    limit = min(len(data), 300) if draw.random() < 0.5 else len(data)
    places = [draw.randrange(limit) for _ in range(draw.choice([1, 1, 2, 8]))]
    for place in places:
        data[place] = draw.choice([data[place] ^ 1 << draw.randrange(8), 0, 255, draw.randrange(256)])
    if data == path.read_bytes():
        data[places[0]] ^= 1
    path.write_bytes(data)
    return f"{path.relative_to(folder)} at {places}"


def _truncate(draw: random.Random, folder: Path, files: list[Path]) -> str:
    path = draw.choice([file for file in files if file.stat().st_size])
    length = draw.randrange(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:length])
    return f"{path.relative_to(folder)} to {length}"


def _bloat(draw: random.Random, folder: Path, files: list[Path]) -> str:
    path, length = draw.choice(files), draw.choice([1, 8, 4096, 1 << 20, 5 << 20])
    piece = draw.choice([b"\0", b" ", b"\xff", b"[", b'{"a":', path.read_bytes()[:4096] or b"x"])
    filler = (piece * (length // len(piece) + 1))[:length]
    whole, place = path.read_bytes(), draw.choice([0, path.stat().st_size // 2, path.stat().st_size])
    path.write_bytes(whole[:place] + filler + whole[place:])
    return f"{path.relative_to(folder)} by {length} bytes of {piece[:8]!r} at {place}"


def _delete(draw: random.Random, folder: Path, files: list[Path]) -> str:
    path = draw.choice(files)
    path.unlink()
    return str(path.relative_to(folder))


def _add(draw: random.Random, folder: Path, files: list[Path]) -> str:
    name = draw.choice(["x.pkl", "x.py", "details-9.arrow", "model/vocabulary-77.arrow", "model/x.so", "weights.pt"])
    (folder / name).write_bytes(draw.choice(files).read_bytes())
    return name


def _swap(draw: random.Random, folder: Path, files: list[Path]) -> str:
    one, other = draw.sample(files, 2)
    if draw.random() < 0.5:  # files of one type fit each other's readers
        same = [file for file in files if file.suffix == one.suffix and file.read_bytes() != one.read_bytes()]
        other = draw.choice(same) if same else other
    if one.read_bytes() == other.read_bytes():
        return _flip(draw, folder, files)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    return f"{one.relative_to(folder)} with {other.relative_to(folder)}"


def _other_file(draw: random.Random, files: list[Path], theirs: Path) -> str:
    path = draw.choice(files)
    like = [file for file in sorted(theirs.rglob("*")) if file.suffix == path.suffix]
    like = [file for file in like if file.read_bytes() != path.read_bytes()] or [Path(__file__)]
    source = draw.choice(like)
    shutil.copyfile(source, path)
    return f"{path.name} from {source.name} of {theirs}"


def places_of(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in plain data with each of its keys or places; however deep an earlier edit has nested it."""
    waiting = [data]
    while waiting:
        container = waiting.pop()
        keys = (
            list(container)
            if isinstance(container, dict)
            else range(len(container))
            if isinstance(container, list)
            else ()
        )
        for key in keys:
            yield container, key
            waiting.append(container[key])


def _json(draw: random.Random, folder: Path, files: list[Path]) -> str:
    path = draw.choice([file for file in files if file.suffix == ".json"])
    data = json.loads(path.read_text(encoding="utf-8"))
    told = [_edit(draw, data) for _ in range(draw.choice([1, 1, 1, 2, 4]))]
    path.write_text(json.dumps(data), encoding="utf-8")
    return f"{path.relative_to(folder)}: {'; '.join(told)}"


def _edit(draw: random.Random, data: Any) -> str:
    """One change to plain data: a hostile value, one of its own, a removal, a new key, or much more of the same."""
    places = list(places_of(data))
    if not places:
        return "nothing is left"
    container, key = draw.choice(places)
    how = draw.choice(["hostile", "hostile", "own", "remove", "add", "repeat"])
    if how == "hostile":
        container[key] = copy.deepcopy(draw.choice(HOSTILE))
    elif how == "own":
        donor, place = draw.choice(places)
        container[key] = json.loads(json.dumps(donor[place]))
    elif how == "remove":
        del container[key]
    elif how == "add" and isinstance(container, dict):
        container[draw.choice(["x", "kind", "__class__", str(key) + "s"])] = copy.deepcopy(draw.choice(HOSTILE))
    elif isinstance(container[key], list):
        container[key] = container[key] * draw.choice([2, 50])
    else:
        container[key] = [container[key]] * draw.choice([2, 50])
    return f"{how} at {key!r}"[:80]


def _header(draw: random.Random, folder: Path, files: list[Path]) -> str:
    """Edit the JSON in front of a safetensors file, with a length that fits it."""
    path = draw.choice([file for file in files if file.suffix == ".safetensors"])
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    told = _edit(draw, header) if header else "nothing in it"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    return f"{path.relative_to(folder)}: {told}"


def _numbers(draw: random.Random, folder: Path, files: list[Path]) -> str:
    """Write numbers that are none, or huge, over the values of a safetensors file."""
    path = draw.choice([file for file in files if file.suffix == ".safetensors"])
    whole = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    if start + 8 > len(whole):
        return f"{path.relative_to(folder)}: no values"
    piece = draw.choice(
        [b"\xff" * 8, b"\0\0\x80\x7f" * 2, b"\0\0\xc0\x7f" * 2, b"\xff\xff\x7f\x7f" * 2, b"\0" * 8, b"\1" * 8]
    )
    for _ in range(draw.choice([1, 4, 1000])):
        place = start + draw.randrange((len(whole) - start) // 8) * 8
        whole[place : place + 8] = piece
    path.write_bytes(whole)
    return f"{path.relative_to(folder)}: {piece.hex()}"


CHANGES: Mapping[str, tuple[float, bool, Change]] = {
    "flip": (3.0, False, _flip),
    "truncate": (1.5, False, _truncate),
    "bloat": (1.5, False, _bloat),
    "delete": (0.5, False, _delete),
    "add": (0.5, False, _add),
    "swap": (1.0, False, _swap),
    "file of another Run": (1.0, False, _swap),
    "JSON edit": (5.0, True, _json),
    "tensor header edit": (1.5, True, _header),
    "tensor values": (1.5, True, _numbers),
}
"""Kind -> how often, whether it is always sealed again, the change."""
MAY_BE_SEALED = ("flip", "truncate", "bloat", "delete", "add", "swap", "file of another Run")
