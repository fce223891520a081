"""Finished graphs as the messages of the package `onnx`, the only module here that imports it."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.onnx.graph import Graph, NDArray, Node, Value

OPSET = 18
"""The version of the operators: the first with reductions by axes as inputs, and bits."""

_IR_VERSION = 8  # of the file format, the one that came with these operators
_INSTALL = (
    "funcdl.onnx.export requires the package onnx, which is not installed; install it with\n"
    "    pip install 'funcdl[onnx]'"
)
_TYPES = {
    "bool": "BOOL",
    "f16": "FLOAT16",
    "bf16": "BFLOAT16",
    "f32": "FLOAT",
    "f64": "DOUBLE",
    **{
        f"{kind}{bits}": f"{word}{bits}"
        for kind, word in (("i", "INT"), ("u", "UINT"))
        for bits in (8, 16, 32, 64)
    },
}


def require_onnx() -> Any:
    """The package `onnx`.

    Raises:
      ImportError: it is not installed; the message says how to.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    return onnx


def _type(onnx: Any, dtype: np.dtype[Any]) -> int:
    found: int = onnx.TensorProto.DataType.Value(_TYPES[dtypes.short_name(dtype)])
    return found


def without_unused(graph: Graph) -> set[str]:
    """Drop nodes that nothing reads; returns all names that are read."""
    used = {x.name for x in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not used.isdisjoint(node.outputs):
            kept.append(node)
            used.update(node.inputs)
            for value in node.attributes.values():
                if isinstance(value, Graph):
                    used |= without_unused(value)
    graph.nodes = kept[::-1]
    return used


def model_proto(graph: Graph, name: str, docs: dict[str, str]) -> Any:
    """The model; `docs` describe its inputs and outputs by their names."""
    onnx = require_onnx()
    used = without_unused(graph)
    tensors = [_tensor(onnx, key, x) for key, x in graph.constants.items() if key in used]
    proto = _graph(onnx, graph, name, docs, tensors)
    model = onnx.helper.make_model(
        proto,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="funcdl",
    )
    model.ir_version = _IR_VERSION
    return model


def _graph(onnx: Any, graph: Graph, name: str, docs: dict[str, str], tensors: list[Any]) -> Any:
    inputs = [_value_info(onnx, x, docs) for x in graph.inputs]
    outputs = [_value_info(onnx, x, docs) for x in graph.outputs]
    nodes = [_node(onnx, node) for node in graph.nodes]
    return onnx.helper.make_graph(nodes, name, inputs, outputs, tensors)


def _value_info(onnx: Any, x: Value, docs: dict[str, str]) -> Any:
    doc = docs.get(x.name, "")
    return onnx.helper.make_tensor_value_info(x.name, _type(onnx, x.dtype), x.shape, doc)


def _node(onnx: Any, node: Node) -> Any:
    attributes = {key: _attribute(onnx, value) for key, value in node.attributes.items()}
    inputs = list(node.inputs)
    return onnx.helper.make_node(node.op, inputs, list(node.outputs), **attributes)


def _attribute(onnx: Any, value: Any) -> Any:
    if isinstance(value, Graph):
        return _graph(onnx, value, "body", {}, [])
    return _type(onnx, value) if isinstance(value, np.dtype) else value


def _tensor(onnx: Any, name: str, x: NDArray) -> Any:
    little = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"), copy=False)
    return onnx.helper.make_tensor(name, _type(onnx, x.dtype), x.shape, little.tobytes(), raw=True)
