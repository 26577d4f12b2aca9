"""A stand-in for a person detector on generated tracklets, which real detectors, taught on photographs, do not know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid.datamodules.generated.boxes_table import BOXES, pixel_digest, read_boxes
from lightning_reid.datamodules.generated.writer import MANIFEST
from lightning_reid.detection import Detections
from lightning_reid.detection.digests import file_digest


class GeneratedBoxDetector:
    """Finds people in the frames of a ``GeneratedTracklets`` folder as a good detector would: nearly all of them, nearly exactly.

    It sees pixels, as a detector does, and looks them up in ``boxes.csv``. It gives everybody who can be seen, best score first, and does
    not tell who the tracklet is labeled with. What it says of a frame depends on the seed and the frame alone.

    Args:
        folder: What ``GeneratedTracklets.write`` wrote.
        jitter: Standard deviation of the four sides, in widths and heights of the box, 0 to 0.3.
        miss: Probability that a person is not found, 0 to below 1.
        seed: At least 0; of jitter, misses and scores.

    Attributes:
        name: Identifies detector, settings and folder, for the keys of caches.

    Raises:
        FileNotFoundError: ``folder`` has no ``boxes.csv`` or no ``generated.json``.
        ValueError: An argument is out of its range.

    Example:
        >>> import torch
        >>> from lightning_reid.datamodules.generated import GeneratedBoxDetector
        >>> from lightning_reid.datamodules.loading import load_image
        >>> from lightning_reid.datamodules.readers import read_mars_folder
        >>> detector = GeneratedBoxDetector(mars, jitter=0.0, miss=0.0)  # mars: what GeneratedTracklets wrote
        >>> (found,) = detector([load_image(read_mars_folder(mars).train[0].paths[0])])
        >>> found.boxes.shape[1], bool((found.scores > 0).all())
        (4, True)
    """

    def __init__(self, folder: str | Path, jitter: float = 0.03, miss: float = 0.05, seed: int = 0) -> None:
        if not 0 <= jitter <= 0.3 or not 0 <= miss < 1 or seed < 0:
            raise ValueError(f"need 0 <= jitter <= 0.3, 0 <= miss < 1 and seed >= 0, got jitter={jitter}, miss={miss}, seed={seed}")
        self.folder, self.jitter, self.miss, self.seed = Path(folder), jitter, miss, seed
        self._frames = read_boxes(folder)
        manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        self._size = (manifest["height"], manifest["width"])
        self.name = f"generated-boxes-{file_digest(self.folder / BOXES)}-jitter{jitter:g}-miss{miss:g}-seed{seed}"

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        """People in each image.

        Args:
            images: ``[3, h, w]`` uint8 RGB each, decoded by OpenCV from the files of the folder, not resized; borders of equal width on
                opposite sides are allowed, as ``detect_in_padded`` adds them.

        Returns:
            For each image ``boxes [K, 4]`` float32 (x0, y0, x1, y1 in pixels, inside the image) and ``scores [K]`` float32 in [0.3, 1).

        Raises:
            ValueError: An image is none of the folder's.
        """
        return [self._detect(number, image) for number, image in enumerate(images)]

    def _detect(self, number: int, image: Tensor) -> Detections:
        height, width = self._size
        top, left = ((side - own) // 2 for side, own in zip(image.shape[1:], self._size))
        frame = image[:, max(top, 0) :, max(left, 0) :][:, :height, :width]
        digest = pixel_digest(frame.permute(1, 2, 0).cpu().numpy())
        if digest not in self._frames:
            raise ValueError(
                f"image {number} of the batch, {tuple(image.shape)}, is no frame of {self.folder}. GeneratedBoxDetector only stands in "
                "for a detector on the generated tracklets of its folder, and knows them as OpenCV decodes them, not resized, "
                "perhaps in a border; on other images use a real detector"
            )
        boxes, scores = self._look_up(digest)
        return Detections(torch.from_numpy(boxes) + torch.tensor([left, top, left, top]), torch.from_numpy(scores))

    def _look_up(self, digest: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes in pixels of the frame and scores, best first."""
        truth = self._frames[digest].boxes
        rng, count = np.random.default_rng((self.seed, int(digest, 16))), len(truth)
        found, scores = rng.random(count) >= self.miss, rng.uniform(0.3, 1.0, count)
        # beyond half a width, sides would change places
        shifts = np.clip(rng.normal(0.0, self.jitter, (count, 4)), -0.4, 0.4)
        boxes = truth + shifts * np.tile(truth[:, 2:] - truth[:, :2], 2)
        boxes = np.clip(boxes, 0.0, np.tile(self._size[::-1], 2))
        order = [row for row in np.argsort(-scores) if found[row]]
        return boxes[order].astype(np.float32), scores[order].astype(np.float32)
