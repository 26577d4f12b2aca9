import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_reid.networks.video.axial_attention import AxialAttention
from lightning_reid.networks.video.released_cfaan import rename_released_cfaan

GOLDENS = Path(__file__).parents[2] / "goldens"
AXES = {"height": "height", "width": "width", "temporal": "time"}
POSITIONS = {"no": None, "input_sine": "sinusoidal", "r_q": "relative_query", "r_qkv": "relative"}
LENGTHS = {"time": 4, "height": 6, "width": 5}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDENS / "axial_attention.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def randomized(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer in float64, every parameter and statistic away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double()
    with torch.no_grad():
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
                tensor.copy_(values.abs() + 0.5 if name.endswith(("running_var", "norm.weight")) else 0.5 * values)
    return layer


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def released_layer(golden: dict[str, torch.Tensor], key: str) -> AxialAttention:
    axis, position, heads = key.split("/")
    axis = AXES[axis]
    layer = AxialAttention(16, LENGTHS[axis], axis=axis, heads=int(heads[1:]), position=POSITIONS[position])
    state = {name.removeprefix(f"{key}/sd/"): tensor for name, tensor in golden.items() if name.startswith(f"{key}/sd/")}
    answer = layer.load_state_dict(rename_released_cfaan(state), strict=False)
    assert not answer.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in answer.missing_keys)
    return layer.eval()


KEYS = [f"{axis}/{position}/g4" for axis in AXES for position in POSITIONS] + [f"{axis}/no/g1" for axis in AXES]


