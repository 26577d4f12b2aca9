"""Which processes compute one network, and which the same stage of several."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh


def pipeline_mesh(device_type: str, stages: int, timeout: timedelta | None) -> DeviceMesh:
    """All processes as pipelines of ``stages`` neighbors: a mesh of the dimensions ``("data", "stage")``. Every process calls it.

    Args:
        device_type: ``"cpu"``, ``"cuda"``.
        stages: Processes of a pipeline, a divisor of all.
        timeout: After which a process that waits for another gives up, also within these groups; ``None`` is torch's own, half an hour.
    """
    ranks = torch.arange(dist.get_world_size()).reshape(-1, stages)
    rank = dist.get_rank()
    made: list[dist.ProcessGroup] = []
    for rows in (ranks.T, ranks):  # every process makes every group, and belongs to one of each kind
        groups = {rank in row: dist.new_group(row, timeout=timeout) for row in rows.tolist()}
        made.append(groups[True])  # type: ignore[arg-type]  # the number that says "not in it" is of the others
    return DeviceMesh.from_group(made, device_type, mesh=ranks, mesh_dim_names=("data", "stage"))
