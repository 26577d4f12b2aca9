"""A stand-in for a person detector in a generated world: nearly all of the people, nearly where they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_reid.arguments import require_number, require_seed
from lightning_reid.datamodules.camera_truth import CameraTruth
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.world import GeneratedWorld
from lightning_reid.datamodules.generated.world_camera import CODE
from lightning_reid.detection import Detections

HIDDEN, CLEAR = 0.15, 0.5
"""Visible share up to which nobody is found, and that from which people are found as surely as if nothing hid them."""
LEAST_SCORE = 0.1
"""Of a box that is given."""


@dataclass(frozen=True)
class WorldDetector:
    """Finds people in the pictures of a generated world as a detector would, without looking at them.

    Who is hidden by others, or half out of the picture, gets a lower score and a less exact box, and is found less often. What it says
    of a picture depends on the arguments, the camera and the number alone.

    Attributes:
        world: Whose truth it distorts.
        jitter: Standard deviation of the four sides in widths and heights of the box, 0 to 0.3; up to twice that for who is hidden.
        miss: Probability that somebody in full view is not found, 0 to below 1.
        false_alarms: Mean number of boxes in a picture around nobody, 0 to 10; their scores are low.
        seed: At least 0.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
        >>> world = GeneratedWorld(seed=0, num_cameras=2, num_people=8, seconds=20, image_size=(144, 192), encounters=1, crossings=1)
        >>> found = WorldDetector(world)(camid=1, number=100)
        >>> found.boxes.shape[1], bool((found.scores >= 0.1).all())
        (4, True)
    """

    world: GeneratedWorld
    jitter: float = 0.03
    miss: float = 0.05
    false_alarms: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("jitter", self.jitter, low=0, high=0.3)
        require_number("miss", self.miss, low=0, below=1)
        require_number("false_alarms", self.false_alarms, low=0, high=10)
        require_seed("seed", self.seed)

    def __call__(self, camid: int, number: int) -> Detections:
        """Find the people in one picture of a camera.

        Args:
            camid: Camera, from 1.
            number: Of the frame, from 0.

        Returns:
            ``boxes [K, 4]`` float32, x0, y0, x1, y1 in pixels inside the picture; ``scores [K]`` float32 in [0.1, 1), the best first: above
            0.6 for who is in full view, below 0.4 for who is hidden or nobody.

        Raises:
            ValueError: There is no such camera or frame.
        """
        truth = self.world.truth(camid, number)
        rng = stream(self.world.seed, CODE, Stream.DETECTION, self.seed, camid, number)
        boxes, scores = self._find(rng, truth)
        ghosts, doubts = self._imagine(rng)
        height, width = self.world.image_size
        boxes, scores = np.concatenate((boxes, ghosts)), np.concatenate((scores, doubts))
        boxes = np.clip(boxes, 0.0, (width, height, width, height))
        best = np.argsort(-scores, kind="stable")
        return Detections(torch.from_numpy(boxes[best].astype(np.float32)), torch.from_numpy(scores[best].astype(np.float32)))

    def _find(self, rng: np.random.Generator, truth: CameraTruth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        count, sizes = len(truth.pids), np.tile(truth.boxes[:, 2:] - truth.boxes[:, :2], 2)
        clear = np.clip((truth.visible - HIDDEN) / (CLEAR - HIDDEN), 0.0, 1.0)
        found = rng.random(count) < (1.0 - self.miss) * clear
        # beyond half a width, sides would change places
        shifts = np.clip(rng.normal(0.0, self.jitter, (count, 4)) * (2.0 - clear[:, None]), -0.4, 0.4)
        scores = LEAST_SCORE + (rng.uniform(0.6, 0.98, count) - LEAST_SCORE) * np.clip(truth.visible, 0.0, 1.0) ** 1.5
        return (truth.boxes + shifts * sizes)[found], scores[found]

    def _imagine(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        height, width = self.world.image_size
        count = int(rng.poisson(self.false_alarms))
        tall = rng.uniform(0.15, 0.4, count) * height
        x, y = rng.uniform(0.1, 0.9, count) * width, rng.uniform(0.3, 0.9, count) * height
        return np.stack((x - 0.2 * tall, y - tall, x + 0.2 * tall, y), axis=1), rng.uniform(LEAST_SCORE, 0.4, count)
