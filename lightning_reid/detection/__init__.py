"""Finding people in images: what a detector must say, and adapters for torchvision's models, ONNX files and OpenCV's people detector.

What needs OpenCV or torchvision is imported on first use: it takes seconds, and whoever is told of detections, a gateway, has none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_reid.detection.detections import Detections, PersonDetector

if TYPE_CHECKING:
    from lightning_reid.detection.onnx_detector import OnnxDetector
    from lightning_reid.detection.opencv_detector import OpenCVPeopleDetector
    from lightning_reid.detection.torchvision_detector import TorchvisionDetector
    from lightning_reid.detection.yolo_head import YoloHead

__all__ = [
    "Detections",
    "OnnxDetector",
    "OpenCVPeopleDetector",
    "PersonDetector",
    "TorchvisionDetector",
    "YoloHead",
]

_HOMES = {
    "OnnxDetector": "onnx_detector",
    "OpenCVPeopleDetector": "opencv_detector",
    "TorchvisionDetector": "torchvision_detector",
    "YoloHead": "yolo_head",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
