"""Detection models of torchvision as person detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_reid.arguments import require_count, require_number
from lightning_reid.detection.detections import Detections
from lightning_reid.detection.digests import module_digest


class TorchvisionDetector:
    """Any model of ``torchvision.models.detection``: it takes images in [0, 1] of any sizes and gives boxes, labels and scores.

    It runs where the model is, and puts it into evaluation mode.

    Args:
        model: An instance, with its weights, such as ``fasterrcnn_resnet50_fpn(weights="DEFAULT")``.
        person_label: The label of people; 1 in models trained on COCO.
        min_score: Less sure boxes are left out, in [0, 1].

    Attributes:
        name: See :class:`~lightning_reid.detection.PersonDetector`. Taken when the detector is made: change no weights after.

    Raises:
        ValueError: ``min_score`` is out of range.

    Example:
        >>> import torch
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
        >>> from lightning_reid.detection import TorchvisionDetector
        >>> model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)  # random: take weights="DEFAULT"
        >>> detector = TorchvisionDetector(model, min_score=0.99)
        >>> (found,) = detector([torch.zeros(3, 128, 64, dtype=torch.uint8)])
        >>> found.boxes.shape[1], detector.name.startswith("torchvision")
        (4, True)
    """

    def __init__(self, model: nn.Module, *, person_label: int = 1, min_score: float = 0.5) -> None:
        require_count("person_label", person_label, low=0)
        require_number("min_score", min_score, low=0, high=1)
        self.model, self.person_label, self.min_score = model.eval(), person_label, min_score
        self.name = f"torchvision {type(model).__name__} {module_digest(model)} label={person_label} score>={min_score:g}"

    @torch.inference_mode()
    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        """The people in each of the images ``[3, h, w]`` uint8 RGB."""
        if not images:
            return []
        device = next(self.model.parameters()).device
        outputs = self.model([image.to(device).float() / 255 for image in images])
        return [self._people(output) for output in outputs]

    def _people(self, output: dict[str, Tensor]) -> Detections:
        kept = (output["labels"] == self.person_label) & (output["scores"] >= self.min_score)
        return Detections(output["boxes"][kept].float().cpu(), output["scores"][kept].float().cpu())
