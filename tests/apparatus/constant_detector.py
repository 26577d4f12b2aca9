"""A detector in ONNX that gives the same answer to every image."""

from __future__ import annotations

from pathlib import Path


def write_people_onnx(path: Path) -> Path:
    """Somebody in the middle half of any image, at 0.9; an ``ImportError`` without the extra ``onnx``."""
    from onnx import TensorProto, helper

    answers = {"boxes": ([0.25, 0.25, 0.75, 0.75], [1, 1, 4]), "scores": ([0.9], [1, 1]), "classes": ([1.0], [1, 1])}
    constants = {name: helper.make_tensor(name, TensorProto.FLOAT, shape, values) for name, (values, shape) in answers.items()}
    nodes = [helper.make_node("Constant", [], [f"detection_{name}:0"], value=tensor) for name, tensor in constants.items()]
    outputs = [helper.make_tensor_value_info(f"detection_{name}:0", TensorProto.FLOAT, shape) for name, (_, shape) in answers.items()]
    image = helper.make_tensor_value_info("image_tensor:0", TensorProto.UINT8, [None, None, None, 3])
    model = helper.make_model(helper.make_graph(nodes, "people", [image], outputs), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path
