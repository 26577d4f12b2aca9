"""How long a network takes under a channel plan, from its layers timed alone at some widths on the machine at hand."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

WIDTHS = (0.25, 0.5, 0.75, 1.0)
"""Shares of its input and of its output channels that a layer is timed with."""
Table = dict[str, Tensor]
"""By layer, ``[4, 4]`` float64 milliseconds at the ``WIDTHS`` of inputs (down) and outputs (across)."""


def measure_latencies(network: nn.Module, input_shape: Sequence[int], *, repetitions: int = 7) -> Table:
    """Time every convolution and linear layer of a network at all widths, on the network's device; ``network`` stays unchanged.

    Normalizations, activations and products between activations are not timed. What a wider layer takes is at least what a narrower one
    did: less is noise.

    Args:
        network: Where it runs is where layers are timed.
        input_shape: Of one input of the network.
        repetitions: The median of so many forward passes counts, after two that warm up.
    """
    shapes = _input_shapes(network, input_shape)
    tables = {}
    with torch.inference_mode():
        for name, shape in shapes.items():
            layer = network.get_submodule(name)
            times = [[_milliseconds(_resized(layer, shape, down, across), repetitions) for across in WIDTHS] for down in WIDTHS]
            tables[name] = torch.tensor(times, dtype=torch.float64).cummax(0).values.cummax(1).values
    return tables


def interpolated_latency(table: Tensor, inputs: float, outputs: float) -> float:
    """Milliseconds at shares of a layer's inputs and outputs: bilinear between ``WIDTHS``, in proportion below the smallest."""
    (row, down, first), (column, across, second) = _place(inputs), _place(outputs)
    corners = table[row : row + 2, column : column + 2]
    weights = torch.tensor([[(1 - down) * (1 - across), (1 - down) * across], [down * (1 - across), down * across]], dtype=table.dtype)
    return float((corners * weights).sum()) * first * second


def network_latency(tables: Mapping[str, Tensor], widths: Mapping[str, tuple[float, float]]) -> float:
    """Milliseconds of all layers together; ``widths`` are the shares of inputs and outputs that are left of each."""
    return sum(interpolated_latency(table, *widths[name]) for name, table in tables.items())


def _place(share: float) -> tuple[int, float, float]:
    """Lower of the two neighboring ``WIDTHS``, the way from it to the upper one, and the factor below the smallest."""
    if share < WIDTHS[0]:
        return 0, 0.0, share / WIDTHS[0]
    lower = min(sum(width <= share for width in WIDTHS) - 1, len(WIDTHS) - 2)
    return lower, (share - WIDTHS[lower]) / (WIDTHS[lower + 1] - WIDTHS[lower]), 1.0


def _input_shapes(network: nn.Module, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    unreal = copy.deepcopy(network).to("meta").eval()
    shapes: dict[str, tuple[int, ...]] = {}

    def remember(module: nn.Module, inputs: Any, *, name: str) -> None:
        shapes[name] = tuple(inputs[0].shape)

    for name, module in unreal.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_pre_hook(partial(remember, name=name))
    with torch.no_grad():
        unreal(torch.empty(*input_shape, device="meta"))
    return shapes


def _resized(layer: nn.Module, shape: tuple[int, ...], down: float, across: float) -> Callable[[], Tensor]:
    """A forward pass of the layer with shares of its inputs and outputs."""
    device = next(layer.parameters()).device
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        inputs, outputs = _share(layer.in_features, down), _share(layer.out_features, across)
        return partial(nn.Linear(inputs, outputs, bias=bias).to(device), torch.zeros(*shape[:-1], inputs, device=device))
    assert isinstance(layer, nn.Conv2d)
    inputs, outputs = _share(layer.in_channels, down), _share(layer.out_channels, across)
    groups = 1
    if layer.groups > 1:
        inputs = outputs = groups = min(inputs, outputs)
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": groups, "bias": bias}
    narrower = nn.Conv2d(inputs, outputs, layer.kernel_size, **options).to(device)  # type: ignore[arg-type]
    return partial(narrower, torch.zeros(shape[0], inputs, *shape[2:], device=device))


def _share(channels: int, share: float) -> int:
    return max(1, round(channels * share))


def _milliseconds(forward: Callable[[], Tensor], repetitions: int) -> float:
    seconds = []
    for _ in range(repetitions + 2):
        began = time.perf_counter()
        output = forward()
        if output.is_cuda:
            torch.cuda.synchronize(output.device)
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[2:])
