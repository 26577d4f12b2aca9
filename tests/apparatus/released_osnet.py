"""Made-up files of torchreid's OSNets, from a table of names and shapes; and what such a network gives, computed slowly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
STATISTICS = ("running_mean", "running_var")
BY_IMAGE = {"conv2.0", "conv2.1", "conv3.1", "conv4.0"}
"""Blocks of OSNet-AIN with instance normalization."""


def released_shapes(channels: tuple[int, int, int, int], *, ain: bool = False) -> dict[str, tuple[int, ...]]:
    """Every parameter and every statistic of a released file by name, but the counters of batches and the classifier."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int, *, by_image: bool = False) -> None:
        shapes.update({f"{name}.{part}": (width,) for part in ("weight", "bias", *(() if by_image else STATISTICS))})

    def convolution(name: str, inputs: int, outputs: int, size: int = 1) -> None:
        shapes[f"{name}.conv.weight"] = (outputs, inputs, size, size)

    shapes["conv1.conv.weight"] = (channels[0], 3, 7, 7)
    norm("conv1.bn", channels[0], by_image=ain)
    for stage in (2, 3, 4):
        inputs, outputs = channels[stage - 2], channels[stage - 1]
        width = outputs // 4
        for block in (f"conv{stage}.0", f"conv{stage}.1"):
            convolution(f"{block}.conv1", inputs, width)
            norm(f"{block}.conv1.bn", width)
            for light in light_convolutions(block, ain=ain):
                shapes |= {f"{light}.conv1.weight": (width, width, 1, 1), f"{light}.conv2.weight": (width, 1, 3, 3)}
                norm(f"{light}.bn", width)
            hidden = width // 16
            shapes |= {f"{block}.gate.fc1.weight": (hidden, width, 1, 1), f"{block}.gate.fc1.bias": (hidden,)}
            shapes |= {f"{block}.gate.fc2.weight": (width, hidden, 1, 1), f"{block}.gate.fc2.bias": (width,)}
            convolution(f"{block}.conv3", width, outputs)
            norm(
                *((f"{block}.IN", outputs) if ain and block in BY_IMAGE else (f"{block}.conv3.bn", outputs)),
                by_image=ain and block in BY_IMAGE,
            )
            if inputs != outputs:
                convolution(f"{block}.downsample", inputs, outputs)
                norm(f"{block}.downsample.bn", outputs)
            inputs = outputs
        if stage < 4:
            transition = f"pool{stage}.0" if ain else f"conv{stage}.2.0"
            convolution(transition, outputs, outputs)
            norm(f"{transition}.bn", outputs)
    convolution("conv5", channels[3], channels[3])
    norm("conv5.bn", channels[3])
    shapes |= {"fc.0.weight": (512, channels[3]), "fc.0.bias": (512,)}
    norm("fc.1", 512)
    return shapes


def light_convolutions(block: str, *, ain: bool) -> list[str]:
    """Names of the ten light convolutions of a block, by stream."""
    return [name for stream in range(4) for name in stream_of(block, stream, ain=ain)]


def stream_of(block: str, stream: int, *, ain: bool) -> list[str]:
    """Names of the light convolutions of one of the streams 0 to 3."""
    if ain:
        return [f"{block}.conv2.{stream}.layers.{number}" for number in range(stream + 1)]
    return [f"{block}.conv2a"] if stream == 0 else [f"{block}.conv2{'abcd'[stream]}.{number}" for number in range(stream + 1)]


def released(channels: tuple[int, int, int, int], *, ain: bool = False) -> State:
    """A state dict as torchreid saves it, with random numbers of the sizes that trained ones have, and a classifier of 751 people."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}
    for name, shape in released_shapes(channels, ain=ain).items():
        drawn = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            state[name] = 0.5 + drawn.abs()
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
        elif len(shape) > 1:
            state[name] = drawn * (2 / drawn[0].numel()) ** 0.5
        else:
            state[name] = 0.3 * drawn + (1.0 if name.endswith("weight") else 0.0)
    return state | {"classifier.weight": torch.randn(751, 512, generator=generator), "classifier.bias": torch.zeros(751)}


def slow_embedding(state: State, images: Tensor, *, ain: bool = False) -> Tensor:
    """What torchreid's network embeds images ``[B, 3, H, W]`` as, ``[B, 512]``, in float64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    means = slow_map(state, images.double(), ain=ain).mean((2, 3))
    reduced = torch.stack([state["fc.0.weight"] @ row + state["fc.0.bias"] for row in means])
    return _batch_norm(state, "fc.1", reduced[:, :, None, None])[:, :, 0, 0].clamp(min=0)


