"""Store an ONNX graph's weights in 8 bits, one scale for each output channel; it computes in float32 as before."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SMALL = 4096
"""Smaller weights, and vectors, stay in 16 bits."""
_TINY = 256
"""These stay as they are."""


def compress(source: Path, target: Path) -> None:
    """Write `source` to `target` with compressed weights."""
    model = onnx.load(str(source))
    graph = model.graph
    weights: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _TINY:
            weights.append(weight)
        elif values.ndim < 2 or values.size < _SMALL:
            weights.append(numpy_helper.from_array(values.astype(np.float16), f"{weight.name}_half"))
            nodes.append(helper.make_node("Cast", [f"{weight.name}_half"], [weight.name], to=TensorProto.FLOAT))
        else:
            axis = 1 if _multiplies(graph, weight.name) else 0
            stored, node = _quantised(values, weight.name, axis)
            weights.extend(stored)
            nodes.append(node)
    nodes.extend(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(weights)
    graph.node.extend(nodes)
    onnx.save(model, str(target))


def _multiplies(graph: onnx.GraphProto, name: str) -> bool:
    """Whether the weight is the right side of a MatMul, whose output channels are its columns."""
    return next(node for node in graph.node if name in node.input).op_type == "MatMul"


def _quantised(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], name: str, axis: int
) -> tuple[list[TensorProto], onnx.NodeProto]:
    others = tuple(other for other in range(values.ndim) if other != axis)
    scales = (np.abs(values).max(others).clip(1e-8) / 127).astype(np.float32)
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    rounded = np.rint(values / scales.reshape(shape)).clip(-127, 127).astype(np.int8)
    names = [f"{name}_8bit", f"{name}_scale", f"{name}_zero"]
    arrays = (rounded, scales, np.zeros(len(scales), np.int8))
    stored = [numpy_helper.from_array(array, given) for array, given in zip(arrays, names, strict=True)]
    return stored, helper.make_node("DequantizeLinear", names, [name], axis=axis)
