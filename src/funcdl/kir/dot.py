"""How operands of a `Dot` lie in memory, and what a product is where there is no `Dot`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from funcdl.kir.builder import renumber
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import (
    Dot,
    Elementwise,
    Instruction,
    Kernel,
    Load,
    Reduce,
    ValueType,
    operands,
)

# The widest vector, in bytes: with fewer columns there is none to read in place.
VECTOR_BYTES = 64
# A right operand is packed although its columns are contiguous if it has this many elements or
# more, for that many rows or more: far strides then cost more than packing.
PACKED_ELEMENTS = 1024 * 1024
PACKED_ROWS = 1024
# What it takes for vectors to run along k: rows that are multiplied at a time, and bytes of each.
ALONG_ROWS = 4
ALONG_BYTES = 4 * VECTOR_BYTES


def is_strided(kernel: Kernel, dot: Dot, operand: int) -> bool:
    """Whether an operand is a load with fixed strides along the product's axes."""
    load = kernel.body[operand]
    if not isinstance(load, Load) or load.mask is not None:
        return False
    return has_strides(load.index, {dot.m, dot.n, dot.k})


def has_strides(index: Index, axes: Collection[str]) -> bool:
    """Whether an index has fixed strides along some axes, and depends on no computed values."""
    return not index.values() and not any(
        Index(((atom, 1),)).axes().intersection(axes)
        for atom, _ in index.terms
        if not isinstance(atom, AxisAtom)
    )


def reads_in_place(kernel: Kernel, dot: Dot) -> bool:
    """Whether rows of the right operand are best read where they are, without packing."""
    load = kernel.body[dot.rhs]
    if not is_strided(kernel, dot, dot.rhs) or not is_strided(kernel, dot, dot.lhs):
        return False
    assert isinstance(load, Load)
    rows, columns, terms = (kernel.axis(axis).extent for axis in (dot.m, dot.n, dot.k))
    if load.index.coefficient(dot.n) != 1 or columns * dot.type.dtype.itemsize < VECTOR_BYTES:
        return False
    return rows < PACKED_ROWS or columns * terms < PACKED_ELEMENTS


def runs_along_terms(kernel: Kernel, dot: Dot) -> bool:
    """Whether vectors best run along k: columns do not fill one, and rows are contiguous there.

    Of floats: the micro-kernel for integers takes in four terms at a time as it is.
    """
    lhs, rhs = kernel.body[dot.lhs], kernel.body[dot.rhs]
    if not (isinstance(lhs, Load) and isinstance(rhs, Load)) or dot.type.dtype.kind != "f":
        return False
    rows, columns, terms = (kernel.axis(axis).extent for axis in (dot.m, dot.n, dot.k))
    itemsize = dot.type.dtype.itemsize
    along, across = rhs.index.coefficient(dot.k), rhs.index.coefficient(dot.n)
    return (
        columns * itemsize <= 3 * VECTOR_BYTES // 4
        and rows >= ALONG_ROWS
        and terms * itemsize >= ALONG_BYTES
        and is_strided(kernel, dot, dot.lhs)
        and is_strided(kernel, dot, dot.rhs)
        and lhs.index.coefficient(dot.k) == 1
        and (along == 1 or (across == 1 and columns > 1))
    )


def dot_as_sum(kernel: Kernel) -> Kernel:
    """The kernel with each `Dot` as a multiplication and a sum over k; others as they are."""
    if not any(isinstance(i, Dot) for i in kernel.body):
        return kernel
    body: list[Instruction] = []
    ids: dict[int, int] = {}
    for id, instruction in enumerate(kernel.body):
        renumbered = renumber(instruction, ids)
        if isinstance(renumbered, Dot):
            varies = {*kernel.value_type(id).axes}
            varies.update(*(kernel.value_type(arg).axes for arg in operands(instruction)))
            axes = tuple(axis.name for axis in kernel.axes if axis.name in varies)
            product = ValueType(renumbered.type.dtype, axes)
            body.append(Elementwise(product, "mul", (renumbered.lhs, renumbered.rhs)))
            renumbered = Reduce(renumbered.type, "sum", len(body) - 1, (renumbered.k,))
        ids[id] = len(body)
        body.append(renumbered)
    return replace(kernel, body=tuple(body))


def integer_dot_as_sum(kernel: Kernel) -> Kernel:
    """`dot_as_sum` of products of integers, for back ends without an instruction for them."""
    integers = any(isinstance(i, Dot) and i.type.dtype.kind in "iu" for i in kernel.body)
    return dot_as_sum(kernel) if integers else kernel
