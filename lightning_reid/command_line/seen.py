"""What a path holds, as far as names and lists tell: who is seen where, in which split. No image is opened and nothing is changed."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_reid.blocks.index import INDEX as PACKED_INDEX
from lightning_reid.blocks.index_file import parse_index
from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.video_facts import video_facts
from lightning_reid.datamodules.readers.by_name import FOLDERS, VIDEO_FOLDERS, read_dataset, read_video_dataset
from lightning_reid.datamodules.readers.image_files import image_files
from lightning_reid.datamodules.readers.market_naming import (
    CUHK03_NP,
    DUKE,
    MARKET1501,
    MARKET_FOLDERS,
    is_market_part,
    read_market_folder,
    read_market_part,
)
from lightning_reid.datamodules.readers.mars import FOLDERS as FOLDERS_OF_MARS
from lightning_reid.datamodules.readers.mars import MARS, read_mars_folder
from lightning_reid.datamodules.readers.name_guess import guess_names, read_names
from lightning_reid.datamodules.readers.name_pattern import NamePattern
from lightning_reid.datamodules.readers.official_counts import differences
from lightning_reid.datamodules.readers.own_ids import own_ids
from lightning_reid.datamodules.readers.table import REQUIRED_COLUMNS, read_table, table_rows
from lightning_reid.datamodules.readers.tracklet_table import read_tracklet_table
from lightning_reid.records import ReIDDataset, Splits, TrackletDataset, TrackletRecord
from lightning_reid.regular_files import read_regular

NOT_NAMED = "a folder of images of whom names do not tell for sure who they are"
ALL = "all"
"""The split of images that are in none."""
NOBODY = ("0", "-1")
"""Distractors and junk."""
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
WEIGHTS = (".ckpt", ".pth", ".pt", ".tar", ".safetensors", ".onnx")
TABLES = (".csv", ".tsv", ".parquet", ".pq")
OTHER_TABLES = (".xlsx", ".xls", ".ods", ".json", ".jsonl")
MARKET_PART = "a part of a folder in the Market naming"
VIDEO, NO_VIDEO, NETWORK_FILE, NETWORK = "a video", "a video that cannot be read", "weights of a network", "a folder of a network"
RUN, INDEX, SEQUENCE = "a run of a recipe", "an index of pictures", "a sequence of MOTChallenge"
PACKED_IMAGES, PACKED_TRACKLETS = "a packed data set, blocks of images", "a packed data set, blocks of tracklets"
OTHER_TABLE = "a table of a kind that is not read: save it as UTF-8 (in Excel: 'CSV UTF-8')"


@dataclass(frozen=True)
class Seen:
    """An image, and who is seen in it where, as it is named.

    Attributes:
        path: Of the file.
        split: ``"train"``, ``"val"``, ``"query"``, ``"gallery"`` or ``ALL``.
        person: ``None`` of somebody who is not named; ``NOBODY``: distractors and junk.
        camera: ``None`` where it is not told.
    """

    path: str
    split: str = ALL
    person: str | None = None
    camera: str | None = None


def is_somebody(one: Seen) -> bool:
    """Whether a person is named who is neither a distractor nor junk."""
    return one.person is not None and one.person not in NOBODY


@dataclass
class Found:
    """What a path is.

    Attributes:
        kind: In words.
        images: That it lists.
        tracklets: How many they are of, where they are of some.
        pattern: What their names seem to say, where that is a guess.
        official: Name of the official set whose figures agree.
        told: What should be known, of what was passed over say.
        weights: Checkpoints in it.
        video: Its size, frames and frames a second, where it is one.
        options: By which a recipe is told of it; ``None`` where it has to be made into a data set first, or be renamed.
    """

    kind: str
    images: list[Seen] = field(default_factory=list)
    tracklets: int = 0
    pattern: NamePattern | None = None
    official: str | None = None
    told: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    video: dict[str, Any] | None = None
    options: tuple[str, ...] | None = None


def look_at(path: Path) -> Found:
    """Tell what a path is.

    Raises:
        FileNotFoundError: There is nothing.
        OSError: It may not be read.
        ValueError: It is a data set of a known kind that cannot be read as one; the message says why.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}")
    with listening() as told:
        found = _file(path) if not path.is_dir() else _folder(path)
    found.told += told
    return found


def _file(path: Path) -> Found:
    suffix = path.suffix.lower()
    if suffix in TABLES:
        tracklets = "tracklet" in {name for _, row in table_rows(path, "tracklet", required=REQUIRED_COLUMNS[:1]) for name in row}
        if tracklets:
            return _found("a table of tracklets", read_tracklet_table(path, needs_train=False, needs_test=False), path)
        return _found("a table of images", read_table(path, needs_train=False, needs_test=False, unlabeled=True), path)
    if suffix in VIDEOS:
        video = video_facts(path)
        return Found(NO_VIDEO if video is None else VIDEO, video=video)
    kinds = {WEIGHTS: NETWORK_FILE, OTHER_TABLES: OTHER_TABLE}
    return Found(next((kind for suffixes, kind in kinds.items() if suffix in suffixes), "no data: expected a folder, a table or a video"))


def _packed(path: Path) -> Found:
    index = parse_index(read_regular(path / PACKED_INDEX), str(path / PACKED_INDEX))
    size = sum(block.size for block in index.blocks) / 1e6
    splits = ", ".join(f"{name} {len(rows):,}" for name, rows in index.splits.items() if len(rows))
    told = [
        f"{index.name}: {index.num_frames:,} frames of {index.num_tracklets:,} tracklets in {len(index.blocks):,} blocks, {size:,.1f} MB",
        f"records: {splits}",
        *index.notes,
    ]
    return Found(PACKED_IMAGES if index.kind == "images" else PACKED_TRACKLETS, told=told)


