"""What the parts may ask of each other when they meet in a ``Trainer``; none of them imports another."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import DataLoader

from lightning_reid.metrics import ProtocolStamp
from lightning_reid.networks import EmbeddingOutput
from lightning_reid.records import ImageRecord, TargetState


@runtime_checkable
class LabelledData(Protocol):
    """A datamodule with identities to classify."""

    @property
    def num_classes(self) -> int:
        """Number of training identities."""


@runtime_checkable
class ResizedData(Protocol):
    """A datamodule whose images have one size.

    Attributes:
        image_size: (height, width) in pixels that images are resized to.
    """

    image_size: tuple[int, int]


@runtime_checkable
class EvaluatedData(Protocol):
    """A datamodule with queries and a gallery."""

    def evaluation_records(self) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
        """Query and gallery records; row i of each is what a batch calls ``indices == i``."""

    def protocol_stamp(self) -> ProtocolStamp:
        """What a score measured on this data must be read with."""


@runtime_checkable
class TargetData(Protocol):
    """A datamodule with unlabelled images and what is believed of them at the moment."""

    @property
    def target_records(self) -> tuple[ImageRecord, ...]:
        """The N images, in the order of the rows of ``TargetState``; their pids are for reports only, 0 or less when unknown."""

    @property
    def target_state(self) -> TargetState | None:
        """The latest published state; ``None`` before the first clustering."""

    def set_target_state(self, state: TargetState) -> None:
        """Publish a state; the next train loader draws from it."""

    def target_dataloader(self) -> DataLoader:
        """This rank's share of the target images in the test-time transform; batches hold ``images`` and ``indices``."""


@runtime_checkable
class EmbeddingModel(Protocol):
    """A module that embeds images."""

    def embed(self, images: Tensor, with_parts: bool = False) -> EmbeddingOutput:
        """Embed normalised images ``[B, 3, H, W]``."""
