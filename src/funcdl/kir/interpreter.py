"""Runs kernels on NumPy arrays: the meaning of the kernel IR, and the oracle for its renderers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.conversion import convert, reinterpret
from funcdl.kir.elementwise import lookup
from funcdl.kir.identity import identity
from funcdl.kir.index import Index, ValueAtom
from funcdl.kir.ir import (
    Bitcast,
    Cast,
    Const,
    Conv,
    Dot,
    Effect,
    Elementwise,
    IndexValue,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Select,
    Slide,
    Store,
    ValueInstruction,
    operands,
)

Array = np.ndarray[Any, np.dtype[Any]]


def interpret(kernel: Kernel, buffers: Mapping[str, Array]) -> None:
    """Run `kernel`, which writes its results into `buffers`.

    Loads see the buffers as they were before the kernel; stores and updates follow in the order
    of the body, and the updates of one instruction in row-major order of the axes.

    Args:
        buffers: for each of the kernel's buffers by name, a one-dimensional array of its dtype and
            size. Buffers that may alias can share memory.

    Raises:
        ValueError: a buffer is missing, or has another dtype, shape or size.
        IndexError: an access out of bounds where the mask is true, or a computed index out of the
            range that its `ValueAtom` states.
    """
    _check_buffers(kernel, buffers)
    if kernel.library is not None:
        kernel.library.run(buffers)
        return
    with np.errstate(all="ignore"):
        _Run(kernel, buffers).run()


class _Run:
    """One run. A value is an array with one dimension per kernel axis, 1 where it is constant."""

    def __init__(self, kernel: Kernel, buffers: Mapping[str, Array]) -> None:
        self.kernel = kernel
        self.buffers = buffers
        self.position = {axis.name: at for at, axis in enumerate(kernel.axes)}
        self.values: dict[int, Array] = {}
        rank = len(kernel.axes)
        self.axes = {
            axis.name: np.arange(axis.extent, dtype=np.int64).reshape(
                [-1 if at == self.position[axis.name] else 1 for at in range(rank)]
            )
            for axis in kernel.axes
        }

    def run(self) -> None:
        # Effects last: every point loads before it stores, whatever the order of the body.
        body = self.kernel.body
        effects = [id for id, instruction in enumerate(body) if isinstance(instruction, Effect)]
        values = [id for id, instruction in enumerate(body) if not isinstance(instruction, Effect)]
        order = values + effects
        last_use = {operand: id for id in order for operand in operands(body[id])}
        for id in order:
            instruction = body[id]
            if isinstance(instruction, Effect):
                self.apply(instruction)
            else:
                value = np.asarray(self.evaluate(instruction))
                assert value.dtype == instruction.type.dtype, f"%{id} is {value.dtype}"
                self.values[id] = value
            for operand in {*operands(instruction)}:
                if last_use[operand] == id:
                    del self.values[operand]

    def evaluate(self, instruction: ValueInstruction) -> Array:
        values, type_ = self.values, instruction.type
        match instruction:
            case Const(_, value):
                return np.full([1] * len(self.kernel.axes), value, type_.dtype)
            case IndexValue(_, index):
                return self.index(index).astype(type_.dtype)
            case Load():
                return self.load(instruction)
            case Elementwise(_, name, args):
                result = lookup(name).numpy(*(values[arg] for arg in args))
                return np.asarray(result, type_.dtype)
            case Select(_, which, on_true, on_false):
                return np.where(values[which], values[on_true], values[on_false])
            case Cast(_, arg):
                return convert(values[arg], type_.dtype)
            case Bitcast(_, arg):
                return reinterpret(values[arg], type_.dtype)
            case Reduce():
                return self.reduce(instruction)
            case Running():
                return self.running(instruction)
            case Order():
                return self.order(instruction)
            case Dot():
                return self.dot(instruction)
            case Conv():
                return self.conv(instruction)

    def index(self, index: Index, mask: Array | None = None) -> Array:
        """Positions, after a check that the computed ones are in their ranges."""
        for atom in _value_atoms(index):
            value = self.values[atom.id]
            wrong = (value < atom.low) | (value > atom.high)
            if np.any(wrong if mask is None else wrong & mask):
                raise IndexError(
                    f"kernel {self.kernel.name}: %{atom.id} must be in "
                    f"[{atom.low}, {atom.high}], got {value.min()}..{value.max()}"
                )
        wide = {id: self.values[id].astype(np.int64) for id in index.values()}
        result = ix.evaluate(index, self.axes, wide)
        return np.asarray(result, np.int64).reshape(np.shape(result) or [1] * len(self.axes))

    def load(self, load: Load) -> Array:
        data = self.buffers[load.buffer]
        mask = None if load.mask is None else self.values[load.mask]
        positions = self.index(load.index, mask)
        self.check_bounds(load.buffer, positions, mask)
        if mask is None:
            return data[positions]
        positions, mask = np.broadcast_arrays(positions, mask)
        result = np.full(positions.shape, load.other, data.dtype)
        result[mask] = data[positions[mask]]
        return result

    def reduce(self, reduce: Reduce) -> Array:
        op = reduce.op
        arg = self.broadcast(self.values[reduce.arg], reduce.axes)
        dims = tuple(self.position[name] for name in reduce.axes)
        match op:
            case "argmax" | "argmin":
                (dim,) = dims
                if arg.shape[dim] == 0:
                    shape = [1 if at == dim else n for at, n in enumerate(arg.shape)]
                    return np.zeros(shape, reduce.type.dtype)
                find = np.argmax if op == "argmax" else np.argmin
                return np.asarray(find(arg, axis=dim, keepdims=True), reduce.type.dtype)
            case "max" | "min":
                find_extreme = np.max if op == "max" else np.min
                initial: Any = identity(op, arg.dtype)
                return np.asarray(find_extreme(arg, axis=dims, keepdims=True, initial=initial))
            case "sum":
                return np.sum(arg, axis=dims, keepdims=True, dtype=arg.dtype)
            case "prod":
                return np.asarray(np.prod(arg, axis=dims, keepdims=True), arg.dtype)
            case "and":
                return np.asarray(np.bitwise_and.reduce(arg, axis=dims, keepdims=True))
            case "or":
                return np.asarray(np.bitwise_or.reduce(arg, axis=dims, keepdims=True))

    def running(self, running: Running) -> Array:
        arg = self.broadcast(self.values[running.arg], (running.axis,))
        dim = self.position[running.axis]
        if running.reverse:
            arg = np.flip(arg, dim)
        found: Array = RUNNING[running.op].accumulate(arg, dim, arg.dtype)
        return np.flip(found, dim) if running.reverse else found

    def order(self, order: Order) -> Array:
        keys = [self.broadcast(self.values[key], (order.axis,)) for key in order.keys[::-1]]
        keys = list(np.broadcast_arrays(*keys))
        dim = self.position[order.axis]
        if order.descending:  # from the end, so that of equal elements the first one comes first
            found = np.lexsort([np.flip(key, dim) for key in keys], axis=dim)
            found = np.flip(keys[0].shape[dim] - 1 - found, dim)
        else:
            found = np.lexsort(keys, axis=dim)
        return found.astype(order.type.dtype)

    def dot(self, dot: Dot) -> Array:
        lhs = self.broadcast(self.values[dot.lhs], (dot.k,))
        rhs = self.broadcast(self.values[dot.rhs], (dot.k,))
        # Axes in the order batch..., then those of the product: x @ y takes [m, k] and [k, n].
        m, n, k = (self.position[name] for name in (dot.m, dot.n, dot.k))
        batch = [at for at in range(len(self.kernel.axes)) if at not in (m, n, k)]
        product: Array = np.matmul(
            lhs.transpose([*batch, n, m, k]), rhs.transpose([*batch, m, k, n]), dtype=dot.type.dtype
        )
        # Of the operands' third axes one is n for lhs, one is m for rhs, both of extent 1.
        return np.moveaxis(product, range(product.ndim), [*batch, k, m, n])

    def conv(self, conv: Conv) -> Array:
        """One product of matrices, n by c times c by o, for each place in the window."""
        lhs_axes, rhs_axes = [s.lhs for s in conv.slides], [s.rhs for s in conv.slides]
        taken = {conv.n, conv.o, *conv.windows, *conv.summed}
        batch = [name for name in self.axes if name not in taken]
        counts = [self.axes[axis].size for axis in conv.windows]
        lhs = self.broadcast(self.values[conv.lhs], (conv.n, conv.c, *lhs_axes, *batch))
        rhs = self.broadcast(self.values[conv.rhs], (conv.o, conv.c, *rhs_axes, *batch))
        lhs = self.only(lhs, (*batch, *lhs_axes, conv.n, conv.c))
        rhs = self.only(rhs, (*batch, *rhs_axes, conv.c, conv.o))
        ahead, between = (slice(None),) * len(batch), (None,) * len(counts)
        n, o = self.axes[conv.n].size, self.axes[conv.o].size
        total = np.zeros((*lhs.shape[: len(batch)], *counts, n, o), conv.type.dtype)
        for places in np.ndindex(*(self.axes[axis].size for axis in rhs_axes)):
            window = lhs
            for at, (slide, place) in enumerate(zip(conv.slides, places, strict=True)):
                window = _elements(window, len(batch) + at, slide, place, counts[at])
            kernel = rhs[(*ahead, *places)]
            total += np.matmul(window, kernel[(*ahead, *between)])
        # Back to one dimension for each axis of the kernel, 1 for those that are summed over.
        order = [*batch, *conv.windows, conv.n, conv.o]
        total = total.transpose([order.index(name) for name in self.axes if name in order])
        gone = tuple(self.position[name] for name in conv.summed)
        result = np.expand_dims(total, gone)
        kept = {*conv.type.axes}
        return result[tuple(slice(None) if name in kept else slice(1) for name in self.axes)]

    def only(self, value: Array, axes: Sequence[str]) -> Array:
        """The value with these axes as dimensions, in this order; it varies over no other."""
        dims = [self.position[name] for name in axes]
        rest = [at for at in range(value.ndim) if at not in dims]
        return value.transpose([*rest, *dims]).reshape([value.shape[at] for at in dims])

    def apply(self, effect: Effect) -> None:
        mask = None if effect.mask is None else self.values[effect.mask]
        positions = self.index(effect.index, mask)
        self.check_bounds(effect.buffer, positions, mask)
        value = self.values[effect.value]
        positions, value = np.broadcast_arrays(positions, value)
        if mask is not None:
            positions, value, where = np.broadcast_arrays(positions, value, mask)
            positions, value = positions[where], value[where]
        data = self.buffers[effect.buffer]
        flat_positions, flat_value = positions.ravel(), value.ravel()
        if isinstance(effect, Store) or effect.op == "set":
            data[flat_positions] = flat_value
        else:
            _UPDATES[effect.op].at(data, flat_positions, flat_value)

    def broadcast(self, value: Array, axes: Sequence[str]) -> Array:
        """The value with the full extent along `axes`."""
        shape = list(value.shape)
        for name in axes:
            shape[self.position[name]] = self.axes[name].size
        return np.broadcast_to(value, shape)

    def check_bounds(self, buffer: str, positions: Array, mask: Array | None) -> None:
        size = self.buffers[buffer].size
        wrong = (positions < 0) | (positions >= size)
        if np.any(wrong if mask is None else wrong & mask):
            raise IndexError(
                f"kernel {self.kernel.name}: index into buffer {buffer!r} of size {size} must be "
                f"in [0, {size}) where the mask is true, got {positions.min()}..{positions.max()}"
            )


def _elements(x: Array, dim: int, slide: Slide, place: int, count: int) -> Array:
    """For each of `count` windows the element at one place in it, along a dimension of `x`."""
    at = np.arange(count) * slide.stride + (place * slide.dilation - slide.low)
    inside = (at >= 0) & (at % slide.spread == 0) & (at // slide.spread < x.shape[dim])
    if not inside.any():
        shape = [count if d == dim else n for d, n in enumerate(x.shape)]
        return np.zeros(shape, x.dtype)
    taken = np.take(x, np.where(inside, at // slide.spread, 0), axis=dim)
    return np.where(inside.reshape([-1 if d == dim else 1 for d in range(x.ndim)]), taken, 0)


RUNNING: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "logsumexp": np.logaddexp,
}
"""The function that combines two elements, for each kind of running result."""

_UPDATES: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _value_atoms(index: Index) -> list[ValueAtom]:
    atoms: list[ValueAtom] = []
    for atom, _ in index.terms:
        match atom:
            case ValueAtom():
                atoms.append(atom)
            case ix.DivAtom(inner) | ix.ModAtom(inner):
                atoms += _value_atoms(inner)
            case ix.AxisAtom():
                pass
    return atoms


def _check_buffers(kernel: Kernel, buffers: Mapping[str, Array]) -> None:
    for buffer in kernel.buffers:
        if buffer.name not in buffers:
            raise ValueError(f"kernel {kernel.name}: buffers lacks {buffer.name!r}")
        found = buffers[buffer.name]
        if found.shape != (buffer.size,) or found.dtype != buffer.dtype:
            raise ValueError(
                f"kernel {kernel.name}: buffer {buffer.name!r} must be {buffer.dtype} of shape "
                f"({buffer.size},), got {found.dtype} of shape {found.shape}"
            )
