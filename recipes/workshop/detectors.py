"""Person detectors by the options of a command line."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace

from lightning_reid.detection import OnnxDetector, PersonDetector, TorchvisionDetector, YoloHead


def onnx_detector(path: str, options: Namespace, num_threads: int | None) -> PersonDetector:
    """The detector of an ONNX file; ``options`` are the parsed arguments of ``OnnxDetector``, errors are its own."""
    plain = options.as_dict()
    head = plain.pop("yolo")
    return OnnxDetector(path, **plain, yolo=None if head is None else YoloHead(**head), num_threads=num_threads)


def torchvision_people(file: str | None, min_score: float) -> TorchvisionDetector:
    """Torchvision's Faster R-CNN (ResNet-50 FPN v2) of COCO.

    Args:
        file: State dict of its weights; ``None`` downloads them.
        min_score: Less sure boxes are left out, in [0, 1].

    Raises:
        OSError: The file cannot be read, or the download fails.
        ValueError: It holds the weights of another network.
    """
    from torchvision.models import detection  # seconds, which other detectors need not wait for

    from lightning_reid.networks.weights import load_all, read_state_dict

    weights: dict[str, Any] = {"weights": "DEFAULT"} if file is None else {"weights": None, "weights_backbone": None}
    try:
        model = detection.fasterrcnn_resnet50_fpn_v2(**weights)
    except OSError as error:
        told = "the weights of torchvision's detector cannot be downloaded: fetch them where there is a network, and give their file"
        raise OSError(f"{told} ({error})") from error
    if file is not None:
        load_all(model, read_state_dict(file), source=f"{file} (for torchvision's fasterrcnn_resnet50_fpn_v2)")
    return TorchvisionDetector(model, min_score=min_score)
