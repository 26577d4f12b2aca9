"""Raw heads of YOLO: graphs of a node or two that answer with given numbers, against a slow version in plain loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_reid.detection import OnnxDetector, PersonDetector, YoloHead
from lightning_reid.detection.detections import checked_detections
from lightning_reid.detection.yolo_head import letterbox, network_input

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZE = (64, 96)
NUM_CELLS = 8 * 12 + 4 * 6 + 2 * 3
HEADS = {"yolox": YoloHead("yolox"), "yolov8": YoloHead("yolov8")}
WIDE, TALL = torch.zeros(3, 100, 300, dtype=torch.uint8), torch.zeros(3, 101, 37, dtype=torch.uint8)


def write_graph(path: Path, answer: np.ndarray, takes: tuple = (1, 3, *SIZE), tells: bool = True, half: bool = False) -> Path:
    """A graph that answers to any image with the same numbers, and ``tells`` their shape or gives them one when it runs."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    constants = {"output" if tells else "numbers": answer.astype(np.float16 if half else np.float32)}
    nodes = []
    if not tells:
        constants |= {"zero": np.zeros(1, dtype=np.float32), "sizes": np.array(answer.shape, dtype=np.float32)}
        nodes = [
            helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "sizes"], ["shape"]),
            helper.make_node("Cast", ["shape"], ["whole"], to=onnx.TensorProto.INT64),
            helper.make_node("Reshape", ["numbers", "whole"], ["output"]),
        ]
    made = [helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value)) for name, value in constants.items()]
    image = helper.make_tensor_value_info("images", kind, takes)
    output = helper.make_tensor_value_info("output", kind, answer.shape if tells else [None] * answer.ndim)
    model = helper.make_model(helper.make_graph(made + nodes, "yolo", [image], [output]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def random_answer(layout: str, seed: int = 0, num_classes: int = 3) -> np.ndarray:
    """Every cell answers; sides of a few to some sixty pixels, many boxes beyond the input."""
    draws = np.random.default_rng(seed)
    sure = draws.random((NUM_CELLS, num_classes + (layout == "yolox")))
    if layout == "yolox":
        boxes = np.concatenate([draws.normal(0, 1.5, (NUM_CELLS, 2)), draws.normal(0.3, 0.8, (NUM_CELLS, 2))], axis=1)
        return np.concatenate([boxes, sure], axis=1)[None].astype(np.float32)
    boxes = np.concatenate([draws.uniform(-10, 110, (NUM_CELLS, 2)), draws.uniform(2, 60, (NUM_CELLS, 2))], axis=1)
    return np.concatenate([boxes, sure], axis=1).T[None].astype(np.float32)


def slow_people(
    answer: np.ndarray, layout: str, frame: tuple[int, int], *, person: int, least: float, overlap: float, centered: bool
) -> list:
    """Boxes in the frame and scores, in float64, one cell after another."""
    rows = (answer[0] if layout == "yolox" else answer[0].T).astype(np.float64)
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(SIZE[0] // s) for x in range(SIZE[1] // s)]
    found = []
    for row, (x, y, stride) in zip(rows, cells, strict=True):
        if layout == "yolox":
            cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
            w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
            classes, score = row[5:], row[4] * max(row[5:])
        else:
            (cx, cy, w, h), classes, score = row[:4], row[4:], max(row[4:])
        if list(classes).index(max(classes)) == person and score >= least:
            found.append((score, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)))
    kept: list = []
    for score, box in sorted(found, key=lambda one: -one[0]):
        if all(intersection_over_union(box, other) <= overlap for _, other in kept):
            kept.append((score, box))
    factor = min(SIZE[0] / frame[0], SIZE[1] / frame[1])
    height, width = round(frame[0] * factor), round(frame[1] * factor)
    left, top = ((SIZE[1] - width) // 2, (SIZE[0] - height) // 2) if centered else (0, 0)
    people = []
    for score, (x0, y0, x1, y1) in kept:
        xs = [min(max((x - left) * frame[1] / width, 0), frame[1]) for x in (x0, x1)]
        ys = [min(max((y - top) * frame[0] / height, 0), frame[0]) for y in (y0, y1)]
        if xs[0] < xs[1] and ys[0] < ys[1]:
            people.append(((xs[0], ys[0], xs[1], ys[1]), score))
    return people


def intersection_over_union(a: tuple, b: tuple) -> float:
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.parametrize("placing", ["top_left", "center"])
@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
def test_people_are_those_of_a_slow_version(tmp_path, layout, placing):
    answer = random_answer(layout)
    detector = OnnxDetector(
        write_graph(tmp_path / "yolo.onnx", answer),
        person_class=1,
        min_score=0.2,
        num_threads=1,
        yolo=YoloHead(layout, placing=placing, overlap=0.3),
    )
    assert isinstance(detector, PersonDetector)
    for image, found in zip((WIDE, TALL), checked_detections(detector, [WIDE, TALL])):
        told = {"person": 1, "least": 0.2, "overlap": 0.3, "centered": placing == "center"}
        people = slow_people(answer, layout, tuple(image.shape[1:]), **told)
        assert len(people) > 3
        torch.testing.assert_close(found.boxes, torch.tensor([box for box, _ in people], dtype=torch.float32), atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found.scores, torch.tensor([score for _, score in people], dtype=torch.float32))


def answer_of(layout: str, boxes: list[tuple[int, list[float], float]]) -> np.ndarray:
    """An answer that means nothing but these: cell, x0, y0, x1, y1 in pixels of the input, score of class 0 of 2."""
    rows = np.zeros((NUM_CELLS, 7 if layout == "yolox" else 6), dtype=np.float32)
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(SIZE[0] // s) for x in range(SIZE[1] // s)]
    for cell, (x0, y0, x1, y1), score in boxes:
        (x, y, stride), (cx, cy), (w, h) = cells[cell], ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0, y1 - y0)
        if layout == "yolox":
            rows[cell] = [cx / stride - x, cy / stride - y, math.log(w / stride), math.log(h / stride), 1, score, 0]
        else:
            rows[cell] = [cx, cy, w, h, score, 0]
    return rows[None] if layout == "yolox" else np.ascontiguousarray(rows.T[None])


@pytest.mark.parametrize("layout", HEADS)
def test_one_box_comes_back_in_pixels_of_the_frame(tmp_path, layout):
    path = write_graph(tmp_path / "yolo.onnx", answer_of(layout, [(110, [16, 8, 32, 24], 0.75)]))
    (found,) = OnnxDetector(path, yolo=HEADS[layout], num_threads=1)([torch.zeros(3, 128, 192, dtype=torch.uint8)])
    torch.testing.assert_close(found.boxes, torch.tensor([[32.0, 16.0, 64.0, 48.0]]), atol=1e-4, rtol=0)
    assert found.scores.tolist() == [0.75]


@pytest.mark.parametrize("layout", HEADS)
def test_nobody_is_found_where_no_score_is_large_enough(tmp_path, layout):
    path = write_graph(tmp_path / "yolo.onnx", answer_of(layout, [(3, [16, 8, 32, 24], 0.25)]))
    (found,) = OnnxDetector(path, yolo=HEADS[layout], num_threads=1)([WIDE])
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert OnnxDetector(path, yolo=HEADS[layout], num_threads=1)([]) == []


@pytest.mark.parametrize("layout", HEADS)
def test_boxes_beyond_the_frame_are_clipped_and_those_on_the_gray_alone_left_out(tmp_path, layout):
    # a frame of 32 x 96 fills the upper half of the input
    boxes = [(0, [-20.0, -8.0, 10.0, 16.0], 0.9), (1, [80, 20, 120, 60], 0.8), (2, [40, 40, 60, 60], 0.7)]
    head = YoloHead(layout, placing="top_left")
    path = write_graph(tmp_path / "yolo.onnx", answer_of(layout, boxes))
    (found,) = checked_detections(OnnxDetector(path, yolo=head, num_threads=1), [torch.zeros(3, 32, 96, dtype=torch.uint8)])
    torch.testing.assert_close(found.boxes, torch.tensor([[0.0, 0.0, 10.0, 16.0], [80.0, 20.0, 96.0, 32.0]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", HEADS)
def test_of_boxes_of_the_same_score_one_of_each_person_is_kept(tmp_path, layout):
    shifts = [0.0, 0.5, 1.0, 40.0, 40.5]
    boxes = [(cell, [8 + shift, 8, 24 + shift, 40], 0.5) for cell, shift in enumerate(shifts)]
    path = write_graph(tmp_path / "yolo.onnx", answer_of(layout, boxes))
    (found,) = OnnxDetector(path, yolo=HEADS[layout], num_threads=1)([torch.zeros(3, *SIZE, dtype=torch.uint8)])
    assert found.scores.tolist() == [0.5, 0.5]
    assert sorted(found.boxes[:, 0].round().int().tolist()) == [8, 48]


@pytest.mark.parametrize("value", [math.nan, math.inf, 3.0, -0.5])
@pytest.mark.parametrize("layout", HEADS)
def test_scores_that_are_no_probabilities_are_refused(tmp_path, layout, value):
    answer = answer_of(layout, [(7, [16, 8, 32, 24], 0.75)])
    row = answer[0] if layout == "yolox" else answer[0].T
    row[70, -1] = value
    detector = OnnxDetector(write_graph(tmp_path / "yolo.onnx", answer), yolo=HEADS[layout], num_threads=1)
    with pytest.raises(ValueError, match=rf"yolo.onnx answers with 1 scores outside \[0, 1\], such as {value:g}: expected probabilities"):
        detector([WIDE])


@pytest.mark.parametrize(("place", "value"), [(0, math.nan), (2, math.inf), (3, 50.0)])
def test_a_kept_box_that_cannot_be_is_refused_and_a_decoded_graph_told(tmp_path, place, value):
    answer = answer_of("yolox", [(7, [16, 8, 32, 24], 0.75)])
    answer[0, 7, place] = value  # 50 pixels of height, were it decoded: e^50 cells otherwise
    detector = OnnxDetector(write_graph(tmp_path / "yolo.onnx", answer), yolo=HEADS["yolox"], num_threads=1)
    with pytest.raises(ValueError, match=r"for an input of 64 x 96: expected the raw head; layout 'yolox' is exported without"):
        detector([WIDE])
    answer[0, 7, 5] = 0.1
    (found,) = OnnxDetector(write_graph(tmp_path / "unsure.onnx", answer), yolo=HEADS["yolox"], num_threads=1)([WIDE])
    assert len(found.boxes) == 0


def test_a_box_of_negative_width_is_refused(tmp_path):
    answer = answer_of("yolov8", [(7, [16, 8, 32, 24], 0.75)])
    answer[0, 2, 7] = -5
    with pytest.raises(ValueError, match="answers with a box of -5 x 16 pixels"):
        OnnxDetector(write_graph(tmp_path / "yolo.onnx", answer), yolo=HEADS["yolov8"], num_threads=1)([WIDE])


@pytest.mark.parametrize(
    ("layout", "shape", "told"),
    [
        (
            "yolox",
            (1, 7, NUM_CELLS),
            r"\[1, 7, 126\] to an input of 64 x 96: expected \[1, 126, 5 \+ classes\]; it looks like layout 'yolov8'",
        ),
        ("yolov8", (1, NUM_CELLS, 7), r"expected \[1, 4 \+ classes, 126\]; it looks like layout 'yolox'"),
        ("yolox", (1, NUM_CELLS - 1, 7), r"\[1, 125, 7\] .* export the raw head"),
        ("yolov8", (1, 300, 6), r"\[1, 300, 6\] .* export the raw head"),
        ("yolov8", (7, NUM_CELLS), r"\[7, 126\] .* expected \[1, 4 \+ classes, 126\]"),
        ("yolox", (2, NUM_CELLS, 7), r"\[2, 126, 7\] .* expected \[1, 126, 5 \+ classes\]"),
        ("yolox", (1, NUM_CELLS, 5), r"with the class 0, at least 6 numbers a box"),
        ("yolov8", (1, 4, NUM_CELLS), r"with the class 0, at least 5 numbers a box"),
    ],
)
def test_an_output_that_is_not_the_layouts_is_refused_and_told(tmp_path, layout, shape, told):
    answer = np.zeros(shape, dtype=np.float32)
    with pytest.raises(ValueError, match=told):
        OnnxDetector(write_graph(tmp_path / "told.onnx", answer), yolo=HEADS[layout])


@pytest.mark.parametrize(("layout", "shape"), [("yolox", (1, 7, NUM_CELLS)), ("yolov8", (1, 300, 6))])
def test_a_graph_that_tells_no_shape_is_found_out_by_the_first_image(tmp_path, layout, shape):
    path = write_graph(tmp_path / "silent.onnx", np.zeros(shape, dtype=np.float32), tells=False)
    detector = OnnxDetector(path, yolo=HEADS[layout], num_threads=1)
    with pytest.raises(ValueError, match=rf"silent.onnx answers with \[{shape[0]}, {shape[1]}, {shape[2]}\] to an input of 64 x 96"):
        detector([WIDE])


def test_the_size_of_the_input_is_the_graphs_or_told(tmp_path):
    answer = answer_of("yolox", [(110, [16, 8, 32, 24], 0.75)])
    free = write_graph(tmp_path / "free.onnx", answer, takes=("batch", 3, "height", "width"))
    with pytest.raises(ValueError, match=r"tells no size: give YoloHead\(input_size=\(height, width\)\)"):
        OnnxDetector(free, yolo=YoloHead("yolox"))
    (found,) = OnnxDetector(free, yolo=YoloHead("yolox", input_size=SIZE), num_threads=1)([torch.zeros(3, *SIZE, dtype=torch.uint8)])
    torch.testing.assert_close(found.boxes, torch.tensor([[16.0, 8.0, 32.0, 24.0]]), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"takes \[1, 3, 64, 96\], but input_size is \(96, 64\)"):
        OnnxDetector(write_graph(tmp_path / "fixed.onnx", answer), yolo=YoloHead("yolox", input_size=(96, 64)))
    with pytest.raises(ValueError, match=r"takes \[4, 3, 64, 96\]: expected one image at a time"):
        OnnxDetector(write_graph(tmp_path / "four.onnx", answer, takes=(4, 3, *SIZE)), yolo=YoloHead("yolox"))
    with pytest.raises(ValueError, match="input_size must be multiples of 32, the head's largest stride, got 64 x 100"):
        YoloHead("yolox", input_size=(64, 100))


def test_a_graph_in_half_precision_is_given_halves(tmp_path):
    path = write_graph(tmp_path / "half.onnx", answer_of("yolov8", [(110, [16, 8, 32, 24], 0.75)]), half=True)
    (found,) = OnnxDetector(path, yolo=HEADS["yolov8"], num_threads=1)([torch.zeros(3, *SIZE, dtype=torch.uint8)])
    assert found.boxes.dtype == torch.float32
    torch.testing.assert_close(found.boxes, torch.tensor([[16.0, 8.0, 32.0, 24.0]]))


def test_pixels_come_in_the_order_and_range_of_the_layouts_authors():
    image = torch.tensor([255, 51, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, *SIZE)
    first = {name: network_input(letterbox(image, SIZE, head), head)[0, :, 0, 0].tolist() for name, head in HEADS.items()}
    assert first == {"yolox": [0, 51, 255], "yolov8": pytest.approx([1, 0.2, 0])}
    head = YoloHead("yolox", pixels="rgb_imagenet")
    normalized = [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    assert network_input(letterbox(image, SIZE, head), head)[0, :, 5, 5].tolist() == pytest.approx(normalized, abs=1e-5)


@pytest.mark.parametrize(("placing", "rows"), [("top_left", slice(0, 32)), ("center", slice(16, 48))])
def test_the_frame_keeps_its_aspect_on_gray(placing, rows):
    placed = letterbox(torch.full((3, 16, 48), 200, dtype=torch.uint8), SIZE, YoloHead("yolox", placing=placing))
    assert (placed.pixels[rows] == 200).all()
    assert (np.delete(placed.pixels, np.r_[rows], axis=0) == 114).all()
    assert placed.scales == (2.0, 2.0)


def test_the_head_is_part_of_the_name_and_has_no_box_order(tmp_path):
    path = write_graph(tmp_path / "yolo.onnx", answer_of("yolox", []))
    heads = [YoloHead("yolox"), YoloHead("yolox", pixels="rgb_1"), YoloHead("yolox", overlap=0.5), YoloHead("yolox", placing="center")]
    assert len({OnnxDetector(path, yolo=head).name for head in heads}) == 4
    with pytest.raises(ValueError, match="box_order 'xyxy' is of graphs with boxes, but yolo is given too"):
        OnnxDetector(path, yolo=heads[0], box_order="xyxy")
    with pytest.raises(ValueError, match="output_names must be 1 of the graph's"):
        OnnxDetector(path, yolo=heads[0], output_names=("output", "output"))
    with pytest.raises(ValueError, match=r"no input 'pixels': give input_name out of \['images'\]"):
        OnnxDetector(path, yolo=heads[0], input_name="pixels")
