"""Where a network is cut: by what its units cost here, or by what one says."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_reid.arguments import shown
from lightning_reid.networks.backbones import PERSON_SIZE
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.partition import partition
from lightning_reid.networks.unit_costs import UnitCost, measure_units
from lightning_reid.networks.units import Unit
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.protocols import ClipData, IdentityBatches, ResizedData

logger = logging.getLogger(__name__)

TENSORS_A_WEIGHT = 4
"""What training keeps of each weight: itself, its gradient, and the two averages of Adam, the larger of the optimizers here."""
CLIP_LENGTH = 4
MEASURED_ROWS = 2
"""What a unit costs beside others depends little on how many rows it gets; what it keeps is in proportion to them."""


@dataclass(frozen=True)
class StageCosts:
    """What cuts are balanced by.

    Attributes:
        told: ``"measured"``, ``"equal"``, or a number a unit.
        memory_limit: Bytes that the units of a process may take; ``None`` for no limit.
    """

    told: Literal["measured", "equal"] | Sequence[float]
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        numbers = (
            not isinstance(self.told, str)
            and len(self.told) > 0
            and all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in self.told)
        )
        if self.told not in ("measured", "equal") and not numbers:
            raise ValueError(f"stage_costs must be 'measured', 'equal' or a finite number from 0 for each unit, got {shown(self.told)}")


def chosen_stages(
    costs: StageCosts, network: EmbeddingNetwork, inputs: Tensor, num_stages: int, *, kept_rows: int, rank: int
) -> tuple[tuple[Unit, ...], ...]:
    """The units of each stage, the same on every process: rank 0 measures, and tells the others.

    Args:
        costs: What they are balanced by.
        network: Whole, and on its device.
        inputs: ``[2, ...]`` images or clips.
        num_stages: Of a pipeline, over all of its processes.
        kept_rows: Images or clips of which a stage keeps something until its backward pass.
        rank: This process among all.

    Raises:
        ValueError: There are more stages than units, not as many costs as units, or no cut within the limit.
    """
    units, name = network.units(inputs), network.backbone.name
    if num_stages > len(units):
        raise ValueError(
            f"{name} has {len(units)} units, too few for {num_stages} stages: give fewer processes, stages or stages_per_process"
        )
    told: list[Any] = [_costs_and_sizes(costs, network, units, inputs, kept_rows) if rank == 0 else None]
    dist.broadcast_object_list(told, 0)
    numbers, sizes = told[0]
    if len(numbers) != len(units):
        raise ValueError(f"stage_costs holds {len(numbers)} numbers, and {name} has {len(units)} units: {', '.join(_names(units))}")
    stages = partition(numbers, num_stages, sizes=sizes, limit=costs.memory_limit)
    if rank == 0:
        shares = [sum(numbers[one] for one in stage) / (sum(numbers) or 1) for stage in stages]
        parts = (f"{units[stage[0]].name} to {units[stage[-1]].name} ({share:.0%})" for stage, share in zip(stages, shares, strict=True))
        logger.info("stages of %s: %s", name, "; ".join(parts))
    return tuple(tuple(units[one] for one in stage) for stage in stages)


def example_inputs(module: pl.LightningModule, network: EmbeddingNetwork) -> Tensor:
    """Two random images or clips as the module's data will have them; where they do not say, of the field's usual size."""
    data = getattr(module.trainer, "datamodule", None)
    height, width = data.image_size if isinstance(data, ResizedData) else network.image_size or PERSON_SIZE
    length = (data.clip_length if isinstance(data, ClipData) else None) or getattr(network, "clip_length", None) or CLIP_LENGTH
    clip = (length,) if isinstance(network, VideoNetwork) else ()
    device = next(network.parameters()).device
    return torch.rand(
        MEASURED_ROWS, *clip, 3, height, width, dtype=network.dtype, device=device, generator=torch.Generator(device).manual_seed(0)
    )


def rows_of_batches(module: pl.LightningModule) -> int | None:
    """Images or clips of a training batch, where the module's data say so."""
    data = getattr(module.trainer, "datamodule", None)
    return data.p * data.k if isinstance(data, IdentityBatches) else None


def _costs_and_sizes(
    costs: StageCosts, network: EmbeddingNetwork, units: Sequence[Unit], inputs: Tensor, kept_rows: int
) -> tuple[list[float], list[int] | None]:
    measured: list[UnitCost] = []
    if costs.told == "measured" or costs.memory_limit is not None:
        logger.info("measuring the %d units of %s on %s", len(units), network.backbone.name, list(inputs.shape))
        measured = measure_units(network, units, inputs)
    seconds = [1.0] * len(units) if costs.told == "equal" else [one.seconds for one in measured] if costs.told == "measured" else costs.told
    if costs.memory_limit is None:
        return [float(one) for one in seconds], None
    sizes = [
        TENSORS_A_WEIGHT * _weight_bytes(network, unit) + one.kept_bytes * kept_rows // len(inputs)
        for unit, one in zip(units, measured, strict=True)
    ]
    return [float(one) for one in seconds], sizes


def _weight_bytes(network: nn.Module, unit: Unit) -> int:
    weights = [weight for name in unit.modules for weight in network.get_submodule(name).parameters()]
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _names(units: Sequence[Unit]) -> list[str]:
    return [unit.name for unit in units]
