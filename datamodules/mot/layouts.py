"""File names and lists of a re-identification set in the layouts of Market-1501 and of MARS, planned before any picture is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.mot.crops import Crop, Tracklet
from lightning_reid.datamodules.mot.people import QueryRule, choose_queries
from lightning_reid.records import JUNK_PID


@dataclass(frozen=True)
class SetPlan:
    """Which crop goes to which file.

    Attributes:
        files: Crop to file, relative to the set's folder.
        folders: Made even where nothing goes into them.
        train: Number of training images (MARS: tracklets).
        query: Number of queries.
        gallery: Number of gallery images (tracklets), without the queries.
        lists: Text files, their lines.
        matrices: MATLAB files, the name and value of their one variable.
    """

    files: dict[Crop, str]
    folders: tuple[str, ...]
    train: int
    query: int
    gallery: int
    lists: dict[str, list[str]] = field(default_factory=dict)
    matrices: dict[str, tuple[str, NDArray[np.int32]]] = field(default_factory=dict)


def plan_market(tracklets: Sequence[Tracklet], test_pids: frozenset[int], per_tracklet: int, rule: QueryRule) -> SetPlan:
    """Plan ``bounding_box_train``, ``query`` and ``bounding_box_test`` with names ``0002_c1s1_000451_03.jpg``.

    That is person, zone, sequence (always 1), frame, and the track number in place of Market's box number.

    Args:
        tracklets: Good crops.
        test_pids: People who go to query and gallery.
        per_tracklet: At most that many crops are kept of each, evenly spread.
        rule: How to choose the query of a person in a zone.
    """
    kept = [crop for tracklet in tracklets for crop in evenly_spread(tracklet, per_tracklet)]
    train = [crop for crop in kept if crop.pid not in test_pids]
    test = [crop for crop in kept if crop.pid in test_pids]
    queries = choose_queries([(crop,) for crop in test], rule)
    folders = ("bounding_box_train", "query", "bounding_box_test")
    files = {crop: f"{folders[0]}/{_market_name(crop)}" for crop in train}
    files |= {crop: f"{folders[1] if index in queries else folders[2]}/{_market_name(crop)}" for index, crop in enumerate(test)}
    return SetPlan(files, folders, len(train), len(queries), len(test) - len(queries))


def plan_mars(tracklets: Sequence[Tracklet], test_pids: frozenset[int], per_tracklet: int, rule: QueryRule) -> SetPlan:
    """Plan ``bbox_train``, ``bbox_test`` (names ``0001/0001C1T0001F001.jpg``) and ``info``, whose indices count from 1.

    The test tracklets hold queries and gallery, as in MARS; ``query_IDX`` points at the queries.

    Args:
        tracklets: Good crops.
        test_pids: People who go to the test set.
        per_tracklet: Longer tracklets are cut into equal ones of at most that many frames.
        rule: How to choose the query of a person in a zone.

    Raises:
        ValueError: A number is too long for the positions of a MARS name.
    """
    pieces = sorted(
        (piece for tracklet in tracklets for piece in _equal_pieces(tracklet, per_tracklet)),
        key=lambda piece: (piece[0].pid, piece[0].camid, piece[0].frame),
    )
    train = [piece for piece in pieces if piece[0].pid not in test_pids]
    test = [piece for piece in pieces if piece[0].pid in test_pids]
    queries = choose_queries(test, rule)
    files: dict[Crop, str] = {}
    lists, matrices = {}, {}
    for split, part in (("train", train), ("test", test)):
        names, rows = _mars_names(part)
        files |= {crop: f"bbox_{split}/{name[:4]}/{name}" for name, crop in zip(names, (crop for piece in part for crop in piece))}
        lists[f"info/{split}_name.txt"] = names
        matrices[f"info/tracks_{split}_info.mat"] = (f"track_{split}_info", np.array(rows, dtype=np.int32).reshape(-1, 4))
    matrices["info/query_IDX.mat"] = ("query_IDX", np.array([[index + 1 for index in sorted(queries)]], dtype=np.int32))
    folders = ("bbox_train", "bbox_test", "info")
    return SetPlan(files, folders, len(train), len(queries), len(test) - len(queries), lists, matrices)


def _market_name(crop: Crop) -> str:
    return f"{crop.pid:04d}_c{crop.camid}s1_{crop.frame:06d}_{crop.mot_id:02d}.jpg"


def _mars_names(tracklets: Sequence[Tracklet]) -> tuple[list[str], list[list[int]]]:
    """Names of all crops, and a row (first name, last name, person, camera) for each tracklet, counted from 1."""
    names: list[str] = []
    rows = []
    numbers: Counter[tuple[int, int]] = Counter()
    for tracklet in tracklets:
        pid, camid = tracklet[0].pid, tracklet[0].camid
        numbers[pid, camid] += 1
        many = numbers[pid, camid] > 9999 and pid != JUNK_PID  # whose tracklets are all that a camera has
        if pid > 9999 or camid > 9 or many or len(tracklet) > 999:
            raise ValueError(
                f"person {pid}, camera {camid}, tracklet {numbers[pid, camid]} of {len(tracklet)} frames does not fit into a MARS name, "
                "which has four digits for the person, one for the camera, four for the tracklet and three for the frame"
            )
        rows.append([len(names) + 1, len(names) + len(tracklet), pid, camid])
        person = "00-1" if pid == JUNK_PID else f"{pid:04d}"
        names += [f"{person}C{camid}T{numbers[pid, camid]:04d}F{position:03d}.jpg" for position in range(1, len(tracklet) + 1)]
    return names, rows


def evenly_spread(tracklet: Tracklet, limit: int) -> Tracklet:
    """At most ``limit`` crops of a tracklet, at least 1, evenly spread."""
    if len(tracklet) <= limit:
        return tracklet
    return tuple(tracklet[position] for position in np.linspace(0, len(tracklet) - 1, limit).round().astype(int))


def _equal_pieces(tracklet: Tracklet, limit: int) -> list[Tracklet]:
    bounds = np.linspace(0, len(tracklet), ceil(len(tracklet) / limit) + 1).round().astype(int)
    return [tracklet[start:end] for start, end in pairwise(bounds)]
