"""The adapters: each on something small that answers for certain; what real ones find is told by ``benchmarks/redetect_pets.py``."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from constant_detector import write_people_onnx
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from lightning_reid.detection import OnnxDetector, OpenCVPeopleDetector, PersonDetector, TorchvisionDetector, YoloHead
from lightning_reid.detection.detections import checked_detections

PAGE = Path(__file__).parents[2] / "docs" / "paradigms" / "live_tracking.md"


class TwoOfEach(nn.Module):
    """Answers as torchvision's models do: a sure and an unsure box of each of two labels; notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.given = images
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 3.0, 3.0], [2.0, 2.0, 4.0, 4.0], [3.0, 3.0, 5.0, 5.0]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 2, 1, 2]), "scores": torch.tensor([0.9, 0.9, 0.2, 0.2])} for _ in images]


def test_torchvision_boxes_are_filtered_by_label_and_score():
    detector = TorchvisionDetector(TwoOfEach(), person_label=2, min_score=0.5)
    image = torch.full((3, 8, 6), 255, dtype=torch.uint8)
    first, second = detector([image, image])
    assert first.boxes.tolist() == second.boxes.tolist() == [[1, 1, 3, 3]]
    assert detector.model.given[0].unique().tolist() == [1.0], "torchvision's models take images in [0, 1]"
    assert not detector.model.training


def test_a_model_of_torchvision_runs_on_images_of_mixed_sizes():
    torch.manual_seed(0)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    detector = TorchvisionDetector(model, min_score=0)
    assert isinstance(detector, PersonDetector)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((60, 30), (90, 40))]
    assert [found.boxes.shape[1] for found in checked_detections(detector, images)] == [4, 4]
    assert detector([]) == []


def test_torchvision_names_tell_weights_and_settings_apart():
    model = TwoOfEach()
    names = {
        TorchvisionDetector(model).name,
        TorchvisionDetector(model, min_score=0.3).name,
        TorchvisionDetector(model, person_label=2).name,
    }
    nn.init.ones_(model.weight)
    assert len(names | {TorchvisionDetector(model).name}) == 4


def test_min_score_out_of_range_is_refused(onnx_file):
    with pytest.raises(ValueError, match="min_score must be a number in"):
        TorchvisionDetector(TwoOfEach(), min_score=1.5)
    with pytest.raises(ValueError, match="min_score must be a number in"):
        OnnxDetector(onnx_file, min_score=0)


# A graph of eight nodes, written as the bytes of ONNX's protocol buffers: no package that writes them is needed.
FLOAT, UINT8 = 1, 2
BOXES = np.array([[[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.9, 0.7]]], dtype=np.float32)
CLASSES = np.array([[1, 1, 2]], dtype=np.float32)


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, *parts: bytes | str) -> bytes:
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


def node(operator: str, inputs: list[str], output: str, **integers: int | list[int]) -> bytes:
    attributes = []
    for name, value in integers.items():
        many = isinstance(value, list)
        values = b"".join(number(8, one) for one in value) if many else number(3, value)
        attributes.append(block(5, block(1, name), values, number(20, 7 if many else 2)))
    return block(1, *(block(1, one) for one in inputs), block(2, output), block(4, operator), *attributes)


def constant(name: str, value: np.ndarray) -> bytes:
    dims = b"".join(number(1, size) for size in value.shape)
    return block(5, dims, number(2, FLOAT), block(8, name), block(9, value.astype(np.float32).tobytes()))


