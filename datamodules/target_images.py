"""What DataModules with unlabeled images share: the state of what is believed of them, published, drawn from and saved."""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.datamodules.image_reid import ImageReIDDataModule
from lightning_reid.records import ImageRecord, InterCameraPairs, TargetState

logger = logging.getLogger(__name__)

_MADE_ANEW = ("embeddings", "parts", "labeled", "space")
"""Fields of the state that a checkpoint leaves out: the next clustering makes them again."""


class TargetImagesDataModule(ImageReIDDataModule):
    """Images of which some, the target images, are known by the pseudo-labels of the moment; arguments of :class:`ImageReIDDataModule`.

    Validation is on the test part: who the target images show is not known, and nobody can be held out of them.
    """

    labels_change: ClassVar[bool] = True
    can_hold_out: ClassVar[bool] = False
    _state: TargetState | None = None

    def __init__(self, *, val_identities: int | float = 0, **options: Any) -> None:
        if val_identities:
            raise ValueError(
                f"{type(self).__name__} does not know who its target images show, and can hold nobody out to validate on: leave"
                f" val_identities at 0, got {val_identities}"
            )
        super().__init__(val_identities=0, **options)

    @override
    def setup(self, stage: str | None = None) -> None:
        first = self._dataset is None
        super().setup(stage)
        if first and not self.dataset.has_labels:
            judged = "" if self.dataset.has_test else "nothing is scored on it, and "
            logger.warning("%s has no labels: %sclusters are not judged", self.dataset_name, judged)

    @property
    @abstractmethod
    def target_records(self) -> tuple[ImageRecord, ...]:
        """The unlabeled images, in the order of the rows of the state."""

    def ground_truth(self) -> Tensor:
        """``[N]`` int64, the data set's own pids of ``target_records``: to judge pseudo-labels by, never to train on."""
        return torch.tensor([record.pid for record in self.target_records], dtype=torch.int64)

    @property
    def target_state(self) -> TargetState | None:
        """The latest published state; ``None`` before the first clustering."""
        return self._state

    def set_target_state(self, state: TargetState) -> None:
        """Publish a state; the next epoch draws from it.

        Raises:
            ValueError: The state is of another number of images.
        """
        if len(state.labels) != len(self.target_records):
            raise ValueError(
                f"the state labels {len(state.labels)} images, but {self.dataset_name} has {len(self.target_records)} unlabeled images"
            )
        self._state = state
        self.labels_changed()

    def forget_target_state(self) -> None:
        """Start over without labels, as another method's run on the same data must."""
        self._state = None
        self.labels_changed()

    def target_dataloader(self) -> DataLoader:
        """This rank's share of the target images in the test-time transform; ``indices`` are their rows."""
        return self.kept_loader("target", lambda: self.embedding_loader(self.target_records))

    @override
    def state_dict(self) -> dict[str, Any]:
        """What the state of the moment holds, but for embeddings; empty before the first clustering."""
        if self._state is None:
            return {}
        kept = {field.name: getattr(self._state, field.name) for field in fields(self._state) if field.name not in _MADE_ANEW}
        neighbors = kept.pop("neighbors")
        if neighbors is not None:
            kept |= {"ranked": neighbors.ranked, "mutual": neighbors.mutual, "with_noise": neighbors.with_noise}
        return kept

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not state_dict:
            self.forget_target_state()
            return
        kept = dict(state_dict)
        with_noise = kept.pop("with_noise", False)  # of a checkpoint from before there was a choice
        neighbors = InterCameraPairs(kept.pop("ranked"), kept.pop("mutual"), with_noise) if "ranked" in kept else None
        self.set_target_state(TargetState(**kept, neighbors=neighbors))
