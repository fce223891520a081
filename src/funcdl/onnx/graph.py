"""ONNX graphs while they are built: values, nodes, and the few operators that most rules need.

Nothing here needs the package `onnx`; `onnx.model` turns a finished graph into its messages.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.avals import Shape
from funcdl.core.records import record
from funcdl.onnx.carriers import ANY, MOVED, PAIRED, SELECTED, Kinds, carrier, flips_sign

NDArray = np.ndarray[Any, Any]
DType = np.dtype[Any]

INT64 = np.dtype(np.int64)
BOOL = np.dtype(bool)

_FOLDED = 64
"""The size of constants that are converted here rather than by the model."""


@record
class Value:
    """A tensor of the graph.

    Its own shape may be one that broadcasts to `shape`, as a scalar's where a program spreads it
    over an array: ONNX's elementwise operators broadcast by themselves, others get
    `Graph.dense` ones.
    """

    name: str
    dtype: DType
    shape: Shape
    own: Shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@record
class Node:
    """One operator; an attribute may be a `Graph`, the body of a loop or a branch."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Graph:
    """A list of nodes. Bodies have their `parent`, whose values they may read."""

    def __init__(self, parent: Graph | None = None) -> None:
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        # A name means one thing in a graph and all of its bodies, which share the constants too.
        self.constants: dict[str, NDArray] = {} if parent is None else parent.constants
        self._known: dict[Any, str] = {} if parent is None else parent._known
        self._taken: set[str] = set() if parent is None else parent._taken
        self._numbers: Iterator[int] = itertools.count() if parent is None else parent._numbers

    # Values

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet: `stem` itself, or with a number behind it."""
        name = stem
        while name in self._taken:
            name = f"{stem}_{next(self._numbers)}"
        self._taken.add(name)
        return name

    def input(self, stem: str, dtype: DType, shape: Shape) -> Value:
        """Add an input."""
        value = Value(self.fresh(stem), dtype, shape, shape)
        self.inputs.append(value)
        return value

    def output(self, name: str, x: Value) -> None:
        """Add an output: always a node's own, since inputs and constants cannot be outputs."""
        x = self.dense(x)
        self.nodes.append(Node("Identity", (x.name,), (name,), {}))
        self.outputs.append(Value(name, x.dtype, x.shape, x.shape))

    def constant(self, value: Any, dtype: Any = None) -> Value:
        """An array that is part of the model; equal ones are kept once.

        Constants that are only rearranged, as the kernels of convolutions are, are so here.
        """
        array = np.asarray(value, dtype, order="C")
        digest = hashlib.blake2b(array.reshape(-1).view(np.uint8).data).digest()
        key = (array.dtype, array.shape, digest)
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = self.fresh("constant")
            self.constants[name] = array
        return Value(name, array.dtype, array.shape, array.shape)

    def known(self, x: Value) -> NDArray | None:
        """The elements of a constant."""
        return self.constants.get(x.name)

    # Nodes

    def nodes_of(
        self,
        op: str,
        inputs: Sequence[Value | None],
        types: Sequence[tuple[DType, Shape]],
        **attrs: Any,
    ) -> list[Value]:
        """Add a node with several outputs; None is an input that is left out."""
        outs = [Value(self.fresh(op.lower()), dtype, shape, shape) for dtype, shape in types]
        names = tuple("" if x is None else x.name for x in inputs)
        self.nodes.append(Node(op, names, tuple(out.name for out in outs), attrs))
        return outs

    def node(
        self, op: str, *inputs: Value | None, shape: Shape, dtype: Any = None, **attrs: Any
    ) -> Value:
        """Add a node; the dtype is that of the first input unless given."""
        first = inputs[0]
        if dtype is None:
            assert first is not None
            dtype = first.dtype
        return self.nodes_of(op, inputs, [(np.dtype(dtype), shape)], **attrs)[0]

    def apply(
        self,
        op: str,
        *inputs: Value,
        kinds: Kinds = ANY,
        dtype: Any = None,
        exact: bool = True,
        **attrs: Any,
    ) -> Value:
        """Add an elementwise operator, which broadcasts.

        Where runtimes have the operator for `kinds` only, it works in a wider dtype, and the result
        is cast back; `dtype` is the result's where it is no operand's. `exact` says that order and
        quotients count, as opposed to sums that wrap around.
        """
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        own = np.broadcast_shapes(*(x.own for x in inputs))
        narrow = inputs[0].dtype
        wide = [self.carried(x, kinds, exact) for x in inputs]
        out = self.node(op, *wide, shape=own, dtype=dtype, **attrs)
        out = Value(out.name, out.dtype, shape, own)
        return out if dtype is not None else self.restored(out, narrow, exact)

    def carried(self, x: Value, kinds: Kinds, exact: bool = True) -> Value:
        """The value in a dtype among `kinds` that holds it (see `carriers`)."""
        if flips_sign(x.dtype, kinds, exact):
            x = self.apply("BitwiseXor", x, self.constant(1 << 63, np.uint64))
        return self.cast(x, carrier(x.dtype, kinds))

    def restored(self, x: Value, dtype: DType, exact: bool = True) -> Value:
        """The inverse of `carried`, for a result."""
        flipped = exact and dtype == np.uint64 and x.dtype == INT64
        x = self.cast(x, dtype)
        return self.apply("BitwiseXor", x, self.constant(1 << 63, dtype)) if flipped else x

    def cast(self, x: Value, dtype: Any) -> Value:
        """Convert the elements; integers wrap around."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        known = self.known(x)
        # Wide copies of narrow weights would make the model larger.
        if known is not None and known.size <= _FOLDED:
            made = self.constant(known.astype(dtype))
        else:
            made = self.node("Cast", x, shape=x.own, dtype=dtype, to=dtype)
        return Value(made.name, dtype, x.shape, x.own)

    # Shapes

    def dense(self, x: Value) -> Value:
        """The value as a tensor of its whole shape."""
        if x.own == x.shape:
            return x
        narrow = x.dtype
        x = self.carried(x, MOVED, exact=False)
        sizes = self.constant(x.shape, INT64)
        return self.restored(self.node("Expand", x, sizes, shape=x.shape), narrow, exact=False)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Another shape of as many elements."""
        shape = tuple(shape)
        x = self.dense(x)
        if x.shape == shape:
            return x
        if (known := self.known(x)) is not None:
            return self.constant(known.reshape(shape))
        return self.node("Reshape", x, self.constant(shape, INT64), shape=shape)

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        """Dimension ``permutation[i]`` becomes dimension i."""
        x = self.dense(x)
        if list(permutation) == sorted(permutation):
            return x
        if (known := self.known(x)) is not None:
            return self.constant(known.transpose(permutation))
        shape = tuple(x.shape[d] for d in permutation)
        return self.node("Transpose", x, shape=shape, perm=list(permutation))

    def concatenate(self, xs: Sequence[Value], axis: int) -> Value:
        """Join along an axis; what is empty is left out."""
        xs = [self.dense(x) for x in xs if x.size] or [self.dense(xs[0])]
        if len(xs) == 1:
            return xs[0]
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self.node("Concat", *xs, shape=tuple(shape), axis=axis)

    def slice(
        self,
        x: Value,
        starts: Sequence[int],
        limits: Sequence[int],
        strides: Sequence[int] | None = None,
    ) -> Value:
        """Ranges of all dimensions."""
        x = self.dense(x)
        strides = [1] * len(starts) if strides is None else list(strides)
        ranges = list(zip(starts, limits, strides, strict=True))
        axes = [d for d, found in enumerate(ranges) if found != (0, x.shape[d], 1)]
        shape = tuple(len(range(*found)) for found in ranges)
        if not axes:
            return x
        fields = [[found[i] for d, found in enumerate(ranges) if d in axes] for i in range(3)]
        first, last, steps = (self.constant(field, INT64) for field in fields)
        return self.node("Slice", x, first, last, self.constant(axes, INT64), steps, shape=shape)

    def slice_along(self, x: Value, axis: int, start: int, limit: int, stride: int = 1) -> Value:
        """A range of one dimension."""
        starts, limits, strides = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
        starts[axis], limits[axis], strides[axis] = start, limit, stride
        return self.slice(x, starts, limits, strides)

    def reverse(self, x: Value, axes: Sequence[int]) -> Value:
        """The elements along some axes in the opposite order."""
        x = self.dense(x)
        if not axes:
            return x
        if (known := self.known(x)) is not None:
            return self.constant(np.flip(known, tuple(axes)))
        count = len(axes)
        # The last element is -1; none is before the first, which the least integer says.
        ends = self.constant([np.iinfo(INT64).min] * count, INT64)
        steps = self.constant([-1] * count, INT64)
        return self.node("Slice", x, steps, ends, self.constant(axes, INT64), steps, shape=x.shape)

    def pad(self, x: Value, fill: Value, config: Sequence[tuple[int, int, int]]) -> Value:
        """Padding as of `funcdl.lax.pad`: low, high, and between elements, low or high negative."""
        shape = self.dense(x).shape
        if not any(map(any, config)):
            return self.dense(x)
        narrow = x.dtype
        x, fill = (self.carried(v, MOVED, exact=False) for v in (self.dense(x), fill))
        for axis, (_, _, interior) in enumerate(config):
            if interior and shape[axis] > 1:
                x = self._spread(x, fill, axis, interior)
        grown = x.shape
        cut = [
            (max(-low, 0), size - max(-high, 0))
            for size, (low, high, _) in zip(grown, config, strict=True)
        ]
        x = self.slice(x, [start for start, _ in cut], [end for _, end in cut])
        before = [max(low, 0) for low, _, _ in config]
        after = [max(high, 0) for _, high, _ in config]
        return self.restored(self._padded(x, fill, before, after), narrow, exact=False)

    def _spread(self, x: Value, fill: Value, axis: int, interior: int) -> Value:
        shape, step = x.shape, interior + 1
        size = shape[axis]
        x = self.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
        after = [0] * len(x.shape)
        after[axis + 1] = interior
        x = self._padded(x, fill, [0] * len(x.shape), after)
        x = self.reshape(x, (*shape[:axis], size * step, *shape[axis + 1 :]))
        return self.slice_along(x, axis, 0, size * step - interior)

    def _padded(self, x: Value, fill: Value, before: Sequence[int], after: Sequence[int]) -> Value:
        if not any(before) and not any(after):
            return x
        shape = tuple(a + size + b for a, size, b in zip(before, x.shape, after, strict=True))
        if not x.size:
            sizes = self.constant(shape, INT64)
            return self.node("Expand", fill, sizes, shape=shape)
        counts = self.constant([*before, *after], INT64)
        return self.node("Pad", x, counts, fill, shape=shape, mode="constant")

    def extreme(self, op: str, x: Value, y: Value) -> Value:
        """``Max`` or ``Min`` of two arrays.

        Not by these operators for int64: onnxruntime 1.31 compares the low halves only.
        """
        if x.dtype == INT64:
            less = self.apply("Less", x, y, dtype=BOOL)
            return self.where(less, x, y) if op == "Min" else self.where(less, y, x)
        return self.apply(op, x, y, kinds=PAIRED)

    def where(self, condition: Value, x: Value, y: Value) -> Value:
        """``x if condition else y``, element by element."""
        narrow = x.dtype
        x, y = (self.carried(v, SELECTED, exact=False) for v in (x, y))
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        own = np.broadcast_shapes(condition.own, x.own, y.own)
        out = self.node("Where", condition, x, y, shape=own, dtype=x.dtype)
        return self.restored(Value(out.name, x.dtype, shape, own), narrow, exact=False)
