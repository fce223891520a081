"""Runs a primitive's kernel form on the interpreter of the kernel IR, one primitive a kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.index import Index
from funcdl.kir.interpreter import interpret
from funcdl.ops import arithmetic, bits  # noqa: F401  define what kernels below compute with
from funcdl.ops.dot import dot_dimensions, product_dtype
from funcdl.ops.lowering import Contraction, Position, Reduction, Update, View, compute_dtype
from funcdl.ops.shape import flat_index, position_in

NDArray = np.ndarray[Any, Any]


class BufferReader:
    """Reads each operand from a buffer of its own, in float32 where it is of half precision."""

    def __init__(self, avals: list[ShapedArray], out: ShapedArray, updates: bool = False) -> None:
        self.builder = KernelBuilder("k")
        self.avals = avals
        self._out = out
        for number, aval in enumerate(avals):
            if number or not updates:
                self.builder.buffer(f"x{number}", aval.dtype, aval.size, "in")
        self.builder.buffer("out", out.dtype, out.size, "inout" if updates else "out")

    def read(self, operand: int, index: Position, mask: int | None = None) -> int:
        aval = self.avals[operand]
        assert len(index) == aval.ndim
        value = self.builder.load(f"x{operand}", flat_index(index, aval.shape), mask)
        return self.builder.cast(value, compute_dtype(aval.dtype))

    def aval(self, operand: int) -> ShapedArray:
        return self.avals[operand]

    @property
    def out_aval(self) -> ShapedArray:
        return self._out

    def axes(self, prefix: str, shape: tuple[int, ...]) -> Position:
        return tuple(self.builder.axis(f"{prefix}{i}", size) for i, size in enumerate(shape))

    def store(self, index: Position, value: int) -> None:
        value = self.builder.cast(value, self._out.dtype)
        self.builder.store("out", flat_index(index, self._out.shape), value)


def run_kernel(primitive: Primitive, args: tuple[NDArray, ...], params: dict[str, Any]) -> NDArray:
    """The primitive's output, computed by its kernel form."""
    avals = [ShapedArray(x.shape, x.dtype) for x in args]
    (out,) = primitive.output_avals(avals, params)
    form = primitive.lower
    reader = BufferReader(avals, out, isinstance(form, Update))
    result = np.empty(out.size, out.dtype)
    if out.size == 0:
        return result.reshape(out.shape)  # the compiler makes no kernel either
    match form:
        case View(rule):
            index = reader.axes("i", out.shape)
            reader.store(index, rule(reader, index, params))
        case Reduction(op):
            _reduce(reader, op, params)
        case Contraction():
            _contract(reader, params)
        case Update(op, rule):
            result[:] = args[0].ravel()
            index = reader.axes("i", avals[2].shape)
            position, mask = rule(reader, index, params)
            value = reader.builder.cast(reader.read(2, index), out.dtype)
            flat = flat_index(position, out.shape)
            reader.builder.atomic_update(op, "out", flat, value, mask)
    kernel = reader.builder.build()
    check(kernel)
    buffers = {f"x{i}": np.ascontiguousarray(x).ravel() for i, x in enumerate(args)}
    used = {buffer.name for buffer in kernel.buffers} - {"out"}
    interpret(kernel, {name: buffers[name] for name in used} | {"out": result})
    return result.reshape(out.shape)


def _reduce(reader: BufferReader, op: Any, params: dict[str, Any]) -> None:
    index = reader.axes("i", reader.aval(0).shape)
    names = [f"i{axis}" for axis in params["axes"]]
    value = reader.read(0, index)
    # Kernels find indices as int32 or int64 only.
    wide = params.get("index_dtype") == np.int64
    value = reader.builder.reduce(op, value, names, np.int64 if wide else np.int32)
    reader.store(tuple(i for d, i in enumerate(index) if d not in params["axes"]), value)


def _contract(reader: BufferReader, params: dict[str, Any]) -> None:
    """The roles of the dimensions as axes b, m, n, k, each of which joins several dimensions."""
    lhs, rhs = reader.aval(0), reader.aval(1)
    dims = dot_dimensions(lhs.shape, rhs.shape, params["dimension_numbers"])
    builder = reader.builder
    sizes = {
        "b": dims.batch_sizes,
        "m": dims.m_sizes,
        "n": dims.n_sizes,
        "k": dims.k_sizes,
    }
    places = {
        name: position_in(builder.axis(name, math.prod(shape)), shape)
        for name, shape in sizes.items()
    }
    dtype = product_dtype(lhs.dtype, reader.out_aval.dtype)

    def operand(number: int, roles: list[tuple[tuple[int, ...], str]]) -> int:
        index: list[Index | None] = [None] * reader.aval(number).ndim
        for own, name in roles:
            for d, place in zip(own, places[name], strict=True):
                index[d] = place
        assert None not in index
        return builder.cast(reader.read(number, tuple(index)), dtype)  # type: ignore[arg-type]

    left = operand(0, [(dims.lhs_batch, "b"), (dims.m, "m"), (dims.lhs_k, "k")])
    right = operand(1, [(dims.rhs_batch, "b"), (dims.n, "n"), (dims.rhs_k, "k")])
    value = builder.reduce("sum", builder.elementwise("mul", left, right), ["k"])
    reader.store(places["b"] + places["m"] + places["n"], value)
