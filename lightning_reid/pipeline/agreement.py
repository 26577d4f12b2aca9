"""What the processes of a pipeline must agree on: one batch, of which the first embeds the images and the last knows the labels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LOOKED_AT = 4096
"""Numbers of a batch of images that are compared; all of the labels are."""


def require_same_inputs(inputs: Tensor, group: dist.ProcessGroup) -> None:
    """Refuse images or clips that are not the same on all processes of a pipeline.

    Raises:
        ValueError: They are not, on every process.
    """
    flat = inputs.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // LOOKED_AT)]
    _require_same([len(inputs), inputs.numel(), _checksum(sample)], inputs.device, group)


def require_same_batch(batch: Mapping[str, Any], inputs: Tensor, group: dist.ProcessGroup) -> None:
    """Refuse a training batch whose labels or rows are not the same on all processes of a pipeline.

    Raises:
        ValueError: They are not, on every process.
    """
    told = [_checksum(batch[name]) for name in ("pids", "indices") if isinstance(batch.get(name), Tensor)]
    _require_same([len(inputs), inputs.numel(), *told], inputs.device, group)


def _require_same(numbers: list[int], device: torch.device, group: dist.ProcessGroup) -> None:
    mine = torch.tensor(numbers, device=device)
    theirs = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(theirs, mine, group=group)
    if any(not torch.equal(one, mine) for one in theirs):
        rows = ", ".join(str(int(one[0])) for one in theirs)
        raise ValueError(
            f"the processes of a pipeline have different batches (of {rows} rows): its first stage would embed other people than its last"
            " one learns. Fit on a datamodule of this library, or deal batches by trainer.distributed_sampler_kwargs, and draw what is"
            " random by (seed, epoch, index), not by the process"
        )


def _checksum(rows: Tensor) -> int:
    return zlib.crc32(rows.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
