"""Choice between values, element by element: select_n and clamp.

Parameters and meanings are those of the `jax.lax` functions of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.comparison import gt, lt
from funcdl.ops.jvp_rules import add_tangents
from funcdl.ops.lowering import Pointwise
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, full_like, instantiate, move_to_front

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

NDArray = np.ndarray[Any, Any]
_BOOL = np.dtype(bool)


def _batch(primitive: Primitive, scalars: tuple[int, ...]) -> Callable[..., tuple[Any, int]]:
    """The batching rule where operand 1 has the output's shape, and `scalars` may be scalars."""

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[Any, int]:
        rank = args[1].ndim - (dims[1] is not None)
        operands = [
            (x if i in scalars and x.ndim == 0 else broadcast_batch(x, axis_size))
            if dim is None
            else move_to_front(x, dim)
            for i, (x, dim) in enumerate(zip(args, dims, strict=True))
        ]
        shape = operands[1].shape
        for i in scalars:
            x = operands[i]
            if x.ndim == 1 <= rank:
                operands[i] = broadcast_in_dim(x, shape=shape, broadcast_dimensions=(0,))
        return primitive.bind(*operands, **params), 0

    return batch


select_n = Primitive("select_n")


def _select_shape(which: ShapedArray, *cases: ShapedArray) -> ShapedArray:
    if not cases:
        raise ShapeError("select_n requires at least one case")
    first = cases[0]
    for case in cases[1:]:
        if not case.same_type(first):
            raise ShapeError(
                "select_n requires cases of equal shape and dtype, got "
                + ", ".join(map(str, cases))
            )
    if which.shape not in ((), first.shape):
        raise ShapeError(
            f"select_n requires `which` to be a scalar or of the cases' shape {first.shape}, got "
            f"{which}"
        )
    if not (which.dtype == np.int32 or dtypes.is_bool(which.dtype)):
        raise DtypeError(f"select_n requires `which` to be bool or i32, got {which}")
    if dtypes.is_bool(which.dtype) and len(cases) > 2:
        raise ShapeError(
            f"select_n with a bool `which` takes at most 2 cases, got {len(cases)}; make it i32"
        )
    return ShapedArray(first.shape, first.dtype)


def _select_impl(which: NDArray, *cases: NDArray) -> NDArray:
    if len(cases) == 2 and which.dtype is _BOOL:
        first, other = cases
        # As it mostly is.
        if which.shape == first.shape == other.shape and other.dtype is first.dtype:
            return np.where(which, other, first)
    _select_shape(*(ShapedArray(x.shape, x.dtype) for x in (which, *cases)))
    out = cases[0].view()
    for number, case in enumerate(cases[1:], start=1):
        out = np.where(which if dtypes.is_bool(which.dtype) else which >= number, case, out)
    return out


def _select_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    out = select_n(*primals)
    if all(map(is_zero, tangents[1:])):
        return out, Zero(out.aval.to_tangent())
    return out, select_n(primals[0], *map(instantiate, tangents[1:]))


def _select_transpose(ct: Any, which: Any, *cases: Any) -> list[Any]:
    zeros = full_like(ct, 0)
    cts: list[Any] = [None]
    for number, case in enumerate(cases):
        chosen = [zeros] * len(cases)
        chosen[number] = ct
        cts.append(select_n(which, *chosen) if is_linear(case) else None)
    return cts


def _select_lower(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    which, out, *others = values
    for number, case in enumerate(others, start=1):
        chosen = which
        if not dtypes.is_bool(avals[0].dtype):
            chosen = builder.elementwise("ge", which, builder.const(number, np.int32))
        out = builder.select(chosen, case, out)
    return out


def _select_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, which_shape, kind, count in [
        ((), (), np.dtype(bool), 2),
        ((3, 4), (3, 4), np.dtype(bool), 2),
        ((3, 4), (), np.dtype(bool), 2),
        ((5,), (5,), np.dtype(np.int32), 3),
        ((5,), (), np.dtype(np.int32), 4),
        ((2,), (2,), np.dtype(bool), 1),
        ((0, 2), (0, 2), np.dtype(bool), 2),
    ]:
        which = rng.integers(0, count, which_shape).astype(kind)
        cases = tuple(random_array(rng, shape, dtype) for _ in range(count))
        yield Sample((which, *cases), {}, tuple(range(1, count + 1)))


select_n.shape = _select_shape
select_n.impl = _select_impl
select_n.weak = lambda weak, **params: all(weak[1:])
select_n.jvp = _select_jvp
select_n.transpose = _select_transpose
select_n.batch = _batch(select_n, (0,))
select_n.lower = Pointwise(_select_lower, lambda: 1)
registry.add(Op(select_n, registry.ALL, _select_samples))


clamp = Primitive("clamp")


def _clamp_shape(low: ShapedArray, x: ShapedArray, high: ShapedArray) -> ShapedArray:
    for name, bound in (("min", low), ("max", high)):
        if bound.shape not in ((), x.shape):
            raise ShapeError(
                f"clamp requires {name} to be a scalar or of the operand's shape {x.shape}, got "
                f"{bound}"
            )
        if bound.dtype != x.dtype:
            raise DtypeError(f"clamp requires {name} to have the operand's dtype, got {bound}, {x}")
    if not dtypes.is_integer(x.dtype) and not dtypes.is_float(x.dtype):
        raise DtypeError(f"clamp takes integers and floats, got {x}")
    return ShapedArray(x.shape, x.dtype)


def _clamp_impl(low: NDArray, x: NDArray, high: NDArray) -> NDArray:
    _clamp_shape(*(ShapedArray(a.shape, a.dtype) for a in (low, x, high)))
    with np.errstate(all="ignore"):
        return np.asarray(np.minimum(np.maximum(low, x), high), x.dtype)


def _clamp_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    out = clamp(*primals)
    low, x, high = (broadcast_to(p, out.shape) for p in primals)
    tests: tuple[Callable[[], Any], ...] = (
        lambda: _both(gt(low, x), lt(low, high)),
        lambda: _both(gt(x, low), lt(x, high)),
        lambda: lt(high, x),
    )
    parts = []
    for t, is_output in zip(tangents, tests, strict=True):
        if not is_zero(t):
            t = broadcast_to(t, out.shape)
            parts.append(select_n(is_output(), full_like(t, 0), t))
    return out, add_tangents(parts, out.aval)


def _both(a: Any, b: Any) -> Any:
    return select_n(a, full_like(a, False), b)


def _clamp_lower(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    low, x, high = values
    return builder.elementwise("min", builder.elementwise("max", low, x), high)


def _clamp_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, low_shape, high_shape in [
        ((), (), ()),
        ((6,), (), ()),
        ((3, 4), (3, 4), ()),
        ((3, 4), (), (3, 4)),
        ((5,), (5,), (5,)),
        ((0,), (), ()),
    ]:
        low = random_array(rng, low_shape, dtype, -2, 0)
        high = random_array(rng, high_shape, dtype, 1, 2)
        yield Sample((low, random_array(rng, shape, dtype), high), {}, (0, 1, 2))


clamp.shape = _clamp_shape
clamp.impl = _clamp_impl
clamp.jvp = _clamp_jvp
clamp.batch = _batch(clamp, (0, 2))
clamp.lower = Pointwise(_clamp_lower, lambda: 2)
registry.add(Op(clamp, registry.REAL, _clamp_samples))
