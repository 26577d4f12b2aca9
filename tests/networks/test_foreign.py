import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from lightning_reid.networks import EmbeddingNetwork, build_backbone, load_embedding_network
from lightning_reid.networks.foreign import load_foreign_state_dict


def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """A torchvision ResNet whose running statistics are not the initial ones; in evaluation mode."""
    torch.manual_seed(0)
    network = make().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.8, 1.2)
    return network


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return trained(resnet18)


@pytest.fixture(scope="module")
def theirs50() -> nn.Module:
    return trained(resnet50)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def embed(network: nn.Module, images: Tensor, last_stride: int, maxpool: nn.Module) -> Tensor:
    """A torchvision ResNet up to the last feature map, at either last stride and with either first pooling."""
    block = network.layer4[0]
    strided = block.conv2 if hasattr(block, "conv3") else block.conv1
    strided.stride = block.downsample[0].stride = (last_stride, last_stride)
    stem = maxpool(network.relu(network.bn1(network.conv1(images))))
    return network.layer4(network.layer3(network.layer2(network.layer1(stem))))


def backbone_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}


def fast_reid_state(network: nn.Module, neck: str = "heads.bottleneck.0", classifier: str = "heads.weight") -> dict[str, Tensor]:
    generator, length = torch.Generator().manual_seed(2), network.fc.in_features
    bnneck = {
        "weight": 1 + 0.1 * torch.randn(length, generator=generator),
        "bias": torch.zeros(length),
        "running_mean": 0.1 * torch.randn(length, generator=generator),
        "running_var": 0.5 + torch.rand(length, generator=generator),
        "num_batches_tracked": torch.tensor(7),
    }
    body = {f"backbone.{name}": value for name, value in backbone_state(network).items()}
    return body | {f"{neck}.{name}": value for name, value in bnneck.items()} | {classifier: torch.zeros(751, length)}


def normalize(pooled: Tensor, state: dict[str, Tensor], neck: str = "heads.bottleneck.0") -> Tensor:
    return F.batch_norm(pooled, *(state[f"{neck}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")))


def test_a_torchreid_checkpoint_gives_the_embeddings_of_torchreid(theirs50, images, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    state = backbone_state(theirs50) | {"classifier.weight": torch.zeros(751, 2048), "classifier.bias": torch.zeros(751)}
    named = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": named, "epoch": 60, "rank1": np.float32(0.88), "optimizer": {}}, tmp_path / "model.pth.tar-60")
    network = load_embedding_network(tmp_path / "model.pth.tar-60")
    expected = embed(theirs50, images, 2, theirs50.maxpool).mean((2, 3))
    torch.testing.assert_close(network(images).embedding, expected, atol=1e-4, rtol=1e-4)
    assert "resnet50 of torchreid, last stride 2" in caplog.text


def test_the_last_stride_of_a_foreign_network_can_be_chosen(theirs, images, tmp_path):
    torch.save(backbone_state(theirs), tmp_path / "model.pth")
    network = load_embedding_network(tmp_path / "model.pth", last_stride=1)
    expected = embed(theirs, images, 1, theirs.maxpool).mean((2, 3))
    torch.testing.assert_close(network(images).embedding, expected, atol=1e-4, rtol=1e-4)


def test_a_fast_reid_checkpoint_gives_the_embeddings_of_fast_reid(theirs50, images, tmp_path):
    state = fast_reid_state(theirs50)
    torch.save({"model": state, "iteration": 1}, tmp_path / "market_bot_R50.pth")
    network = load_embedding_network(tmp_path / "market_bot_R50.pth")
    pooled = embed(theirs50, images, 1, nn.MaxPool2d(3, stride=2, ceil_mode=True)).mean((2, 3))
    output = network(images)
    torch.testing.assert_close(output.before_bnneck, pooled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.embedding, normalize(pooled, state), atol=1e-4, rtol=1e-4)


def test_a_fast_reid_checkpoint_with_a_learned_exponent_is_pooled_by_it(theirs, images, tmp_path):
    state = fast_reid_state(theirs) | {"heads.pool_layer.p": torch.tensor([2.5])}
    torch.save({"model": state}, tmp_path / "gem.pth")
    feature_map = embed(theirs, images, 1, nn.MaxPool2d(3, stride=2, ceil_mode=True))
    pooled = feature_map.clamp(min=1e-6).pow(2.5).mean((2, 3)).pow(1 / 2.5)
    torch.testing.assert_close(load_embedding_network(tmp_path / "gem.pth")(images).before_bnneck, pooled, atol=1e-4, rtol=1e-4)


def test_an_old_fast_reid_checkpoint_is_padded_in_its_first_pooling_and_says_so(theirs, images, tmp_path, caplog):
    state = fast_reid_state(theirs, neck="heads.bnneck", classifier="heads.classifier.weight")
    normalization = {"pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375]}
    state |= {name: torch.tensor(values).view(1, 3, 1, 1) for name, values in normalization.items()}
    torch.save({"model": state}, tmp_path / "old.pth")
    network = load_embedding_network(tmp_path / "old.pth")
    expected = normalize(embed(theirs, images, 1, theirs.maxpool).mean((2, 3)), state, "heads.bnneck")
    torch.testing.assert_close(network(images).embedding, expected, atol=1e-4, rtol=1e-4)
    assert "fast-reid before 1.0" in caplog.text


def test_a_fast_reid_checkpoint_for_other_normalization_is_refused(theirs, tmp_path):
    state = fast_reid_state(theirs) | {"pixel_mean": torch.full((1, 3, 1, 1), 127.5)}
    torch.save({"model": state}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match=r"expects images with pixel_mean=\[127\.5, 127\.5, 127\.5\] of 255"):
        load_embedding_network(tmp_path / "half.pth")


def test_an_own_checkpoint_gives_the_network_it_was_saved_from(images, tmp_path):
    torch.manual_seed(3)
    options = {"channels": [4, 8, 8, 16]}
    saved = EmbeddingNetwork(build_backbone("resnet18", **options), pooling="gem").eval()
    state = {f"network.{name}": value for name, value in saved.state_dict().items()} | {"classifier.weight": torch.zeros(5, 16)}
    content = {"state_dict": state, "hyper_parameters": {"backbone": "resnet18", "backbone_options": options, "pooling": "gem"}}
    torch.save(content, tmp_path / "last.ckpt")
    torch.testing.assert_close(load_embedding_network(tmp_path / "last.ckpt")(images), saved(images))
    assert load_foreign_state_dict(tmp_path / "last.ckpt")[0] == "lightning-reid"


def test_names_are_those_of_the_embedding_network(theirs, tmp_path):
    torch.save({"model": fast_reid_state(theirs)}, tmp_path / "fast.pth")
    kind, state = load_foreign_state_dict(tmp_path / "fast.pth")
    assert kind == "fast-reid"
    assert set(state) == set(EmbeddingNetwork(build_backbone("resnet18")).state_dict())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"backbone.layer1.0.bn1.IN.weight": (32,)}, r"has instance normalization \(IBN\)"),
        ({"backbone.NL_2.0.g.weight": (1, 512, 1, 1)}, r"has non-local blocks \(WITH_NL\)"),
        ({"backbone.layer1.0.se.fc.0.weight": (16, 256)}, "has squeeze-and-excitation"),
        ({"heads.bottleneck.1.weight": (512,)}, r"reduces its embedding \(EMBEDDING_DIM > 0\)"),
    ],
)
def test_options_of_fast_reid_that_cannot_be_rebuilt_are_named(theirs, tmp_path, extra, message):
    state = fast_reid_state(theirs) | {name: torch.zeros(shape) for name, shape in extra.items()}
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load_foreign_state_dict(tmp_path / "other.pth")
    assert "other.pth" in str(caught.value)
    assert next(iter(extra)) in str(caught.value)


