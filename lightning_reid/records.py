"""The typed records that readers make, datamodules hold and callbacks edit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from lightning_reid.arguments import shown

if TYPE_CHECKING:  # a record needs no torch, and who looks at a folder does not wait for it
    from torch import Tensor

JUNK_PID = -1
"""Identity of boxes to be ignored in scoring (Market-1501's ``-1``)."""

DISTRACTOR_PID = 0
"""Identity of gallery boxes that belong to no query but count as wrong answers (Market-1501's ``0000``)."""

DRAWN = "generated-people://"
"""How the path of a crop begins that is no file, but drawn when it is asked for."""

PACKED = "blocks://"
"""How the path of a crop begins that lies in a block of a packed data set."""


Paths = Sequence[str]
"""Of the frames of a tracklet; hashable: a tuple, or the addresses of packed frames, which are made when they are asked for."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One crop of one person: its file, and who is seen where.

    Attributes:
        path: File of the crop, or the address of one that is drawn when it is asked for (see ``DRAWN``).
        pid: Identity as the data set numbers it; 0 is a distractor and -1 junk in an evaluation gallery, in training somebody unknown.
        camid: Camera as the data set numbers it.
        domain: Short name of the data set, e.g. ``"market1501"``.
        frame: Frame or time index within the camera's sequence; -1 when the data set does not tell.
    """

    path: str
    pid: int
    camid: int
    domain: str = ""
    frame: int = -1

    @property
    def thumbnail(self) -> str:
        """File of the picture to show for it."""
        return self.path


@dataclass(frozen=True, slots=True)
class TrackletRecord:
    """Consecutive crops of one person in one camera.

    Attributes:
        paths: Files of the crops in temporal order, at least one.
        pid: Identity as the data set numbers it.
        camid: Camera as the data set numbers it.
        domain: Short name of the data set.
        frame: Frame index of the first crop; -1 when the data set does not tell.
        second_pid: A second identity that is right as well (two people in one box, protocol ``mars-corrected``); -1 without.
    """

    paths: Paths
    pid: int
    camid: int
    domain: str = ""
    frame: int = -1
    second_pid: int = -1

    @property
    def thumbnail(self) -> str:
        """File of the picture to show for it: its middle crop."""
        return self.paths[len(self.paths) // 2]


AnyRecord = ImageRecord | TrackletRecord
Record = TypeVar("Record", ImageRecord, TrackletRecord)


class PictureSource(Protocol):
    """Gives the pictures of records whose paths are no files."""

    def __call__(self, path: str) -> Tensor:
        """The picture of a path, ``[3, h, w]`` uint8 RGB."""

    def fetch(self, paths: Iterable[str]) -> None:
        """Make ready what is asked for next."""


@dataclass(frozen=True)
class IdNames:
    """What a table calls people and cameras whom its reader had to number.

    Attributes:
        people: Name of each ``pid``; empty where the table has numbers.
        cameras: Name of each ``camid``; empty where the table has numbers.
    """

    people: Mapping[int, str] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Splits(Generic[Record]):
    """A data set as its reader found it: who to train on, and the queries and gallery of its test protocol.

    Attributes:
        name: Short name, the ``domain`` of its records.
        train: Labeled training records.
        query: Probes.
        gallery: What the probes are searched in; may hold junk (-1), distractors (0) and, as in MARS, the queries themselves.
        val: Of people whom its owner holds out to validate on, who are in no other part; empty where nobody is told.
        notes: What a user should know of how it was read (skipped files, split number, queries in the gallery), shown with every score.
        pictures: Loads its pictures; ``None`` where paths are files, or addresses of generated people.
        names: Of people and cameras, where its table has names.
    """

    name: str
    train: tuple[Record, ...]
    query: tuple[Record, ...] = ()
    gallery: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    val: tuple[Record, ...] = ()
    pictures: PictureSource | None = field(default=None, compare=False, repr=False)
    names: IdNames = field(default_factory=IdNames, compare=False, repr=False)

    @property
    def has_labels(self) -> bool:
        """Whether any training record tells whom it shows."""
        return any(record.pid > 0 for record in self.train)

    @property
    def has_test(self) -> bool:
        """Whether there are queries, and a gallery to search them in."""
        return bool(self.query and self.gallery)

    def splits(self) -> Iterator[tuple[str, tuple[Record, ...]]]:
        """Yield ``("train", records)``, ``("query", records)``, ``("gallery", records)``, and ``("val", records)`` where there is one."""
        yield from (("train", self.train), ("query", self.query), ("gallery", self.gallery))
        yield from (("val", self.val),) if self.val else ()


class ReIDDataset(Splits[ImageRecord]):
    """A data set of crops, as a reader of images gives it."""


class TrackletDataset(Splits[TrackletRecord]):
    """A data set of tracklets, as a reader of videos gives it."""


@dataclass(frozen=True)
class TrainedPeople:
    """Who the classes of a classifier are: a number of classes says nothing of whose they are.

    Attributes:
        data: Name of the data set.
        pids: The data set's own pid of each class ``0..C-1``.
        held_out: Its people that are held out of training to validate on.
    """

    data: str
    pids: tuple[int, ...]
    held_out: tuple[int, ...] = ()

    def same_classes(self, other: TrainedPeople) -> bool:
        """Whether class c is the same person in both."""
        return (self.data, self.pids) == (other.data, other.pids)

    def as_plain(self) -> dict[str, Any]:
        """The people as plain values, as a checkpoint holds them; read back by ``of_checkpoint``."""
        return {"data": self.data, "pids": list(self.pids), "held_out": list(self.held_out)}

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> TrainedPeople | None:
        """Whom a checkpoint tells of; ``None`` in one of a version that did not.

        Raises:
            ValueError: It tells of something else than people.
        """
        told = checkpoint.get("people")
        if told is None:
            return None
        if not isinstance(told, Mapping) or not isinstance(told.get("data"), str):
            raise ValueError(f"the checkpoint tells its people as {shown(told)}: expected their data, pids and held_out")
        for name in ("pids", "held_out"):
            if not isinstance(told.get(name), (list, tuple)) or not all(isinstance(pid, int) for pid in told[name]):
                raise ValueError(f"the checkpoint tells {name} of its people as {shown(told.get(name))}: expected whole numbers")
        return cls(told["data"], tuple(told["pids"]), tuple(told["held_out"]))


@dataclass(frozen=True)
class InterCameraPairs:
    """Cross-camera neighbor lists of N images (HSR, Algorithm 1).

    Attributes:
        ranked: ``[N, K]`` int64, row i holds the nearest images of other cameras, nearest first, -1 where there are fewer than K.
        mutual: ``[N, K]`` bool, whether i also stands in the list of ``ranked[i, r]``.
        with_noise: Whether pairs count of which an end has no pseudo-label.
    """

    ranked: Tensor
    mutual: Tensor
    with_noise: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Which embeddings are compared.

    Attributes:
        before_neck: Before the BNNeck, as the triplet losses see them, or after it, as they are compared at test time.
        normalized: Whether they have length 1.
    """

    before_neck: bool = False
    normalized: bool = True


AT_TEST_TIME = EmbeddingSpace()
IN_TRIPLET_LOSSES = EmbeddingSpace(before_neck=True, normalized=False)


@dataclass(frozen=True)
class LabeledEmbeddings:
    """The labeled images that guide as the network of one iteration sees them, in the space of ``TargetState.embeddings``.

    Attributes:
        embeddings: ``[N_l, D]`` float.
        pids: ``[N_l]`` int64 identities ``0..C_l-1``.
        among_target: Whether they are the first N_l of the target images, labeled people who are not trained on by name.
    """

    embeddings: Tensor
    pids: Tensor
    among_target: bool = False


Held = TypeVar("Held", "Tensor", "LabeledEmbeddings")


@dataclass(frozen=True)
class TargetState:
    """What is believed of the unlabeled target images during one iteration; row i is the i-th target record.

    Made by the clustering callback in one embedding pass, refined by later callbacks (each returns a changed copy with
    ``dataclasses.replace``), held by the datamodule. It holds the same values on every rank.

    Attributes:
        iteration: Counts the clusterings, from 0.
        labels: ``[N]`` int64 pseudo-identities ``0..C-1``; -1 is noise, or was not selected, and takes no part in training.
        camids: ``[N]`` int64.
        embeddings: ``[N, D]`` float, those that were clustered; ``None`` after a restart from a checkpoint, which does not carry them.
        parts: ``[N, 2, D]`` float, upper and lower body; ``None`` when no callback asked for them, or after a restart.
        neighbors: Cross-camera lists, once mined.
        exemplars: ``[C]`` int64, the image that stands for each cluster; ``None`` where the clustering has none.
        soft_labels: ``[N, C]`` float, how much each image belongs to each cluster; ``None`` for hard labels.
        labeled: Labeled images beside the target ones; ``None`` where no callback asked for them, or after a restart.
        space: What ``embeddings`` are.
    """

    iteration: int
    labels: Tensor
    camids: Tensor
    embeddings: Tensor | None = None
    parts: Tensor | None = None
    neighbors: InterCameraPairs | None = None
    exemplars: Tensor | None = None
    soft_labels: Tensor | None = None
    labeled: LabeledEmbeddings | None = None
    space: EmbeddingSpace = AT_TEST_TIME

    @property
    def embedded(self) -> Tensor:
        """``embeddings``, for whoever cannot do without them.

        Raises:
            RuntimeError: The state came out of a checkpoint, which leaves them out.
        """
        return self._held("embeddings", self.embeddings)

    @property
    def embedded_halves(self) -> Tensor:
        """``parts``, for whoever cannot do without them; errors as of ``embedded``."""
        return self._held("parts", self.parts)

    @property
    def embedded_labeled(self) -> LabeledEmbeddings:
        """``labeled``, for whoever cannot do without it; errors as of ``embedded``."""
        return self._held("labeled", self.labeled)

    def _held(self, name: str, value: Held | None) -> Held:
        if value is None:
            raise RuntimeError(
                f"the state of iteration {self.iteration} does not hold {name!r}: it came out of a checkpoint, or nobody had asked for it."
                " The next clustering makes it; after forget_target_state() of the datamodule a fit begins with one"
            )
        return value

    @property
    def num_clusters(self) -> int:
        """C, the number of pseudo-identities, those of which no image was selected included."""
        if self.exemplars is not None:
            return len(self.exemplars)
        return int(self.labels.max().item()) + 1 if self.labels.numel() else 0
