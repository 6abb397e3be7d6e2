"""Invariants of the manifest:

- an untouched folder verifies; a folder with any byte, file or name changed never does, and the error is a RunError;
- the error names the file and both values (sizes, hashes, versions);
- no path in a manifest leads out of the folder, and no link is followed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from towerkit import _version
from towerkit.core.errors import RunError
from towerkit.storage.hashes import content_hash, json_bytes, sha256_bytes
from towerkit.storage.manifest import FileEntry, read_manifest, verify, write_manifest
from towerkit.storage.migrations import FORMAT_VERSION

FILES = {
    "spec.json": b'{"kind": "late_fusion"}\n',
    "weights.safetensors": bytes(range(256)) * 2,
    "empty.bin": b"",
    "members/text/spec.json": b'{"kind": "tower_model"}\n',
    "members/text/words.arrow": b"ARROW1" * 20,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return build(tmp_path / "run")


def build(folder: Path) -> Path:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_manifest(folder / "members" / "text", kind="tower_model")
    write_manifest(
        folder, kind="late_fusion", extra={"note": "é", "scores": [0.1, 1e-9, 3], "deep": {"a": [None, True]}}
    )
    return folder


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as an attacker would who also renews the seal."""
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["seal"]
    change(content)
    path.write_bytes(json_bytes({**content, "seal": content_hash(content)}))


def test_manifest_says_what_is_there(run: Path) -> None:
    manifest = verify(run)
    assert read_manifest(run) == manifest
    assert (manifest.format, manifest.towerkit, manifest.kind) == (FORMAT_VERSION, _version.__version__, "late_fusion")
    assert sorted(manifest.files) == sorted([*FILES, "members/text/manifest.json"])
    for name, data in FILES.items():
        assert manifest.files[name] == FileEntry(sha256_bytes(data), len(data))
    assert manifest.extra == {"note": "é", "scores": [0.1, 1e-9, 3], "deep": {"a": [None, True]}}
    age = datetime.now(UTC) - datetime.fromisoformat(manifest.created)
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert verify(run / "members" / "text").kind == "tower_model"  # a member is a Run of its own


def test_written_manifest_is_returned_as_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    assert write_manifest(tmp_path, kind="k", extra={"a": 1}) == read_manifest(tmp_path)


def test_what_was_read_cannot_be_changed(run: Path) -> None:
    manifest = read_manifest(run)
    with pytest.raises(FrozenInstanceError):
        manifest.kind = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        manifest.files["empty.bin"].bytes = 1  # type: ignore[misc]


