"""What a network of clips costs: the columns beside its scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch

from lightning_reid.networks import VideoNetwork, count_multiply_adds


def network_costs(network: VideoNetwork, clip_shape: Sequence[int], device: torch.device, *, repetitions: int = 10) -> dict[str, float]:
    """Multiply-adds, parameters and time of one clip, by the headings of the table.

    Args:
        network: Moved to ``device`` and put into evaluation mode.
        clip_shape: ``(T, 3, H, W)``.
        device: Where the clip is timed.
        repetitions: The median of so many forward passes counts, in float32, without gradients, one clip at a time.
    """
    network.to(device).eval()
    clip = torch.zeros(1, *clip_shape, device=device)
    seconds = []
    with torch.inference_mode():
        for _ in range(repetitions + 2):  # the first two warm up
            began = time.perf_counter()
            network(clip)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    return {
        "G multiply-adds": count_multiply_adds(network, clip.shape).total / 1e9,
        "M parameters": sum(weights.numel() for weights in network.parameters()) / 1e6,
        "ms a clip": 1000 * median(seconds[2:]),
    }
