"""What networks cost: the columns beside their scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

from lightning_reid.networks import EmbeddingNetwork, count_multiply_adds
from lightning_reid.networks.evaluating import evaluating


def network_costs(network: nn.Module, input_shape: Sequence[int], device: torch.device, *, repetitions: int = 10) -> dict[str, float]:
    """Multiply-adds, parameters and time of one image or clip, by the headings of the table.

    Args:
        network: Moved to ``device``; in evaluation mode while it is timed.
        input_shape: ``(3, H, W)`` of an image or ``(T, 3, H, W)`` of a clip.
        device: Where it is timed.
        repetitions: See ``median_milliseconds``.
    """
    one = (1, *input_shape)
    heading = "ms a clip" if len(input_shape) == 4 else "ms an image"
    return _size(network, one) | {heading: median_milliseconds(network, one, device, repetitions=repetitions)}


def image_network_costs(
    network: EmbeddingNetwork, image_size: tuple[int, int], device: torch.device, *, repetitions: int = 10
) -> dict[str, float]:
    """Multiply-adds and parameters of one image, and the time of a batch of 1 and of 32, by the headings of the table.

    Args:
        network: Moved to ``device``; in evaluation mode while it is timed.
        image_size: (height, width) in pixels.
        device: Where the images are timed.
        repetitions: See ``median_milliseconds``.
    """
    times = {f"ms, batch {size}": median_milliseconds(network, (size, 3, *image_size), device, repetitions=repetitions) for size in (1, 32)}
    return _size(network, (1, 3, *image_size)) | times


def median_milliseconds(network: nn.Module, input_shape: Sequence[int], device: torch.device, *, repetitions: int = 10) -> float:
    """Time of a forward pass in evaluation mode, in float32, without gradients; the median of some, after two that warm up.

    Args:
        network: Takes one tensor. Moved to ``device``; in evaluation mode while it is timed.
        input_shape: Shape of that tensor, which is all zeros.
        device: Where it is timed.
        repetitions: At least 1.
    """
    network.to(device)
    inputs = torch.zeros(*input_shape, device=device)
    seconds = []
    with evaluating(network), torch.inference_mode():
        for _ in range(repetitions + 2):
            began = time.perf_counter()
            network(inputs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[2:])


def _size(network: nn.Module, input_shape: Sequence[int]) -> dict[str, float]:
    return {
        "G multiply-adds": count_multiply_adds(network, input_shape).total / 1e9,
        "M parameters": sum(weights.numel() for weights in network.parameters()) / 1e6,
    }
