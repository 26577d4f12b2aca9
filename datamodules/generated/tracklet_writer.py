"""Write generated tracklets in the layout of MARS, with a table of where people can be seen in the frames."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from lightning_reid.datamodules.generated.boxes_table import BOXES, COLUMNS, NOBODY, pixel_digest
from lightning_reid.datamodules.generated.tracklet_frame import Seen
from lightning_reid.datamodules.generated.tracklet_itinerary import TEST, TRAIN, Tracklet
from lightning_reid.datamodules.mot.writing import write_matrix

TOLD = "generated tracklets"
Encode = Callable[[int, int, int, int], tuple[bytes, tuple[Seen, ...]]]
"""JPEG bytes and visible people of (pid, camid, number of the tracklet, frame from 0)."""


def write_tracklets(root: Path, tracklets: Iterable[Tracklet], encode: Encode) -> None:
    """Write frames, ``info`` and ``boxes.csv`` into the empty folder ``root``."""
    written: dict[str, list[Tracklet]] = {TRAIN: [], TEST: []}
    with (root / BOXES).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for tracklet in tracklets:
            folder = root / tracklet.folder / tracklet.label
            folder.mkdir(parents=True, exist_ok=True)
            for frame, name in enumerate(tracklet.names()):
                picture, people = encode(tracklet.pid, tracklet.camid, tracklet.number, frame)
                (folder / name).write_bytes(picture)
                table.writerows(_box_rows(name, picture, people))
            written[tracklet.folder].append(tracklet)
    _write_info(root / "info", written[TRAIN], written[TEST])


def _box_rows(name: str, picture: bytes, people: tuple[Seen, ...]) -> list[list[str]]:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR_RGB)
    digest = pixel_digest(np.asarray(pixels, np.uint8))
    rows = [[name, *(f"{side:g}" for side in seen.box), seen.role, digest] for seen in people]
    return rows or [[name, "", "", "", "", NOBODY, digest]]


def _write_info(folder: Path, train: list[Tracklet], test: list[Tracklet]) -> None:
    """The lists of MARS's evaluation code; rows and queries count from 1."""
    folder.mkdir()
    for split, tracklets in (("train", train), ("test", test)):
        names = [name for tracklet in tracklets for name in tracklet.names()]
        (folder / f"{split}_name.txt").write_text("".join(f"{name}\n" for name in names))
        last = np.cumsum([tracklet.num_frames for tracklet in tracklets])
        rows = [(end - one.num_frames + 1, end, one.pid, one.camid) for one, end in zip(tracklets, last)]
        write_matrix(folder / f"tracks_{split}_info.mat", f"track_{split}_info", np.array(rows, np.int32), told=TOLD)
    queries = [[row for row, tracklet in enumerate(test, start=1) if tracklet.is_query]]
    write_matrix(folder / "query_IDX.mat", "query_IDX", np.array(queries, np.int32), told=TOLD)
