"""Clips: the drawn frames of a tracklet at one size, and the data sets of clips that loaders iterate over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from lightning_reid.datamodules.clip_sampling import (
    FrameIndices,
    all_clips_frames,
    evenly_spaced_frames,
    rrs_test_frames,
    rrs_train_frames,
)
from lightning_reid.datamodules.generated.people_address import of_epoch
from lightning_reid.datamodules.images import Draw, ResizedCrops
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.transforms import erase_rectangle, resized, seeded
from lightning_reid.packed_tracklets import PackedTracklet
from lightning_reid.records import DRAWN, Paths, TrackletRecord

ClipChoice = Literal["rrs", "all", "even"]
"""Clips of a test tracklet: the first frame of each chunk; as many as cover every frame; T frames at equal distances."""


class Frames(NamedTuple):
    """Frames of one tracklet, and which of their pixels are picture.

    Attributes:
        pixels: ``[F, 3, H, W]`` uint8 RGB.
        pictures: ``[F, 4]`` int32 ``x0, y0, x1, y1``, ends excluded: the pixels that are no padding.
    """

    pixels: Tensor
    pictures: Tensor


def chosen_frames(num_frames: int, clip_length: int, clips: ClipChoice) -> FrameIndices:
    """``[n, T]`` int64 frames of the n clips that stand for a tracklet when it is tested."""
    match clips:
        case "rrs":
            return rrs_test_frames(num_frames, clip_length)[np.newaxis]
        case "even":
            return evenly_spaced_frames(num_frames, clip_length)[np.newaxis]
        case "all":
            return all_clips_frames(num_frames, clip_length)


class FrameReader:
    """Reads frames of tracklets at one size, from packed tracklets where there are such, otherwise from the image files.

    Args:
        image_size: (height, width) in pixels.
        packed: Packed tracklets by the ``paths`` of their records; ``None`` for none.
        padded: Whether frames may hold padding, so that their picture boxes are worth sending along.
        load: Path of an image file to ``[3, h, w]`` uint8.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        packed: Mapping[Paths, Path] | None = None,
        *,
        padded: bool = False,
        load: Callable[[str], Tensor] = load_image,
    ) -> None:
        self.image_size, self.packed, self.padded, self.load = image_size, packed or {}, padded, load

    def __call__(self, record: TrackletRecord, indices: FrameIndices) -> Frames:
        """Read frames ``indices [T]``, each distinct one once.

        Raises:
            CorruptImageError: An image does not decode; the message names it.
            ValueError: The packed tracklet is of another size or length; the message names it.
        """
        if record.paths in self.packed:
            return self._packed_frames(record, indices)
        distinct, places = np.unique(indices, return_inverse=True)
        paths = [record.paths[index] for index in distinct.tolist()]
        if isinstance(self.load, ResizedCrops):
            self.load.fetch(paths)
        pixels = torch.stack([resized(self.load(path), *self.image_size) for path in paths])
        if not np.array_equal(distinct, indices):
            pixels = pixels[torch.from_numpy(places)]
        height, width = self.image_size
        return Frames(pixels, torch.tensor([0, 0, width, height], dtype=torch.int32).repeat(len(indices), 1))

    def _packed_frames(self, record: TrackletRecord, indices: FrameIndices) -> Frames:
        packed = PackedTracklet(self.packed[record.paths])
        if packed.image_size != self.image_size or packed.num_frames != len(record.paths):
            raise ValueError(
                f"{packed.path} holds {packed.num_frames} frames of {packed.image_size}, expected {len(record.paths)} frames of "
                f"{self.image_size} for the tracklet that begins with {record.paths[0]}: the cache was made with other settings. Make it "
                "again in a folder of its own, or take those settings"
            )
        return Frames(*packed.read(indices.tolist()))


class TrainClips(Dataset[dict[str, Tensor]]):
    """Clips by restricted random sampling, augmented, addressed by :class:`~lightning_reid.datamodules.images.Draw`.

    An item is ``{"clips": [T, 3, H, W] uint8, "pid", "camid", "index"}``, with ``"pictures": [T, 4] int32`` where the reader's frames are
    padded. The whole clip is mirrored or none of it; whether and where a rectangle is erased is drawn for each frame by itself, as in the
    released code of CF-AAN. Frames and augmentation depend on (seed, the draw's epoch and position) alone, so a resumed run sees the same
    pixels.

    Args:
        records: Training tracklets.
        reader: Gives their frames.
        clip_length: T.
        erasing_probability: Chance of erasing a rectangle of a frame, in [0, 1].
        seed: Of the run.
    """

    def __init__(
        self,
        records: Sequence[TrackletRecord],
        reader: FrameReader,
        *,
        clip_length: int,
        erasing_probability: float,
        seed: int,
    ) -> None:
        self.records, self.reader = records, reader
        self.clip_length, self.erasing_probability, self.seed = clip_length, erasing_probability, seed

    def __len__(self) -> int:
        return len(self.records)

    def fetch(self, batch: Sequence[Draw]) -> None:
        """Have the frames of a batch read together, those that ``__getitem__`` draws."""
        if isinstance(self.reader.load, ResizedCrops) and self.reader.load.pictures is not None and not self.reader.packed:
            drawn = ((self.records[draw.row].paths, np.random.default_rng((self.seed, draw.epoch, draw.position))) for draw in batch)
            indices = ((paths, rrs_train_frames(len(paths), self.clip_length, generator)) for paths, generator in drawn)
            self.reader.load.fetch(paths[index] for paths, some in indices for index in np.unique(some).tolist())

    @override
    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        record, key = self.records[draw.row], (self.seed, draw.epoch, draw.position)
        generator = np.random.default_rng(key)
        clip = self.reader(_of_epoch(record, draw.epoch), rrs_train_frames(len(record.paths), self.clip_length, generator))
        if generator.random() < 0.5:
            clip = mirrored(clip)
        if self.erasing_probability > 0:
            with seeded(*key):
                _erase_rectangles(clip.pixels, self.erasing_probability)
        numbers = {"pid": draw.label, "camid": record.camid, "index": draw.row}
        return _pixels_and_pictures(clip, self.reader) | {name: torch.tensor(value) for name, value in numbers.items()}


