import copy
import re

import pytest
import torch

from lightning_reid.networks import build_backbone
from lightning_reid.networks.released_weights import load_released_weights
from lightning_reid.networks.video.cfaan import CFAAN
from lightning_reid.networks.video.network import VideoNetwork, VideoResNet50
from lightning_reid.networks.video.non_local import NVAN
from lightning_reid.networks.video.released_cfaan import rename_released_cfaan

LAYER = {"qkv": "qkv_transform", "qkv_norm": "bn_qkv", "similarity_norm": "bn_similarity", "output_norm": "bn_output"}


def released_name(name: str) -> str:
    """Our name as the authors' ResNet-50 has it, written out: modules at 3 and 5 of layer2, at 4, 6 and 8 of layer3."""
    module_at = {"stage2.0": "layer2.3", "stage2.1": "layer2.5", "stage3.0": "layer3.4", "stage3.1": "layer3.6", "stage3.2": "layer3.8"}
    block_at = {"layer2.3.": "layer2.4.", "layer3.4.": "layer3.5.", "layer3.5.": "layer3.7."}
    part, _, rest = name.partition(".")
    if part == "neck":
        return f"bottleneck.{rest}"
    if part == "backbone":
        rest = rest.removeprefix("trunk.")
        return "base." + next((theirs + rest.removeprefix(ours) for ours, theirs in block_at.items() if rest.startswith(ours)), rest)
    place, (inner, *tail) = rest[:8], rest[9:].split(".")
    if inner == "scales":
        scale, _, axis, kind, *tail = tail
        return ".".join(["base", module_at[place], "axial_gran", str(3 * int(scale) + int(axis)), LAYER.get(kind, kind), *tail])
    return ".".join(["base", module_at[place], {"projection": "conv_up", "norm": "bn2"}[inner], *tail])


def released_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.ndim != 4:
        return tensor
    return tensor[..., 0] if ".qkv." in name else tensor[:, :, None]


@pytest.fixture(scope="module")
def network() -> CFAAN:
    torch.manual_seed(0)
    return CFAAN("resnet50", channels=[8, 16, 32, 64], heads=8, scales=4, clip_length=2, image_size=(64, 32))


def test_every_tensor_of_the_released_network_finds_its_place(network):
    ours = network.state_dict()
    released = {released_name(name): released_tensor(name, tensor) for name, tensor in ours.items()}
    assert len(released) == len(ours)
    assert {"base.conv1.weight", "base.layer3.8.axial_gran.11.relative", "base.layer2.5.conv_up.weight"} <= set(released)
    released["base.layer2.3.axial_gran.0.flatten_index"] = torch.zeros(4, dtype=torch.int64)
    renamed = rename_released_cfaan(released)
    assert set(renamed) == set(ours)
    for name, tensor in ours.items():
        assert torch.equal(renamed[name], tensor), name
    assert released["base.conv1.weight"].ndim == 5


def test_a_classifier_and_unknown_names_are_kept_for_who_loads_them():
    state = {"classifier.weight": torch.zeros(3, 4), "something.else": torch.zeros(1)}
    assert set(rename_released_cfaan(state)) == set(state)


def test_a_single_layer_and_a_single_module_are_renamed_too():
    names = ["axial_gran.5.bn_output.weight", "conv_up.weight", "bn2.running_var", "qkv_transform.weight", "relative"]
    renamed = rename_released_cfaan(dict.fromkeys(names, torch.zeros(2)))
    assert list(renamed) == ["scales.1.axes.2.output_norm.weight", "projection.weight", "norm.running_var", "qkv.weight", "relative"]


def test_a_released_checkpoint_fills_the_network_and_leaves_its_classifier_over(network):
    released = {f"module.{released_name(name)}": released_tensor(name, tensor) for name, tensor in network.state_dict().items()}
    released |= {"module.classifier.weight": torch.zeros(3, 64), "module.base.layer2.3.axial_gran.0.flatten_index": torch.zeros(4)}
    torch.manual_seed(1)
    empty = CFAAN("resnet50", channels=[8, 16, 32, 64], heads=8, scales=4, clip_length=2, image_size=(64, 32))
    assert load_released_weights(empty, released) == ((), ("module.classifier.weight",))
    filled = empty.state_dict()
    assert all(torch.equal(filled[name], tensor) for name, tensor in network.state_dict().items())


def released_beside_it(network: VideoNetwork) -> dict[str, torch.Tensor]:
    """The state of our baseline or NVAN as CF-AAN's authors released theirs: a residual network of images, attention of clips."""
    parts = {"w_z": "W.0", "bn": "W.1"}
    state = {"classifier.weight": torch.zeros(3, network.num_features)}
    for name, tensor in network.state_dict().items():
        if match := re.fullmatch(r"attention\.stage(\d)\.(\d)\.(\w+)\.(\w+)", name):
            stage, number, part, kind = match.groups()
            state[f"base.NL_{stage}.{number}.{parts.get(part, part)}.{kind}"] = tensor[..., None] if tensor.ndim == 4 else tensor
        else:
            state[name.replace("backbone.trunk.", "base.").replace("neck.", "bottleneck.")] = tensor
    return state


@pytest.mark.parametrize("kind", [VideoResNet50, NVAN])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_baseline_and_the_non_local_network_that_came_with_it_embed_as_they_did(kind, prefix):
    backbone = build_backbone("resnet18", channels=[4, 8, 8, 16], layers=[1, 2, 3, 1])
    theirs, ours = (kind(copy.deepcopy(backbone), stem_relu=False).eval() for _ in range(2))
    torch.manual_seed(0)
    for name, tensor in theirs.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("running_var"):
            tensor.normal_(std=0.2)  # attention awake, and with statistics of its own
    released = {prefix + name: tensor for name, tensor in released_beside_it(theirs).items()}
    assert sum("NL_" in name and not name.endswith("num_batches_tracked") for name in released) == (60 if kind is NVAN else 0)
    assert load_released_weights(ours, released) == ((), (f"{prefix}classifier.weight",))
    clips = torch.randn(2, 2, 3, 64, 32)
    assert torch.equal(ours(clips).embedding, theirs(clips).embedding)


def test_one_network_of_the_release_is_not_taken_for_another(network):
    narrow = {"channels": [8, 16, 32, 64], "stem_relu": False}
    non_local = released_beside_it(NVAN(**narrow))
    axial = {released_name(name): released_tensor(name, tensor) for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"65 released tensors find no place in this VideoResNet50 .*base.NL_2.0.* build NVAN\(stem_relu"):
        load_released_weights(VideoResNet50(**narrow), non_local)
    with pytest.raises(ValueError, match=r"find no place in this CFAAN .* build NVAN\(stem_relu=False\)"):
        load_released_weights(network, non_local)
    with pytest.raises(ValueError, match=r"find no place in this NVAN .*axial attention: build CFAAN\(\)"):
        load_released_weights(NVAN(**narrow), axial)
