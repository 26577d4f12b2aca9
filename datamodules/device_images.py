"""The DataModule of one camera's device: its own images, which tracklet each is of, and labels of tracklets that may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.datamodules.samplers import EpochPlan, whole_pass_batches
from lightning_reid.datamodules.unlabeled import UnlabeledDataModule
from lightning_reid.records import ImageRecord, ReIDDataset, Splits, TargetState


class DeviceDataModule(UnlabeledDataModule):
    """Images of one camera, in tracklets: all images of a person are one, as sparse space-time tracklets (SSTT) have it.

    An epoch passes once over every image, in batches of ``batch_size``; a last batch of one image is dropped.

    Train batch: as of :class:`UnlabeledDataModule`, ``pids`` being labels of tracklets: local ones, 0 to the number of tracklets less
    one, until ``label_tracklets`` gives others.

    Args:
        dataset: Data set whose training part is of one camera.
        batch_size: Images a training batch, at least 2.
        erasing_probability: Chance of random erasing, in [0, 1].
        options: Further arguments of :class:`UnlabeledDataModule`.

    Attributes:
        tracklets: ``[N]`` int64, the tracklet of each image, in the order of the pids: the person is looked at for nothing else.

    Raises:
        ValueError: The images are of several cameras (``setup``).

    Source: edge-device text, section 3, "Definition", and section 4.1.
    """

    def __init__(self, dataset: str = "device", *, batch_size: int = 64, erasing_probability: float = 0.5, **options: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, erasing_probability=erasing_probability, **options)
        self.tracklets = torch.empty(0, dtype=torch.int64)
        self._labels_of_tracklets: Tensor | None = None

    @override
    def serve(self, dataset: Splits[ImageRecord]) -> None:
        cameras = {record.camid for record in dataset.train}
        if len(cameras) > 1:
            raise ValueError(f"{dataset.name} holds images of cameras {sorted(cameras)}: a device has one, which no two tracklets share")
        pids = torch.tensor([record.pid for record in dataset.train], dtype=torch.int64)
        self.tracklets = torch.unique(pids, return_inverse=True)[1] if len(pids) else pids
        super().serve(dataset)

    @override
    def check_training_identities(self) -> None:
        """Refuse nothing: a device with one tracklet, or none, is not visited, and still takes part in the graph."""

    @property
    def num_tracklets(self) -> int:
        """How many tracklets the camera has, N_m."""
        return int(self.tracklets.max()) + 1 if len(self.tracklets) else 0

    @property
    def tracklet_labels(self) -> Tensor:
        """``[num_tracklets]`` int64, the label of each tracklet of the moment; local ones are ``0..num_tracklets-1``."""
        return torch.arange(self.num_tracklets) if self._labels_of_tracklets is None else self._labels_of_tracklets

    def label_tracklets(self, labels: Tensor | None) -> None:
        """Train on these labels of tracklets from the next fit on; ``None`` for local ones.

        Args:
            labels: ``[num_tracklets]`` int64, at least 0, no two equal: two tracklets of one camera are two people, unless
                ``"components"`` made them, which may contradict.

        Raises:
            ValueError: There are more or fewer than tracklets, or one is negative.
        """
        if labels is not None and (labels.shape != (self.num_tracklets,) or bool((labels < 0).any())):
            raise ValueError(
                f"{self.dataset_name} has {self.num_tracklets} tracklets, got labels {list(labels.shape)}, the least of them"
                f" {int(labels.min()) if len(labels) else None}"
            )
        self._labels_of_tracklets = labels
        self.forget_target_state()

    def state_of(self, embeddings: Tensor | None, iteration: int) -> TargetState:
        """What is believed of the images at the moment: their tracklets' labels."""
        camids = torch.tensor([record.camid for record in self.target_records], dtype=torch.int64)
        return TargetState(iteration, self.tracklet_labels[self.tracklets], camids, embeddings)

    @override
    def plan_epoch(self, epoch: int) -> EpochPlan:
        state = self.target_state
        if state is None:
            raise RuntimeError("the images have no labels yet: add TrackletMemories to the callbacks, or call set_target_state()")
        generator = np.random.default_rng([self.seed, epoch])
        plan = whole_pass_batches(len(state.labels), self.batch_size, generator=generator)
        return EpochPlan(plan, state.labels, epoch)


def of_camera(dataset: Splits[ImageRecord], camid: int | None = None) -> ReIDDataset:
    """A data set as the device of one of its cameras has it: training images of that camera alone, of people in a tracklet (pid above 0).

    Args:
        dataset: Of one camera or several.
        camid: Of the device; ``None`` takes the data set for that of one camera.

    Raises:
        ValueError: There are no images of such a camera, or none says which tracklet it is of.
    """
    mine = [one for one in dataset.train if camid is None or one.camid == camid]
    if not mine:
        cameras = sorted({one.camid for one in dataset.train})
        raise ValueError(f"{dataset.name} has no training images of camera {camid!r}: those that it has are of cameras {cameras}")
    train = tuple(one for one in mine if one.pid > 0)
    if not train:
        raise ValueError(f"none of the {len(mine)} training images of {dataset.name} says of which tracklet it is: give each a pid")
    return ReIDDataset(dataset.name, train, dataset.query, dataset.gallery, dataset.notes)
