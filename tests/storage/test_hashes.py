"""Invariants of hashes and strict JSON:

- a hash depends on content alone: not on key order, chunking, or how the object was built;
- what is written is read back equal, and what would come back as something else is refused when written;
- hostile JSON (too large, deep, duplicate keys, NaN, not UTF-8) gives one typed error that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import RunError
from towerkit.storage.hashes import (
    content_hash,
    json_bytes,
    parse_json,
    read_json,
    sha256_bytes,
    sha256_file,
    write_json,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1: "abc"
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "f") == expected
    big = os.urandom(3_000_001)
    (tmp_path / "f").write_bytes(big)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(big).hexdigest()


def test_sha256_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot read .*absent\.bin \(No such file"):
        sha256_file(tmp_path / "absent.bin")


def test_content_hash_ignores_key_order_and_sees_everything_else() -> None:
    assert content_hash({"a": 1, "b": {"c": 2, "d": 3}}) == content_hash({"b": {"d": 3, "c": 2}, "a": 1})
    different = [[1, 2], [2, 1], [1, [2]], {"a": 1}, {"a": "1"}, {"a": 1.0}, {"a": True}, {"a": None}, {}, [], None, ""]
    assert len({content_hash(value) for value in different}) == len(different)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_read_returns_what_was_written(value: Any) -> None:
    for indent in (None, 2):
        data = json_bytes(value, indent=indent)
        assert parse_json(data, "test") == value
        assert json_bytes(parse_json(data, "test"), indent=indent) == data


def test_file_is_sorted_indented_and_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": [1], "a": "é"})
    assert (tmp_path / "x.json").read_bytes() == '{\n  "a": "é",\n  "b": [\n    1\n  ]\n}\n'.encode()
    assert read_json(tmp_path / "x.json") == {"a": "é", "b": [1]}
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [0.0, float("nan")]}, r"x\.json: a\[1\]: JSON has no nan"),
        ({"a": {"b": float("-inf")}}, r"a\.b: JSON has no -inf"),
        ({"a": {3: 1}}, r"a: JSON keys are strings, received 3"),
        ({"a": np.float32(1)}, r"a: float32 has no JSON form; .*\.item\(\)"),
        ([b"x"], r"\[0\]: bytes has no JSON form"),
        ("\ud800", r"'\\ud800', half of a surrogate pair"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        write_json(tmp_path / "x.json", value)
    assert os.listdir(tmp_path) == []


def test_a_number_that_cannot_be_read_back_is_refused() -> None:
    with pytest.raises(RunError, match=r"limit \(4300 digits\).*; store it as text"):
        json_bytes({"a": 10**5000})


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_cap_is_the_same_for_writing_and_reading() -> None:
    assert parse_json(json_bytes(nested(64)), "test") == nested(64)
    with pytest.raises(RunError, match="more than 64 levels deep"):
        json_bytes(nested(65))
    with pytest.raises(RunError, match=r"deep\.json: nests 65 levels deep, more than the 64 allowed"):
        parse_json(json.dumps(nested(65)).encode(), "deep.json")
    objects: dict[str, Any] = {}
    for level in range(64):
        assert parse_json(json_bytes(objects), "test") == objects, level
        objects = {"key": objects}
    with pytest.raises(RunError, match="more than 64 levels deep") as error:
        json_bytes(objects)
    assert str(error.value).startswith("key.key." * 10 + "…")  # 80 letters of the place
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RunError, match="or holds itself"):
        json_bytes(loop)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 1_000_000, r"nests 1,000,000 levels deep"),
        (b'{"a":' * 100_000, r"nests 100,000 levels deep"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', r"the key 'c' appears twice"),
        (b'{"a": NaN}', r"NaN is not a JSON number"),
        (b"[-Infinity]", r"-Infinity is not a JSON number"),
        (b"[1e999]", r"the number 1e999 is too large"),
        (b"[" + b"1" * 5000 + b"]", r"limit \(4300 digits\)"),
        (b'{"a": 1', r"is not valid JSON: .* at line 1, column 8"),
        (b"", r"is not valid JSON: Expecting value at line 1, column 1"),
        (b'{"a": "\xff"}', r"is not UTF-8: byte 0xff at 7"),
        (b"\xef\xbb\xbf{}", r"is not valid JSON: Unexpected UTF-8 BOM"),
        (b'{"a": 1} x', r"is not valid JSON: Extra data at line 1, column 10"),
    ],
)
def test_hostile_json_is_refused_with_the_file_name(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(RunError, match=r"x\.json: .*?" + message):
        read_json(tmp_path / "x.json")


def test_brackets_inside_strings_are_not_depth() -> None:
    value = {"a": "[" * 200, 'b\\"{{': '\\"' + "{" * 200}
    assert parse_json(json.dumps(value).encode(), "test") == value


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='"\\[]{}:,a1 \n', max_size=40))
def test_any_text_parses_or_gives_the_typed_error(text: str) -> None:
    try:
        expected: Any = json.loads(text)
    except ValueError:
        with pytest.raises(RunError, match="soup"):
            parse_json(text.encode(), "soup")
    else:
        try:
            assert parse_json(text.encode(), "soup") == expected
        except RunError as error:
            assert "appears twice" in str(error)


@pytest.mark.parametrize("depth", [64, 65])
def test_what_was_closed_before_does_not_lower_the_depth(depth: int) -> None:
    value = [[], {}, [[]], nested(depth - 1)]
    data = json.dumps(value).encode()
    if depth == 64:
        assert parse_json(data, "test") == value
    else:
        with pytest.raises(RunError, match="test: nests 65 levels deep"):
            parse_json(data, "test")


def test_the_number_in_a_message_is_cut_to_40_digits() -> None:
    with pytest.raises(RunError, match=r"the number 1" + "0" * 39 + " is too large"):
        parse_json(b"[1" + b"0" * 400 + b".0]", "test")


def test_the_cap_is_4_mib_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for more in (0, 1):
        path.write_bytes(b'"' + b"a" * ((4 << 20) - 2 + more) + b'"')
        if more:
            with pytest.raises(RunError, match=r"x\.json has 4,194,305 bytes, more than the 4,194,304 allowed"):
                read_json(path)
        else:
            assert len(read_json(path)) == 4_194_302


def test_too_large_missing_and_not_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'"' + b"a" * 98 + b'"')
    assert read_json(path, max_bytes=100) == "a" * 98
    with pytest.raises(RunError, match=r"x\.json has 100 bytes, more than the 99 allowed"):
        read_json(path, max_bytes=99)
    with pytest.raises(RunError, match=r"x\.json has 100 bytes, more than the 50 allowed"):
        read_json(path, max_bytes=50)  # the size of the file, not of what was read of it
    with pytest.raises(RunError, match=r"Cannot read .*y\.json \(No such file"):
        read_json(tmp_path / "y.json")
    with pytest.raises(RunError, match="is not a regular file"):
        read_json(tmp_path)
    with pytest.raises(RunError, match="null"):
        read_json("a\0b")
