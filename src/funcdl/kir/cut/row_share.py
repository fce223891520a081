"""Kernels whose rows are independent of each other, and such a kernel for a share of its rows.

Rows are what the longest stride of every array that is written steps through: examples of a batch.
A kernel computes a share of its rows by itself where nothing that it writes for a row is computed
from another one, and where each array is either divided among the rows or read whole.
"""

from __future__ import annotations

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.index import Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Axis,
    Buffer,
    Conv,
    Dot,
    IndexValue,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Store,
)
from funcdl.kir.passes import rebuild_body


def row_axis(kernel: Kernel) -> str | None:
    """The axis whose positions are independent rows; None where there is none."""
    if kernel.library is None:
        for axis in kernel.axes:
            if axis.extent > 1 and divided_buffers(kernel, axis) is not None:
                return axis.name
    return None


def divided_buffers(kernel: Kernel, axis: Axis) -> frozenset[str] | None:
    """The buffers that rows divide, if the positions along an axis are independent rows.

    All others are only read, and by every row alike.
    """
    whole: set[str] = set()
    divided: set[str] = set()
    for instruction in kernel.body:
        match instruction:
            case Conv() | AtomicUpdate():
                return None
            case IndexValue(index=index) if axis.name in index.axes():
                return None
            case Reduce(axes=axes) if axis.name in axes:
                return None
            case Running(axis=name) | Order(axis=name) if axis.name == name:
                return None
            case Dot(n=n, k=k) if axis.name in (n, k):
                return None
            case Load(buffer=name, index=index) if axis.name not in index.axes():
                whole.add(name)
            case Load(buffer=name, index=index) | Store(buffer=name, index=index):
                if not _steps_through(index, axis, kernel.buffer(name)):
                    return None
                divided.add(name)
    return None if whole & divided else frozenset(divided)


def _steps_through(index: Index, axis: Axis, buffer: Buffer) -> bool:
    """Whether each position along the axis has an equal part of the buffer to itself, in order."""
    stride = index.coefficient(axis.name)
    rest = index - ix.axis(axis.name, axis.extent) * stride
    low, high = rest.range()
    inside = axis.name not in rest.axes() and low >= 0 and high < stride
    return inside and stride * axis.extent == buffer.size


def share_of_rows(kernel: Kernel, axis: str, count: int) -> Kernel:
    """The kernel for one of `count` equal shares of the positions along its `row_axis`."""
    rows = kernel.axis(axis)
    divided = divided_buffers(kernel, rows)
    if divided is None or rows.extent % count:
        raise ValueError(f"kernel {kernel.name}: {axis} has no {count} equal shares")
    builder = KernelBuilder(kernel.name)
    for each in kernel.axes:
        builder.axis(each.name, each.extent // count if each.name == axis else each.extent)
    for buffer in kernel.buffers:
        size = buffer.size // count if buffer.name in divided else buffer.size
        builder.buffer(buffer.name, buffer.dtype, size, buffer.role, buffer.may_alias)
    rebuild_body(builder, kernel, axis, rows.extent // count)
    return builder.build()
