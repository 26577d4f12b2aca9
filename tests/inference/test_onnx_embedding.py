"""Networks from ONNX files give what the networks give that they were exported from, and what is none is refused by name."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graph import write_onnx
from torchvision.io import write_png

from lightning_reid.inference import EmbeddingPass, OnnxEmbedder, clip_embedder, crop_embedder, export_onnx, find_crops
from lightning_reid.networks import EmbeddingNetwork, VideoResNet50, build_backbone

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
CROPS = list(torch.randint(0, 256, (4, 3, 70, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A network of images of 64x32, and its file."""
    torch.manual_seed(0)
    network = EmbeddingNetwork(build_backbone("resnet18", **NARROW)).eval()
    path = tmp_path_factory.mktemp("onnx") / "images.onnx"
    export_onnx(network, path, torch.randn(2, 3, 64, 32))
    return network, path


def test_crops_of_any_sizes_are_embedded_as_by_the_network_itself(images):
    network, path = images
    embedder = OnnxEmbedder(path, num_threads=1)
    assert (embedder.takes_clips, embedder.image_size, embedder.num_features) == (False, (64, 32), 16)
    crops = [CROPS[0], CROPS[1][:, :40], CROPS[2][:, :, 5:]]
    torch.testing.assert_close(embedder.embed_crops(crops), crop_embedder(network, (64, 32))(crops), rtol=0, atol=1e-4)
    torch.testing.assert_close(embedder.embed_crops(crops[:1])[0], embedder.embed_crops(crops)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_files_are_embedded_as_by_the_network_itself_with_their_mirror_images_too(images, flip, tmp_path):
    network, path = images
    for number, crop in enumerate(CROPS):
        write_png(crop, str(tmp_path / f"{number}.png"))
    embedding, paths = EmbeddingPass(image_size=(64, 32), device="cpu", flip=flip, quiet=True), find_crops([tmp_path])
    found = embedding.run(OnnxEmbedder(path, num_threads=1), paths).embeddings
    torch.testing.assert_close(found, embedding.run(network, paths).embeddings, rtol=0, atol=1e-4)


def test_a_clip_is_embedded_as_by_the_network_itself(tmp_path):
    torch.manual_seed(0)
    network = VideoResNet50("resnet18", **NARROW).eval()
    export_onnx(network, tmp_path / "clips.onnx", torch.randn(2, 4, 3, 64, 32))
    embedder = OnnxEmbedder(tmp_path / "clips.onnx", num_threads=1)
    assert (embedder.takes_clips, embedder.num_frames, embedder.image_size) == (True, 4, (64, 32))
    torch.testing.assert_close(embedder.embed_clip(CROPS), clip_embedder(network, (64, 32))(CROPS), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"clips\.onnx takes clips of 4 frames, not of 3"):
        embedder.embed_clip(CROPS[:3])
    with pytest.raises(ValueError, match=r"clips\.onnx takes clips: call embed_clip"):
        embedder.embed_crops(CROPS)


@pytest.mark.parametrize("batch", [1, "n"])
def test_graphs_of_others_with_a_batch_of_one_half_precision_and_any_size_are_taken(batch, tmp_path):
    path = write_onnx(tmp_path / "half.onnx", [batch, 3, "h", "w"], [batch, "d"], dtype=TensorProto.FLOAT16)
    embedder = OnnxEmbedder(path, image_size=(8, 4))
    found = embedder.embed_crops(CROPS)
    assert (found.shape, found.dtype, embedder.num_features) == ((4, 96), torch.float32, 96)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    assert OnnxEmbedder(path).image_size == (256, 128)


def test_a_graph_of_images_embeds_no_clips_and_no_other_size(images):
    _, path = images
    with pytest.raises(ValueError, match=r"images\.onnx takes images: call embed_crops"):
        OnnxEmbedder(path).embed_clip(CROPS)
    with pytest.raises(ValueError, match=r"images\.onnx takes images of 64 x 32 pixels, not of 32 x 32"):
        OnnxEmbedder(path, image_size=(32, 32))


@pytest.mark.parametrize(
    ("inputs", "output", "options", "message"),
    [
        (["n", 3, 8, 4], ["n", 3, 8, 4], {}, r"gives \[2, 3, 8, 4\] for \[2, 3, 8, 4\]: expected embeddings \[batch, D\]"),
        (["n", 8, 4], ["n", 8, 4], {}, r"takes \['n', 8, 4\] of tensor\(float\): expected floats or uint8 \[batch, 3, H, W\]"),
        (["n", 1, 8, 4], ["n", 1, 8, 4], {}, r"takes \['n', 1, 8, 4\]"),
        (["n", 3, 8, 4], ["n", 3, 8, 4], {"dtype": TensorProto.INT32}, r"of tensor\(int32\): expected floats or uint8"),
        ([16, 3, 8, 4], [16, 96], {"op": "Flatten"}, "takes 16 at once, always: export it with a free batch size, or of 1"),
        (["n", 3, 200000, 4], ["n", "d"], {"op": "Flatten"}, r"must be height and width from 1 to .* got \(200000, 4\)"),
        (["n", 3, 8, 4], ["n", "d"], {"op": "Flatten", "axis": 0}, r"gives \[1, 192\] for \[2, 3, 8, 4\]"),
    ],
    ids=["a map", "no channels", "gray", "whole numbers", "batch of 16", "huge", "one row"],
)
def test_a_graph_of_something_else_is_refused_by_name(inputs, output, options, message, tmp_path):
    path = write_onnx(tmp_path / "network.onnx", inputs, output, **{"op": "Identity"} | options)
    with pytest.raises(ValueError, match=message) as refused:
        OnnxEmbedder(path).embed_crops(CROPS[:2])
    assert "network.onnx" in str(refused.value)


@pytest.mark.parametrize("last", ["Div", "Add"])
def test_numbers_that_are_not_finite_or_all_zero_are_refused(last, tmp_path):
    nodes = [helper.make_node("Flatten", ["pixels"], ["flat"]), helper.make_node("Sub", ["flat", "flat"], ["none"])]
    nodes += [helper.make_node(last, ["none", "none"], ["found"])]
    value = helper.make_tensor_value_info
    ends = [value("pixels", TensorProto.FLOAT, ["n", 3, 8, 4])], [value("found", TensorProto.FLOAT, ["n", 96])]
    model = helper.make_model(helper.make_graph(nodes, "nothing", *ends), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "nothing.onnx")
    with pytest.raises(ValueError, match=r"nothing\.onnx gives numbers that are not finite, or nothing but zeros"):
        OnnxEmbedder(tmp_path / "nothing.onnx").embed_crops(CROPS)


def test_a_file_that_is_absent_or_no_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no network at .*none\.onnx"):
        OnnxEmbedder(tmp_path / "none.onnx")
    (tmp_path / "web.onnx").write_bytes(b"<!doctype html><p>not found")
    with pytest.raises(ValueError, match=r"web\.onnx is no ONNX network that onnxruntime can run"):
        OnnxEmbedder(tmp_path / "web.onnx")
