"""The data sets of decoded crops that loaders iterate over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.generated.people_address import of_epoch
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers import find_unreadable_images
from lightning_reid.datamodules.transforms import ImageTransform, resized, seeded
from lightning_reid.records import DRAWN, ImageRecord, PictureSource

logger = logging.getLogger(__name__)

KEPT_BYTES = 128 * 2**20
"""A data set whose resized crops take no more is decoded once, not in every epoch."""


class ResizedCrops:
    """Loads crops in one size, and keeps those of a small data set in memory: epochs of a small network would mostly be decoding.

    Each process keeps what it has loaded itself, so that a loader's workers hold a copy each. A larger set is decoded every time: the
    few that fit would save little.

    Args:
        image_size: (height, width) in pixels.
        num_images: Of the data set; kept are all of them, if they take at most ``KEPT_BYTES``, or none. Those that are drawn when they are
            asked for are not: there is no end of them.
        pictures: Loads crops whose paths are no files; ``None`` for ``load_image``.
    """

    def __init__(self, image_size: tuple[int, int], num_images: int, pictures: PictureSource | None = None) -> None:
        self.image_size, self.pictures = image_size, pictures
        self.keeps = num_images * 3 * image_size[0] * image_size[1] <= KEPT_BYTES
        self._kept: dict[str, Tensor] = {}

    def __call__(self, path: str) -> Tensor:
        """One crop ``[3, H, W]`` uint8, contiguous; others hold it too, so that it must not be written to.

        Raises:
            CorruptImageError: See ``load_image``.
        """
        crop = self._kept.get(path)
        if crop is None:
            crop = resized((self.pictures or load_image)(path), *self.image_size).contiguous()
            if self.keeps and not path.startswith(DRAWN):
                self._kept[path] = crop
        return crop

    def fetch(self, paths: Iterable[str]) -> None:
        """Have what is asked for next read with as few questions as may be, where there is a store to be asked."""
        if self.pictures is not None:
            self.pictures.fetch(path for path in paths if path not in self._kept)


def without_unreadable(records: Sequence[ImageRecord]) -> tuple[ImageRecord, ...]:
    """Decode every image once and leave out those that fail, with a warning that names the first and counts them all."""
    bad = {image.path: image.reason for image in find_unreadable_images(records, decode=True)}
    if bad:
        path, reason = next(iter(bad.items()))
        logger.warning("left out %d of %d images that cannot be read (first: %s, %s)", len(bad), len(records), path, reason)
    return tuple(record for record in records if record.path not in bad)


def require_readable(records: Sequence[ImageRecord]) -> None:
    """Find missing, empty and foreign files before hours of training do; reads the headers only.

    Raises:
        CorruptImageError: Names the first such file and counts the others.
    """
    bad = find_unreadable_images(records)
    if bad:
        raise CorruptImageError(
            f"{bad[0].path} is no readable image: {bad[0].reason} ({len(bad)} of {len(records)} images are so). "
            "Restore them, or leave them out with unreadable='skip' (of a command: --unreadable skip, or --data.unreadable skip)"
        )


class Draw(NamedTuple):
    """One record drawn into a training batch, with all that changes from epoch to epoch: a worker that lives on knows nothing else of it.

    Attributes:
        row: Of the training records.
        position: Place among all draws of the epoch; with (seed, epoch) it determines the augmentation.
        part: Which loss the record is for: 0 the labeled batch, 1 what comes beside it (inter-camera mining, pairs of views).
        label: Identity of the moment, -1 for none.
        epoch: Epochs that were drawn before, those of earlier fits included.
    """

    row: int
    position: int
    part: int = 0
    label: int = -1
    epoch: int = 0


class TrainImages(Dataset[dict[str, Tensor]]):
    """Augmented training crops, addressed by :class:`Draw`.

    An item is ``{"image": [3, H, W] uint8, "pid", "camid", "index", "part"}``, ``pid`` being the draw's label. The augmentation depends
    on (seed, the draw's epoch and position) alone: neither on how often an iterator was made nor on the worker that makes it, so a
    resumed run sees the same pixels.

    Args:
        records: Training records.
        transform: Augmentation; it leaves the image it is given as it is.
        seed: Of the augmentations.
        load: Path to ``[3, h, w]`` uint8.
        drawn_anew: Whether generated people are drawn anew in every epoch: where a record's label is that of its person.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        transform: ImageTransform,
        *,
        seed: int,
        load: Callable[[str], Tensor] = load_image,
        drawn_anew: bool = True,
    ) -> None:
        self.paths = [record.path for record in records]
        self.camids = [record.camid for record in records]
        self.transform, self.seed, self.load, self.drawn_anew = transform, seed, load, drawn_anew

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, batch: Sequence[Draw]) -> None:
        """Have the pictures of a batch read together."""
        if isinstance(self.load, ResizedCrops):
            self.load.fetch(self.paths[draw.row] for draw in batch)

    @override
    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        path = self.paths[draw.row]
        image = self.load(of_epoch(path, draw.epoch) if self.drawn_anew else path)
        with seeded(self.seed, draw.epoch, draw.position):
            image = self.transform(image)
        numbers = {"pid": draw.label, "camid": self.camids[draw.row], "index": draw.row, "part": draw.part}
        return {"image": image} | {name: torch.tensor(value) for name, value in numbers.items()}


class EvaluationImages(Dataset[dict[str, Tensor]]):
    """Crops in the test-time transform, addressed by their row.

    An item is ``{"image": [3, H, W] uint8, "pid", "camid", "index", "is_query"}``; ``index`` counts queries and gallery apart.

    Args:
        query: Records.
        gallery: Records.
        transform: To the size of the network.
        load: Path to ``[3, h, w]`` uint8.
    """

    def __init__(
        self,
        query: Sequence[ImageRecord],
        gallery: Sequence[ImageRecord],
        transform: ImageTransform,
        load: Callable[[str], Tensor] = load_image,
    ) -> None:
        self.records, self.num_query, self.transform, self.load = (*query, *gallery), len(query), transform, load

    def __len__(self) -> int:
        return len(self.records)

    def fetch(self, batch: Sequence[int]) -> None:
        """Have the pictures of a batch read together."""
        if isinstance(self.load, ResizedCrops):
            self.load.fetch(self.records[row].path for row in batch)

    @override
    def __getitem__(self, row: int) -> dict[str, Tensor]:
        record, is_query = self.records[row], row < self.num_query
        return {
            "image": self.transform(self.load(record.path)),
            "pid": torch.tensor(record.pid),
            "camid": torch.tensor(record.camid),
            "index": torch.tensor(row if is_query else row - self.num_query),
            "is_query": torch.tensor(is_query),
        }


_PLURALS = {"image": "images", "pid": "pids", "camid": "camids", "index": "indices", "is_query": "is_query", "part": "parts"}


def collate_images(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack items into ``images [B, 3, H, W]`` uint8, ``pids``, ``camids``, ``indices`` ``[B]`` int64, and ``is_query`` bool if given."""
    return {plural: torch.stack([item[name] for item in items]) for name, plural in _PLURALS.items() if name in items[0]}


def collate_parts(items: list[dict[str, Tensor]], name: str) -> dict[str, Any]:
    """Stack a planned batch as ``collate_images`` does, what comes beside it (part 1) in a dict of its own under ``name``."""
    beside = [item for item in items if item["part"] == 1]
    batch: dict[str, Any] = collate_images([item for item in items if item["part"] == 0])
    return batch | ({name: collate_images(beside)} if beside else {})