def test_torchreids_reduced_resnet_is_named(theirs, tmp_path):
    torch.save(backbone_state(theirs) | {"fc.0.weight": torch.zeros(512, 2048)}, tmp_path / "fc512.pth")
    with pytest.raises(ValueError, match="resnet50_fc512"):
        load_foreign_state_dict(tmp_path / "fc512.pth")


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("conv2.0.conv2a.conv1.weight", r"OSNet \(torchreid\)"),
        ("blocks.0.attn.qkv.weight", "a vision transformer"),
        ("some.tensor", "no architecture known here, the first are some.tensor"),
    ],
)
def test_another_architecture_is_refused_with_a_guess(tmp_path, name, guess):
    torch.save({"state_dict": {name: torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"is no checkpoint of lightning-reid .*{guess}"):
        load_embedding_network(tmp_path / "other.pth")


def test_a_checkpoint_that_lost_a_tensor_is_refused_by_its_name(theirs, tmp_path):
    state = backbone_state(theirs)
    del state["layer3.1.bn2.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"1 missing \(backbone\.trunk\.layer3\.1\.bn2\.weight\)"):
        load_embedding_network(tmp_path / "short.pth")


def test_a_resnet_of_unknown_depth_is_refused(theirs, tmp_path):
    state = {name: value for name, value in backbone_state(theirs).items() if not name.startswith("layer3.1.")}
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"a ResNet with \(2, 2, 1, 2\) blocks, known are resnet18, .*resnet50"):
        load_embedding_network(tmp_path / "cut.pth")


def test_an_own_checkpoint_without_hyperparameters_is_refused(tmp_path):
    torch.save({"state_dict": {"network.backbone.trunk.conv1.weight": torch.zeros(1)}}, tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match=r"bare\.ckpt holds weights alone and does not say its network"):
        load_embedding_network(tmp_path / "bare.ckpt")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3, "rank1": 0.9}, tmp_path / "scores.pth")
    with pytest.raises(ValueError, match=r"holds no tensors, only epoch, rank1"):
        load_embedding_network(tmp_path / "scores.pth")


def _as_is(state):
    return state


def _of_a_module(state):
    return {f"network.{name}": tensor for name, tensor in state.items()} | {"classifier.weight": torch.zeros(3, 512)}


def _compiled(state):
    return {f"_orig_mod.{name}": tensor for name, tensor in _of_a_module(state).items()}


def _compiled_inside_of_ddp(state):
    return {f"module.module.network._orig_mod.{name}": tensor for name, tensor in state.items()}


def _with_counters_of_one(state):
    return {name: tensor[None] if name.endswith("num_batches_tracked") else tensor for name, tensor in state.items()}


@pytest.mark.parametrize("saved_as", [_as_is, _of_a_module, _compiled, _compiled_inside_of_ddp, _with_counters_of_one])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_our_own_weights_come_back_however_they_were_saved(tmp_path, saved_as, suffix):
    network = EmbeddingNetwork(build_backbone("resnet18")).eval()
    path, state = tmp_path / f"weights.{suffix}", saved_as(network.state_dict())
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(load_embedding_network(path)(images).embedding, network(images).embedding)


def test_weights_of_a_network_that_cannot_be_told_are_named_with_the_way_on(tmp_path):
    narrow = build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])
    torch.save(EmbeddingNetwork(narrow).state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"bare.pth holds weights alone and does not say its network: build that network and load them"):
        load_embedding_network(tmp_path / "bare.pth")
