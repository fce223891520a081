"""Reductions of sliding windows.

Parameters and meanings are those of the `jax.lax` primitives of the same names (see
`ops.windows.parameters`). Padding and holes hold the operation's identity. Half precision
accumulates in float32, integers wrap around.

Kernels read the operand at a position that is linear in the window's place and the place inside it,
under a mask for padding, and reduce over the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.ops import registry
from funcdl.ops.comparison import ge, le
from funcdl.ops.jvp_rules import linear_jvp
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.reduction import extreme_identity
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import move_to_front
from funcdl.ops.windows.lowering import reduce_windows
from funcdl.ops.windows.parameters import (
    CASES,
    apart,
    case_params,
    check_dtype,
    params_of,
    windows_of,
    with_batch,
)
from funcdl.ops.windows.selection import select_and_gather_add

if TYPE_CHECKING:
    from funcdl.kir.ir import ReduceOp

NDArray = np.ndarray[Any, Any]


def _window_reduction(
    name: str,
    accepts: tuple[str, ...],
    op: ReduceOp,
    combine: np.ufunc,
    identity: Callable[[np.dtype[Any]], Any],
) -> Primitive:
    """A reduction of windows with all of its rules but the derivative."""
    primitive = Primitive(name)

    def shape(x: ShapedArray, **params: Any) -> ShapedArray:
        check_dtype(name, x, accepts)
        return ShapedArray(windows_of(name, x.shape, **params).counts, x.dtype)

    def impl(x: NDArray, **params: Any) -> NDArray:
        check_dtype(name, x, accepts)
        windows = windows_of(name, x.shape, **params)
        wide = x.astype(compute_dtype(x.dtype), copy=False)
        empty = identity(wide.dtype)
        padded = windows.padded(wide, empty)
        out = np.full(windows.counts, empty, wide.dtype)
        with np.errstate(all="ignore"):
            if out.size:
                for place in windows.elements():
                    combine(out, padded[place], out=out)
            return out.astype(x.dtype, copy=False)

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int], **params: Any
    ) -> tuple[Any, int]:
        return primitive(move_to_front(args[0], dims[0]), **with_batch(params)), 0

    primitive.shape = shape
    primitive.impl = impl
    primitive.batch = batch
    primitive.lower = reduce_windows(
        op, identity, lambda avals, params: windows_of(name, avals[0].shape, **params)
    )
    return primitive


def _sum_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for case in CASES:
        yield Sample((random_array(rng, case[0], dtype),), case_params(case), grad)


reduce_window_sum = _window_reduction(
    "reduce_window_sum", registry.NUMBERS, "sum", np.add, lambda dtype: dtype.type(0)
)


def _sum_transpose(ct: Any, x: Any, **params: Any) -> list[Any]:
    """Each element collects from the windows that it is in; as windows are symmetric, they too
    are windows over the cotangent."""
    if not (ct.size and x.aval.size):
        return [Zero(x.aval.to_tangent())]
    windows = windows_of("reduce_window_sum", x.aval.shape, **params)
    return [reduce_window_sum(ct, **params_of(windows.transposed()))]


reduce_window_sum.jvp = linear_jvp(reduce_window_sum)
reduce_window_sum.transpose = _sum_transpose
registry.add(Op(reduce_window_sum, registry.NUMBERS, _sum_samples))


def _extreme(
    name: str, op: ReduceOp, combine: np.ufunc, select_prim: str, lowest: bool
) -> Primitive:
    accepts = registry.BOOL + registry.REAL
    primitive = _window_reduction(
        name, accepts, op, combine, lambda dtype: extreme_identity(dtype, lowest)
    )

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = primitive(x, **params)
        if is_zero(t):
            return out, Zero(out.aval.to_tangent())
        return out, select_and_gather_add(t, x, select_prim=select_prim, **params)

    def samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
        for case in CASES:
            params = case_params(case)
            windows = windows_of(name, case[0], **params)
            # A window of padding alone has an infinite extreme, which differences cannot do.
            assert reduce_window_sum.impl is not None
            covered = reduce_window_sum.impl(np.ones(case[0]), **params).all()
            grad = (0,) if dtypes.is_inexact(dtype) and covered and windows.sizes else ()
            yield Sample((apart(rng, case[0], dtype),), params, grad)

    primitive.jvp = jvp
    registry.add(Op(primitive, accepts, samples))
    return primitive


reduce_window_max = _extreme("reduce_window_max", "max", np.maximum, ge.name, lowest=True)
reduce_window_min = _extreme("reduce_window_min", "min", np.minimum, le.name, lowest=False)
