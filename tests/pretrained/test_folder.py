"""Pretrained encoders as folders (`towerkit.pretrained.folder`, `.source`, `.modules`).

Invariants: the fingerprint is one of the files that are read, never of the place or of what lies beside them; pickled
weights are refused with the conversion that helps; what a config asks for beyond reason, and files that do not belong
together, are typed errors that name the folder; a hub name is found in the hub's own cache without a network; loading
draws no random number and leaves the settings of transformers as they were.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from towerkit.core.errors import MissingExtraError, RunError, SpecError
from towerkit.core.spec import parse
from towerkit.pretrained import Pretrained, PretrainedSource, load_module, new_module
from towerkit.pretrained.modules import width_of
from towerkit.pretrained.source import fingerprints
from towerkit.storage.hashes import sha256_file


@pytest.fixture
def copy(small_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_encoder, tmp_path / "copy"))


def edited(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_the_fingerprint_is_of_the_files_that_are_read_and_of_nothing_else(small_encoder: Path, copy: Path) -> None:
    one = Pretrained.of(small_encoder)
    assert set(one.files) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert one.files["config.json"] == sha256_file(small_encoder / "config.json")
    (copy / "README.md").write_text("a word about it")
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert Pretrained.of(copy).fingerprint == one.fingerprint
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(data))
    assert Pretrained.of(copy).fingerprint != one.fingerprint


def test_pickled_weights_are_refused_with_the_conversion(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(
        SpecError, match=r"copy has its weights only in 'pytorch_model\.bin'.*runs code.*save_pretrained\('NEW'\)"
    ):
        Pretrained.of(copy)
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(SpecError, match=r"copy has no model\.safetensors; it has 'config\.json', 'tokenizer\.json'"):
        Pretrained.of(copy)


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"is no encoder: it has no config\.json"):
        Pretrained.of(tmp_path)
    with pytest.raises(SpecError, match=r"gone cannot be read \(No such file or directory\)"):
        Pretrained.of(tmp_path / "gone")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "from a folder .path. or from the hub .name.; received path: None, name: None"),
        ({"path": "a", "name": "b/c"}, "received path: 'a', name: 'b/c'. Give one of the two"),
        ({"path": "a", "revision": "main"}, "'revision' belongs to a name on the hub; received 'main'"),
    ],
)
def test_a_source_names_one_place(keys: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        parse(PretrainedSource, keys)


def test_a_path_may_name_a_variable(small_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_ENCODERS", str(small_encoder.parent))
    assert PretrainedSource(path="${MY_ENCODERS}/small").find() == Pretrained.of(small_encoder)


def test_a_name_is_found_where_the_hub_keeps_it(
    small_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    where = tmp_path / "hub" / "models--ann--small"
    (where / "refs").mkdir(parents=True)
    (where / "refs" / "main").write_text("0" * 40)
    shutil.copytree(small_encoder, where / "snapshots" / ("0" * 40))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    real = hub.snapshot_download
    monkeypatch.setattr(
        hub, "snapshot_download", lambda name, **others: real(name, cache_dir=tmp_path / "hub", **others)
    )
    assert PretrainedSource(name="ann/small").find().fingerprint == Pretrained.of(small_encoder).fingerprint
    with pytest.raises(SpecError, match="The encoder 'ann/other' could not be had from the hub"):
        PretrainedSource(name="ann/other").find()


def test_a_module_is_loaded_with_its_weights_and_nothing_else_moves(small_encoder: Path) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    module = load_module(Pretrained.of(small_encoder))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert not module.training and module.pooler is None
    again = load_module(Pretrained.of(small_encoder))
    for name, weight in module.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, again.state_dict()[name])
    with torch.device("meta"):
        empty = new_module(Pretrained.of(small_encoder))
    assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == {
        name: tensor.shape for name, tensor in module.state_dict().items()
    }
    assert width_of(Pretrained.of(small_encoder)) == 32


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "bort"}, "config.json.: the installed transformers has no model_type 'bort'. Use an encoder"),
        ({"model_type": ["bert"]}, r"has no model_type \['bert'\]"),
        (
            {"model_type": "mine", "auto_map": {"AutoModel": "evil.Model"}},
            "It brings code of its own, which towerkit never runs",
        ),
        ({"quantization_config": {"load_in_4bit": True}}, "asks for quantized weights"),
        ({"model_type": "t5", "classifier_dropout": 0.0}, "is a t5, an encoder with a decoder"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 512, received 1000000000"),
        ({"num_hidden_layers": 3}, "copy do not fit its config.json: .*layer.2.*is missing"),
        ({"hidden_size": 31}, "copy cannot be loaded .ValueError"),
        ({"hidden_act": "os.system"}, "copy cannot be loaded .KeyError"),
    ],
)
def test_a_config_that_asks_for_what_it_must_not(copy: Path, changes: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told.replace("config.json.:", "config.json:")):
        load_module(Pretrained.of(edited(copy, **changes)))


def test_code_in_the_folder_is_never_run(copy: Path) -> None:
    (copy / "evil.py").write_text("raise SystemExit('this ran')\n")
    load_module(Pretrained.of(edited(copy, auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})))
    assert "evil" not in {name.rpartition(".")[2] for name in sys.modules}


def test_damaged_weights_are_a_typed_error(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"model\.safetensors"):
        load_module(Pretrained.of(copy))


def test_files_are_copied_once_they_are_what_they_were(copy: Path, tmp_path: Path) -> None:
    encoder = Pretrained.of(copy)
    encoder.copy_to(tmp_path / "a")
    assert Pretrained.in_run(tmp_path / "a", encoder.fingerprint).files == encoder.files
    with pytest.raises(RunError, match="fingerprint is .*, and the features were made by 000000"):
        Pretrained.in_run(tmp_path / "a", "0" * 64)
    edited(copy, dropout=0.5)
    with pytest.raises(RunError, match=r"config\.json was changed while the Run was trained"):
        encoder.copy_to(tmp_path / "b")
    (copy / "config.json").unlink()
    with pytest.raises(RunError, match=r"Cannot copy the encoder's .*config\.json into the Run \(No such file"):
        encoder.copy_to(tmp_path / "c")
    bare = encoder.without_weights()
    assert not bare.has_weights and encoder.has_weights and set(bare.files) == {"config.json", "tokenizer.json"}


def test_without_the_package_the_extra_is_named(small_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers.utils.logging", None)
    with pytest.raises(MissingExtraError, match=r"towerkit\[text\]"):
        load_module(Pretrained.of(small_encoder))


def test_a_spec_names_its_encoders_by_their_content(small_encoder: Path, copy: Path) -> None:
    one, other = ({"kind": "pretrained", "path": str(path), "train": "full"} for path in (small_encoder, copy))
    part = {
        "towers": {"a": {"encoder": one}, "b": {"encoder": {"kind": "hashed_ngrams"}}},
        "more": [{"encoder": other}],
    }
    same = Pretrained.of(small_encoder).fingerprint
    assert fingerprints(part) == {f"{small_encoder}@None": same, f"{copy}@None": same}
    edited(copy, layer_norm_eps=1e-6)
    assert fingerprints(part)[f"{copy}@None"] != same
    assert fingerprints({"kind": "two_tower"}) == {}