def all_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def mutate(folder: Path, data: st.DataObject) -> str:
    """Change one thing at random; every change is a real one."""
    kind = data.draw(st.sampled_from(["flip", "truncate", "append", "delete", "add", "swap"]))
    path = data.draw(st.sampled_from([file for file in all_files(folder) if kind != "flip" or file.stat().st_size]))
    content = path.read_bytes()
    if kind == "truncate" and not content:
        kind = "append"
    if kind == "flip":
        position = data.draw(st.integers(0, len(content) - 1))
        changed = bytearray(content)
        changed[position] ^= data.draw(st.integers(1, 255))
        path.write_bytes(changed)
    elif kind == "truncate":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif kind == "append":
        path.write_bytes(content + data.draw(st.sampled_from([b"\n", b" ", b"\0", b"{}"])))
    elif kind == "delete":
        path.unlink()
    elif kind == "add":
        path.with_name(data.draw(st.text("abc.", min_size=1, max_size=5).filter(lambda s: s.strip(".")))).write_bytes(
            b""
        )
    else:
        other = data.draw(st.sampled_from([file for file in all_files(folder) if file.read_bytes() != content]))
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    return f"{kind} {path.name}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whole") / "run")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_mutation_passes(whole: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        for number in range(4):  # 60 x 4 = 240 mutations
            copy = Path(place) / f"copy{number}"
            shutil.copytree(whole, copy)
            verify(copy)  # the negative control: a copy passes before it is changed
            what = mutate(copy, data)
            note(what)
            with pytest.raises(RunError) as error:
                verify(copy)
            assert str(copy) in str(error.value)


def test_every_single_bit_of_the_manifest_counts(run: Path) -> None:
    path = run / "manifest.json"
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(RunError, match=r"manifest\.json"):
            read_manifest(run)
    path.write_bytes(content)
    verify(run)


def test_damaged_files_are_named_with_both_values(run: Path) -> None:
    def said(name: str, data: bytes | None) -> str:
        path = run / name
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(RunError) as error:
            verify(run)
        path.write_bytes(FILES[name])
        verify(run)
        return str(error.value)

    weights = FILES["weights.safetensors"]
    assert "weights.safetensors: was cut short: it has 100 bytes, the manifest says 512" in said(
        "weights.safetensors", weights[:100]
    )
    assert "words.arrow: has grown: it has 121 bytes, the manifest says 120" in said(
        "members/text/words.arrow", FILES["members/text/words.arrow"] + b"x"
    )
    other = weights[::-1]
    assert (
        f"was changed: its SHA-256 is {sha256_bytes(other)[:12]}…, the manifest says {sha256_bytes(weights)[:12]}…"
        in said("weights.safetensors", other)
    )
    assert "1 file is missing: 'members/text/spec.json'" in said("members/text/spec.json", None)


def test_unknown_files_are_named(run: Path) -> None:
    (run / "members" / "code.py").write_text("import os")
    with pytest.raises(RunError, match=r"1 file is unknown to the manifest: 'members/code\.py'"):
        verify(run)
    (run / "model.pkl").write_bytes(b"")
    with pytest.raises(RunError, match=r"2 files are unknown to the manifest: 'members/code\.py', 'model\.pkl'"):
        verify(run)


def test_links_and_pipes_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "members", tmp_path / "outside")
    weights = run / "weights.safetensors"
    shutil.copy(weights, tmp_path / "weights")
    weights.unlink()
    weights.symlink_to(tmp_path / "weights")
    with pytest.raises(RunError, match=r"'weights\.safetensors' is a symbolic link, which a Run may not hold"):
        verify(run)
    with pytest.raises(RunError, match=r"'weights\.safetensors' is a symbolic link"):
        write_manifest(run, kind="x")
    weights.unlink()
    shutil.copy(tmp_path / "weights", weights)
    shutil.rmtree(run / "members")
    (run / "members").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(RunError, match="'members' is a symbolic link"):
        verify(run)
    (run / "members").unlink()
    shutil.copytree(tmp_path / "outside", run / "members")
    verify(run)
    if hasattr(os, "mkfifo"):
        os.mkfifo(run / "pipe")
        with pytest.raises(RunError, match="'pipe' is a device or a pipe"):
            verify(run)


def test_linked_manifest_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.move(run / "manifest.json", tmp_path / "manifest.json")
    (run / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(RunError, match=r"manifest\.json: is a symbolic link"):
        verify(run)


def test_missing_folder_says_the_nearest_name(run: Path) -> None:
    with pytest.raises(RunError, match=r"There is no folder .*rnu; did you mean 'run'\?"):
        verify(run.with_name("rnu"))
    with pytest.raises(RunError, match=r"There is no folder .*zzz; check the path"):
        verify(run.with_name("zzz"))


def test_not_a_run_says_where_one_is(run: Path) -> None:
    with pytest.raises(RunError, match=r"is not a Run: it has no manifest\.json; there are Runs inside: 'run'"):
        verify(run.parent)
    (run / "folder").mkdir()
    with pytest.raises(RunError, match=r"folder is not a Run: .*; the folder above it is a Run: .*run\."):
        verify(run / "folder")
    with pytest.raises(RunError, match=r"spec\.json is a file, and a Run is a folder"):
        verify(run / "spec.json")
    (run.parent / "empty" / "deep").mkdir(parents=True)
    with pytest.raises(RunError, match=r"empty is not a Run: .*; give the folder that 'towerkit train' wrote"):
        verify(run.parent / "empty")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"format": 1', r"is not valid JSON: .* line 1, column 13"),
        (b"", r"is not valid JSON: Expecting value at line 1, column 1"),
        (b"[]", r"must hold a JSON object, received a list"),
        (b'{"format": 1, "format": 1}', r"the key 'format' appears twice"),
        (b"[" * 100_000, r"nests 100,000 levels deep, more than the 64 allowed"),
        (b"{}", r"'format' must be a whole number, received None"),
        (b'{"format": true}', r"'format' must be a whole number, received True"),
        (b'{"format": "1"}', r"'format' must be a whole number, received '1'"),
        (b'{"format": 1}', r"the keys 'created', 'extra', 'files', 'kind', 'seal', 'towerkit' are missing"),
        (b'{"format": 2}', r"the keys 'created', 'extra', 'files', 'kind', 'seal', 'space', 'towerkit' are missing"),
        (b'{"format": 1, "extra": NaN}', r"NaN is not a JSON number"),
    ],
)
def test_damaged_manifest(run: Path, data: bytes, message: str) -> None:
    (run / "manifest.json").write_bytes(data)
    with pytest.raises(RunError, match=r"manifest\.json: .*?" + message):
        verify(run)


