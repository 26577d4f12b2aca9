"""What a training step draws from torch's global generators, dropout first of all."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.derived_seed import derived_seed


class StepDraws:
    """Seeds the global generators for the time of a step and gives them back afterwards.

    A checkpoint holds no generator's state: only what is seeded by (seed, epoch, step) is drawn again by a run that goes on from one.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[torch.Generator, Tensor]] = []

    def begin(self, device: torch.device, *told: int) -> None:
        """Seed the generators of the CPU and of ``device``, where that is a GPU.

        Args:
            device: Where the step computes.
            told: What the draws are of: seed, epoch, batch, rank.
        """
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        self._kept = [(generator, generator.get_state()) for generator in generators]
        for generator in generators:
            generator.manual_seed(derived_seed(*told))

    def end(self) -> None:
        """Go on as if the step had drawn nothing."""
        for generator, state in self._kept:
            generator.set_state(state)
        self._kept = []
