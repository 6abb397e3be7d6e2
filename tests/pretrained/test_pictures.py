"""Pretrained encoders of pictures (`towerkit.pretrained.pictures`, `.reading`, `.efficientnet`, `.convert`).

Invariants: what a folder says of size, fit and colors is what the processor of transformers makes of a picture; vectors are those
of the network called directly, whatever the batch; EfficientNet-Lite0 fits its weights name by name, and its padding is that of
TensorFlow; an old state dict is converted once, tensors only; what is no such file is refused with a reason; an ONNX file gives the
vectors of the network that it was written from; batch normalisation takes no statistics.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.core.errors import RunError, SpecError
from towerkit.features.pictures import pixels_of
from towerkit.pretrained.convert import convert_encoder
from towerkit.pretrained.efficientnet import EfficientNetLite0, SameConvolution
from towerkit.pretrained.folder import Pretrained
from towerkit.pretrained.pictures import PictureEncoder, PictureModule, picture_module, pooled
from towerkit.pretrained.reading import PictureReader
from towerkit.storage.hashes import read_json, write_json
from towerkit.testing.encoders import small_picture_encoder
from towerkit.training.state import seeded_torch

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("encoders")
    return {kind: small_picture_encoder(home / kind, kind) for kind in ("resnet", "vit")}


def encoder_of(folder: Path, pooling: Any = "cls", size: int | None = None) -> PictureEncoder:
    pretrained = Pretrained.of(folder)
    return PictureEncoder(pretrained, PictureReader.of(pretrained, size), pooling)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_vectors_are_those_of_the_network(folders: dict[str, Path], kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    encoder = encoder_of(folders[kind])
    found = encoder.compute(PIXELS)
    model = transformers.AutoModel.from_pretrained(str(folders[kind])).eval()
    with torch.no_grad():
        answer = model(pixel_values=(torch.from_numpy(PIXELS).float() / 255.0 - 0.5) / 0.5)
    wanted = answer.pooler_output.flatten(1) if kind == "resnet" else answer.last_hidden_state[:, 0]
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([encoder.compute(PIXELS[:2]), encoder.compute(PIXELS[2:])]), found, atol=1e-5
    )
    assert encoder.width() == found.shape[1]
    mean = encoder_of(folders[kind], "mean").compute(PIXELS)
    assert np.allclose(mean, found, atol=1e-5) == (kind == "resnet")


def test_the_processor_of_transformers_sees_the_same(folders: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    out = io.BytesIO()
    picture.save(out, "PNG")
    reader = PictureReader.of(Pretrained.of(folders["vit"]))
    assert (reader.size, reader.fit, reader.resample) == (32, "stretch", "bilinear")
    own = reader.normalized(
        torch.from_numpy(pixels_of(out.getvalue(), 32, fit=reader.fit, resample=reader.resample))[None]
    )
    processor = transformers.ViTImageProcessorPil.from_pretrained(str(folders["vit"]))
    theirs = processor(images=picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, (224, "stretch", "bicubic", 0.485)),
        ({"size": {"shortest_edge": 40}, "do_normalize": False}, (40, "crop", "bicubic", 0.0)),
        (
            {"size": 256, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True},
            (64, "crop", "bicubic", 0.485),
        ),
        (
            {"size": {"height": 48, "width": 48}, "do_center_crop": False, "resample": 2},
            (48, "stretch", "bilinear", 0.485),
        ),
        (
            {"size": 99, "crop_size": 80, "do_center_crop": False, "image_mean": [0.1, 0.2, 0.3]},
            (99, "stretch", "bicubic", 0.1),
        ),
    ],
)
def test_what_folders_say(tmp_path: Path, told: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    write_json(tmp_path / "preprocessor_config.json", told)
    found = PictureReader.of(Pretrained.of(tmp_path))
    assert (found.size, found.fit, found.resample, found.mean[0]) == wanted
    assert PictureReader.from_dict(found.as_dict()) == found


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    for told in ({"size": 5_000}, {"image_std": [0.0, 1.0, 1.0]}, {"image_mean": [1, 2]}):
        write_json(tmp_path / "preprocessor_config.json", told)
        with pytest.raises(SpecError, match="preprocessor_config.json: pictures cannot be read as"):
            PictureReader.of(Pretrained.of(tmp_path))
    with pytest.raises(RunError, match="pictures cannot be read as"):
        PictureReader.from_dict({"size": True})
    for states in (torch.zeros(2), torch.zeros(2, 2, 2, 2, 2)):
        with pytest.raises(SpecError, match="received the shape"):
            pooled(states, "mean")


def test_the_size_that_a_network_was_not_made_for(folders: dict[str, Path]) -> None:
    with pytest.raises(
        SpecError, match="cannot look at 1 pictures of 40 x 40 pixels .*Set size to what it was trained on"
    ):
        encoder_of(folders["vit"], size=40).compute(np.zeros((1, 3, 40, 40), np.uint8))
    assert encoder_of(folders["resnet"], size=40).compute(np.zeros((1, 3, 40, 40), np.uint8)).shape == (1, 16)


@pytest.mark.parametrize(("edge", "kernel", "stride"), [(9, 3, 2), (10, 3, 2), (11, 5, 2), (7, 5, 1), (8, 1, 1)])
def test_same_padding(edge: int, kernel: int, stride: int) -> None:
    """Against the definition: zeros so that the output has ceil(edge / stride), the odd one behind."""
    with seeded_torch(0):
        layer, maps = SameConvolution(2, 3, kernel, stride, bias=False), torch.rand(1, 2, edge, edge)
    out = -(-edge // stride)
    missing = max((out - 1) * stride + kernel - edge, 0)
    whole = functional.pad(maps, (missing // 2, missing - missing // 2) * 2)
    windows = whole.unfold(2, kernel, stride).unfold(3, kernel, stride)  # [1, 2, out, out, kernel, kernel]
    wanted = torch.einsum("nchwij,ocij->nohw", windows, layer.weight)
    assert wanted.shape[-1] == out
    torch.testing.assert_close(layer(maps), wanted, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def old_weights() -> dict[str, torch.Tensor]:
    """A state dict at random under the names that the first implementation for PyTorch gave them."""
    with seeded_torch(3):
        network = EfficientNetLite0()
    named = {}
    for name, tensor in network.state_dict().items():
        *parts, last = name.split(".")
        named[".".join([*(part if part.isdigit() else f"_{part}" for part in parts), last])] = tensor
    return {**named, "_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}


def saved(weights: Any, path: Path) -> Path:
    torch.save(weights, path)  # noqa: TID251 - what a user has
    return path


def test_old_weights_are_converted_once(tmp_path: Path, old_weights: dict[str, torch.Tensor]) -> None:
    source = saved(old_weights, tmp_path / "old.pth")
    said = CliRunner().invoke(app, ["encoder", "convert", str(source), "--to", str(tmp_path / "new"), "--json"])
    assert said.exit_code == 0, said.output
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    encoder = encoder_of(tmp_path / "new", size=32)
    with seeded_torch(3):
        network = EfficientNetLite0().eval()
    with torch.no_grad():
        wanted = network((torch.from_numpy(PIXELS).float() - 127.0) / 128.0)
    np.testing.assert_allclose(encoder.compute(PIXELS), wanted.numpy(), atol=1e-5)
    assert encoder.width() == 1280 == wanted.shape[1]
    with pytest.raises(RunError, match="exists"):
        convert_encoder(source, tmp_path / "new")


class Harmful:
    """Would run something when it is read."""

    def __getstate__(self) -> dict[str, str]:
        return {"a": "b"}


@pytest.mark.parametrize("what", ["object", "list", "lacking", "shape", "nan", "text", "nothing"])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, old_weights: dict[str, torch.Tensor], what: str) -> None:
    bad, message = {
        "object": ({**old_weights, "x": Harmful()}, "something beside plain tensors, or is damaged"),
        "list": ([1, 2], "must hold tensors by name; it holds 'list'"),
        "lacking": ({k: v for k, v in old_weights.items() if k != "_bn1.bias"}, r"the network needs \['bn1.bias'\]"),
        "shape": (
            {**old_weights, "_bn1.bias": torch.zeros(7)},
            r"'bn1.bias' has the shape \[7\], and the network \[1280\]",
        ),
        "nan": (
            {**old_weights, "_bn1.bias": torch.full((1280,), torch.nan)},
            "'bn1.bias' holds numbers that are not finite",
        ),
        "text": (b"not a file of torch", "something beside plain tensors, or is damaged"),
        "nothing": (None, "cannot be read"),
    }[what]
    path = tmp_path / "old.pth"
    if isinstance(bad, bytes):
        path.write_bytes(bad)
    elif bad is not None:
        saved(bad, path)
    with pytest.raises(SpecError, match=message):
        convert_encoder(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(SpecError, match="the networks are 'efficientnet_lite0'"):
        convert_encoder(path, tmp_path / "new", "resnet")


def test_weights_that_are_not_those_of_the_config(tmp_path: Path, folders: dict[str, Path]) -> None:
    for file in folders["resnet"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_json(tmp_path / "config.json", {"model_type": "efficientnet_lite0"})
    with pytest.raises(SpecError, match="model.safetensors does not fit efficientnet_lite0: it lacks"):
        picture_module(Pretrained.of(tmp_path), "cls")
    config = read_json(folders["resnet"] / "config.json")
    write_json(tmp_path / "config.json", {**config, "hidden_sizes": [8, 24]})
    with pytest.raises(SpecError, match="do not fit its config.json|cannot be loaded"):
        picture_module(Pretrained.of(tmp_path), "cls")


def test_batch_normalisation_takes_no_statistics(folders: dict[str, Path]) -> None:
    module = picture_module(Pretrained.of(folders["resnet"]), "cls").train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(pictures)[:1], module(pictures[:1]), rtol=0, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert any(isinstance(each, nn.BatchNorm2d) for each in module.modules())


def test_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "w"], ["maps"])],
        "one layer",
        [helper.make_tensor_value_info("pixels", kind, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("maps", kind, ["n", 4, 16, 16])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    encoder = encoder_of(tmp_path, size=16)
    pixels = PIXELS[:, :, :16, :16]
    wanted = np.einsum(
        "ochw,nchw->no",
        weight,
        encoder.reader.normalized(torch.from_numpy(pixels)).numpy().mean(axis=(2, 3), keepdims=True),
    )
    np.testing.assert_allclose(encoder.compute(pixels), wanted, atol=1e-4)
    assert encoder.width() == 4
    with pytest.raises(SpecError, match="cannot look at 1 pictures of 24 x 24 pixels"):
        encoder_of(tmp_path, size=24).width()
    with pytest.raises(SpecError, match="holds an ONNX file, which gives vectors and is not trained"):
        picture_module(encoder.pretrained, "cls")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(SpecError, match="cannot be opened by ONNX Runtime"):
        encoder_of(tmp_path, size=16).width()


def test_a_module_over_patches_and_maps() -> None:
    class Patches(nn.Module):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values.flatten(2).transpose(1, 2)  # [n, patches, 3]

    pictures = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(PictureModule(Patches(), "mean")(pictures), pictures.mean(dim=(2, 3)))
    torch.testing.assert_close(PictureModule(Patches(), "cls")(pictures), pictures[:, :, 0, 0])
