"""What an exported network takes, gives and tells, in every format; and what is not written."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

from lightning_reid.files import write_atomically
from lightning_reid.inference import OnnxEmbedder, clip_embedder, crop_embedder, exported_files, model_name
from lightning_reid.inference import export_network as export
from lightning_reid.inference.capture import Embedder, PixelEmbedder, captured
from lightning_reid.inference.exported_files import opened
from lightning_reid.inference.onnx_export import onnx_content
from lightning_reid.inference.parity import ParityError, require_parity
from lightning_reid.networks import CFAAN, NVAN, STENVAN, EmbeddingNetwork, VideoResNet50, build_backbone
from lightning_reid.networks.video.axial_attention import AxialAttention

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
VIT = {"depth": 1, "embed_dim": 16, "num_heads": 2}
SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 1, 1, 1), "img_size": (64, 32), "window_size": 2}
ATTENTIVE = {"heads": 2, "scales": 2, "clip_length": 4, "image_size": (64, 32), **NARROW}
PIXELS = torch.randint(0, 256, (7, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
CLIPS = torch.randint(0, 256, (5, 4, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
FORMATS = {"onnx": "people.onnx", "torch-export": "people.pt2", "openvino": "people.xml"}


def images(backbone: str = "resnet18", *, pooling: str = "gem", neck: str = "bnneck", **options) -> EmbeddingNetwork:
    torch.manual_seed(0)
    options = NARROW if backbone == "resnet18" else options
    network = EmbeddingNetwork(build_backbone(backbone, **options), pooling=pooling, neck=neck)
    for name, buffer in network.named_buffers():  # as a trained network has them
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def as_onnx(tmp_path_factory):
    """A network, and what became of it as ONNX."""
    network, path = images(), tmp_path_factory.mktemp("onnx") / "people.onnx"
    return network, export(network, path, PIXELS, card="README.md of people")


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, tmp_path_factory, as_onnx):
    """A network, and what became of it in each format."""
    if request.param == "onnx":
        return as_onnx
    network, path = images(), tmp_path_factory.mktemp("exported") / FORMATS[request.param]
    return network, export(network, path, PIXELS, card="README.md of people")


def test_a_file_takes_pixels_in_batches_of_any_size_and_gives_what_the_network_gives(exported):
    network, made = exported
    assert made.batches == (1, 2, 5, 7)
    assert made.largest_difference <= 1e-4
    assert {file.name for file in made.files} == {file.name for file in made.files[0].parent.iterdir()}
    more = torch.cat([PIXELS, 255 - PIXELS])[:11]
    found = torch.from_numpy(opened(made.files[0], made.format)(more.numpy()))
    torch.testing.assert_close(found, crop_embedder(network, (64, 32))(list(more)), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(11))
    assert (made.difference_unasked is None) == (made.format != "openvino")


def test_a_file_tells_whose_weights_it_has_and_what_it_takes(exported):
    network, made = exported
    match made.format:
        case "onnx":
            words = {one.key.removeprefix("lightning_reid."): one.value for one in onnx.load(made.files[0]).metadata_props}
            (taken,) = onnxruntime.InferenceSession(made.files[0]).get_inputs()
            assert (taken.name, taken.type, taken.shape) == ("input", "tensor(uint8)", ["batch", 3, 64, 32])
        case "openvino":
            model = openvino.Core().read_model(made.files[0])
            words = {name: model.get_rt_info(["lightning_reid", name]).astype(str) for name in ("model", "version", "pixels", "card")}
            assert [str(end.partial_shape) for end in (*model.inputs, *model.outputs)] == ["[?,3,64,32]", "[?,16]"]
        case _:
            torch.export.load(made.files[0], extra_files=(found := {"lightning_reid.json": ""}))
            words = json.loads(found["lightning_reid.json"])
    assert words["model"] == f"{model_name(network)} at 64x32"
    assert words["card"] == "README.md of people"
    assert words["pixels"].startswith("RGB uint8")


NETWORKS = {
    "mobilenetv2": lambda: images("mobilenetv2_050", neck="none"),
    "convnext": lambda: images("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
    "vit of any size": lambda: images("vit_tiny_patch16_224", pooling="avg", **VIT),
    "vit of one size": lambda: images("vit_tiny_patch16_224", img_size=(64, 32), **VIT),
    "eva": lambda: images("eva02_tiny_patch14_224", patch_size=16, depth=1, embed_dim=48, num_heads=3),
    "swin": lambda: images("swin_tiny_patch4_window7_224", **SWIN),
    "baseline": lambda: VideoResNet50("resnet18", **NARROW),
    "nvan": lambda: NVAN("resnet18", channels=[8, 8, 16, 16], layers=[1, 2, 2, 1]),
    "ste-nvan": lambda: STENVAN("resnet18", channels=[8, 8, 16, 16], layers=[1, 2, 2, 1], stripes=4),
    "cf-aan": lambda: CFAAN("resnet18", **ATTENTIVE),
    "cf-aan without positions": lambda: CFAAN("resnet18", position=None, **ATTENTIVE | {"scales": 1}),
}
THROUGH_ONNX = ("vit of any size", "nvan")
"""Which become a graph on the way to OpenVINO, and are compared for any batch there."""


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in THROUGH_ONNX])
def test_every_kind_of_network_becomes_a_graph_that_takes_any_batch(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    inputs = CLIPS if hasattr(network, "stages") else PIXELS
    embedder = Embedder(network).eval()
    graph = captured(embedder, inputs[:2]).module()
    with torch.inference_mode():
        for size in (1, 3, 5):
            torch.testing.assert_close(graph(inputs[:size]), embedder(inputs[:size]), rtol=0, atol=1e-4)


def test_position_embeddings_are_resized_beforehand_not_by_every_runtime_in_its_own_way():
    network = images("vit_tiny_patch16_224", pooling="avg", **VIT | {"embed_dim": 48})
    graph = onnx.load_from_string(onnx_content(PixelEmbedder(network), PIXELS)).graph
    assert "Resize" not in {node.op_type for node in graph.node}


def test_a_clip_is_embedded_by_an_exported_file_as_by_the_network_itself(tmp_path):
    torch.manual_seed(0)
    network = VideoResNet50("resnet18", **NARROW).eval()
    export(network, tmp_path / "clips.onnx", CLIPS)
    embedder = OnnxEmbedder(tmp_path / "clips.onnx", num_threads=1)
    assert (embedder.takes_clips, embedder.num_frames, embedder.model) == (True, 4, model_name(network))
    crops = [crop[:, :50] for crop in CLIPS[0]]
    torch.testing.assert_close(embedder.embed_clip(crops), clip_embedder(network, (64, 32))(crops), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"uint8 \[N, T, 3, H, W\] with N of at least 5, got torch.uint8 \[7, 3, 64, 32\]"):
        export(network, tmp_path / "images.onnx", PIXELS)


def test_crops_are_not_normalized_twice_and_the_model_is_that_of_the_network(as_onnx):
    network, made = as_onnx
    embedder = OnnxEmbedder(made.files[0], num_threads=1)
    crops = [PIXELS[0], PIXELS[1][:, :40], PIXELS[2][:, :, 5:]]
    torch.testing.assert_close(embedder.embed_crops(crops), crop_embedder(network, (64, 32))(crops), rtol=0, atol=1e-4)
    assert (embedder.model, embedder.image_size) == (model_name(network), (64, 32))


def test_a_file_whose_weights_were_changed_is_another_model(as_onnx, tmp_path, caplog):
    network, made = as_onnx
    model = onnx.load(made.files[0])
    weights = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    weights.raw_data = (-np.frombuffer(weights.raw_data, np.float32)).tobytes()
    onnx.save(model, tmp_path / "changed.onnx")
    embedder = OnnxEmbedder(tmp_path / "changed.onnx", num_threads=1)
    assert embedder.model != OnnxEmbedder(made.files[0], num_threads=1).model == model_name(network)
    assert embedder.model.startswith("onnx ")
    assert "has other weights than" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"lightning_reid.model": "a good one"}, "tells that its model is 'a good one', expected 'weights 0123456789abcdef at 256x128'"),
        ({"lightning_reid.version": "0.1.0"}, "tells no model, expected"),
        ({"lightning_reid.model": "weights 0123456789abcdef at 64x64"}, "at 64x64, and takes images of 64 x 32 pixels: export it again"),
    ],
    ids=["no name", "no model", "another size"],
)
def test_words_of_a_file_that_make_no_sense_are_refused_and_words_of_others_are_nothing(words, message, as_onnx, tmp_path):
    model = onnx.load(as_onnx[1].files[0])
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, path := tmp_path / "people.onnx")
    assert OnnxEmbedder(path).model.startswith("onnx ")
    onnx.helper.set_model_props(model, words)
    onnx.save(model, path)
    with pytest.raises(ValueError, match=message) as refused:
        OnnxEmbedder(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", THROUGH_ONNX)
def test_networks_with_attention_are_exported_through_onnx_to_openvino(name, tmp_path):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    made = export(network, tmp_path / "people.xml", CLIPS if hasattr(network, "stages") else PIXELS)
    assert {1, 2, 5} <= {*made.batches}
    assert made.largest_difference <= 1e-4


@pytest.mark.parametrize("position", [None, "relative"])
def test_axial_attention_becomes_a_graph_that_takes_any_batch(position):
    embedder = Embedder(AxialAttention(8, 4, axis="time", heads=2, position=position)).eval()
    maps = torch.randn(5, 4, 8, 3, 2, generator=torch.Generator().manual_seed(3))
    graph = captured(embedder, maps[:2]).module()
    with torch.inference_mode():
        torch.testing.assert_close(graph(maps), embedder(maps))


class Counting(nn.Module):
    """A network that asks how many inputs there are."""

    def forward(self, inputs):
        return inputs.float().flatten(1) * len(inputs)


def test_what_takes_no_batch_of_any_size_is_refused_by_name():
    with pytest.raises(ValueError, match=r"torch.export makes no graph of the Counting that takes batches of any size: .*batch"):
        captured(Embedder(Counting()), PIXELS)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_file_that_gives_something_else_is_not_written(kind, as_onnx, tmp_path, monkeypatch):
    def changed(*args: object, **options: object):
        run = opened(*args, **options)
        return lambda pixels: run(pixels) + np.float32(2e-4) * (len(pixels) == 5)

    monkeypatch.setattr("lightning_reid.inference.network_export.opened", changed)
    monkeypatch.setattr(exported_files, "onnx_content", lambda *_: as_onnx[1].files[0].read_bytes())
    with pytest.raises(ParityError, match=r"people\..* is not written: .* by up to 0\.0002 in a batch of 5, 0\.0001 is allowed"):
        export(images(), tmp_path / FORMATS[kind], PIXELS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_takes_no_other_batch_or_gives_another_shape_is_not_written():
    def only_two(inputs):
        if len(inputs) != 2:
            raise RuntimeError("got 1, expected 2")
        return inputs

    with pytest.raises(ParityError, match=r"a\.onnx is not written: the exported network does not take a batch of 1: got 1, expected 2"):
        require_parity("a.onnx", only_two, np.ones((2, 3)), np.ones((2, 3)), batches=(2, 1))
    with pytest.raises(ParityError, match=r"gives \[1, 3\] for a batch of 2, PyTorch's \[2, 3\]"):
        require_parity("a.onnx", lambda inputs: inputs[:1], np.ones((2, 3)), np.ones((2, 3)), batches=(2,))
    with pytest.raises(ParityError, match="by up to nan"):
        require_parity("a.onnx", lambda inputs: inputs * np.nan, np.ones((2, 3)), np.ones((2, 3)), batches=(2,))


@pytest.mark.parametrize("fault", [torch.nan, 0.0])
def test_a_network_that_gives_nothing_finite_or_nothing_at_all_is_refused(fault, tmp_path):
    network = images(neck="none")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, fault)
            nn.init.constant_(module.bias, fault)
    network.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="gives embeddings that are not finite, or nothing but zeros: its training diverged"):
        export(network, tmp_path / "people.pt2", PIXELS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "people.trt",
            {},
            r"ends with no suffix of a format: .* with \.onnx \(onnx\), \.pt2 \(torch-export\), \.xml \(openvino\)",
        ),
        ("people.onnx", {"format": "openvino"}, r"is to be a file of openvino, which ends with \.xml"),
        ("people.pt2", {"format": "jit"}, "format must be one of 'onnx', 'torch-export', 'openvino', or None, got 'jit'"),
        ("there.pt2", {}, r"there\.pt2 exists: give another OUT"),
        ("there.xml", {}, r"there\.bin exists: give another OUT"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_place_where_nothing_can_be_written_is_refused(name, options, message, tmp_path):
    for there in ("there.pt2", "there.bin"):
        (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(ValueError, match=message):
        export(images(), tmp_path / name, PIXELS, **options)
    assert sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir()) == [("there.bin", b"mine"), ("there.pt2", b"mine")]


def test_of_two_files_none_stays_where_the_second_cannot_be_written(as_onnx, tmp_path, monkeypatch):
    def first_only(path, write, **options):
        write_atomically(path, write, **options)
        if path.suffix == ".bin":
            raise OSError("the disk is full")

    monkeypatch.setattr(exported_files, "write_atomically", first_only)
    monkeypatch.setattr(exported_files, "onnx_content", lambda *_: as_onnx[1].files[0].read_bytes())
    with pytest.raises(OSError, match="the disk is full"):
        export(images(), tmp_path / "people.xml", PIXELS)
    assert list(tmp_path.iterdir()) == []


def test_pixels_of_another_kind_or_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pixels must be uint8 \[N, 3, H, W\] with N of at least 5, got torch.float32"):
        export(images(), tmp_path / "people.pt2", PIXELS.float())
    with pytest.raises(ValueError, match=r"with N of at least 5, got torch.uint8 \[4, "):
        export(images(), tmp_path / "people.pt2", PIXELS[:4])
    with pytest.raises(ValueError, match=r"the network does not take pixels \[7, 3, 60, 32\]: Input height"):
        export(images("vit_tiny_patch16_224", pooling="avg", **VIT), tmp_path / "people.pt2", PIXELS[:, :, :60])


def test_weights_too_large_for_one_file_of_onnx_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_reid.inference.onnx_export.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"and one ONNX file holds less than 2\.1: take the format torch-export"):
        export(images(), tmp_path / "people.onnx", PIXELS)


@pytest.mark.parametrize(("module", "extra"), [("onnxscript", "onnx"), ("openvino", "openvino")])
def test_a_missing_extra_is_named(module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'lightning-reid\[{extra}\]'"):
        export(images(), tmp_path / FORMATS[extra], PIXELS)
