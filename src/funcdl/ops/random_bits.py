"""The counter-based generator behind random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive, never_weak
from funcdl.core.quiet import quietly
from funcdl.core.symbolic_zero import Zero
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.lowering import Pointwise
from funcdl.ops.registry import Op, Sample
from funcdl.ops.rows import elementwise_batch

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

NDArray = np.ndarray[Any, Any]
Value = TypeVar("Value")
UINT32 = np.dtype(np.uint32)

threefry2x32 = Primitive("threefry2x32", multiple_results=True)
"""Threefry-2x32 with 20 rounds: ``threefry2x32(key0, key1, counter0, counter1) -> [bits0, bits1]``.

All operands are uint32 arrays of one shape, as are the results. From J. Salmon and others,
"Parallel random numbers: as easy as 1, 2, 3" (2011); the bits are those of JAX's primitive.
"""

# By how much rounds rotate, four by four in turn, and what the third key word is mixed with.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def _threefry(
    operands: Sequence[Value],
    operation: Callable[[str], Callable[[Value, Value], Value]],
    constant: Callable[[int], Value],
) -> tuple[Value, Value]:
    """The rounds, on whatever the operations that have these names in kernels compute with."""
    names = ("add", "xor", "or", "shift_left", "shift_right_logical")
    add, xor, either, left, right = map(operation, names)
    key0, key1, x0, x1 = operands
    keys = (key0, key1, xor(xor(key0, key1), constant(_PARITY)))
    x0, x1 = add(x0, key0), add(x1, key1)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = add(x0, x1)
            high, low = left(x1, constant(rotation)), right(x1, constant(32 - rotation))
            x1 = xor(either(high, low), x0)
        x0 = add(x0, keys[(group + 1) % 3])
        x1 = add(x1, add(keys[(group + 2) % 3], constant(group + 1)))
    return x0, x1


_UFUNCS: dict[str, Any] = {
    "add": np.add,
    "xor": np.bitwise_xor,
    "or": np.bitwise_or,
    "shift_left": np.left_shift,
    "shift_right_logical": np.right_shift,
}


@cache
def _array_of(value: int) -> NDArray:
    """A constant, as what ufuncs take up sooner than a scalar."""
    return np.array(value, UINT32)


def _impl(*operands: NDArray) -> list[NDArray]:
    _shape(*(ShapedArray(x.shape, x.dtype) for x in operands))
    # 0-dimensional sums warn.
    return list(quietly(_threefry, operands, _UFUNCS.__getitem__, _array_of))


def _shape(*operands: ShapedArray) -> list[ShapedArray]:
    first = operands[0]
    if any(x.dtype != UINT32 for x in operands):
        found = ", ".join(map(str, operands))
        raise DtypeError(f"threefry2x32 requires u32 operands, got {found}")
    if len(operands) != 4 or any(x.shape != first.shape for x in operands):
        found = ", ".join(map(str, operands))
        raise ShapeError(f"threefry2x32 requires four operands of equal shape, got {found}")
    return [ShapedArray(first.shape, UINT32)] * 2


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    outs = threefry2x32(*primals)
    return outs, [Zero(out.aval.to_tangent()) for out in outs]


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None]
) -> tuple[list[Any], list[int]]:
    outs, dim = elementwise_batch(threefry2x32)(axis_size, args, dims)
    return outs, [dim, dim]


def _lower(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    # The builder shares equal values, so the second output costs nothing.
    outs = _threefry(
        values,
        lambda name: partial(builder.elementwise, name),
        lambda value: builder.const(value, UINT32),
    )
    return outs[output]


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in ((), (5,), (2, 3), (0,)):
        yield Sample(tuple(rng.integers(0, 2**32, shape, dtype) for _ in range(4)))


threefry2x32.impl = _impl
threefry2x32.shape = _shape
threefry2x32.weak = never_weak
threefry2x32.jvp = _jvp
threefry2x32.batch = _batch
threefry2x32.lower = Pointwise(_lower, lambda: 120)
registry.add(Op(threefry2x32, ("u32",), _samples))
