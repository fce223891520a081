"""Primitives that accumulate along an axis: cumsum, cumprod, cummax, cummin, cumlogsumexp.

Parameters and meanings are those of the `jax.lax` functions of the same names: element i of the
output combines the elements up to i, with `reverse` those from i on. Half precision accumulates in
float32, integers wrap around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, mul, sub
from funcdl.ops.comparison import eq, ne
from funcdl.ops.exponential import exp
from funcdl.ops.jvp_rules import linear_jvp
from funcdl.ops.lowering import Accumulation, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like, iota
from funcdl.ops.slicing import pad
from funcdl.ops.sort import take_along

if TYPE_CHECKING:
    from funcdl.kir.ir import RunningOp

NDArray = np.ndarray[Any, Any]


def _cumulative(name: str, accepts: tuple[str, ...], combine: np.ufunc, op: RunningOp) -> Primitive:
    """An accumulation with all of its rules but the derivative."""
    primitive = Primitive(name)

    def check(x: Any, axis: int) -> None:
        aval = ShapedArray(x.shape, x.dtype)
        if dtypes.short_name(x.dtype) not in accepts:
            raise DtypeError(
                f"{name} does not accept {aval}; it takes {', '.join(accepts)}.\n"
                "Convert the operand with astype first."
            )
        if not 0 <= axis < aval.ndim:
            raise ShapeError(f"{name}: axis {axis} does not fit {aval}; count it from the front")

    def shape(x: ShapedArray, *, axis: int, reverse: bool) -> ShapedArray:
        check(x, axis)
        return ShapedArray(x.shape, x.dtype)

    def impl(x: NDArray, *, axis: int, reverse: bool) -> NDArray:
        check(x, axis)
        dtype = compute_dtype(x.dtype)
        wide = np.flip(x, axis) if reverse else x
        with np.errstate(all="ignore"):
            out = combine.accumulate(wide.astype(dtype, copy=False), axis, dtype)
            out = out.astype(x.dtype, copy=False)
        return np.flip(out, axis) if reverse else out

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int], *, axis: int, reverse: bool
    ) -> tuple[Any, int]:
        (x,), (dim,) = args, dims
        return primitive(x, axis=axis + (axis >= dim), reverse=reverse), dim

    primitive.shape = shape
    primitive.impl = impl
    primitive.batch = batch
    primitive.lower = Accumulation(op)
    return primitive


def _shifted(x: Any, step: int, fill: float, axis: int, reverse: bool) -> Any:
    """For each element the one `step` places before it, `fill` where there is none."""
    low, high = (-step, step) if reverse else (step, -step)
    config = tuple((low, high, 0) if d == axis else (0, 0, 0) for d in range(x.ndim))
    return pad(x, Array(np.array(fill, x.dtype)), padding_config=config)


def _recurrence(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    """The solution of ``t[i] = a[i] * t[i - 1] + b[i]``, which is linear in b.

    By doubling: after step k, ``t[i] = a[i] * t[i - 2**k] + b[i]``.
    """
    step = 1
    while step < b.shape[axis]:
        b = add(b, mul(a, _shifted(b, step, 0, axis, reverse)))
        a = mul(a, _shifted(a, step, 0, axis, reverse))
        step *= 2
    return b


_CASES = (
    ((5,), 0, False),
    ((5,), 0, True),
    ((3, 4), 1, True),
    ((2, 3, 2), 1, False),
    ((1, 3), 0, False),
    ((0, 2), 0, True),
    ((2, 0), 0, False),
)


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for shape, axis, reverse in _CASES:
        params = {"axis": axis, "reverse": reverse}
        yield Sample((random_array(rng, shape, dtype),), params, grad)


cumsum = _cumulative("cumsum", registry.NUMBERS, np.add, "sum")
cumsum.jvp = linear_jvp(cumsum)
cumsum.transpose = lambda ct, x, *, axis, reverse: [cumsum(ct, axis=axis, reverse=not reverse)]
registry.add(Op(cumsum, registry.NUMBERS, _samples))


def _prod_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, reverse: bool
) -> tuple[Any, Any]:
    """By the product rule, without a division, which would be wrong at zeros."""
    (x,), (t,) = primals, tangents
    out = cumprod(x, axis=axis, reverse=reverse)
    if is_zero(t):
        return out, Zero(out.aval.to_tangent())
    before = _shifted(out, 1, 1, axis, reverse)
    return out, _recurrence(x, mul(before, t), axis, reverse)


def _prod_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    yield from _samples(rng, dtype)
    x = random_array(rng, (5,), dtype)
    x[1:3] = 0
    params = {"axis": 0, "reverse": False}
    yield Sample((x,), params, (0,) if dtypes.is_inexact(dtype) else ())


cumprod = _cumulative("cumprod", registry.NUMBERS, np.multiply, "prod")
cumprod.jvp = _prod_jvp
registry.add(Op(cumprod, registry.NUMBERS, _prod_samples))


def _extreme_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """The tangent of each element is that of the first element that has its value."""

    def jvp(
        primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, reverse: bool
    ) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = primitive(x, axis=axis, reverse=reverse)
        if is_zero(t):
            return out, Zero(out.aval.to_tangent())
        size = x.shape[axis]
        places = iota(dtype=np.dtype(np.int32), shape=x.shape, dimension=axis)
        first = full_like(places, size - 1 if reverse else 0)
        changed = ne(out, _shifted(out, 1, 0, axis, reverse))
        # Where nothing changes, the last place where something did, or the first of all.
        latest = cummin if reverse else cummax
        places = latest(select_n(changed, first, places), axis=axis, reverse=reverse)
        return out, take_along(t, places, axis)

    return jvp


def _extreme_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for shape, axis, reverse in _CASES:
        x = random_array(rng, shape, dtype)
        if grad:
            # Far apart, so that a finite difference changes no winner even in half precision.
            x = (rng.permutation(x.size).reshape(shape) / 4 - 2).astype(dtype)
        yield Sample((x,), {"axis": axis, "reverse": reverse}, grad)
    if dtypes.is_float(dtype):
        special = np.array([-np.inf, 1, np.nan, 2, np.inf]).astype(dtype)
        yield Sample((special,), {"axis": 0, "reverse": False})


def _extreme(name: str, combine: np.ufunc, op: RunningOp) -> Primitive:
    primitive = _cumulative(name, registry.NUMBERS, combine, op)
    primitive.jvp = _extreme_jvp(primitive)
    registry.add(Op(primitive, registry.NUMBERS, _extreme_samples))
    return primitive


cummax = _extreme("cummax", np.maximum, "max")
cummin = _extreme("cummin", np.minimum, "min")


def _logsumexp_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, reverse: bool
) -> tuple[Any, Any]:
    """A mean of the tangents so far, in which the newest has its share of the sum as weight."""
    (x,), (t,) = primals, tangents
    out = cumlogsumexp(x, axis=axis, reverse=reverse)
    if is_zero(t):
        return out, Zero(out.aval.to_tangent())
    lowest = full_like(out, -np.inf)
    # Where the sum is 0 nothing has a weight.
    total = select_n(eq(out, lowest), out, full_like(out, 0))
    before = _shifted(out, 1, -np.inf, axis, reverse)
    kept, share = exp(sub(before, total)), exp(sub(x, total))
    return out, _recurrence(kept, mul(share, t), axis, reverse)


def _logsumexp_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    yield from _samples(rng, dtype)
    far = np.array([-np.inf, -np.inf, 1000, -1000, 1000.5]).astype(dtype)
    for reverse in (False, True):
        yield Sample((far,), {"axis": 0, "reverse": reverse})


cumlogsumexp = _cumulative("cumlogsumexp", registry.FLOATS, np.logaddexp, "logsumexp")
cumlogsumexp.jvp = _logsumexp_jvp
registry.add(Op(cumlogsumexp, registry.FLOATS, _logsumexp_samples))
