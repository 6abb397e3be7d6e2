"""Invariants of tensor files:

- what is saved is loaded: values bit for bit, shapes, types, ties; whatever the memory layout was;
- a damaged or hostile file gives one typed error that names it, before the library sees it;
- torch is not imported for NumPy arrays.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError

from towerkit.core.errors import RunError
from towerkit.storage.tensors import load_tensors, map_tensor, save_tensors, tensor_shapes

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
TYPES = ["bool", *INTEGERS, "float16", "float32", "float64", ">f4", ">i8"]
ARRAYS = st.sampled_from(TYPES).flatmap(lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, min_side=0)))


def raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), ARRAYS, max_size=5))
def test_round_trip_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("t") / "x.safetensors"
    save_tensors(path, arrays)
    loaded = load_tensors(path)
    assert list(loaded) == sorted(arrays)
    for name, array in arrays.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert loaded[name].dtype == native.dtype
        assert loaded[name].shape == native.shape
        assert loaded[name].tobytes() == native.tobytes()


def test_layouts_are_made_contiguous(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    layouts = {
        "transposed": base.T,
        "strided": base[::2, ::3],
        "reversed": base[::-1],
        "fortran": np.asfortranarray(base),
    }
    tensors = {f"torch {name}": torch.from_numpy(array.copy()).T for name, array in layouts.items()}
    save_tensors(tmp_path / "x", {**layouts, **tensors})
    loaded = load_tensors(tmp_path / "x")
    for name, array in layouts.items():
        np.testing.assert_array_equal(loaded[name], array)
        np.testing.assert_array_equal(loaded[f"torch {name}"], array.T)
        assert loaded[name].flags.c_contiguous


def test_loaded_arrays_are_writable_and_survive_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"a": np.ones(3), "b": torch.ones(3, dtype=torch.bfloat16)})
    loaded = load_tensors(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"\0" * 8)
    for array in loaded.values():
        array += 1
        assert array.tolist() == [2.0, 2.0, 2.0]


def test_parameters_and_bfloat16(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    half = torch.tensor([1.0, -2.5, 3.140625, float("inf"), 1e-40], dtype=torch.bfloat16)
    save_tensors(tmp_path / "x", {"weight": weight, "half": half, "count": np.arange(3, dtype=np.uint16)})
    loaded = load_tensors(tmp_path / "x")
    np.testing.assert_array_equal(loaded["weight"], weight.detach().numpy())
    assert loaded["half"].dtype == np.float32
    assert torch.equal(torch.from_numpy(loaded["half"]).to(torch.bfloat16), half)
    assert loaded["half"].tolist()[:4] == [1.0, -2.5, 3.140625, float("inf")]
    assert loaded["count"].dtype == np.uint16
    assert weight.requires_grad


@settings(max_examples=30, deadline=None)
@given(ARRAYS, ARRAYS)
def test_a_mapped_array_is_the_loaded_one(
    tmp_path_factory: pytest.TempPathFactory, first: npt.NDArray[Any], second: npt.NDArray[Any]
) -> None:
    path = tmp_path_factory.mktemp("t") / "x.safetensors"
    save_tensors(path, {"first": first, "second": second})
    for name, array in load_tensors(path).items():
        mapped = map_tensor(path, name)
        assert (mapped.dtype, mapped.shape, mapped.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_writing_to_a_mapped_array_leaves_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"a": np.zeros(4), "b": torch.zeros(2, dtype=torch.bfloat16)})
    map_tensor(tmp_path / "x", "a")[:] = 7.0
    assert load_tensors(tmp_path / "x")["a"].tolist() == [0.0] * 4
    for name in ("b", "c"):  # of bfloat16; not there
        with pytest.raises(RunError, match=f"has no array '{name}' that can be mapped; its arrays are 'a', 'b'"):
            map_tensor(tmp_path / "x", name)


@pytest.mark.parametrize("kind", ["numpy", "torch", "bfloat16"])
def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path: Path, kind: str) -> None:
    array: Any = np.arange(1000.0)
    if kind != "numpy":
        array = torch.nn.Parameter(torch.arange(1000.0).to(torch.bfloat16 if kind == "bfloat16" else torch.float32))
    same_memory = array[:] if kind == "numpy" else array.detach()
    save_tensors(tmp_path / "tied", {"b": same_memory, "a": array, "part": array[:10], "c": array})
    save_tensors(tmp_path / "single", {"a": array, "part": array[:10]})
    loaded = load_tensors(tmp_path / "tied")
    assert list(loaded) == ["a", "b", "c", "part"]
    assert loaded["a"] is loaded["b"] is loaded["c"]
    assert not np.shares_memory(loaded["part"], loaded["a"])  # a part of a tensor is not the same tensor
    assert (tmp_path / "tied").stat().st_size - (tmp_path / "single").stat().st_size < 200


def test_shapes_are_read_without_the_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.ones((3, 4), dtype=np.float32)
    save_tensors(tmp_path / "x", {"b": array, "tied": array, "a": np.zeros((), dtype=np.int8), "e": np.ones((0, 2))})
    monkeypatch.setattr("towerkit.storage.tensors.safe_open", lambda *_, **__: pytest.fail("reached the library"))
    assert tensor_shapes(tmp_path / "x") == {"a": (), "b": (3, 4), "e": (0, 2), "tied": (3, 4)}
    with pytest.raises(RunError, match=r"Cannot read .*absent \(No such file"):
        tensor_shapes(tmp_path / "absent")


def test_equal_but_separate_or_empty_arrays_are_not_tied(tmp_path: Path) -> None:
    separate: dict[str, Any] = {"a": np.ones(2), "b": np.ones(2), "e": np.ones((0, 3)), "f": np.ones((0, 4))}
    separate |= {"g": torch.ones(0, 3), "h": torch.ones(0, 3), "i": np.ones((0, 3))}
    same = np.arange(4, dtype=np.int32)
    views: dict[str, Any] = {"whole": same, "square": same.reshape(2, 2), "float": same.view(np.float32)}
    save_tensors(tmp_path / "x", separate | views)
    loaded = load_tensors(tmp_path / "x")
    assert len({id(array) for array in loaded.values()}) == 10
    assert loaded["square"].shape == (2, 2)
    assert loaded["e"].shape == (0, 3)
    assert loaded["f"].shape == (0, 4)


def test_torch_is_not_imported_for_arrays(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom towerkit.storage.tensors import load_tensors, save_tensors\n"
        "save_tensors(sys.argv[1], {'a': np.ones(2)}); load_tensors(sys.argv[1])\nprint('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True)
    assert answer.stdout == "False\n", answer.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array(["a"]), r"'w' has type <U1, which cannot be stored; convert it to .*'float32'"),
        (np.array([None]), r"'w' has type object"),
        (np.ones(2, dtype=complex), r"'w' has type complex128"),
        (torch.ones(2, dtype=torch.complex64), r"'w' has type torch\.complex64"),
        (torch.ones(2, device="meta"), r"'w' is on the meta device; give a dense tensor"),
        (torch.ones(2, 2).to_sparse(), r"'w' is of layout torch\.sparse_coo"),
        (np.ma.masked_array([1.0], mask=[True]), r"'w' is a MaskedArray"),
        ([1.0, 2.0], r"'w' is a list; give a NumPy array or a torch tensor"),
        (3.0, r"'w' is a float"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(RunError, match=r"x\.safetensors: .*" + message):
        save_tensors(tmp_path / "x.safetensors", {"fine": np.ones(2), "w": value})
    assert os.listdir(tmp_path) == []


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # PyTorch will drop them; until then they may be met
def test_a_quantized_tensor_is_named(tmp_path: Path) -> None:
    value = torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)
    with pytest.raises(RunError, match=r"x: the tensor 'w' is quantized; give a dense tensor"):
        save_tensors(tmp_path / "x", {"w": value})


def test_names_and_number_of_tensors(tmp_path: Path) -> None:
    for name in ("", "__metadata__", 3):
        with pytest.raises(RunError, match=rf"x: {name!r} cannot name a tensor"):
            save_tensors(tmp_path / "x", {name: np.ones(1)})  # type: ignore[dict-item]
    scalar = np.zeros((), dtype=np.int8)
    many = {str(number): scalar for number in range(10_001)}
    with pytest.raises(RunError, match="10,001 tensors are more than the 10,000 allowed"):
        save_tensors(tmp_path / "x", many)
    del many["0"]
    save_tensors(tmp_path / "x", many)
    assert len(load_tensors(tmp_path / "x")) == 10_000


FILLED = b"\0" * 8


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{", b"", "is not valid JSON"),
        (b"[]", b"", "the header must be an object, received a list"),
        (b"[" * 5000, b"", "nests 5,000 levels deep"),
        (b'{"a": 1, "a": 2}', b"", "the key 'a' appears twice"),
        ({"a": 1}, b"", "the tensor 'a' must have dtype, shape and data_offsets"),
        (one() | {"b": one()["a"]}, FILLED, "'b' begins at 0 and the one before it ends at 8"),
        (one(offsets=(8, 16)), FILLED * 2, "'a' begins at 8 and the one before it ends at 0"),
        (one(), FILLED[:7], "was cut short: its tensors need 8 bytes, it has 7"),
        (one(), FILLED + b"x", "has grown: its tensors need 8 bytes, it has 9"),
        ({}, b"x", "has grown: its tensors need 0 bytes, it has 1"),
        (one(dtype="F8_E4M3"), FILLED, "has type 'F8_E4M3'; the types here are 'BF16'"),
        (one(dtype=["F32"]), FILLED, r"has type \['F32'\]"),
        (one(shape=(3,)), FILLED, r"of shape \[3\] and type F32 needs 12 bytes, its offsets \[0, 8\] give 8"),
        (one(shape=(-2,)), FILLED, r"has the shape \[-2\], which cannot be"),
        (one(shape=(True, 2)), FILLED, r"has the shape \[True, 2\]"),
        (one(shape=(0, 1 << 62), offsets=(0, 0)), b"", r"has the shape \[0, 4611686018427387904\], which cannot be"),
        (one(shape=(1,) * 33, offsets=(0, 4)), FILLED[:4], r"has the shape \[1, 1, .*, which cannot be"),
        (one(offsets=(0, 8, 9)), FILLED, r"has the offsets \[0, 8, 9\]"),
        (one(offsets=(8, 0)), FILLED, r"its offsets \[8, 0\] give -8"),
        ({"__metadata__": {"x": 1}}, b"", "the metadata must map texts to texts"),
        ({"__metadata__": {"aliases": "[]"}}, b"", "the aliases must be an object"),
        ({"__metadata__": {"aliases": '{"b": "c"}'}} | one(), FILLED, "'b' cannot be another name of 'c'; .*'a'"),
        ({"__metadata__": {"aliases": '{"a": "a"}'}} | one(), FILLED, "'a' cannot be another name of 'a'"),
        ({"__metadata__": {"aliases": '{"b": ["a"]}'}} | one(), FILLED, r"'b' cannot be another name of \['a'\]"),
        ({str(i): 1 for i in range(10_002)}, b"", "has 10,002 tensors, more than the 10,000 allowed"),
    ],
)
def test_hostile_headers_never_reach_the_library(
    tmp_path: Path, header: Any, data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towerkit.storage.tensors.safe_open", lambda *_, **__: pytest.fail("reached the library"))
    with pytest.raises(RunError, match=r"x\.safetensors: .*" + message):
        load_tensors(raw(tmp_path / "x.safetensors", header, data))


def test_what_is_just_allowed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert load_tensors(raw(path, one(shape=(1,) * 32, offsets=(0, 4)), FILLED[:4]))["a"].shape == (1,) * 32
    assert tensor_shapes(raw(path, one(shape=(0, (1 << 60) - 1), offsets=(0, 0)))) == {"a": (0, (1 << 60) - 1)}
    assert load_tensors(raw(path, b"{}".ljust(4 << 20))) == {}
    many = {str(number): one(shape=(0,), offsets=(0, 0))["a"] for number in range(10_000)}
    assert len(tensor_shapes(raw(path, many | {"__metadata__": {"aliases": "{}"}}))) == 10_000
    aliases = {f"b{number}": "a" for number in range(9_999)}
    assert len(tensor_shapes(raw(path, {"__metadata__": {"aliases": json.dumps(aliases)}} | one(), FILLED))) == 10_000


def test_what_is_just_not_allowed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(RunError, match=r"has the shape \[0, 1152921504606846976\], which cannot be"):
        tensor_shapes(raw(path, one(shape=(0, 1 << 60), offsets=(0, 0))))
    with pytest.raises(RunError, match=r"a header of 4,194,305 bytes, more than the 4,194,304 allowed"):
        tensor_shapes(raw(path, b"{}".ljust((4 << 20) + 1)))
    aliases = {f"b{number}": "a" for number in range(10_000)}
    with pytest.raises(RunError, match="the aliases must be an object of at most 10,000 names"):
        tensor_shapes(raw(path, {"__metadata__": {"aliases": json.dumps(aliases)}} | one(), FILLED))
    with pytest.raises(RunError, match=r"x: is not valid JSON: Expecting value"):
        tensor_shapes(raw(path, b""))


def test_long_shapes_and_offsets_are_cut_to_60_letters(tmp_path: Path) -> None:
    numbers = [1] * 99
    told = re.escape(str(numbers)[:60])
    with pytest.raises(RunError, match=rf"the tensor 'a' has the shape {told}, which cannot be"):
        tensor_shapes(raw(tmp_path / "x", one(shape=numbers)))
    with pytest.raises(RunError, match=rf"the tensor 'a' has the offsets {told}; give"):
        tensor_shapes(raw(tmp_path / "x", one(offsets=numbers), FILLED))


def test_raw_helper_can_write_a_valid_file(tmp_path: Path) -> None:
    """The negative control of the test above."""
    assert load_tensors(raw(tmp_path / "x", one(), FILLED))["a"].tolist() == [0.0, 0.0]
    assert load_tensors(raw(tmp_path / "x", {})) == {}


def test_lengths_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1234567")
    with pytest.raises(RunError, match="x: has 7 bytes, and a safetensors file has at least 8"):
        load_tensors(path)
    with pytest.raises(
        RunError, match="announces a header of 18,446,744,073,709,551,615 bytes, more than the 4,194,304"
    ):
        load_tensors(raw(path, {}, length=(1 << 64) - 1))
    with pytest.raises(RunError, match="announces a header of 50 bytes and has 2; it was cut short"):
        load_tensors(raw(path, {}, length=50))
    with pytest.raises(RunError, match=r"Cannot read .*absent \(No such file"):
        load_tensors(tmp_path / "absent")
    with pytest.raises(RunError, match=r"Cannot read .* \(Is a directory"):
        load_tensors(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_loads_or_gives_the_typed_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("t") / "x"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_tensors(path, {"a": array, "b": array, "c": np.ones(3, dtype=np.int8)})
    content = bytearray(path.read_bytes())
    start = len(content) - array.nbytes - 3
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, start - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(content)
    try:
        loaded = load_tensors(path)
    except RunError as error:
        assert str(path) in str(error)
    else:  # a changed letter of a name, or another type of the same width
        assert sum(array.nbytes for array in loaded.values()) >= array.nbytes + 3


def test_errors_of_the_library_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    save_tensors(tmp_path / "x", {"a": np.ones(2)})
    with monkeypatch.context() as patched:
        patched.setattr("towerkit.storage.tensors.safe_open", refused)
        with pytest.raises(RunError, match=r"x: cannot be read: No space left on device; copy or write it again"):
            load_tensors(tmp_path / "x")
    monkeypatch.setattr("towerkit.storage.tensors.save_file", refused)
    with pytest.raises(RunError, match=r"x: cannot be written: No space left on device; check the free space"):
        save_tensors(tmp_path / "x", {"a": np.zeros(2)})
    assert load_tensors(tmp_path / "x")["a"].tolist() == [1.0, 1.0]
    assert os.listdir(tmp_path) == ["x"]