def test_manifest_over_the_cap(run: Path) -> None:
    (run / "manifest.json").write_bytes(b" " * ((4 << 20) + 5))
    with pytest.raises(RunError, match=r"manifest\.json has 4,194,309 bytes, more than the 4,194,304 allowed"):
        verify(run)
    with pytest.raises(RunError, match=r"a manifest of 6 files has [\d,]+ bytes, more than the 4,194,304 allowed"):
        write_manifest(run, kind="x", extra={"a": "b" * (4 << 20)})


def test_a_manifest_of_just_the_cap_is_written_and_read(tmp_path: Path) -> None:
    def size(letters: int) -> int:
        write_manifest(tmp_path, kind="x", extra={"a": "b" * letters})
        return (tmp_path / "manifest.json").stat().st_size

    fits = (4 << 20) - size(0)
    assert size(fits) == 4 << 20
    assert len(verify(tmp_path).extra["a"]) == fits
    with pytest.raises(RunError, match=r"a manifest of 0 files has 4,194,305 bytes, more than the 4,194,304 allowed"):
        size(fits + 1)


@pytest.mark.parametrize(("letters", "told"), [(58, "'" + "x" * 58 + "'"), (59, "'" + "x" * 58 + "…")])
def test_a_long_value_is_cut_to_60_letters(run: Path, letters: int, told: str) -> None:
    forge(run, lambda content: content.update(extra="x" * letters))
    with pytest.raises(RunError, match=f"'extra' must be an object, received {told}; copy"):
        verify(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3, "towerkit": "9.1"}, rf"has format 3, written by towerkit '9\.1'; this is towerkit "
         rf"{_version.__version__}, which reads formats 1 to 2: pip install --upgrade towerkit, or train the Run again"),
        ({"format": 0, "towerkit": "0.0.9"}, r"has format 0, written by towerkit '0\.0\.9'; .* was never a format 0"),
        ({"format": -1}, r"has format -1, .* was never a format -1"),
        ({"format": 1}, r"unknown key 'space'\. Only 'extra' may hold keys of your own"),
        ({"space": "x"}, r"'space' must be 64 hex digits or null, received 'x'"),
        ({"space": 7}, r"'space' must be 64 hex digits or null, received 7"),
        ({"kinds": "x"}, r"unknown key 'kinds'; did you mean 'kind'\? Only 'extra' may hold keys of your own"),
        ({"kind": 3}, r"'kind' must be a text, received 3"),
        ({"kind": ""}, r"'kind' must be a text, received ''"),
        ({"created": None}, r"'created' must be a text, received None"),
        ({"files": []}, r"'files' must be an object, received \[\]"),
        ({"extra": "x"}, r"'extra' must be an object, received 'x'"),
        ({"files": {"a": 1}}, r"the entry of 'a' must be \{sha256, bytes\}, received 1"),
        ({"files": {"a": {"sha256": "0" * 64}}}, r"the entry of 'a' must be \{sha256, bytes\}"),
        ({"files": {"a": {"sha256": "0" * 64, "bytes": -1}}}, r"'bytes' of 'a' must be a whole number, received -1"),
        ({"files": {"a": {"sha256": "0" * 64, "bytes": True}}}, r"'bytes' of 'a' must be .*, received True"),
        ({"files": {"a": {"sha256": "G" * 64, "bytes": 1}}}, r"'sha256' of 'a' must be 64 hex digits, received 'GGG"),
        ({"files": {"a": {"sha256": 5, "bytes": 1}}}, r"'sha256' of 'a' must be 64 hex digits, received 5"),
    ],
)  # fmt: skip
def test_forged_fields_are_refused(run: Path, change: dict[str, Any], message: str) -> None:
    forge(run, lambda content: content.update(change))
    with pytest.raises(RunError, match=r"manifest\.json: " + message):
        verify(run)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret", "leads out of the folder"),
        ("a/../../secret", "leads out of the folder"),
        ("/etc/passwd", "is absolute"),
        ("..\\secret", "holds a backslash"),
        ("C:secret", "a colon"),
        ("a\x00b", "control character"),
        ("a//b", "has an empty part"),
        ("./a", r"a '\.' part"),
        ("", "has an empty part"),
        ("manifest.json", "is the manifest itself"),
    ],
)
def test_paths_that_escape_are_refused(run: Path, name: str, message: str) -> None:
    secret = run.parent / "secret"
    secret.write_bytes(b"s")
    entry = {"sha256": sha256_bytes(b"s"), "bytes": 1}
    forge(run, lambda content: content["files"].update({name: entry}))
    with pytest.raises(RunError, match=r"the file name .*" + message):
        verify(run)


