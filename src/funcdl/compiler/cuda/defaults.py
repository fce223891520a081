"""The shipped table of knobs by kernel class and size, and the class of a kernel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import prod

from funcdl.compiler.cuda.candidates import from_json, is_half_product
from funcdl.compiler.cuda.schedule import (
    ELEMENTS,
    Knobs,
    contiguous_axes,
    elements_of_thread,
    fills_processors,
    fits_registers,
)
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import AtomicUpdate, Dot, Kernel, Order, Reduce, Running

FURTHEST = 4
"""How many powers of two away a row's size may be, all sizes together."""


@dataclass(frozen=True, slots=True)
class KernelClass:
    """What kernels that want the same knobs have in common: a name, and sizes as powers of two."""

    name: str
    sizes: tuple[int, ...]


def kernel_class(kernel: Kernel) -> KernelClass | None:
    """The class of a kernel; None for atomic updates, sorts, and long functions."""
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    product = any(isinstance(i, Dot) for i in kernel.body)
    if not product and elements_of_thread(kernel) < ELEMENTS:
        return None  # a row's knobs would give a thread more elements than it has registers for
    extents = {axis.name: axis.extent for axis in kernel.axes}
    for instruction in kernel.body:
        match instruction:
            case AtomicUpdate() | Order():
                return None
            case Dot(k=k):
                bits = 16 if is_half_product(kernel, instruction) else 32
                bits = 64 if instruction.type.dtype.itemsize == 8 else bits
                rounded = bits == 32 and instruction.precision != "ieee"
                name = instruction.precision if rounded else f"dot{bits}"
                outer = prod(extent for axis, extent in extents.items() if axis != k)
                return KernelClass(name, (_power(outer), _power(extents[k])))
            case Running(axis=axis):
                return KernelClass("running", (_power(extents[axis]),))
    reduced = {axis for i in kernel.body if isinstance(i, Reduce) for axis in i.axes}
    if not reduced:
        return KernelClass("pointwise", (_power(prod(extents.values())),))
    inner = next(iter(contiguous_axes(kernel)), None)
    name = "rows" if inner is None or inner in reduced else "columns"
    return KernelClass(name, (_power(prod(extents[axis] for axis in reduced)),))


def default_knobs(kernel: Kernel, capability: int) -> Knobs:
    """The nearest row of the table for this device; without one, the heuristics' (`Knobs()`)."""
    wanted = kernel_class(kernel)
    if wanted is None:
        return Knobs()
    rows = _table().get(str(capability), {}).get(wanted.name, [])
    best, knobs = FURTHEST + 1, Knobs()
    for sizes, row in rows:
        distance = sum(abs(a - b) for a, b in zip(sizes, wanted.sizes, strict=True))
        if distance < best:
            best, knobs = distance, row
    # A row of another size may be of blocks that are too few for this one.
    suits = fits_registers(kernel, knobs) and (not best or fills_processors(kernel, knobs))
    return knobs if suits else Knobs()


@cache
def _table() -> dict[str, dict[str, list[tuple[tuple[int, ...], Knobs]]]]:
    """By capability and class: sizes and knobs."""
    text = files("funcdl.compiler.cuda").joinpath("defaults.json").read_text()
    return {
        capability: {
            name: [(tuple(row["sizes"]), from_json(row["knobs"])) for row in rows]
            for name, rows in classes.items()
        }
        for capability, classes in json.loads(text).items()
    }


def _power(size: int) -> int:
    """The power of two that is at least `size`."""
    return max(size - 1, 0).bit_length()
