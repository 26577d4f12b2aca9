"""What the parts may ask of each other when they meet in a ``Trainer``; none of them imports another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import DataLoader

from lightning_reid.records import AnyRecord, ImageRecord, Paths, TargetState, TrackletRecord, TrainedPeople

if TYPE_CHECKING:  # they load scikit-learn and timm, which a protocol has no use for
    from lightning_reid.metrics import ProtocolStamp, RetrievalMetrics
    from lightning_reid.networks.embedding_network import EmbeddingOutput


@runtime_checkable
class LabeledData(Protocol):
    """A datamodule with identities to classify."""

    @property
    def num_classes(self) -> int:
        """How many identities are trained on."""


@runtime_checkable
class IdentityBatches(Protocol):
    """A datamodule whose training batches hold P identities with K images each."""

    p: int
    k: int


@runtime_checkable
class NamedPeople(LabeledData, Protocol):
    """A datamodule that says who its training identities are."""

    @property
    def people(self) -> TrainedPeople:
        """Who the classes ``0..num_classes-1`` are, and who is held out."""


@runtime_checkable
class ResizedData(Protocol):
    """A datamodule whose images have one size.

    Attributes:
        image_size: (height, width) in pixels that images are resized to.
    """

    image_size: tuple[int, int]


@runtime_checkable
class ClipData(Protocol):
    """A datamodule whose clips have one length.

    Attributes:
        clip_length: T, frames a clip.
    """

    clip_length: int


@runtime_checkable
class RepeatedImages(Protocol):
    """A datamodule that says whether its training images are the same in every epoch."""

    @property
    def repeats_images(self) -> bool:
        """Whether nothing random is done to an image."""


@runtime_checkable
class PicturedData(Protocol):
    """A datamodule that shows the crops of its records, which need not be files."""

    def picture(self, path: str) -> Tensor:
        """The crop of a record, ``[3, h, w]`` uint8 RGB."""


@runtime_checkable
class EvaluatedData(Protocol):
    """A datamodule with queries and a gallery."""

    def evaluation_records(self, part: Literal["val", "test"] = "test") -> tuple[tuple[AnyRecord, ...], tuple[AnyRecord, ...]]:
        """Query and gallery records that a validation or a test is on; row i of each is what a batch calls ``indices == i``."""

    def protocol_stamp(self) -> ProtocolStamp:
        """What a score measured on this data must be read with."""


@runtime_checkable
class TargetData(Protocol):
    """A datamodule with unlabeled images and what is believed of them at the moment."""

    @property
    def target_records(self) -> tuple[ImageRecord, ...]:
        """The N images, in the order of the rows of ``TargetState``."""

    def ground_truth(self) -> Tensor:
        """``[N]`` int64 true pids of ``target_records``, 0 or less when unknown: to judge pseudo-labels by, never to train on."""

    @property
    def target_state(self) -> TargetState | None:
        """The latest published state; ``None`` before the first clustering."""

    def set_target_state(self, state: TargetState) -> None:
        """Publish a state; the next epoch draws from it. Call it in ``on_fit_start`` or ``on_train_epoch_end``."""

    def forget_target_state(self) -> None:
        """Start over without labels."""

    def target_dataloader(self) -> DataLoader:
        """This rank's share of the target images in the test-time transform; batches hold ``images`` and ``indices``."""


@runtime_checkable
class PartlyLabeledData(TargetData, Protocol):
    """A datamodule with labeled images of other identities beside the unlabeled ones."""

    @property
    def num_classes(self) -> int:
        """C_l, the number of labeled identities."""

    @property
    def labeled_records(self) -> tuple[ImageRecord, ...]:
        """The N_l labeled images, in the order of ``labeled_pids``."""

    @property
    def labeled_pids(self) -> Tensor:
        """The identity of each labeled image: ``[N_l]`` int64 in ``0..C_l-1``, row i of ``labeled_records``."""

    @property
    def guide_pids(self) -> Tensor:
        """``[N_g]`` int64 in ``0..C_g-1``: who the first N_g target images show, for guidance alone; empty where labeled images guide."""

    def labeled_dataloader(self) -> DataLoader:
        """This rank's share of the labeled images in the test-time transform; batches hold ``images`` and ``indices``."""


@runtime_checkable
class PublicAndLocalData(Protocol):
    """A datamodule of a client's own images, beside public ones of which it may use any part.

    Attributes:
        chosen_public: ``[N_g]`` bool, the public images that take part.
    """

    chosen_public: Tensor

    @property
    def local_labels(self) -> Tensor:
        """The identity of each of the client's own images: ``[N_l]`` int64 in ``0..K_l-1``."""

    def choose_public(self, chosen: Tensor) -> None:
        """Say which public images take part from the next epoch on, ``[N_g]`` bool."""

    def local_dataloader(self) -> DataLoader:
        """This rank's share of the client's own images in the test-time transform; batches hold ``images`` and ``indices``."""

    def public_dataloader(self) -> DataLoader:
        """This rank's share of the public images in the test-time transform; batches hold ``images`` and ``indices``."""


@runtime_checkable
class TrackletData(Protocol):
    """A datamodule of tracklets whose frames can be replaced by processed ones.

    Attributes:
        image_size: (height, width) in pixels of the frames it serves.
    """

    image_size: tuple[int, int]

    def tracklet_records(self) -> tuple[TrackletRecord, ...]:
        """Training, query and gallery tracklets; one that is in several of them comes once."""

    def read_frames(self, record: TrackletRecord) -> list[Tensor]:
        """The original frames of a tracklet, ``[3, h, w]`` uint8 RGB each, of their own sizes."""

    def serve_processed(self, files: Mapping[Paths, Path] | None) -> None:
        """Serve packed tracklets instead of the original frames, by the ``paths`` of their records; ``None`` for the originals again."""


@runtime_checkable
class ScoredModel(Protocol):
    """A module that scores its embeddings.

    Attributes:
        retrieval: Says by which protocol and metric.
    """

    retrieval: RetrievalMetrics


@runtime_checkable
class EmbeddingModel(Protocol):
    """A module that embeds images."""

    def embed(self, images: Tensor, with_parts: bool = False) -> EmbeddingOutput:
        """Embed normalized images ``[B, 3, H, W]``."""


@runtime_checkable
class NeedsWholeNetwork(Protocol):
    """A callback that wants of a network, or of a step, what one that is cut over processes does not have.

    Attributes:
        needs_whole_network: What it does, for a sentence about it.
    """

    needs_whole_network: str


@runtime_checkable
class SharesAnswers(Protocol):
    """A module whose step also asks a second network, which one process may do for all of a pipeline.

    Attributes:
        asks_teacher: Whether it does.
        answered_by: Who gets the answers: it is called with what asks, and returns what that said, here or elsewhere.
        answered_elsewhere: Whether this process never asks.
    """

    asks_teacher: bool
    answered_elsewhere: bool
    answered_by: Callable[[Callable[[], Any]], Any]