@pytest.mark.parametrize("key", KEYS)
def test_the_released_layers_output_gradient_and_weights_are_reproduced(golden, key):
    layer = released_layer(golden, key)
    clips = golden["x"].transpose(1, 2).clone().requires_grad_()
    output = layer(clips).transpose(1, 2)
    torch.testing.assert_close(output, golden[f"{key}/y"], rtol=1e-4, atol=1e-5)
    (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    torch.testing.assert_close(clips.grad.transpose(1, 2), golden[f"{key}/dx"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.attention_weights(clips.detach()), golden[f"{key}/attn"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith("height")])
def test_the_released_layers_training_output_is_reproduced(golden, key):
    layer = released_layer(golden, key).train()
    torch.testing.assert_close(layer(golden["x"].transpose(1, 2)).transpose(1, 2), golden[f"{key}/y_train"], rtol=1e-4, atol=1e-5)


def normalized(values: torch.Tensor, norm: nn.Module, channel: int) -> torch.Tensor:
    scale = norm.weight[channel] / torch.sqrt(norm.running_var[channel] + norm.eps)
    return (values - norm.running_mean[channel]) * scale + norm.bias[channel]


def slow_height_attention(layer: AxialAttention, clips: torch.Tensor) -> torch.Tensor:
    """Equation 2.5 with its normalizations, one number at a time, along the height."""
    B, T, C, H, W = clips.shape
    c, G = C // layer.heads, layer.heads
    r = layer.relative
    output = torch.zeros_like(clips)
    for b, t, w in np.ndindex(B, T, W):
        line = clips[b, t, :, :, w]  # [C, H]
        qkv = torch.stack([normalized(row, layer.qkv_norm, n) for n, row in enumerate(layer.qkv.weight[:, :, 0, 0] @ line)])
        for g in range(G):
            q, k, v = qkv[2 * c * g : 2 * c * (g + 1)].split((c // 2, c // 2, c))
            for i in range(H):
                logits = torch.zeros(H, dtype=torch.float64)
                for j in range(H):
                    qk = sum(q[n, i] * k[n, j] for n in range(c // 2))
                    qr = sum(q[n, i] * r[n, i - j + H - 1] for n in range(c // 2))
                    kr = sum(k[n, j] * r[c // 2 + n, j - i + H - 1] for n in range(c // 2))
                    terms = enumerate((qk, qr, kr))
                    logits[j] = sum(normalized(term, layer.similarity_norm, G * block + g) for block, term in terms)
                weights = logits.softmax(0)
                for n in range(c):
                    sv = sum(weights[j] * v[n, j] for j in range(H))
                    sve = sum(weights[j] * r[c + n, i - j + H - 1] for j in range(H))
                    pair = 2 * (c * g + n)
                    output[b, t, c * g + n, i, w] = normalized(sv, layer.output_norm, pair) + normalized(sve, layer.output_norm, pair + 1)
    return output


def test_relative_attention_equals_the_equation_worked_one_number_at_a_time():
    layer = randomized(AxialAttention(8, 3, axis="height", heads=2)).eval()
    clips = draw(1, 2, 8, 3, 2)
    with torch.no_grad():
        torch.testing.assert_close(layer(clips), slow_height_attention(layer, clips), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("position", POSITIONS.values())
@given(axes=st.sampled_from([("height", 3, "width", 4), ("height", 3, "time", 1), ("width", 4, "time", 1)]), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_axes_differ_by_a_transposition_only(position, axes, seed):
    one, one_dim, other, other_dim = axes
    clips = draw(2, 3, 8, 3, 3)
    layers = [randomized(AxialAttention(8, 3, axis=axis, heads=2, position=position), seed).eval() for axis in (one, other)]
    torch.testing.assert_close(layers[0](clips), layers[1](clips.transpose(one_dim, other_dim)).transpose(one_dim, other_dim))


def test_a_position_sees_its_own_line_only():
    layer = randomized(AxialAttention(8, 4, axis="width", heads=2)).eval()
    clips = draw(2, 3, 8, 5, 4)
    changed = clips.clone()
    changed[1, 2, :, 3] += 1.0
    difference = (layer(changed) - layer(clips)).abs().sum(2)
    assert (difference[1, 2, 3] > 0).all()
    assert difference.sum() == difference[1, 2, 3].sum()


def test_without_position_the_order_along_the_line_does_not_matter():
    layer = randomized(AxialAttention(8, 4, axis="time", heads=2, position=None)).eval()
    clips, order = draw(2, 4, 8, 3, 2), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(layer(clips[:, order]), layer(clips)[:, order])


@pytest.mark.parametrize("position", [None, "sinusoidal"])
def test_the_fast_path_of_evaluation_equals_the_written_out_weights(position):
    layer = randomized(AxialAttention(8, 4, axis="height", heads=2, position=position)).eval()
    clips = draw(2, 3, 8, 4, 2)
    queries, keys, values = layer._project(clips)
    torch.testing.assert_close(layer._attend(queries, keys, values), layer.attention_weights(clips) @ values)
    assert layer(draw(2, 3, 8, 7, 2)).shape == (2, 3, 8, 7, 2)  # any length


def test_more_lines_than_fused_kernels_take_are_attended_all_the_same():
    layer = AxialAttention(2, 2, axis="height", heads=1, position=None).eval()
    clips = torch.randn(1, 1, 2, 2, 2**16, generator=torch.Generator().manual_seed(0))
    halves = torch.cat([layer(half) for half in clips.chunk(2, dim=4)], dim=4)
    torch.testing.assert_close(layer(clips), halves)


def test_sinusoids_are_those_worked_by_hand():
    layer = AxialAttention(4, 3, axis="time", heads=1, position="sinusoidal", sinusoid_base=100.0)
    encoding = layer._sinusoid(torch.zeros(1, 3, 4, 2, 2, dtype=torch.float64), 1)
    # channels 0, 1: speed 1; channels 2, 3: speed 100^(-2/4) = 0.1
    expected = [math.sin(2), math.cos(2), math.sin(0.2), math.cos(0.2)]
    assert encoding.shape == (1, 3, 4, 1, 1)
    assert encoding[0, 2, :, 0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("position", POSITIONS.values())
def test_the_gradient_is_that_of_finite_differences_in_training(position):
    layer = randomized(AxialAttention(4, 3, axis="height", heads=2, position=position)).train()
    names = [name for name, _ in layer.named_parameters()]

    def run(clips, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (clips,))

    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(run, (draw(1, 2, 4, 3, 2).requires_grad_(), *values), fast_mode=True)


def test_the_gradient_is_that_of_finite_differences_on_maps_one_column_wide():
    torch.manual_seed(0)
    layer = AxialAttention(4, 1, axis="width", heads=2).double()
    clips = torch.randn(2, 2, 4, 2, 1, dtype=torch.float64, requires_grad=True)  # channels-first, as narrow and divided networks lay them
    assert torch.autograd.gradcheck(layer, (clips,))


def test_a_line_of_one_position_and_huge_values_stay_finite():
    layer = AxialAttention(8, 1, axis="height", heads=2)
    assert layer(1e6 * torch.randn(2, 3, 8, 1, 4, generator=torch.Generator().manual_seed(0))).isfinite().all()


@pytest.mark.parametrize("position", ["relative", "sinusoidal"])  # the other two take parts of the same paths
def test_the_layer_compiles_and_takes_channels_last(position):
    layer = randomized(AxialAttention(8, 4, axis="width", heads=2, position=position)).eval()
    clips = draw(2, 3, 8, 5, 4)
    strided = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3))
    torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(strided), layer(clips))


def test_bf16_autocast_gives_nearly_the_float32_output(golden):
    layer = released_layer(golden, "height/r_qkv/g4")
    clips = golden["x"].transpose(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(clips)
    assert torch.nn.functional.cosine_similarity(output.float().flatten(), layer(clips).flatten(), dim=0) > 0.99


@pytest.mark.parametrize("position", ["relative", "relative_query"])
def test_another_length_than_that_of_the_relative_positions_is_refused(position):
    layer = AxialAttention(8, 4, axis="time", heads=2, position=position)
    with pytest.raises(ValueError, match=r"along the time were made for length 4, the input \[1, 6, 8, 2, 2\] .* has 6"):
        layer(torch.zeros(1, 6, 8, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 12, "heads": 4}, "12 channels cannot be cut into 4 heads"),
        ({"heads": 0}, "heads must be a whole number of at least 1, got 0"),
        ({"axis": "depth"}, "axis must be one of .*, got 'depth'"),
        ({"position": "absolute"}, "position must be one of .* or None, got 'absolute'"),
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        AxialAttention(**{"channels": 16, "length": 4, "axis": "height", "heads": 4} | arguments)