class EvaluationClips(Dataset[dict[str, Tensor]]):
    """The clips that stand for a tracklet when it is tested, addressed by its row.

    An item is ``{"clips": [n, T, 3, H, W] uint8, "pid", "camid", "index", "is_query", "second_pid"}``, with ``"pictures": [n, T, 4]
    int32`` where the reader's frames are padded; ``index`` counts queries and gallery apart.

    Args:
        query: Queries.
        gallery: Gallery, which may hold the queries again.
        reader: Gives their frames.
        clip_length: T.
        clips: Which frames.
    """

    def __init__(
        self,
        query: Sequence[TrackletRecord],
        gallery: Sequence[TrackletRecord],
        reader: FrameReader,
        *,
        clip_length: int,
        clips: ClipChoice,
    ) -> None:
        self.records, self.num_query, self.reader = (*query, *gallery), len(query), reader
        self.clip_length, self.clips = clip_length, clips

    def __len__(self) -> int:
        return len(self.records)

    def num_clips(self) -> list[int]:
        """How many clips each tracklet has, in the order of ``records``."""
        return [len(chosen_frames(len(record.paths), self.clip_length, self.clips)) for record in self.records]

    @override
    def __getitem__(self, row: int) -> dict[str, Tensor]:
        record, is_query = self.records[row], row < self.num_query
        indices = chosen_frames(len(record.paths), self.clip_length, self.clips)
        frames = self.reader(record, indices.ravel())
        tensors = _pixels_and_pictures(frames, self.reader)
        numbers = {
            "pid": record.pid,
            "camid": record.camid,
            "index": row if is_query else row - self.num_query,
            "is_query": is_query,
            "second_pid": record.second_pid,
        }
        return {name: rows.unflatten(0, indices.shape) for name, rows in tensors.items()} | {
            name: torch.tensor(value) for name, value in numbers.items()
        }


def _of_epoch(record: TrackletRecord, epoch: int) -> TrackletRecord:
    """The tracklet that a record stands for in an epoch: generated people walk anew in each."""
    if not record.paths or not record.paths[0].startswith(DRAWN):
        return record
    return replace(record, paths=tuple(of_epoch(path, epoch) for path in record.paths))


_CLIPS = ("clips", "pictures")
_NUMBERS = {"pid": "pids", "camid": "camids", "index": "indices", "is_query": "is_query", "second_pid": "second_pids"}


def collate_train_clips(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack items into ``clips [B, T, 3, H, W]`` uint8, ``pids``, ``camids``, ``indices`` ``[B]``, and ``pictures [B, T, 4]`` if given."""
    plurals = {name: name for name in _CLIPS} | _NUMBERS
    return {plural: torch.stack([item[name] for item in items]) for name, plural in plurals.items() if name in items[0]}


def collate_evaluation_clips(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join the clips of B tracklets, one tracklet after another, into ``clips [N, T, 3, H, W]`` uint8.

    Further ``num_clips [B]`` int64, N in sum; ``pids``, ``camids``, ``indices``, ``is_query``, ``second_pids`` ``[B]``; and
    ``pictures [N, T, 4]`` int32 if given.
    """
    batch = {name: torch.cat([item[name] for item in items]) for name in _CLIPS if name in items[0]}
    batch["num_clips"] = torch.tensor([len(item["clips"]) for item in items])
    return batch | {plural: torch.stack([item[name] for item in items]) for name, plural in _NUMBERS.items()}


def mirrored(clip: Frames) -> Frames:
    """The clip seen in a mirror, all frames and their picture boxes."""
    width = clip.pixels.shape[-1]
    x0, y0, x1, y1 = clip.pictures.unbind(-1)
    return Frames(clip.pixels.flip(-1), torch.stack([width - x1, y0, width - x0, y1], dim=-1))


def _erase_rectangles(frames: Tensor, probability: float) -> None:
    for frame, chance in zip(frames, torch.rand(len(frames)).tolist(), strict=True):
        if chance < probability:
            erase_rectangle(frame)


def _pixels_and_pictures(frames: Frames, reader: FrameReader) -> dict[str, Tensor]:
    return {"clips": frames.pixels, "pictures": frames.pictures} if reader.padded else {"clips": frames.pixels}
