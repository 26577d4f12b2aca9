"""Generated tracklets: seconds to write both presets, how noisy their boxes are, and what color histograms score on them.

Run ``python benchmarks/generated_tracklets.py [--sheet FOLDER]``; the sheets show tracklets row by row, with the boxes of the labeled
person in green and of others in red.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.generated.boxes_table import read_boxes
from lightning_reid.datamodules.readers.mars import read_mars_folder
from lightning_reid.metrics import retrieval_scores
from lightning_reid.records import TrackletDataset, TrackletRecord

DESCRIPTORS = {"HSV 8x8x4, whole": (1, (8, 8, 4)), "HSV 8x8x4, 6 stripes": (6, (8, 8, 4))}
ROWS, COLUMNS = 20, 16


def color_histogram(tracklet: TrackletRecord, stripes: int, bins: tuple[int, int, int]) -> np.ndarray:
    """Square roots of the mean over the frames: the dot product of two is the Bhattacharyya coefficient."""
    total = np.zeros(stripes * int(np.prod(bins)))
    for path in tracklet.paths:
        hsv = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2HSV)
        parts = [cv2.calcHist([part], [0, 1, 2], None, list(bins), [0, 180, 0, 256, 0, 256]) for part in np.array_split(hsv, stripes)]
        total += np.concatenate([part.ravel() for part in parts])
    return np.sqrt(total / np.linalg.norm(total, 1))


def box_figures(root: Path, height: int, width: int) -> dict[str, float]:
    """How far from a faultless box the boxes are; shares of all frames of identified people unless named otherwise."""
    frames = [frame for frame in read_boxes(root).values() if frame.image[:4] not in ("0000", "00-1")]
    people = [frame.boxes[frame.roles.index("person")] for frame in frames if "person" in frame.roles]
    boxes = np.array(people)
    across = (boxes[:, 0] + boxes[:, 2]) / 2 / width - 0.5
    tall = (boxes[:, 3] - boxes[:, 1]) / height
    shared: dict[str, list[bool]] = {}
    for frame in frames:
        shared.setdefault(frame.image.split("F")[0], []).append("other" in frame.roles)
    return {
        "labeled person not visible": 1 - len(people) / len(frames),
        "center off by over 0.15 of the width": float((np.abs(across) > 0.15).mean()),
        "center off by over 0.30 of the width": float((np.abs(across) > 0.30).mean()),
        "median height of the visible part": float(np.median(tall)),
        "height below 0.75": float((tall < 0.75).mean()),
        "cut at head or feet": float(((boxes[:, 1] <= 0) | (boxes[:, 3] >= height)).mean()),
        "cut by the left or right edge": float(((boxes[:, 0] <= 0) | (boxes[:, 2] >= width)).mean()),
        "a second person visible": float(np.mean([other for others in shared.values() for other in others])),
        "tracklets with a second person": float(np.mean([any(others) for others in shared.values()])),
    }


def histogram_scores(data: TrackletDataset, stripes: int, bins: tuple[int, int, int]) -> tuple[float, float]:
    """Scores mAP and R1 under the protocol of MARS."""
    rows = [[color_histogram(tracklet, stripes, bins) for tracklet in part] for part in (data.query, data.gallery)]
    embeddings = [torch.from_numpy(np.stack(part)) for part in rows]
    pids = [torch.tensor([tracklet.pid for tracklet in part]) for part in (data.query, data.gallery)]
    camids = [torch.tensor([tracklet.camid for tracklet in part]) for part in (data.query, data.gallery)]
    scores = retrieval_scores(*embeddings, *pids, *camids, protocol="mars")
    return float(scores.mAP), float(scores.cmc[0])


def contact_sheet(root: Path, tracklets: list[TrackletRecord]) -> np.ndarray:
    """BGR picture with a row for each tracklet and its first 16 frames."""
    boxes = {frame.image: frame for frame in read_boxes(root).values()}
    rows = []
    for tracklet in tracklets:
        cells = []
        for path in tracklet.paths[:COLUMNS]:
            image, frame = cv2.imread(path), boxes[Path(path).name]
            for (x0, y0, x1, y1), role in zip(frame.boxes, frame.roles):
                color = (0, 200, 0) if role == "person" else (0, 0, 255)
                cv2.rectangle(image, (round(x0), round(y0)), (round(x1) - 1, round(y1) - 1), color)
            cells.append(cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT))
        cells += [np.zeros_like(cells[0])] * (COLUMNS - len(cells))
        rows.append(np.hstack(cells))
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    sheet = parser.parse_args().sheet
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for preset in ("mars-like", "dukev-like"):
        tracklets = GeneratedTracklets(preset)
        with tempfile.TemporaryDirectory() as folder:
            start, cpu_start = time.perf_counter(), time.process_time()
            root = tracklets.write(Path(folder) / preset, progress=False)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            data = read_mars_folder(root, preset)
            count = sum(len(tracklet.paths) for part in (data.train, data.gallery) for tracklet in part)
            print(f"{preset}: {count} frames of {len(data.train)} + {len(data.gallery)} tracklets in {seconds:.0f} s", end="")
            print(f" ({count / cpu_seconds:.0f} a CPU second, JPEG, files and boxes included)")
            for name, figure in box_figures(root, tracklets.height, tracklets.width).items():
                print(f"  {name}: {figure:.3g}")
            for name, descriptor in DESCRIPTORS.items():
                mean_ap, first = histogram_scores(data, *descriptor)
                print(f"  {name}: mAP {100 * mean_ap:.1f} %, R1 {100 * first:.1f} %")
            if sheet is not None:
                step = len(data.train) // ROWS
                cv2.imwrite(str(sheet / f"tracklets-{preset}.png"), contact_sheet(root, list(data.train[::step])[:ROWS]))
                nobodys = [tracklet for tracklet in data.gallery if tracklet.pid <= 0][::3][:ROWS]
                if nobodys:
                    cv2.imwrite(str(sheet / f"tracklets-{preset}-distractors.png"), contact_sheet(root, nobodys))


if __name__ == "__main__":
    main()
