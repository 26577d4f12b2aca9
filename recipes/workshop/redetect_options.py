"""Re-detect and link by plain options, as a command line has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning_reid.datamodules.generated.box_detector import GeneratedBoxDetector
from lightning_reid.detection import OnnxDetector, OpenCVPeopleDetector, PersonDetector
from lightning_reid.recipes.workshop.detectors import torchvision_people


@dataclass
class RedetectOptions:
    """How tracklets are re-detected and linked (thesis, section 2.5.1).

    Attributes:
        detector: ``"opencv"`` (histograms of gradients; nothing to download), ``"onnx"`` (``detector_file``, see ``OnnxDetector``),
            ``"torchvision"`` (Faster R-CNN, ResNet-50 FPN v2, of COCO: ``detector_file``, or its weights are downloaded), or
            ``"generated"``, a stand-in that knows where the people of generated tracklets are, to within jitter and misses.
        detector_file: ONNX model, or state dict of the torchvision model.
        min_score: Least score of a detection by ``"onnx"`` and ``"torchvision"``, in [0, 1].
        checkpoint: Network that tells candidates apart: a checkpoint of the video baseline or of an image model. ``None`` trains the
            baseline on the tracklets as they are, first.
        cache: Folder for processed tracklets; ``None`` is ``redetected`` in the output folder.
        every_n_epochs: Link anew after so many epochs, with the network under training; ``None`` links once.
        alpha: Share of the old running embedding (eq. 2.2), in [0, 1].
        padding: Gray border around a frame before detection, as a share of its height.
        encoding: ``"raw"`` pixels in the cache, or ``"jpeg"`` for a tenth of the size.
        batch_size: Frames a call of the detector, and crops a pass of the extractor.
    """

    detector: Literal["opencv", "onnx", "torchvision", "generated"] = "opencv"
    detector_file: str | None = None
    min_score: float = 0.3
    checkpoint: str | None = None
    cache: str | None = None
    every_n_epochs: int | None = None
    alpha: float = 0.9
    padding: float = 0.5
    encoding: Literal["raw", "jpeg"] = "raw"
    batch_size: int = 32

    def build_detector(self, data_folder: Path) -> PersonDetector:
        """The detector; ``data_folder`` is the generated data set's.

        Raises:
            ValueError: ``"onnx"`` without ``detector_file``, or one for a detector that has none.
            FileNotFoundError: ``detector_file`` is not there, or ``data_folder`` was not generated.
        """
        if (self.detector == "onnx") != (self.detector_file is not None) and self.detector != "torchvision":
            wrong = "needs a file" if self.detector == "onnx" else "takes no file"
            raise ValueError(f"the detector {self.detector!r} {wrong}, got detector_file={self.detector_file!r}")
        match self.detector:
            case "opencv":
                return OpenCVPeopleDetector()
            case "onnx":
                assert self.detector_file is not None
                return OnnxDetector(self.detector_file, min_score=self.min_score)
            case "generated":
                return GeneratedBoxDetector(data_folder)
        return torchvision_people(self.detector_file, self.min_score)

    def linking(self) -> dict[str, Any]:
        """What ``RedetectAndLink`` is told of the linking."""
        return {name: getattr(self, name) for name in ("every_n_epochs", "alpha", "padding", "encoding", "batch_size")}
