from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_reid.networks.video.non_local import NonLocalBlock, stripe_means

GOLDENS = Path(__file__).parents[2] / "goldens"
PARTS = {"theta": "theta", "phi": "phi", "g": "g", "theta.0": "theta", "phi.0": "phi", "g.0": "g", "W.0": "w_z", "W.1": "bn"}


def golden(file: str) -> dict[str, Tensor]:
    with np.load(GOLDENS / f"{file}.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def golden_block(arrays: dict[str, Tensor], prefix: str, **options) -> NonLocalBlock:
    block = NonLocalBlock(arrays["x"].shape[1], **options)
    state = {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}
    named = {f"{PARTS[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor for name, tensor in state.items()}
    block.load_state_dict({name: tensor.squeeze(-1) if tensor.ndim == 5 else tensor for name, tensor in named.items()})
    return block


def random_block(channels: int = 6, seed: int = 0, **options) -> NonLocalBlock:
    """In float64, with a normalization that is not the identity any more."""
    generator = torch.Generator().manual_seed(seed)
    block = NonLocalBlock(channels, **options).double()
    for tensor in (*block.parameters(), block.bn.running_mean):
        torch.nn.init.normal_(tensor, std=0.7, generator=generator)
    block.bn.running_var.uniform_(0.5, 2.0, generator=generator)
    return block.eval()


def random_clips(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_attention(block: NonLocalBlock, positions: Tensor) -> Tensor:
    """Equation 2.1, one position ``[C]`` at a time, then ``BN(W_z y)``: ``[L, C]`` to ``[L, C]``."""

    def embed(layer, x):
        return layer.weight[:, :, 0, 0] @ x + layer.bias

    answers = []
    for x_i in positions:
        weights = torch.stack([torch.exp(embed(block.theta, x_i) @ embed(block.phi, x_j)) for x_j in positions])
        y_i = sum(weight * embed(block.g, x_j) for weight, x_j in zip(weights, positions)) / weights.sum()
        normed = (embed(block.w_z, y_i) - block.bn.running_mean) / (block.bn.running_var + block.bn.eps).sqrt()
        answers.append(normed * block.bn.weight + block.bn.bias)
    return torch.stack(answers)


def test_a_block_equals_equation_2_1_worked_position_by_position():
    block, clips = random_block(), random_clips(2, 3, 6, 4, 2)
    for clip, refined in zip(clips, block(clips)):
        positions = clip.permute(0, 2, 3, 1).reshape(-1, 6)
        expected = (positions + slow_attention(block, positions)).reshape(3, 4, 2, 6).permute(0, 3, 1, 2)
        torch.testing.assert_close(refined, expected)


def test_with_stripes_the_means_attend_and_every_position_of_a_stripe_gets_its_answer():
    block, clips = random_block(stripes=2), random_clips(1, 3, 6, 4, 2)
    stripes = torch.stack([clips[0, t, :, rows].mean((1, 2)) for t in range(3) for rows in (slice(0, 2), slice(2, 4))])
    answers = slow_attention(block, stripes).reshape(3, 2, 6)
    expected = clips.clone()
    for t in range(3):
        for row in range(4):
            expected[0, t, :, row] += answers[t, row // 2][:, None]
    torch.testing.assert_close(block(clips), expected)


@pytest.mark.parametrize("stripes", [None, 2])
def test_in_groups_of_frames_each_group_is_a_clip_of_its_own(stripes):
    grouped, whole = random_block(stripes=stripes, frames_per_group=2), random_block(stripes=stripes)
    clips = random_clips(2, 6, 6, 4, 2)
    expected = torch.cat([whole(clips[:, first : first + 2]) for first in (0, 2, 4)], dim=1)
    torch.testing.assert_close(grouped(clips), expected)


@pytest.mark.parametrize(
    ("file", "variant", "options"),
    [
        ("nonlocal_block", "soft", {}),
        ("nonlocal_block", "sub", {"subsample": True}),
        ("stripe_nonlocal_block", "mean", {"stripes": 4}),
        ("stripe_nonlocal_block", "mean_s8", {"stripes": 8}),
        ("stripe_nonlocal_block", "mean_s1", {"stripes": 1}),
    ],
)
def test_a_block_equals_the_released_code(file, variant, options):
    arrays = golden(file)
    block, clips = golden_block(arrays, f"{variant}/sd/", **options), arrays["x"].transpose(1, 2)
    torch.testing.assert_close(block.eval()(clips).transpose(1, 2), arrays[f"{variant}/y_eval"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block.train()(clips).transpose(1, 2), arrays[f"{variant}/y_train"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "options"), [("soft", {}), ("sub", {"subsample": True})])
def test_gradients_and_running_statistics_equal_the_released_code(variant, options):
    arrays = golden("nonlocal_block")
    block = golden_block(arrays, f"{variant}/sd/", **options).eval()
    clips = arrays["x"].clone().requires_grad_()
    refined = block(clips.transpose(1, 2)).transpose(1, 2)
    (refined.flatten() * torch.linspace(-1, 1, clips.numel())).sum().backward()
    torch.testing.assert_close(clips.grad, arrays[f"{variant}/dx_eval"], rtol=1e-4, atol=1e-5)
    block.train()(arrays["x"].transpose(1, 2))
    torch.testing.assert_close(block.bn.running_mean, arrays[f"{variant}/run_mean_after"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block.bn.running_var, arrays[f"{variant}/run_var_after"], rtol=1e-4, atol=1e-5)


def test_the_subsampled_block_equals_that_of_the_released_axial_network():
    arrays = golden("nonlocal_block_subsample_ap3d")
    block = golden_block(arrays, "sd/", subsample=True).eval()
    torch.testing.assert_close(block(arrays["x"].transpose(1, 2)).transpose(1, 2), arrays["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"stripes": 2}, {"subsample": True}, {"frames_per_group": 1}])
def test_a_fresh_block_is_exactly_the_identity(training, options):
    clips = random_clips(2, 3, 4, 4, 2).float()
    assert torch.equal(NonLocalBlock(4, **options).train(training)(clips), clips)


@pytest.mark.parametrize("options", [{}, {"stripes": 2, "frames_per_group": 1}])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_the_numerical_ones(options, training):
    block = random_block(4, **options).train(training)
    names = [name for name, _ in block.named_parameters()]

    def refined(clips: Tensor, *parameters: Tensor) -> Tensor:
        state = {**dict(zip(names, parameters)), **{name: buffer.clone() for name, buffer in block.named_buffers()}}
        return torch.func.functional_call(block, state, (clips,))

    clips = random_clips(1, 2, 4, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(refined, (clips, *(p.detach().requires_grad_() for p in block.parameters())))


@settings(max_examples=20)
@given(seed=st.integers(0, 999), length=st.integers(1, 4))
def test_attention_knows_no_order_of_frames(seed, length):
    block, clips = random_block(stripes=2), random_clips(2, length, 6, 4, 2, seed=seed)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(block(clips[:, order]), block(clips)[:, order])


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation writes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        written = output if isinstance(output, (tuple, list)) else [output]
        self.elements = max([self.elements, *(tensor.numel() for tensor in written if isinstance(tensor, Tensor))])
        return output


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("group", [None, 1])
def test_no_tensor_is_as_large_as_all_pairs_of_positions_forward_or_backward(training, channels_last, group):
    frames = torch.randn(2, 8, 32, 16, generator=torch.Generator().manual_seed(0))
    clips = frames.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).unflatten(0, (1, 2))
    block = NonLocalBlock(8, frames_per_group=group).train(training)
    with LargestTensor() as largest, torch.set_grad_enabled(training):
        refined = block(clips)
        if training:
            refined.sum().backward()
    assert clips.numel() <= largest.elements < (32 * 16) ** 2 / 8


def test_nan_in_one_clip_does_not_reach_another():
    block, clips = random_block(), random_clips(2, 2, 6, 2, 2)
    clean = block(clips)[1]
    clips[0, 0, 0, 0, 0] = torch.nan
    assert block(clips)[0].isnan().all()
    assert torch.equal(block(clips)[1], clean)


def test_huge_similarities_choose_one_position_instead_of_overflowing():
    block, clips = random_block(), 1e4 * random_clips(1, 2, 6, 2, 2)
    assert block(clips).isfinite().all()
    assert block.float()(clips.float()).isfinite().all()


def test_channels_last_clips_give_the_same_values_and_stay_channels_last():
    for options in ({}, {"stripes": 2}):
        block, clips = random_block(**options), random_clips(2, 3, 6, 4, 2)
        frames = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        refined = block(frames.unflatten(0, (2, 3)))
        assert refined.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(refined, block(clips))


def test_a_block_compiles_without_a_graph_break():
    for options in ({}, {"stripes": 2, "frames_per_group": 2}, {"subsample": True}):
        block, clips = random_block(**options), random_clips(2, 4, 6, 4, 2)
        torch.testing.assert_close(torch.compile(block, backend="eager", fullgraph=True)(clips), block(clips))


def test_stripes_are_counted_from_the_top():
    rows = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 2, 4, 3)
    assert stripe_means(rows, 2).tolist() == [[[[0.5], [2.5]], [[0.5], [2.5]]]]


def test_stripes_that_do_not_divide_the_rows_are_refused_with_those_that_would():
    with pytest.raises(ValueError, match=r"stripes=5 does not divide feature maps of 12 rows: choose of \[1, 2, 3, 4, 6, 12\]"):
        NonLocalBlock(4, stripes=5)(torch.zeros(1, 2, 4, 12, 6))


def test_groups_that_do_not_divide_the_clip_are_refused():
    with pytest.raises(ValueError, match="frames_per_group=2 does not divide the 3 frames of a clip"):
        NonLocalBlock(4, frames_per_group=2)(torch.zeros(1, 3, 4, 4, 2))


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (1, {}, "channels must be at least 2, got 1"),
        (4, {"stripes": 0}, "stripes must be a whole number of at least 1, or None, got 0"),
        (4, {"frames_per_group": -2}, "frames_per_group must be a whole number of at least 1, or None, got -2"),
        (4, {"stripes": 4, "subsample": True}, "subsample=True looks at 2 x 2 positions, which 4 stripes do not have"),
    ],
)
def test_an_impossible_block_is_refused(channels, options, message):
    with pytest.raises(ValueError, match=message):
        NonLocalBlock(channels, **options)