def test_forging_helper_alone_does_not_break_a_manifest(run: Path) -> None:
    """The negative control of the two tests above: with no change, the forged manifest verifies."""
    forge(run, lambda content: None)
    verify(run)


def test_edit_without_a_new_seal_is_noticed(run: Path) -> None:
    path = run / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"late_fusion"', b'"two_tower"'))
    with pytest.raises(RunError, match=r"manifest\.json: was changed after it was written"):
        read_manifest(run)


def test_extra_may_hold_any_keys(tmp_path: Path) -> None:
    write_manifest(tmp_path, kind="x", extra={"files": "mine", "format": [1], "": None})
    assert verify(tmp_path).extra == {"files": "mine", "format": [1], "": None}


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent is not a folder"):
        write_manifest(tmp_path / "absent", kind="x")
    with pytest.raises(RunError, match=r"manifest\.json: extra\.a: JSON has no nan"):
        write_manifest(tmp_path, kind="x", extra={"a": float("nan")})
    with pytest.raises(RunError, match="must be a text, received ''"):
        write_manifest(tmp_path, kind="")
    loop: dict[str, Any] = {}
    loop["again"] = loop
    with pytest.raises(RunError, match="holds itself"):
        write_manifest(tmp_path, kind="x", extra=loop)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such a name itself")
def test_names_that_are_not_portable_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a\\b").write_text("x")
    with pytest.raises(RunError, match=r"the file name 'a\\\\b' holds a backslash, .*; rename the file"):
        write_manifest(tmp_path, kind="x")


def test_what_cannot_be_listed_or_looked_at_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refused)
        with pytest.raises(RunError, match=rf"Cannot list {run} \(Permission denied\); check that you may read it"):
            verify(run)
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refused)
        with pytest.raises(RunError, match=r"There is no folder .*absent; check the path."):
            read_manifest(tmp_path / "absent")
    name = next(iter(read_manifest(run).files))
    with monkeypatch.context() as patched:
        patched.setattr("towerkit.storage.manifest._files_on_disk", lambda folder: read_manifest(run).files)
        (run / name).unlink()
        with pytest.raises(RunError, match=rf"Cannot read {run / name} \(No such file or directory\)"):
            verify(run)
