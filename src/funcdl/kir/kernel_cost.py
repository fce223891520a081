"""Counts what a kernel costs from its instructions, as `kir.cost` defines it.

A value is computed once for each point of the axes that it varies over.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd, prod

import numpy as np

from funcdl.kir import elementwise
from funcdl.kir.convolution import in_tiles
from funcdl.kir.cost import Cost
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Conv,
    Dot,
    Elementwise,
    Kernel,
    Load,
    Reduce,
    Running,
    Select,
    Slide,
    Store,
)
from funcdl.kir.schedule import Schedule

# Products of two numbers for 2×2 windows of 3×3 places by Winograd's algorithm.
TILE_PRODUCTS = 16
# Of the operations that cost more than an addition, those that are arithmetic.
_ARITHMETIC = frozenset({"div", "nextafter", "rem"})


def is_transcendental(name: str) -> bool:
    """Whether an elementwise operation counts as a transcendental function."""
    return elementwise.lookup(name).cost > 1 and name not in _ARITHMETIC


def kernel_cost(kernel: Kernel, schedule: Schedule | None = None) -> Cost:
    """The cost of one call.

    A schedule may say that a convolution takes fewer operations than its sums have terms.
    """
    if kernel.library is not None:
        return kernel.library.cost
    extents = {axis.name: axis.extent for axis in kernel.axes}
    flops = transcendentals = operations = 0
    for instruction in kernel.body:
        match instruction:
            case Elementwise(type=type_, name=name, args=args):
                points = _points(type_.axes, extents)
                cost, (first, *_) = elementwise.lookup(name).cost, args
                operations += points * cost * _width(kernel.value_type(first).dtype)
                if is_transcendental(name):
                    transcendentals += points
                else:
                    flops += points
            case Select(type=type_):
                points = _points(type_.axes, extents)
                flops += points
                operations += points * _width(type_.dtype)
            case Reduce(type=type_, arg=arg):
                before = _points(kernel.value_type(arg).axes, extents)
                points = max(before - _points(type_.axes, extents), 0)
                flops += points
                operations += points * _width(kernel.value_type(arg).dtype)
            case Running(type=type_, axis=axis):
                rows = _points([name for name in type_.axes if name != axis], extents)
                points = max(_points(type_.axes, extents) - rows, 0)
                flops += points
                operations += points * _width(type_.dtype)
            case Dot(type=type_, k=k):
                points = 2 * _points((*type_.axes, k), extents)
                flops += points
                operations += points * _width(type_.dtype)
            case Conv(type=type_, c=c, slides=slides):
                outer = [axis for axis in type_.axes if axis not in instruction.windows]
                points = 2 * _points((*outer, c), extents)
                taps = prod(_taps(slide, extents) for slide in slides)
                flops += points * taps
                if schedule is not None and in_tiles(instruction, schedule):
                    taps = TILE_PRODUCTS * prod(_tiles(slide, extents) for slide in slides)
                operations += points * taps * _width(type_.dtype)
    read, written = _traffic(kernel, extents)
    return Cost(flops, transcendentals, operations, read, written)


def _width(dtype: np.dtype) -> int:
    return max(dtype.itemsize // 4, 1)


def _points(axes: Iterable[str], extents: dict[str, int]) -> int:
    return prod(extents[axis] for axis in axes)


def _taps(slide: Slide, extents: dict[str, int]) -> int:
    """How many pairs of a window and a place in it meet an element, along one dimension."""
    windows = np.arange(extents[slide.out])[:, None] * slide.stride
    at = windows + np.arange(extents[slide.rhs]) * slide.dilation - slide.low
    last = (extents[slide.lhs] - 1) * slide.spread
    return int(np.count_nonzero((at >= 0) & (at <= last) & (at % slide.spread == 0)))


def _tiles(slide: Slide, extents: dict[str, int]) -> int:
    """How many pairs of windows there are along one dimension.

    Of a kernel and its windows, whose roles its gradient exchanges, there are fewer places.
    """
    return -(-max(extents[slide.out], extents[slide.rhs]) // 2)


def _traffic(kernel: Kernel, extents: dict[str, int]) -> tuple[int, int]:
    """Bytes of the elements that a kernel reads, and of those that it writes."""
    reads: dict[str, set[Index]] = {}
    writes: dict[str, set[Index]] = {}
    for instruction in kernel.body:
        match instruction:
            case Load(buffer=buffer, index=index):
                reads.setdefault(buffer, set()).add(index)
            case Store(buffer=buffer, index=index):
                writes.setdefault(buffer, set()).add(index)
            case AtomicUpdate(op=op, buffer=buffer, index=index):
                writes.setdefault(buffer, set()).add(index)
                if op != "set":
                    reads.setdefault(buffer, set()).add(index)
    found: list[int] = []
    for accesses in (reads, writes):
        total = 0
        for name, indices in accesses.items():
            array = kernel.buffer(name)
            elements = sum(_elements(kernel, index, extents) for index in indices)
            total += min(elements, array.size) * array.dtype.itemsize
        found.append(total)
    return found[0], found[1]


def _elements(kernel: Kernel, index: Index, extents: dict[str, int]) -> int:
    """How many elements an index reaches at most; exact where it is affine without overlap."""
    axes = set(index.axes())
    for id in index.values():
        axes.update(kernel.value_type(id).axes)
    points = _points(axes, extents)
    low, high = index.range()
    step = gcd(*(c for atom, c in index.terms)) if _is_affine(index) else 1
    return min(points, (high - low) // max(step, 1) + 1)


def _is_affine(index: Index) -> bool:
    return all(isinstance(atom, AxisAtom) for atom, _ in index.terms)
