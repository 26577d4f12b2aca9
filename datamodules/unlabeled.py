"""The DataModule of images without any labels, beside a test protocol."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.datamodules.samplers import EpochPlan, shuffled_batches
from lightning_reid.datamodules.target_images import TargetImagesDataModule
from lightning_reid.records import ImageRecord


class UnlabeledDataModule(TargetImagesDataModule):
    """One image data set whose training identities are unknown: batches of any images, with the pseudo-labels of the moment.

    Train batch: ``images [B, 3, H, W]`` ImageNet-normalized, ``pids [B]`` pseudo-labels in ``0..C-1``, ``camids [B]``, ``indices [B]``.
    The true identities are used for reports only (cluster quality), never for a batch.

    Args:
        dataset: Name, generated preset, folder or table, as in :class:`ImageReIDDataModule`; or images without labels, which need no
            queries and gallery: a table without ``pid``, a folder of images alone, or what ``lightning-reid crops`` makes. Nothing is
            scored on them.
        batch_size: Images a training batch; all of them where there are fewer.
        erasing_probability: Chance of random erasing, in [0, 1]; BUC's public code has none.
        options: Further arguments of :class:`ImageReIDDataModule`; identities and their images, ``p`` and ``k``, are not drawn.

    Example:
        >>> from lightning_reid.datamodules import UnlabeledDataModule
        >>> data = UnlabeledDataModule(market, batch_size=8)  # market: a folder in the Market naming
        >>> data.setup("fit")
        >>> len(data.target_records) == data.num_images, data.target_state is None
        (True, True)
    """

    takes_unlabeled: ClassVar[bool] = True

    def __init__(self, dataset: str = "market1501", *, batch_size: int = 16, erasing_probability: float = 0.0, **options: Any) -> None:
        require_count("batch_size", batch_size)
        super().__init__(dataset=dataset, p=batch_size, k=1, erasing_probability=erasing_probability, **options)
        self.batch_size = batch_size

    @override
    def check_training_identities(self) -> None:
        """Check that there are images: identities are unknown."""
        if len(self.dataset.train) < 2:
            raise ValueError(f"{self.dataset_name} has {len(self.dataset.train)} training images: there is nothing to cluster")

    @property
    @override
    def target_records(self) -> tuple[ImageRecord, ...]:
        """The unlabeled images, in the order of the rows of the state."""
        return self.dataset.train

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        state = self.target_state
        if state is None:
            raise RuntimeError("the images have no labels yet: add BottomUpClustering to the callbacks, or call set_target_state()")
        rows = (state.labels >= 0).nonzero().flatten()
        generator = np.random.default_rng([self.seed, epoch])
        plan = rows[shuffled_batches(len(rows), self.batch_size, generator=generator, world_size=self.rank_and_world[1])]
        return EpochPlan(plan, state.labels.to(torch.int64), epoch)