def tensor_info(field: int, name: str, dtype: int, *shape: str | int) -> bytes:
    dims = [block(1, block(2, size) if isinstance(size, str) else number(1, size)) for size in shape]
    return block(field, block(1, name), block(2, block(1, number(1, dtype), block(2, *dims))))


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory) -> Path:
    """Three candidates an image; the score of the first two is the mean of red and of green, of the third of blue."""
    pytest.importorskip("onnxruntime")
    graph = [
        node("Cast", ["image_tensor:0"], "float", to=FLOAT),
        node("ReduceMean", ["float"], "mean", axes=[1, 2], keepdims=0),
        node("Mul", ["mean", "scale"], "detection_scores:0"),
        node("Mul", ["mean", "zero"], "zeros"),
        node("Add", ["zeros", "classes"], "detection_classes:0"),
        node("Unsqueeze", ["zeros"], "zeros_each", axes=[2]),
        node("Add", ["zeros_each", "boxes"], "detection_boxes:0"),
        constant("scale", np.array(1 / 255)),
        constant("zero", np.array(0)),
        constant("classes", CLASSES),
        constant("boxes", BOXES),
        tensor_info(11, "image_tensor:0", UINT8, "N", "h", "w", 3),
        tensor_info(12, "detection_scores:0", FLOAT, "N", 3),
        tensor_info(12, "detection_classes:0", FLOAT, "N", 3),
        tensor_info(12, "detection_boxes:0", FLOAT, "N", 3, 4),
    ]
    path = tmp_path_factory.mktemp("onnx") / "three.onnx"
    path.write_bytes(number(1, 6) + block(8, block(1, ""), number(2, 11)) + block(7, block(2, "three"), *graph))
    return path


def colored(red: int, green: int, blue: int, height: int = 20, width: int = 10) -> Tensor:
    return torch.tensor([red, green, blue], dtype=torch.uint8).view(3, 1, 1).expand(3, height, width)


def test_onnx_boxes_come_in_pixels_of_each_image_filtered_by_class_and_score(onnx_file):
    detector = OnnxDetector(onnx_file, min_score=0.5, num_threads=1)
    assert isinstance(detector, PersonDetector)
    images = [colored(255, 0, 255), colored(255, 204, 0, 40, 30), colored(0, 255, 0), colored(0, 0, 255)]
    first, second, third, fourth = checked_detections(detector, images)
    torch.testing.assert_close(first.boxes, torch.tensor([[2.0, 2.0, 6.0, 10.0]]))
    torch.testing.assert_close(second.boxes, torch.tensor([[6.0, 4.0, 18.0, 20.0], [0.0, 0.0, 30.0, 40.0]]))
    torch.testing.assert_close(second.scores, torch.tensor([1.0, 0.8]))
    assert third.boxes.tolist() == [[0, 0, 10, 20]]
    assert len(fourth.boxes) == 0, "the third candidate is of another class"


def test_onnx_box_order_and_class_can_be_chosen(onnx_file):
    detector = OnnxDetector(onnx_file, box_order="xyxy", person_class=2, min_score=0.5, num_threads=1)
    (found,) = detector([colored(255, 255, 255)])
    torch.testing.assert_close(found.boxes, torch.tensor([[5.0, 10.0, 9.0, 14.0]]))


def test_onnx_names_tell_files_and_settings_apart(onnx_file, tmp_path):
    copy = tmp_path / "three.onnx"
    copy.write_bytes(onnx_file.read_bytes() + block(6, "another description"))
    files = {OnnxDetector(onnx_file).name, OnnxDetector(copy).name, OnnxDetector(onnx_file, min_score=0.4).name}
    assert len(files) == 3


