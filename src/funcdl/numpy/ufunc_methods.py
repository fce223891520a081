"""The methods of NumPy's universal functions, on the functions that have them in JAX.

``add.reduce``, ``multiply.outer`` and so on are attributes of the plain functions, which stay what
they are when called. Where a reduction of another name is the same, it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.core.forks import held_off
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ConcretizationError
from funcdl.numpy import arithmetic, functions, logic, reductions
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.indexing import where as choose
from funcdl.numpy.joining import concatenate, stack
from funcdl.numpy.logic import truth
from funcdl.numpy.promotion import ArrayLike, array, convert, refuse_out
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import (
    broadcast_arrays,
    broadcast_to,
    expand_dims,
    moveaxis,
    ravel,
    reshape,
)

Function = Callable[..., Any]


def _control() -> Any:
    # Imported when first wanted, since most programs call none of these methods.
    with held_off():
        from funcdl import control

    return control


def _reduce(name: str, f: Function, identity: Any) -> Function:
    def reduce(
        a: ArrayLike,
        axis: int | None = 0,
        dtype: DTypeLike = None,
        out: None = None,
        keepdims: bool = False,
        initial: ArrayLike | None = None,
        where: ArrayLike | None = None,
    ) -> Any:
        """The function applied along an axis, from its first element to its last."""
        label = f"{name}.reduce"
        refuse_out(label, out)
        x = array(label, a)
        x = x if dtype is None else convert(x, canonical(dtype))
        start = identity if initial is None else initial
        if where is not None and start is None:
            raise ArgumentError(f"{label}: where needs initial, the result if it is false")
        ndim = x.aval.ndim

        def along(x: Any) -> Any:
            return ravel(x) if axis is None else moveaxis(x, normalize_axis(label, axis, ndim), 0)

        rows = along(x)
        meant = None if where is None else along(broadcast_to(truth(label, where), x.aval.shape))
        if initial is None and rows.aval.shape[0] and identity is None:
            first, rest = rows[0], rows[1:]
        elif start is None:
            raise ArgumentError(f"{label}: there is no result of no elements; pass initial")
        else:
            first = broadcast_to(convert(start, rows.aval.dtype), rows.aval.shape[1:])
            rest = rows
        first = convert(array(label, first), array(label, f(first, first)).aval.dtype)

        def step(total: Any, entry: tuple[Any, Any]) -> tuple[Any, None]:
            row, counts = entry
            result = f(total, row)
            return (result if counts is None else choose(counts, result, total)), None

        found = _control().scan(step, first, (rest, meant))[0]
        if not keepdims:
            return found
        places = tuple(range(ndim)) if axis is None else (normalize_axis(label, axis, ndim),)
        return expand_dims(found, places)

    return reduce


def _by_name(name: str, reduction: Function) -> Function:
    """A reduction of `reductions` with the arguments of a method `reduce`."""

    def reduce(
        a: ArrayLike,
        axis: int | None = 0,
        dtype: DTypeLike = None,
        out: None = None,
        keepdims: bool = False,
        initial: ArrayLike | None = None,
        where: ArrayLike | None = None,
    ) -> Any:
        """The function applied along an axis, from its first element to its last."""
        refuse_out(f"{name}.reduce", out)
        x = array(f"{name}.reduce", a)
        x = x if dtype is None else convert(x, canonical(dtype))
        options = {} if initial is None else {"initial": initial}
        return reduction(x, axis, keepdims=keepdims, where=where, **options)

    return reduce


def _accumulate(name: str, f: Function, associative: bool) -> Function:
    def accumulate(a: ArrayLike, axis: int = 0, dtype: DTypeLike = None, out: None = None) -> Any:
        """The results of `reduce` up to each element along an axis."""
        label = f"{name}.accumulate"
        refuse_out(label, out)
        x = array(label, a)
        x = x if dtype is None else convert(x, canonical(dtype))
        axis = normalize_axis(label, axis, x.aval.ndim)
        if x.aval.shape[axis] == 0:
            return x
        x = convert(x, array(label, f(x, x)).aval.dtype)
        if associative:
            return _control().associative_scan(f, x, axis=axis)
        rows = moveaxis(x, axis, 0)

        def step(total: Any, row: Any) -> tuple[Any, Any]:
            total = f(total, row)
            return total, total

        rest = _control().scan(step, rows[0], rows[1:])[1]
        return moveaxis(concatenate([rows[:1], rest]), 0, axis)

    return accumulate


def _outer(name: str, f: Function) -> Function:
    def outer(A: ArrayLike, B: ArrayLike, /) -> Any:
        """The function of every pair of elements: dimensions of `A`, then those of `B`."""
        x, y = array(f"{name}.outer", A), array(f"{name}.outer", B)
        return f(reshape(x, x.aval.shape + (1,) * y.aval.ndim), y)

    return outer


def _at(name: str, f: Function, update: str | None) -> Function:
    def at(
        a: ArrayLike, indices: Any, b: ArrayLike | None = None, /, *, inplace: bool = True
    ) -> Any:
        """The array with the function applied to ``a[indices]`` and `b`, as often as named."""
        label = f"{name}.at"
        if inplace:
            raise ArgumentError(
                f"{label}: arrays are immutable, so it returns the result and needs inplace=False"
            )
        x = array(label, a)
        if b is None:
            return x.at[indices].apply(f)
        if update is not None:
            return getattr(x.at[indices], update)(b)
        each = broadcast_arrays(*(indices if isinstance(indices, tuple) else (indices,)))
        shape = each[0].aval.shape
        rows = shape + x.aval.shape[len(each) :]
        values = reshape(broadcast_to(array(label, b), rows), (-1, *x.aval.shape[len(each) :]))
        places = [ravel(i) for i in each]

        def step(k: Any, x: Any) -> Any:
            index = tuple(i[k] for i in places)
            return x.at[index].set(f(x[index], values[k]))

        return _control().fori_loop(0, values.aval.shape[0], step, x)

    return at


def _reduceat(name: str, reduce: Function) -> Function:
    def reduceat(
        a: ArrayLike, indices: Any, axis: int = 0, dtype: DTypeLike = None, out: None = None
    ) -> Any:
        """`reduce` of the slices between places that follow each other, which must be known.

        Where the next place is no larger, the element there alone.
        """
        label = f"{name}.reduceat"
        refuse_out(label, out)
        if isinstance(indices, Tracer):
            raise ConcretizationError(f"{label}: indices must not be traced, got {indices.aval}")
        x = array(label, a)
        axis = normalize_axis(label, axis, x.aval.ndim)
        rows = moveaxis(x, axis, 0)
        starts = [int(i) for i in np.asarray(indices)]
        ends = [*starts[1:], rows.aval.shape[0]]
        parts = [
            reduce(rows[i : j if i < j else i + 1], 0, dtype)
            for i, j in zip(starts, ends, strict=True)
        ]
        return stack(parts, axis=axis)

    return reduceat


def _install(
    f: Any,
    identity: Any,
    reduce: Function | None = None,
    accumulate: Function | None = None,
    update: str | None = None,
    associative: bool = True,
) -> None:
    name = f.__name__
    f.reduce = reduce or _reduce(name, f, identity)
    f.accumulate = accumulate or _accumulate(name, f, associative)
    f.outer, f.at = _outer(name, f), _at(name, f, update)
    f.reduceat = _reduceat(name, f.reduce)
    f.identity, f.nin, f.nout, f.nargs = identity, 2, 1, 3


def _from_axis_0(running: Function) -> Function:
    return lambda a, axis=0, dtype=None, out=None: running(a, axis, dtype, out)


def _sum_like(reduction: Function) -> Function:
    return lambda a, axis=0, *args, **options: reduction(a, axis, *args, **options)


_install(
    arithmetic.add, 0, _sum_like(reductions.sum), _from_axis_0(reductions.cumsum), update="add"
)
_install(
    arithmetic.multiply,
    1,
    _sum_like(reductions.prod),
    _from_axis_0(reductions.cumprod),
    update="multiply",
)
_install(arithmetic.subtract, None, update="subtract", associative=False)
_install(arithmetic.maximum, None, _by_name("maximum", reductions.max), update="max")
_install(arithmetic.minimum, None, _by_name("minimum", reductions.min), update="min")
_install(logic.bitwise_and, -1)
_install(logic.bitwise_or, 0)
_install(logic.bitwise_xor, 0)
_install(logic.logical_and, True)
_install(logic.logical_or, False)
_install(logic.logical_xor, False)
_install(functions.logaddexp, -np.inf)
_install(functions.logaddexp2, -np.inf)
_negative: Any = arithmetic.negative
_negative.at = _at("negative", _negative, None)
_negative.nin, _negative.nout, _negative.nargs = 1, 1, 2
