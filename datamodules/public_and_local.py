"""The DataModule of a client that trains on its own people and on chosen images of a public data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.datamodules.blocks.pictures import of_several
from lightning_reid.datamodules.image_reid import ImageReIDDataModule
from lightning_reid.datamodules.labeled_data import training_labels
from lightning_reid.datamodules.samplers import EpochPlan, shuffled_batches
from lightning_reid.records import ImageRecord, Splits


class PublicAndLocalDataModule(ImageReIDDataModule):
    """A client's own labeled images, and a public data set of other people of which it may use any part (FedFR).

    Train batch: ``images [B, 3, H, W]``, ``camids [B]``, ``indices [B]`` and ``pids [B]``: local identities are ``0..K_l-1``, public ones
    ``K_l..K_l+K_g-1``. Batches are any images of both; which public ones take part says ``choose_public``, all of them to begin with.
    It is tested on the client's own queries and gallery.

    Args:
        local: The client's data set.
        public: Its training images are used.
        batch_size: Images a training batch.
        options: Further arguments of :class:`ImageReIDDataModule`; identities and their images, ``p`` and ``k``, are not drawn.

    Raises:
        ValueError: The public data set shows nobody.

    Example:
        >>> import torch
        >>> from lightning_reid.datamodules import PublicAndLocalDataModule
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> data = PublicAndLocalDataModule(read_market_folder(market), read_market_folder(duke), batch_size=8)
        >>> data.num_local, data.num_public
        (10, 8)
        >>> data.choose_public(torch.arange(len(data.chosen_public)) < 5)  # five public images take part from now on
        >>> int(data.chosen_public.sum())
        5
    """

    def __init__(self, local: Splits[ImageRecord], public: Splits[ImageRecord], batch_size: int = 64, **options: Any) -> None:
        require_count("batch_size", batch_size)
        super().__init__(local.name, p=batch_size, k=1, **({"val_identities": 0} | options))
        self.batch_size = batch_size
        self.num_local = len({record.pid for record in local.train if record.pid > 0})
        self._num_local_images, public_labels = len(local.train), training_labels(public.train)
        self.num_public = max(0, int(public_labels.max()) + 1) if len(public_labels) else 0
        if not self.num_public:
            raise ValueError(f"the public data set {public.name} has no training identities")
        self.serve(replace(local, train=(*local.train, *public.train), pictures=of_several([local, public])))
        self._labels = torch.cat([training_labels(local.train), torch.where(public_labels >= 0, public_labels + self.num_local, -1)])
        self.choose_public(torch.ones(len(public.train), dtype=torch.bool))

    @override
    def check_training_identities(self) -> None:
        """Check nothing: batches are of any images, there is no P to reach."""

    @property
    @override
    def num_classes(self) -> int:
        """K_l + K_g, local and public identities."""
        return self.num_local + self.num_public

    @property
    @override
    def num_images(self) -> int:
        """N_l, the client's own images: their number is its weight in a federation."""
        return self._num_local_images

    @property
    def local_labels(self) -> Tensor:
        """The identity of each of the client's own images: ``[N_l]`` int64 in ``0..K_l-1``."""
        return self._labels[: self._num_local_images]

    def choose_public(self, chosen: Tensor) -> None:
        """Say which public images take part from the next epoch on.

        Args:
            chosen: ``[N_g]`` bool.
        """
        self.chosen_public = chosen
        self.labels_changed()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"chosen_public": self.chosen_public}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.choose_public(state_dict["chosen_public"])

    def local_dataloader(self) -> DataLoader:
        """This rank's share of the client's own images in the test-time transform."""
        return self.kept_loader("local", lambda: self.embedding_loader(self.dataset.train[: self._num_local_images]))

    def public_dataloader(self) -> DataLoader:
        """This rank's share of the public images in the test-time transform."""
        return self.kept_loader("public", lambda: self.embedding_loader(self.dataset.train[self._num_local_images :]))

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        used = torch.cat([torch.ones(self._num_local_images, dtype=torch.bool), self.chosen_public]) & (self._labels >= 0)
        rows = used.nonzero().flatten()
        generator = np.random.default_rng([self.seed, epoch])
        plan = rows[shuffled_batches(len(rows), self.batch_size, generator=generator, world_size=self.rank_and_world[1])]
        return EpochPlan(plan, self._labels, epoch)
