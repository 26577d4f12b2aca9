"""Generated pedestrians: crops a second on one core, files included, and what color histograms score on both presets.

Run ``python benchmarks/generated_pedestrians.py``. The histogram scores say how hard the presets are: they should stay under 40 % mAP.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from lightning_reid.datamodules.catalog import GENERATED
from lightning_reid.datamodules.readers import read_market_folder
from lightning_reid.metrics import retrieval_scores

DESCRIPTORS = {
    "HSV 8x8x4, whole": (1, (8, 8, 4), 0),
    "HSV 8x8x4, 6 stripes": (6, (8, 8, 4), 0),
    "HS 12x6, 6 stripes, center": (6, (12, 6, 1), 12),
}


def color_histogram(path: str, stripes: int, bins: tuple[int, int, int], margin: int) -> np.ndarray:
    image = cv2.imread(path)
    hsv = cv2.cvtColor(image[:, margin : image.shape[1] - margin], cv2.COLOR_BGR2HSV)
    parts = [cv2.calcHist([part], [0, 1, 2], None, list(bins), [0, 180, 0, 256, 0, 256]) for part in np.array_split(hsv, stripes)]
    return np.sqrt(np.concatenate([part.ravel() for part in parts]))


def main() -> None:
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for preset, people in GENERATED.items():
        with tempfile.TemporaryDirectory() as folder:
            start, cpu_start = time.perf_counter(), time.process_time()
            root = people.write(Path(folder) / preset, progress=False)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            data = read_market_folder(root, preset)
            count = sum(len(records) for _, records in data.splits())
            speed = f"{count / seconds:.0f} a second, {count / cpu_seconds:.0f} a CPU second"
            print(f"{preset}: {count} crops on one core, JPEG and files included: {speed}")
            for name, descriptor in DESCRIPTORS.items():
                columns = []
                for records in (data.query, data.gallery):
                    columns.append(torch.from_numpy(np.stack([color_histogram(record.path, *descriptor) for record in records])))
                pids = [torch.tensor([record.pid for record in records]) for records in (data.query, data.gallery)]
                camids = [torch.tensor([record.camid for record in records]) for records in (data.query, data.gallery)]
                scores = retrieval_scores(*columns, *pids, *camids)
                print(f"  {name}: mAP {100 * scores.mAP:.1f} %, R1 {100 * scores.cmc[0]:.1f} %")


if __name__ == "__main__":
    main()
