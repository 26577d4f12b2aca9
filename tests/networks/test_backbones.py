import logging
import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from lightning_reid.networks import build_backbone

NARROW = {"channels": [4, 8, 8, 16]}


def person(height: int = 256, width: int = 128) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        pytest.param("resnet50", {}, (2, 2048, 16, 8), marks=pytest.mark.slow),
        ("resnet18", NARROW, (2, 16, 16, 8)),
        ("resnet18", NARROW | {"last_stride": 2}, (2, 16, 8, 4)),
        ("mobilenetv2_035", {}, (2, 1280, 16, 8)),
        ("mobilenetv3_small_050", {}, (2, 288, 16, 8)),
        ("convnext_atto", {}, (2, 320, 16, 8)),
        ("vit_tiny_patch16_224", {}, (2, 192, 16, 8)),
        ("vit_tiny_patch16_224", {"img_size": (256, 128)}, (2, 192, 16, 8)),
        pytest.param(
            "swin_tiny_patch4_window7_224", {"img_size": (256, 128), "window_size": (8, 4)}, (2, 768, 8, 4), marks=pytest.mark.slow
        ),
    ],
)
def test_the_feature_map_has_the_shape_the_backbone_announces(name, options, shape):
    backbone = build_backbone(name, **options).eval()
    with torch.no_grad():
        assert backbone(person()).shape == shape
    assert (backbone.num_features, backbone.stride) == (shape[1], 256 // shape[2])


def test_last_stride_one_of_a_resnet_changes_the_first_block_of_the_last_stage_alone():
    ours, theirs = (build_backbone("resnet50", last_stride=stride, channels=[4, 8, 8, 16]).trunk for stride in (1, 2))
    strides = [
        {name: layer.stride for name, layer in trunk.named_modules() if isinstance(layer, torch.nn.Conv2d)} for trunk in (ours, theirs)
    ]
    changed = {name: stride for name, stride in strides[0].items() if stride != strides[1][name]}
    assert changed == {"layer4.0.conv2": (1, 1), "layer4.0.downsample.0": (1, 1)}
    assert all(layer.dilation == (1, 1) for layer in ours.modules() if isinstance(layer, torch.nn.Conv2d))


def test_last_stride_one_of_mobilenet_changes_the_last_strided_depthwise_convolution_alone():
    trunk = build_backbone("mobilenetv2_100").trunk
    strided = [name for name, layer in trunk.named_modules() if isinstance(layer, torch.nn.Conv2d) and layer.stride == (2, 2)]
    assert strided == ["conv_stem", "blocks.1.0.conv_dw", "blocks.2.0.conv_dw", "blocks.3.0.conv_dw"]


def test_the_backbone_gives_the_feature_map_of_a_torchvision_resnet_with_the_stride_set_by_hand(tmp_path):
    torch.manual_seed(0)
    theirs = resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = build_backbone("resnet18", weights=str(tmp_path / "resnet18.pth")).eval()
    theirs.layer4[0].conv1.stride = theirs.layer4[0].downsample[0].stride = (1, 1)
    expected = torch.nn.Sequential(*list(theirs.children())[:-2]).eval()(person(64, 32))
    torch.testing.assert_close(ours(person(64, 32)), expected)


def test_a_vit_map_holds_the_patch_tokens_in_reading_order_without_the_class_token():
    backbone = build_backbone("vit_tiny_patch16_224").eval()
    tokens = backbone.trunk.forward_features(person(64, 32))
    assert tokens.shape == (2, 1 + 4 * 2, 192)
    torch.testing.assert_close(backbone(person(64, 32))[:, :, 1, 0], tokens[:, 1 + 2])


def test_parameters_behind_the_feature_map_are_frozen_and_all_others_get_a_gradient():
    backbone = build_backbone("mobilenetv3_small_050")
    backbone(person(64, 32)).sum().backward()
    frozen = [name for name, parameter in backbone.named_parameters() if not parameter.requires_grad]
    assert frozen == ["trunk.conv_head.weight", "trunk.conv_head.bias"]
    assert all(parameter.grad is not None for parameter in backbone.parameters() if parameter.requires_grad)


def test_examining_the_network_leaves_its_buffers_and_mode_alone():
    backbone = build_backbone("resnet18", **NARROW)
    assert backbone.training
    assert backbone.trunk.bn1.num_batches_tracked == 0
    assert next(backbone.parameters()).device.type == "cpu"


# --- weights


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_local_weights_are_loaded_completely_and_said_aloud(tmp_path, caplog, suffix, wrapped):
    caplog.set_level(logging.INFO)
    theirs = timm.create_model("resnet18", num_classes=7, **NARROW)
    path, state = tmp_path / f"weights.{suffix}", theirs.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}} if wrapped else state, path)
    ours = build_backbone("resnet18", weights=str(path), **NARROW).trunk.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in ours.items())
    assert f"loaded {len(ours)} tensors from {path} (for resnet18), left out fc." in caplog.text


def test_old_weights_without_batch_counts_are_taken(tmp_path):
    state = timm.create_model("resnet18", **NARROW).state_dict()
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "old.pth")
    ours = build_backbone("resnet18", weights=str(tmp_path / "old.pth"), **NARROW).trunk.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in ours.items())