def test_an_onnx_file_that_is_not_there_or_has_other_names_is_told(onnx_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detector at .*none\.onnx"):
        OnnxDetector(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match=r"no input 'pixels': give input_name out of \['image_tensor:0'\]"):
        OnnxDetector(onnx_file, input_name="pixels")
    with pytest.raises(ValueError, match=r"no output 'b': give output_names out of \['detection_scores:0'"):
        OnnxDetector(onnx_file, output_names=("detection_boxes:0", "b", "detection_classes:0"))
    with pytest.raises(ValueError, match="box_order must be one of 'yxyx', 'xyxy', got 'xywh'"):
        OnnxDetector(onnx_file, box_order="xywh")


def test_a_graph_with_boxes_scores_and_classes_is_no_raw_yolo_head(onnx_file):
    with pytest.raises(ValueError, match=r"has 3 outputs, a raw YOLO head has one: give output_names out of \['detection_scores:0'"):
        OnnxDetector(onnx_file, yolo=YoloHead("yolox"))
    with pytest.raises(ValueError, match=r"takes tensor\(uint8\): expected one of \['tensor\(float\)', 'tensor\(float16\)'\]"):
        OnnxDetector(onnx_file, yolo=YoloHead("yolox"), output_names=("detection_boxes:0",))


def test_the_settings_in_an_onnx_name_are_those_that_caches_were_written_under(onnx_file):
    settings = "image_tensor:0 detection_boxes:0 detection_scores:0 detection_classes:0 yxyx class=1 score>=0.3"
    assert OnnxDetector(onnx_file).name.endswith(f" {settings}")


def walker(height: int, width: int, scale: float) -> Tensor:
    """A dark upright figure on a light ground, with head, trunk and spread legs."""
    rows, columns = torch.meshgrid(torch.arange(height) / scale, (torch.arange(width) - width / 2) / scale, indexing="ij")
    top = (height / scale - 96) / 2
    y = rows - top
    head = ((y - 9) ** 2 + columns**2) < 64
    trunk = (y > 17) & (y < 52) & (columns.abs() < 13)
    legs = (y >= 50) & (y < 96) & ((columns.abs() - (4 + (y - 50) * 0.12)).abs() < 4.5)
    return torch.where(head | trunk | legs, 40, 200).to(torch.uint8).expand(3, height, width).contiguous()


def test_opencv_finds_an_upright_figure_in_a_small_crop_and_nobody_on_an_empty_wall():
    detector = OpenCVPeopleDetector(min_height=160)
    assert isinstance(detector, PersonDetector)
    small = walker(60, 34, scale=0.5)
    found, nobody = checked_detections(detector, [small, torch.full((3, 60, 34), 200, dtype=torch.uint8)])
    assert len(nobody.boxes) == 0
    assert len(found.boxes) == 1
    x0, y0, x1, y1 = found.boxes[0].tolist()
    assert abs((x0 + x1) / 2 - 17) < 4
    assert abs((y0 + y1) / 2 - 30) < 6
    assert 36 < y1 - y0 < 60, "the person is 48 pixels high"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process lists its libraries in /proc on Linux alone")
def test_opencv_finds_people_without_any_library_of_a_display_by_the_command_of_the_page(tmp_path):
    command = re.search(r"`pip (install .*opencv-python-headless[^`]*)`", PAGE.read_text(encoding="utf-8"))[1]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *shlex.split(command), "--target", str(tmp_path)], check=True)
    script = (
        "import torch; from lightning_reid.detection import OpenCVPeopleDetector\n"
        "OpenCVPeopleDetector(min_height=160)([torch.zeros(3, 200, 100, dtype=torch.uint8)])\n"
        "print(open('/proc/self/maps').read())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {Path(line.split()[-1]) for line in ran.stdout.splitlines() if "/" in line}
    assert any(path.is_relative_to(tmp_path / "cv2") for path in loaded)
    of_the_machine = {path.name for path in loaded if not {"site-packages", tmp_path.name} & set(path.parts)}
    assert not {name for name in of_the_machine if re.match("lib(GL|EGL|X11|xcb|wayland|Qt)", name)}


def test_opencv_takes_images_smaller_than_its_window():
    (found,) = OpenCVPeopleDetector(min_height=1, border=0)([torch.zeros(3, 5, 3, dtype=torch.uint8)])
    assert len(found.boxes) == 0


def test_opencv_settings_are_in_its_name_and_in_range():
    assert OpenCVPeopleDetector().name != OpenCVPeopleDetector(min_margin=0.5).name
    with pytest.raises(ValueError, match="min_height must be a whole number"):
        OpenCVPeopleDetector(min_height=0)


def test_a_graph_that_answers_for_fewer_images_than_it_is_given_is_refused(tmp_path):
    detector = OnnxDetector(write_people_onnx(tmp_path / "people.onnx", batch=False))
    with pytest.raises(ValueError, match=r"people\.onnx gives detection_boxes:0 of 1 images for 2: its batch is not free"):
        detector([torch.zeros(3, 20, 10, dtype=torch.uint8)] * 2)
