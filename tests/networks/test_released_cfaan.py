import pytest
import torch

from lightning_reid.networks.cfaan import CFAAN
from lightning_reid.networks.released_cfaan import rename_released_cfaan
from lightning_reid.networks.released_weights import load_released_weights

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
