"""A detector in ONNX that gives the same answer to every image."""

from __future__ import annotations

from pathlib import Path


def write_people_onnx(path: Path, *, batch: bool = True) -> Path:
    """Somebody in the middle half of any image, at 0.9; of the first one alone without ``batch``. Needs the extra ``onnx``."""
    from onnx import TensorProto, helper

    answers = {"boxes": ([0.25, 0.25, 0.75, 0.75], [1, 1, 4]), "scores": ([0.9], [1, 1]), "classes": ([1.0], [1, 1])}
    constants = {name: helper.make_tensor(name, TensorProto.FLOAT, shape, values) for name, (values, shape) in answers.items()}
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    counted = [helper.make_node("Shape", ["image_tensor:0"], ["images"], start=0, end=1)]
    nodes = counted if batch else [helper.make_node("Constant", [], ["images"], value=one)]
    outputs = []
    for name, (_, shape) in answers.items():
        rest = helper.make_tensor(f"{name} rest", TensorProto.INT64, [len(shape) - 1], shape[1:])
        nodes += [helper.make_node("Constant", [], [f"{name} of one"], value=constants[name])]
        nodes += [helper.make_node("Constant", [], [f"{name} rest"], value=rest)]
        nodes += [helper.make_node("Concat", ["images", f"{name} rest"], [f"{name} shape"], axis=0)]
        nodes += [helper.make_node("Expand", [f"{name} of one", f"{name} shape"], [f"detection_{name}:0"])]
        outputs += [helper.make_tensor_value_info(f"detection_{name}:0", TensorProto.FLOAT, [None, *shape[1:]])]
    image = helper.make_tensor_value_info("image_tensor:0", TensorProto.UINT8, [None, None, None, 3])
    model = helper.make_model(helper.make_graph(nodes, "people", [image], outputs), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def write_yolox_head(path: Path, *, size: int = 64, classes: int = 80) -> Path:
    """The raw head of a YOLOX that finds nobody in any image of ``size`` by ``size``. Needs the extra ``onnx``."""
    from onnx import TensorProto, helper

    shape = [1, sum((size // stride) ** 2 for stride in (8, 16, 32)), 5 + classes]
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, shape, [0.0] * (shape[1] * shape[2]))
    node = helper.make_node("Constant", [], ["found"], value=nothing)
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, shape)
    model = helper.make_model(helper.make_graph([node], "head", [image], [found]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path
