"""Finding people in images: what a detector must say, and adapters for torchvision's models, ONNX files and OpenCV's people detector."""

from lightning_reid.detection.detections import Detections, PersonDetector
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