def slow_map(state: State, images: Tensor, *, ain: bool = False) -> Tensor:
    """The feature map ``[B, C, h, w]`` before the pooling."""
    norm = _instance_norm if ain else _batch_norm
    maps = norm(state, "conv1.bn", F.conv2d(images, state["conv1.conv.weight"], stride=2, padding=3)).clamp(min=0)
    maps = F.max_pool2d(maps, 3, stride=2, padding=1)
    for stage in (2, 3, 4):
        for block in (f"conv{stage}.0", f"conv{stage}.1"):
            maps = _block(state, block, maps, ain=ain)
        if stage < 4:
            maps = _point(state, f"pool{stage}.0" if ain else f"conv{stage}.2.0", maps).clamp(min=0)
            height, width = maps.shape[2] // 2, maps.shape[3] // 2
            corners = [maps[:, :, row : 2 * height : 2, column : 2 * width : 2] for row in (0, 1) for column in (0, 1)]
            maps = sum(corners[1:], corners[0]) / 4
    return _point(state, "conv5", maps).clamp(min=0)


def _block(state: State, name: str, maps: Tensor, *, ain: bool) -> Tensor:
    narrow = _point(state, f"{name}.conv1", maps).clamp(min=0)
    total = torch.zeros_like(narrow)
    for stream in range(4):
        seen = narrow
        for light in stream_of(name, stream, ain=ain):
            mixed = torch.einsum("oi,bihw->bohw", state[f"{light}.conv1.weight"][:, :, 0, 0], seen)
            kernels = state[f"{light}.conv2.weight"]
            each = [F.conv2d(mixed[:, [channel]], kernels[[channel]], padding=1) for channel in range(mixed.shape[1])]
            seen = _batch_norm(state, f"{light}.bn", torch.cat(each, 1)).clamp(min=0)
        for image in range(len(seen)):
            means = seen[image].mean((1, 2))
            hidden = (state[f"{name}.gate.fc1.weight"][:, :, 0, 0] @ means + state[f"{name}.gate.fc1.bias"]).clamp(min=0)
            gates = 1 / (1 + (-(state[f"{name}.gate.fc2.weight"][:, :, 0, 0] @ hidden + state[f"{name}.gate.fc2.bias"])).exp())
            total[image] += gates[:, None, None] * seen[image]
    if ain and name in BY_IMAGE:
        residual = _instance_norm(state, f"{name}.IN", F.conv2d(total, state[f"{name}.conv3.conv.weight"]))
    else:
        residual = _point(state, f"{name}.conv3", total)
    shortcut = _point(state, f"{name}.downsample", maps) if f"{name}.downsample.conv.weight" in state else maps
    return (residual + shortcut).clamp(min=0)


def _point(state: State, name: str, maps: Tensor) -> Tensor:
    return _batch_norm(state, f"{name}.bn", torch.einsum("oi,bihw->bohw", state[f"{name}.conv.weight"][:, :, 0, 0], maps))


def _batch_norm(state: State, name: str, maps: Tensor) -> Tensor:
    mean, variance, weight, bias = (state[f"{name}.{part}"][:, None, None] for part in (*STATISTICS, "weight", "bias"))
    return (maps - mean) / (variance + 1e-5).sqrt() * weight + bias


def _instance_norm(state: State, name: str, maps: Tensor) -> Tensor:
    weight, bias = (state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    mean = maps.mean((2, 3), keepdim=True)
    variance = ((maps - mean) ** 2).mean((2, 3), keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt() * weight + bias
