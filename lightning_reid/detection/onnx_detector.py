"""Detectors from ONNX files, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_number, require_path, require_text
from lightning_reid.detection.detections import Detections, no_detections
from lightning_reid.detection.digests import file_digest
from lightning_reid.detection.yolo_head import YoloHead, check_output_shape, input_size_of, letterbox, network_input, people_of
from lightning_reid.onnx_session import open_session

BoxOrder = Literal["yxyx", "xyxy"]

TENSORFLOW_OUTPUTS = ("detection_boxes:0", "detection_scores:0", "detection_classes:0")
"""What TensorFlow's detection graphs call boxes, scores and classes."""
_INPUT_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxDetector:
    """A graph from uint8 images ``[N, h, w, 3]`` RGB to boxes ``[N, M, 4]`` as fractions of the image, scores and classes ``[N, M]``.

    So do the graphs of TensorFlow's object detection API, to whose names the defaults belong. Images of one size go through together.
    Raw heads of YOLO are told by ``yolo``; their images go through one by one.

    Args:
        path: The ``.onnx`` file.
        input_name: Of the graph's image input; ``None`` is ``"image_tensor:0"``, with ``yolo`` the graph's only input.
        output_names: Of the graph's boxes, scores and classes; ``None`` is ``TENSORFLOW_OUTPUTS``. With ``yolo`` it is the name of one
            output in a tuple, ``None`` the graph's only output.
        box_order: ``"yxyx"`` for ymin, xmin, ymax, xmax, or ``"xyxy"``; not for ``yolo``, whose layouts have theirs.
        person_class: The class of people; ``None`` is that of models trained on COCO, 1, with ``yolo`` 0.
        min_score: Less sure boxes are left out, in (0, 1]; such graphs fill up their M rows with boxes of score 0.
        num_threads: CPU threads of onnxruntime; ``None`` for all cores.
        yolo: What the graph's raw YOLO head means; ``None`` for a graph with boxes, scores and classes.

    Attributes:
        name: See :class:`~lightning_reid.detection.PersonDetector`.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: An argument is out of range, the file is no ONNX network, the graph has no input or output of such a name (the message
            lists what it has), or its input or output is not what ``yolo`` says.

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
        input_name: str | None = None,
        output_names: tuple[str, ...] | None = None,
        box_order: BoxOrder = "yxyx",
        person_class: int | None = None,
        min_score: float = 0.3,
        num_threads: int | None = None,
        yolo: YoloHead | None = None,
    ) -> None:
        require_choice("box_order", box_order, get_args(BoxOrder))
        require_count("person_class", person_class, low=0, optional=True)
        require_number("min_score", min_score, above=0, high=1)
        require_count("num_threads", num_threads, optional=True)
        require_path("path", path)
        if input_name is not None:
            require_text("input_name", input_name)
        if yolo is not None and box_order != "yxyx":
            raise ValueError(f"box_order {box_order!r} is of graphs with boxes, but yolo is given too: its layout tells the order")
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no detector at {path}: expected an .onnx file")
        self.box_order, self.min_score, self.yolo, self._where = box_order, min_score, yolo, f"the detector {path}"
        self.person_class = person_class if person_class is not None else int(yolo is None)
        self._session = open_session(path, num_threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if input_name is None:
            input_name = "image_tensor:0" if yolo is None else _only("input", inputs, path)
        if output_names is None:
            output_names = TENSORFLOW_OUTPUTS if yolo is None else (_only("output", outputs, path),)
        self.input_name, self.output_names = input_name, output_names
        if len(self.output_names) != (wanted := 3 if yolo is None else 1):
            raise ValueError(f"output_names must be {wanted} of the graph's {[node.name for node in outputs]}, got {self.output_names}")
        for kind, names, nodes in (("input", (self.input_name,), inputs), ("output", self.output_names, outputs)):
            known = [node.name for node in nodes]
            missing = [name for name in names if name not in known]
            if missing:
                raise ValueError(f"{path} has no {kind} {missing[0]!r}: give {kind}_name{'s' * (kind == 'output')} out of {known}")
        settings = f"{self.input_name} {' '.join(self.output_names)} {box_order} class={self.person_class} score>={min_score:g}"
        if yolo is not None:
            self._check_graph(yolo, {node.name: node for node in (*inputs, *outputs)})
            settings += f" {yolo}"
        self.name = f"onnx {Path(path).stem} {file_digest(path)} {settings}"

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        """The people in each of the images ``[3, h, w]`` uint8 RGB."""
        if self.yolo is not None:
            return [self._yolo_people(image, self.yolo) for image in images]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            by_size.setdefault(tuple(image.shape), []).append(number)
        found = [no_detections()] * len(images)
        for (_, height, width), numbers in by_size.items():
            pixels = torch.stack([images[number] for number in numbers]).permute(0, 2, 3, 1).contiguous().numpy()
            outputs = self._session.run(list(self.output_names), {self.input_name: pixels})
            for name, output in zip(self.output_names, outputs, strict=True):
                if len(output) != len(numbers):
                    raise ValueError(f"{self._where} gives {name} of {len(output)} images for {len(numbers)}: its batch is not free")
            for number, *output in zip(numbers, *outputs, strict=True):
                found[number] = self._people(*output, height=height, width=width)
        return found

    def _people(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, *, height: int, width: int) -> Detections:
        kept = (classes == self.person_class) & (scores >= self.min_score)
        in_pixels = torch.from_numpy(boxes[kept]).float()
        if self.box_order == "yxyx":
            in_pixels = in_pixels[:, [1, 0, 3, 2]]
        return Detections(in_pixels * torch.tensor([width, height, width, height]), torch.from_numpy(scores[kept]).float())

    def _check_graph(self, yolo: YoloHead, nodes: dict[str, Any]) -> None:
        image, output = nodes[self.input_name], nodes[self.output_names[0]]
        if image.type not in _INPUT_DTYPES:
            raise ValueError(f"{self._where} takes {image.type}: expected one of {list(_INPUT_DTYPES)}, which raw YOLO heads take")
        self._input_dtype = _INPUT_DTYPES[image.type]
        self._input_size = input_size_of(yolo, image.shape, self._where)
        check_output_shape(output.shape, yolo.layout, self._input_size, self.person_class, self._where)

    def _yolo_people(self, image: Tensor, yolo: YoloHead) -> Detections:
        placed = letterbox(image, self._input_size, yolo)
        pixels = network_input(placed, yolo).astype(self._input_dtype, copy=False)
        (output,) = self._session.run(list(self.output_names), {self.input_name: pixels})
        frame, settings = (image.shape[1], image.shape[2]), (self.person_class, self.min_score, self._where)
        return people_of(output, placed, yolo, frame, *settings)


def _only(kind: str, nodes: list[Any], path: str | Path) -> str:
    if len(nodes) != 1:
        names = [node.name for node in nodes]
        raise ValueError(
            f"{path} has {len(nodes)} {kind}s, a raw YOLO head has one: give {kind}_name{'s' * (kind == 'output')} out of {names}"
        )
    return str(nodes[0].name)
