"""Rules of shifts, and of the generator of random bits that is made of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import Kinds
from funcdl.onnx.graph import BOOL, Graph, Value
from funcdl.onnx.rules import rule
from funcdl.ops.random_bits import _threefry as threefry_rounds

_SHIFTED: Kinds = frozenset({"u8", "u32", "u64"})


@rule("shift_left", "shift_right_logical", "shift_right_arithmetic", broadcasts=True)
def _shift(g: Graph, eqn: Eqn, x: Value, y: Value) -> Value:
    name, dtype = eqn.primitive.name, x.dtype
    bits = 8 * dtype.itemsize
    unsigned, signed = (np.dtype(f"{kind}{dtype.itemsize}") for kind in "ui")
    negative = None
    if name == "shift_right_arithmetic":
        # Ones come in where the sign is set: as zeros do in the complement.
        signed_x = g.cast(x, signed)
        negative = g.apply("Less", signed_x, g.constant(0, signed), dtype=BOOL)
        x = g.where(negative, g.apply("BitwiseNot", signed_x), signed_x)
    out = _logical(g, g.cast(x, unsigned), g.cast(y, unsigned), bits, name == "shift_left")
    if negative is not None:
        out = g.where(negative, g.apply("BitwiseNot", out), out)
    return g.cast(out, dtype)


def _logical(g: Graph, x: Value, y: Value, bits: int, left: bool) -> Value:
    """A shift of unsigned integers, zero where all bits are shifted out."""
    wide = x.dtype if dtypes.short_name(x.dtype) in _SHIFTED else np.dtype(np.uint32)
    narrow, direction = x.dtype, "LEFT" if left else "RIGHT"
    x, y = g.cast(x, wide), g.cast(y, wide)
    known = g.known(y)
    if known is not None and (known < bits).all():
        return g.cast(g.apply("BitShift", x, y, direction=direction), narrow)
    inside = g.apply("Less", y, g.constant(bits, wide), dtype=BOOL)
    zero = g.constant(0, wide)
    out = g.apply("BitShift", x, g.where(inside, y, zero), direction=direction)
    return g.cast(g.where(inside, out, zero), narrow)


_DIRECTIONS = {"shift_left": "LEFT", "shift_right_logical": "RIGHT"}
_KERNEL_OPERATIONS = {
    "add": "Add",
    "xor": "BitwiseXor",
    "or": "BitwiseOr",
}


@rule("threefry2x32", broadcasts=True)
def _threefry2x32(g: Graph, eqn: Eqn, *operands: Value) -> list[Value]:
    def operation(name: str) -> Callable[[Value, Value], Value]:
        if name in _DIRECTIONS:
            return partial(g.apply, "BitShift", direction=_DIRECTIONS[name])
        return partial(g.apply, _KERNEL_OPERATIONS[name])

    return list(threefry_rounds(operands, operation, lambda value: g.constant(value, np.uint32)))
