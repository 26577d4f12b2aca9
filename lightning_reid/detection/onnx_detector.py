"""Detectors from ONNX files, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_number, require_path, require_text
from lightning_reid.detection.detections import Detections, no_detections
from lightning_reid.detection.digests import file_digest

BoxOrder = Literal["yxyx", "xyxy"]

TENSORFLOW_OUTPUTS = ("detection_boxes:0", "detection_scores:0", "detection_classes:0")
"""What TensorFlow's detection graphs call boxes, scores and classes."""


class OnnxDetector:
    """A graph from uint8 images ``[N, h, w, 3]`` RGB to boxes ``[N, M, 4]`` as fractions of the image, scores and classes ``[N, M]``.

    So do the graphs of TensorFlow's object detection API, to whose names the defaults belong. Images of one size go through together.

    Args:
        path: The ``.onnx`` file.
        input_name: Of the graph's image input.
        output_names: Of the graph's boxes, scores and classes.
        box_order: ``"yxyx"`` for ymin, xmin, ymax, xmax, or ``"xyxy"``.
        person_class: The class of people; 1 in models trained on COCO.
        min_score: Less sure boxes are left out, in (0, 1]; such graphs fill up their M rows with boxes of score 0.
        num_threads: CPU threads of onnxruntime; ``None`` for all cores.

    Attributes:
        name: See :class:`~lightning_reid.detection.PersonDetector`.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: An argument is out of range, or the graph has no input or output of such a name; the message lists what it has.

    Example:
        >>> import torch
        >>> from lightning_reid.detection import OnnxDetector
        >>> detector = OnnxDetector(people_onnx, min_score=0.5)  # people_onnx: one that answers with the middle of any image
        >>> (found,) = detector([torch.zeros(3, 200, 100, dtype=torch.uint8)])
        >>> found.boxes.tolist()  # a person of half the image's width and height
        [[25.0, 50.0, 75.0, 150.0]]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        input_name: str = "image_tensor:0",
        output_names: tuple[str, str, str] = TENSORFLOW_OUTPUTS,
        box_order: BoxOrder = "yxyx",
        person_class: int = 1,
        min_score: float = 0.3,
        num_threads: int | None = None,
    ) -> None:
        require_choice("box_order", box_order, get_args(BoxOrder))
        require_count("person_class", person_class, low=0)
        require_number("min_score", min_score, above=0, high=1)
        require_count("num_threads", num_threads, optional=True)
        require_path("path", path)
        require_text("input_name", input_name)
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no detector at {path}: expected an .onnx file")
        self.input_name, self.output_names, self.box_order = input_name, output_names, box_order
        self.person_class, self.min_score = person_class, min_score
        self._session = _open_session(path, num_threads)
        for kind, wanted, nodes in (
            ("input", (input_name,), self._session.get_inputs()),
            ("output", output_names, self._session.get_outputs()),
        ):
            known = [node.name for node in nodes]
            missing = [name for name in wanted if name not in known]
            if missing:
                raise ValueError(f"{path} has no {kind} {missing[0]!r}: give {kind}_name{'s' * (kind == 'output')} out of {known}")
        settings = f"{input_name} {' '.join(output_names)} {box_order} class={person_class} score>={min_score:g}"
        self.name = f"onnx {Path(path).stem} {file_digest(path)} {settings}"

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        """The people in each of the images ``[3, h, w]`` uint8 RGB."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            by_size.setdefault(tuple(image.shape), []).append(number)
        found = [no_detections()] * len(images)
        for (_, height, width), numbers in by_size.items():
            pixels = torch.stack([images[number] for number in numbers]).permute(0, 2, 3, 1).contiguous().numpy()
            outputs = self._session.run(list(self.output_names), {self.input_name: pixels})
            for number, *output in zip(numbers, *outputs):
                found[number] = self._people(*output, height=height, width=width)
        return found

    def _people(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, *, height: int, width: int) -> Detections:
        kept = (classes == self.person_class) & (scores >= self.min_score)
        in_pixels = torch.from_numpy(boxes[kept]).float()
        if self.box_order == "yxyx":
            in_pixels = in_pixels[:, [1, 0, 3, 2]]
        return Detections(in_pixels * torch.tensor([width, height, width, height]), torch.from_numpy(scores[kept]).float())


def _open_session(path: str | Path, num_threads: int | None) -> Any:
    try:
        onnxruntime = import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("OnnxDetector needs onnxruntime: pip install 'lightning-reid[onnx]'", name="onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    return onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
