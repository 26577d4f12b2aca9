"""What unlabeled images bring to a batch of labeled ones: two augmentations of each, or soft labels; how they are drawn and travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_reid.datamodules.images import collate_parts


def view_batches(num_images: int, per_batch: int, *, num_batches: int, generator: np.random.Generator, world_size: int = 1) -> Tensor:
    """Plan which unlabeled images lend their pairs of views to each batch.

    Images come in random passes over all of them. None comes twice in the batches that all processes train on in one step, where there
    are enough; what fills no further step sits the rest of its pass out.

    Args:
        num_images: N_u, at least 1.
        per_batch: U, images a batch, at least 1 and at most N_u.
        num_batches: Rows of the plan, a multiple of ``world_size``.
        generator: Source of the draws.
        world_size: Number of processes that share the plan.

    Returns:
        ``[num_batches, 2 * U]`` int64 rows; entries 2i and 2i + 1 are the same image.

    Raises:
        ValueError: ``per_batch`` is out of range.
    """
    if not 1 <= per_batch <= num_images:
        raise ValueError(f"need 1 <= per_batch <= {num_images} unlabeled images, got {per_batch}")
    together = per_batch * world_size if num_images >= per_batch * world_size else per_batch
    fitting = num_images - num_images % together
    num_passes = -(-num_batches * per_batch // fitting)
    rows = np.concatenate([generator.permutation(num_images)[:fitting] for _ in range(num_passes)])
    planned = rows[: num_batches * per_batch].reshape(num_batches, per_batch)
    return torch.from_numpy(np.repeat(planned, 2, axis=1))


def collate_with_views(items: list[dict[str, Tensor]], num_labeled: int) -> dict[str, Any]:
    """Stack a planned batch over N_l labeled images followed by unlabeled ones; pairs of views go to ``batch["unlabeled"]``.

    Rows of the unlabeled images are added, ``rows [B]`` int64, -1 for a labeled one.
    """
    batch = collate_parts(items, "unlabeled")
    del batch["parts"]
    batch["rows"] = _target_rows(batch["indices"], num_labeled)
    if "unlabeled" in batch:
        views = batch["unlabeled"]
        batch["unlabeled"] = {"images": views["images"], "rows": _target_rows(views["indices"], num_labeled)}
    return batch


def add_soft_labels(batch: dict[str, Any], soft_labels: Tensor) -> dict[str, Any]:
    """Add ``soft_labels [B, C]``: the rows of the batch's unlabeled images in ``soft_labels [N_u, C]``, zeros for labeled ones."""
    rows = batch["rows"]
    return batch | {"soft_labels": soft_labels[rows.clamp(min=0)].masked_fill((rows < 0)[:, None], 0)}


def _target_rows(indices: Tensor, num_labeled: int) -> Tensor:
    return (indices - num_labeled).clamp(min=-1)
