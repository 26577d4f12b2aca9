"""ONNX files of one node, in place of an export that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper


def write_onnx(
    path: Path, inputs: list[Any], output: list[Any], op: str = "Flatten", dtype: int = TensorProto.FLOAT, **attributes: Any
) -> Path:
    """A graph that makes ``found`` of ``pixels`` by one operation; sizes are numbers, or names where they are free."""
    nodes = [helper.make_node(op, ["pixels"], ["found"], **attributes)]
    ends = [helper.make_tensor_value_info("pixels", dtype, inputs)], [helper.make_tensor_value_info("found", dtype, output)]
    model = helper.make_model(helper.make_graph(nodes, "network", *ends), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path
