"""Factors of products that are made ready for tensor cores once, and not by each tile.

Weights in float32 that a network rounds to a half type are cheap to round wherever they are read,
so fusion stores no rounded ones. But the tiles of a product read each factor dozens of times: they
would bring twice the bytes from the L2 cache, whose speed limits large products already, and put
every element through registers on its way to tensor cores, which takes registers from the tile's
sums (they spill, or tiles become smaller). Rounded once, a weight is read in 4 bytes and written
in 2, and the product and those of its gradient copy it asynchronously.

The same holds for arguments in a half type whose rows have odd lengths: they are copied, and
`row_pitch` puts the copies' rows at multiples of 16 bytes.

Rejected: *storing them in fusion*, which knows no tiles: for few rows a factor is read once; and
*keeping rounded weights from step to step*, which would be state that the program does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from funcdl.compiler.cuda.row_pitch import MIN_LENGTH, VECTOR_BYTES
from funcdl.compiler.loops import LoopStep
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.steps import HostStep, Step, step_uses
from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Var
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import needed
from funcdl.kir.ir import AtomicUpdate, Cast, Dot, Kernel, Load, Store, operands
from funcdl.kir.passes import rebuild_instruction

# Rows or columns of the result that one tile has, about.
TILE = 128
# How often products read a factor where a pass over it pays: 6 bytes for an element in place of the
# 2 that each further read costs more.
MIN_READS = 4
# Smaller factors stay in the cache, and take less time than a launch.
MIN_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class _Factor:
    """What products read of an array: in which type, and by how many tiles each element."""

    dtype: np.dtype
    reads: int


def prepare_factors(steps: Sequence[Step]) -> list[Step]:
    """Round or copy factors that are a program's arguments before the first product with them."""
    written = {var for step in steps for var, writes in step_uses(step) if writes}
    found: dict[tuple[Var, np.dtype], int] = {}
    for lowered in _generated(steps):
        for name, factor in _factors(lowered).items():
            key = lowered.names[name], factor.dtype
            if key[0] not in written:
                found[key] = found.get(key, 0) + factor.reads
    ready = {
        (var, dtype): Var(ShapedArray(var.aval.shape, dtype))
        for (var, dtype), reads in found.items()
        if reads >= MIN_READS and var.aval.size >= MIN_SIZE
    }
    result: list[Step] = []
    missing = dict(ready)
    for step in steps:
        if isinstance(step, HostStep | LoopStep):
            result.append(step)
            continue
        kernels = []
        for lowered in step:
            factors = _factors(lowered)
            keys = {name: (lowered.names[name], f.dtype) for name, f in factors.items()}
            keys = {name: key for name, key in keys.items() if key in ready}
            for name, key in keys.items():
                if key in missing:
                    copy = _copy(f"{lowered.kernel.name}_{name}", key[0], missing.pop(key))
                    result.append([LoweredKernel(*copy, lowered.source)])
            kernels.append(_with_factors(lowered, {n: ready[key] for n, key in keys.items()}))
        result.append(kernels)
    return result


def _generated(steps: Sequence[Step]) -> Iterator[LoweredKernel]:
    for step in steps:
        if not isinstance(step, HostStep | LoopStep):
            yield from step


def _factors(lowered: LoweredKernel) -> dict[str, _Factor]:
    """Buffers that a kernel reads for its product alone, and not as tensor cores want them."""
    kernel = lowered.kernel
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is None:
        return {}
    extents = {axis.name: axis.extent for axis in kernel.axes}
    users: dict[int, list[int]] = {}
    for id, instruction in enumerate(kernel.body):
        for operand in operands(instruction):
            users.setdefault(operand, []).append(id)
    found: dict[str, _Factor] = {}
    refused: set[str] = set()
    inside = {id for factor in (dot.lhs, dot.rhs) for id in needed(kernel, factor)}
    for id, load in enumerate(kernel.body):
        if isinstance(load, Store | AtomicUpdate):
            refused.add(load.buffer)
        if not isinstance(load, Load):
            continue
        types = {_rounded_to(kernel, user) for user in users[id]}
        dtype = kernel.buffer(load.buffer).dtype
        if dtype in dtypes.HALF and _is_odd(lowered.names[load.buffer]):
            types = {dtype}
        wanted = types.pop() if len(types) == 1 else None
        axes = {dot.m, dot.n, dot.k} & load.index.axes()
        if wanted is None or id not in inside or dot.k not in axes or len(axes) != 2:
            refused.add(load.buffer)
            continue
        (other,) = {dot.m, dot.n} - axes
        reads = -(-extents[other] // TILE)
        before = found.setdefault(load.buffer, _Factor(wanted, reads))
        if before.dtype != wanted:
            refused.add(load.buffer)
    return {name: factor for name, factor in found.items() if name not in refused}


def _rounded_to(kernel: Kernel, user: int) -> np.dtype | None:
    """The half type that a value is rounded to where it is used."""
    cast = kernel.body[user]
    return cast.type.dtype if isinstance(cast, Cast) and cast.type.dtype in dtypes.HALF else None


def _is_odd(var: Var) -> bool:
    """Whether an array has long rows that do not all begin at multiples of 16 bytes."""
    shape = var.aval.shape
    if len(shape) < 2 or shape[-1] < MIN_LENGTH:
        return False
    return shape[-1] * var.aval.dtype.itemsize % VECTOR_BYTES != 0


def _copy(name: str, source: Var, target: Var) -> tuple[Kernel, dict[str, Var]]:
    """A kernel that stores an array in another type; its rows are an axis where they are odd."""
    builder = KernelBuilder(name)
    sizes = [source.aval.size]
    if _is_odd(target):
        sizes = [prod(source.aval.shape[:-1]), source.aval.shape[-1]]
    place = ix.constant(0)
    for axis, size in zip("ij", sizes, strict=False):
        place = place * size + builder.axis(axis, size)
    builder.buffer("source", source.aval.dtype, source.aval.size, "in")
    builder.buffer("target", target.aval.dtype, target.aval.size, "out")
    builder.store("target", place, builder.cast(builder.load("source", place), target.aval.dtype))
    return builder.build(), {"source": source, "target": target}


def _with_factors(lowered: LoweredKernel, ready: dict[str, Var]) -> LoweredKernel:
    """The kernel with other arrays as its factors."""
    if not ready:
        return lowered
    kernel = lowered.kernel
    builder = KernelBuilder(kernel.name)
    for axis in kernel.axes:
        builder.axis(axis.name, axis.extent)
    for b in kernel.buffers:
        dtype = ready[b.name].aval.dtype if b.name in ready else b.dtype
        builder.buffer(b.name, dtype, b.size, b.role, b.may_alias)
    ids: dict[int, int] = {}
    for id, instruction in enumerate(kernel.body):
        new = rebuild_instruction(builder, instruction, ids, lambda i: i, lambda name: name)
        if new is not None:
            ids[id] = new
    return LoweredKernel(builder.build(), lowered.names | ready, lowered.source)