def test_random_weights_are_said_aloud(caplog):
    caplog.set_level(logging.INFO)
    build_backbone("resnet18", **NARROW)
    assert "resnet18: random weights" in caplog.text
    assert "resnet18: last stride 1 in layer4.0.conv1, layer4.0.downsample.0" in caplog.text


def test_weights_of_another_architecture_are_refused_with_names_counts_and_a_guess(tmp_path):
    with torch.device("meta"):
        shapes = timm.create_model("resnet50").state_dict()
    torch.save({name: torch.zeros(()).expand(value.shape) for name, value in shapes.items()}, tmp_path / "r50.pth")
    with pytest.raises(ValueError) as caught:
        build_backbone("resnet18", weights=str(tmp_path / "r50.pth"))
    message = str(caught.value)
    assert "r50.pth (for resnet18) does not fit the network: of 120 entries" in message
    assert "unexpected (layer1.0.conv3.weight, layer1.0.bn3.weight, layer1.0.bn3.bias and" in message
    assert "of another shape (layer1.0.conv1.weight [64, 64, 1, 1] instead of [64, 64, 3, 3], " in message
    assert "ResNet-50" in message


def test_one_missing_tensor_is_refused_by_name(tmp_path):
    state = timm.create_model("resnet18", **NARROW).state_dict()
    del state["layer2.0.bn1.running_var"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"of 126 entries 1 missing \(layer2\.0\.bn1\.running_var\)"):
        build_backbone("resnet18", weights=str(tmp_path / "short.pth"), **NARROW)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as weights, is it complete"),
        (b"PK\x03\x04 cut off", "cannot be read as weights, is it complete"),
        (b"not weights at all", "cannot be read as weights, is it complete. it begins with b'not ', which torch.save does not write"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "broken.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        build_backbone("resnet18", weights=str(tmp_path / "broken.pth"))
    assert "broken.pth" in str(caught.value)


def test_a_broken_safetensors_file_is_refused_by_name(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"broken\.safetensors cannot be read as weights"):
        build_backbone("resnet18", weights=str(tmp_path / "broken.safetensors"))


def test_a_pickled_module_is_refused_instead_of_run(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"which is not loaded as it could run code: save model\.state_dict\(\) alone"):
        build_backbone("resnet18", weights=str(tmp_path / "module.pth"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere\.pth"):
        build_backbone("resnet18", weights=str(tmp_path / "nowhere.pth"))


@pytest.mark.skipif("REID_TEST_WEIGHTS" not in os.environ, reason="REID_TEST_WEIGHTS names no folder with real weights")
def test_real_imagenet_weights_for_mobilenet_fit_and_give_finite_features():
    path = Path(os.environ["REID_TEST_WEIGHTS"]) / "mobilenetv2_100-imagenet.safetensors"
    backbone = build_backbone("mobilenetv2_100", weights=str(path)).eval()
    with torch.no_grad():
        feature_map = backbone(person())
    assert feature_map.shape == (2, 1280, 16, 8)
    assert 0.01 < feature_map.mean() < 6  # ReLU6, and not dead


# --- the hub


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("lightning_reid.networks.hub.try_to_load_from_cache", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("empty_cache")
def test_pretrained_in_offline_mode_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match=r"HF_HUB_OFFLINE is set: unset it, give a file of weights \(--model\.weights FILE\), or start"):
        build_backbone("resnet18", pretrained=True)


@pytest.mark.usefixtures("empty_cache")
def test_pretrained_without_an_answer_from_the_hub_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lightning_reid.networks.hub.hf_hub_url", lambda *args, **kwargs: "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(RuntimeError, match=r"no answer from http://127\.0\.0\.1:9/nobody .*: connect, give a file of weights"):
        build_backbone("resnet18", pretrained=True)


def test_pretrained_weights_come_from_the_local_cache_without_asking_anyone(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    state = timm.create_model("resnet18").state_dict()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("lightning_reid.networks.hub.try_to_load_from_cache", lambda *args, **kwargs: str(tmp_path / "model.safetensors"))
    backbone = build_backbone("resnet18", pretrained=True)
    assert torch.equal(backbone.trunk.conv1.weight, state["conv1.weight"])
    assert "resnet18: pretrained weights from the local cache of timm/resnet18" in caplog.text


# --- arguments


def test_wrong_arguments_are_refused_with_what_came():
    with pytest.raises(ValueError, match=r"timm knows no network 'resnet51'; similar: .*resnet51q"):
        build_backbone("resnet51")
    with pytest.raises(ValueError, match="last_stride must be 1 or 2, got 3"):
        build_backbone("resnet18", last_stride=3)
    with pytest.raises(ValueError, match="output_stride=16 takes strides out already"):
        build_backbone("resnet18", output_stride=16)
    with pytest.raises(ValueError, match=r"give pretrained=True or a file of weights, not both \(got x\.pth\)"):
        build_backbone("resnet18", pretrained=True, weights="x.pth")


def test_a_network_that_cannot_do_last_stride_one_says_so():
    with pytest.raises(ValueError, match=r"last stride 1 in trunk\.layer4\.0\.downsample\.0: use last_stride=2"):
        build_backbone("resnetblur18")
    assert build_backbone("resnetblur18", last_stride=2).stride == 32


def test_a_network_with_an_unknown_layout_of_tokens_is_refused():
    with pytest.raises(ValueError, match="cannot tell the feature map of a Xcit"):
        build_backbone("xcit_nano_12_p16_224")