def _folder(path: Path) -> Found:
    if (path / PACKED_INDEX).is_file():
        return _packed(path)
    if (path / "config.json").is_file() and (path / "model.safetensors").is_file():
        return Found(NETWORK)
    if any((path / name).is_file() for name in ("run.json", "results.json")):
        return Found(RUN, weights=sorted(map(str, path.rglob("last.ckpt"))))
    if any(path.glob("embeddings*.f16")):
        return Found(INDEX)
    if any((path / name).exists() for name in ("seqinfo.ini", "img1")):
        return Found(SEQUENCE)
    tracklets = all((path / name).is_dir() for name in (*FOLDERS_OF_MARS, "info"))
    if any((path / name).is_dir() for name in (MARKET_FOLDERS[0], MARKET_FOLDERS[-1])):
        found = _market(path)
        found.told += ["beside it there are tracklets in the MARS layout, for lightning-reid train video"] if tracklets else []
        return found
    if tracklets:
        walks = read_mars_folder(path, needs_test=False)
        found = _found("tracklets in the MARS layout", walks, path)
        found.official = None if differences(walks, MARS) else "mars"
        return found
    if is_market_part(path):
        found = _found(MARKET_PART, read_market_part(path), path)
        found.options = None
        found.told.append(f"give its parent folder {parent_of(path)} for all of it")
        return found
    why: list[str] = []
    found = _official(path, why) or _own_names(path)
    found.told += why
    return found


def parent_of(part: Path) -> Path:
    """The folder that a part of a folder in the Market naming lies in, as short as it can be told."""
    return part.parent if part.name in MARKET_FOLDERS else part.resolve().parent


def _official(path: Path, why: list[str]) -> Found | None:
    """Of an official layout, if the folder bears its name or the figures agree: others may look alike.

    Args:
        path: Of the folder.
        why: Takes why it cannot be read as the set whose name it bears.
    """
    for name, read in _officials():
        folder = (FOLDERS | VIDEO_FOLDERS)[name]
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                dataset = read(name, path)
        except (OSError, ValueError, ImportError) as error:  # of another layout, unless the name says that it is meant
            why += [f"it is not read as {name}: {error}"] if path.resolve().name == folder else []
            continue
        if caught and path.resolve().name != folder:
            continue
        found = _found(f"the layout of {name}", dataset, path)
        found.official = None if caught else name
        found.told += [str(one.message) for one in caught]
        root = path if (path / folder).is_dir() else path.resolve().parent if path.resolve().name == folder else None
        found.options = None if root is None else ("--data.dataset", name, "--data.root", str(root))
        if root is None:
            found.told.append(f"recipes look for {name} in a folder {folder}: rename this one, or make a link to it")
        return found
    return None


def _officials() -> list[tuple[Any, Callable[[Any, Path], ReIDDataset | TrackletDataset]]]:
    images = ("veri776", "msmt17-v2", "msmt17-v1", "cuhk01", "viper", "grid", "3dpes", "cub200", "prid2011", "ilids")
    return [
        *((f"cuhk03-np-{boxes}", read_dataset) for boxes in CUHK03_NP),
        *((name, read_dataset) for name in images),
        *((name, read_video_dataset) for name in ("dukemtmc-video", "ilids-vid", "prid2011-video")),
    ]


def _market(path: Path) -> Found:
    dataset = read_market_folder(path, needs_train=False, needs_test=False)
    found = _found("a folder in the Market naming", dataset, path)
    counts = {"market1501": differences(dataset, MARKET1501), "dukemtmc-reid": differences(dataset, DUKE)}
    found.official = next((name for name, differing in counts.items() if not differing), None)
    if found.official is None:
        nearest = min(counts, key=lambda name: len(counts[name]))
        if len(counts[nearest]) <= 2:
            found.told.append(f"nearly {nearest}, but {'; '.join(counts[nearest])}")
    return found


def _own_names(path: Path) -> Found:
    names = image_files(path)
    if not names:
        return Found("a folder without images")
    guess = guess_names(names)
    if guess.pattern is None:
        found = Found(NOT_NAMED, [Seen(str(path / name)) for name in names])
        fitting = "".join(f", --pattern {shlex.quote(one.text)}" for one in guess.candidates)
        told = f"of names like {', '.join(names[:3])} {guess.why}: where you know who is seen, say so to lightning-reid convert"
        found.told.append(told + (fitting and f"; {'one of these fits' if len(guess.candidates) == 1 else 'these fit'}{fitting}"))
        return found
    found = Found(f"a folder of images that seem to be named {guess.pattern.text}", pattern=guess.pattern)
    named = read_names(guess.pattern, names, str(path))
    people = [one.person or "" for one in named]
    try:
        people = own_ids("person", people)
    except ValueError as error:  # who converts them refuses them with the same words
        found.told.append(str(error))
    listed = zip(names, named, people, strict=True)
    found.images = [Seen(str(path / name), one.split or ALL, person, one.camera) for name, one, person in listed]
    return found


def _found(kind: str, dataset: Splits[Any], path: Path) -> Found:
    found = Found(kind, told=list(dataset.notes), options=("--data.dataset", f"{path}/" if path.is_dir() else str(path)))
    for split, records in dataset.splits():
        for record in records:
            paths: Sequence[str] = record.paths if isinstance(record, TrackletRecord) else (record.path,)
            found.images += [Seen(path, split, str(record.pid), str(record.camid)) for path in paths]
            found.tracklets += isinstance(record, TrackletRecord)
    return found
