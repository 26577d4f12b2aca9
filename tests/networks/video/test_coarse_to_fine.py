from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lightning_reid.networks.video.cfaan import CoarseToFineAxialAttention
from lightning_reid.networks.video.released_cfaan import rename_released_cfaan

GOLDENS = Path(__file__).parents[2] / "goldens"
POSITIONS = {"no": None, "r_qkv": "relative"}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDENS / "cfaa_module.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def state_of(golden: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{key}/sd/"): tensor for name, tensor in golden.items() if name.startswith(f"{key}/sd/")}


def load(module: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    answer = module.load_state_dict(state, strict=False)
    assert not answer.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in answer.missing_keys)
    return module.eval()


def released_module(golden: dict[str, torch.Tensor], key: str, size: tuple[int, int, int] = (4, 8, 8)) -> CoarseToFineAxialAttention:
    scales, position = (2, "relative") if key == "odd" else (int(key[1]), POSITIONS[key[3:]])
    module = CoarseToFineAxialAttention(32, size, heads=8, scales=scales, position=position)
    return load(module, rename_released_cfaan(state_of(golden, key)))


@pytest.mark.parametrize("key", ["s1_no", "s1_r_qkv", "s2_no", "s2_r_qkv", "s4_no", "s4_r_qkv"])
def test_the_released_modules_are_reproduced_in_evaluation_and_training(golden, key):
    module, clips = released_module(golden, key), golden["x"].transpose(1, 2)
    torch.testing.assert_close(module(clips).transpose(1, 2), golden[f"{key}/y"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.train()(clips).transpose(1, 2), golden[f"{key}/y_train"], rtol=1e-4, atol=1e-5)


def test_maps_of_odd_size_are_pooled_as_the_released_module_pools_them(golden):
    module = released_module(golden, "odd", (4, 7, 5))
    torch.testing.assert_close(module(golden["odd/x"].transpose(1, 2)).transpose(1, 2), golden["odd/y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["wht", "wth", "twh"])
def test_layers_in_another_order_give_the_released_module_of_that_order(golden, order):
    module = released_module(golden, "s2_r_qkv")
    for scale in module.scales:
        scale.axes = nn.Sequential(*(scale.axes["hwt".index(axis)] for axis in order))
    output = module(golden["x"].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(output, golden[f"s2_r_qkv_{order}/y"], rtol=1e-4, atol=1e-5)


def test_the_attention_within_the_released_module_of_sixteen_inner_channels_is_reproduced(golden):
    state, module = state_of(golden, "s2_inter16"), CoarseToFineAxialAttention(16, (4, 8, 8), heads=8, scales=2).eval()
    inner = {name: tensor for name, tensor in state.items() if name.startswith("axial_gran.")}
    module.load_state_dict(rename_released_cfaan(inner), strict=False)
    down, up = nn.Conv3d(32, 16, 1, bias=False), nn.Conv3d(16, 32, 1, bias=False)
    squeeze = load(
        nn.ModuleDict({"conv_down": down, "bn1": nn.BatchNorm3d(16), "conv_up": up, "bn2": nn.BatchNorm3d(32)}),
        {name: tensor for name, tensor in state.items() if name not in inner},
    )
    inside = squeeze["bn1"](down(golden["x"])).relu().transpose(1, 2)
    output = golden["x"] + squeeze["bn2"](up(module.attend(inside).transpose(1, 2)))
    torch.testing.assert_close(output, golden["s2_inter16/y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channel_reduction", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_module_passes_its_input_on_unchanged(channel_reduction, training):
    module = CoarseToFineAxialAttention(32, (3, 8, 4), heads=4, scales=4, channel_reduction=channel_reduction).train(training)
    clips = torch.randn(2, 3, 32, 8, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module(clips), clips)


@pytest.mark.parametrize("channel_reduction", [1, 2])
def test_after_the_first_step_every_part_learns(channel_reduction):
    module = CoarseToFineAxialAttention(32, (3, 16, 16), heads=4, scales=4, channel_reduction=channel_reduction)
    nn.init.ones_(module.norm.weight)  # as a step would: at zero only the normalization itself has a gradient
    clips = torch.randn(2, 3, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    (module(clips) * torch.randn(clips.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    still = [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert [name for name in still if not name.endswith("similarity_norm.bias")] == []  # a shift cancels in the softmax


def test_coarser_scales_see_the_maximum_of_their_cells():
    module = CoarseToFineAxialAttention(16, (1, 4, 4), heads=4, scales=2).eval()
    clips = torch.randn(1, 1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    lower = clips.clone()
    lower[0, 0, 8:, 0, 0] = clips[0, 0, 8:, :2, :2].amin((1, 2)) - 5  # no maximum any more, in the coarse half of the channels
    higher = lower.clone()
    higher[0, 0, 8:, 0, 0] -= 5
    torch.testing.assert_close(module.attend(lower), module.attend(higher))
    up_sampled = module.attend(clips)[0, 0, 8:]
    torch.testing.assert_close(up_sampled, up_sampled[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_map_smaller_than_the_pooling_keeps_one_position():
    module = CoarseToFineAxialAttention(32, (2, 4, 2), heads=4, scales=4)
    assert module(torch.zeros(2, 2, 32, 4, 2)).shape == (2, 2, 32, 4, 2)


def test_the_module_compiles_and_keeps_channels_last():
    module = CoarseToFineAxialAttention(32, (3, 8, 4), heads=4, scales=2).eval()
    nn.init.ones_(module.norm.weight)
    maps = torch.randn(6, 32, 8, 4, generator=torch.Generator().manual_seed(0))
    strided = maps.contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3))
    got = torch.compile(module, backend="eager", fullgraph=True)(strided)
    torch.testing.assert_close(got, module(maps.unflatten(0, (2, 3))), rtol=1e-4, atol=1e-5)
    assert got.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 6}, "6 heads cannot be shared among 4 scales"),
        ({"channels": 24}, "24 channels cannot be cut into 4 scales with 8 heads in all and channel_reduction 1: need a multiple of 16"),
        ({"channel_reduction": 4}, "channel_reduction 4: need a multiple of 64"),
        ({"scales": 0}, "scales must be a whole number of at least 1, got 0"),
    ],
)
def test_what_does_not_divide_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CoarseToFineAxialAttention(**{"channels": 32, "clip_size": (4, 8, 8), "heads": 8, "scales": 4} | arguments)
