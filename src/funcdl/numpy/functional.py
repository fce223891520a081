"""Functions that take functions, and choices among arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.core.options import is_option, sequence
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ConcretizationError, DtypeError, ShapeError
from funcdl.numpy.arithmetic import clip
from funcdl.numpy.creation import DTypeLike, asarray, shape_of, zeros_like
from funcdl.numpy.indexing import take_along_axis, where
from funcdl.numpy.joining import stack
from funcdl.numpy.logic import truth
from funcdl.numpy.promotion import ArrayLike, array, convert, promote, refuse_out
from funcdl.numpy.ranges import arange
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import broadcast_arrays, expand_dims, ndim
from funcdl.transforms.arguments import check_function
from funcdl.transforms.vmap import vmap

__all__ = ["apply_along_axis", "apply_over_axes", "choose", "fromfunction", "piecewise"]


def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: ArrayLike, *args: Any, **kwargs: Any
) -> Any:
    """A function of vectors, mapped over all others of an array's axes.

    See `numpy.apply_along_axis`.

    Args:
      func1d: called with a vector, `args` and `kwargs`; the dimensions of its result take the
        axis's place.
      axis: the axis of the vectors.
      arr: the array.
      args, kwargs: more arguments.

    Raises:
      ArgumentError: there is no such axis.
    """
    check_function("apply_along_axis", func1d)
    arr = array("apply_along_axis", arr)
    axis = normalize_axis("apply_along_axis", axis, arr.aval.ndim)

    def apply(vector: Any) -> Any:
        return func1d(vector, *args, **kwargs)

    for _ in range(arr.aval.ndim - 1 - axis):
        apply = vmap(apply, in_axes=1, out_axes=-1)
    for _ in range(axis):
        apply = vmap(apply, in_axes=0, out_axes=0)
    return apply(arr)


def apply_over_axes(func: Callable[[Any, int], Any], a: ArrayLike, axes: Sequence[int]) -> Any:
    """A function applied along one axis after the other, which keeps the number of dimensions.

    See `numpy.apply_over_axes`.

    Args:
      func: called with an array and an axis; an axis that its result lacks comes back, of size 1.
      a: the array.
      axes: the axes.

    Raises:
      ShapeError: the function's result has another number of dimensions.
      ArgumentError: there is no such axis.
    """
    check_function("apply_over_axes", func)
    out = array("apply_over_axes", a)
    rank = out.aval.ndim
    for axis in (axes,) if isinstance(axes, int) else integers("apply_over_axes: axes", axes):
        result = func(out, normalize_axis("apply_over_axes", axis, rank))
        if ndim(result) == rank - 1:
            result = expand_dims(result, normalize_axis("apply_over_axes", axis, rank))
        if ndim(result) != rank:
            raise ShapeError(
                f"apply_over_axes: func must return an array of {rank} or {rank - 1} dimensions, "
                f"got {ndim(result)}"
            )
        out = result
    return out


def fromfunction(
    function: Callable[..., Any], shape: Any, *, dtype: DTypeLike = float, **kwargs: Any
) -> Any:
    """A function of the index of each element along each dimension (see `jax.numpy.fromfunction`).

    Args:
      function: called with one scalar for each dimension, mapped over the grid.
      shape: the sizes of the grid.
      dtype: the element type of the scalars.
      kwargs: more arguments of the function.
    """
    check_function("fromfunction", function)
    sizes = shape_of(shape)

    def apply(*index: Any) -> Any:
        return function(*index, **kwargs)

    for d in range(len(sizes) - 1, -1, -1):
        apply = vmap(apply, in_axes=tuple(0 if k == d else None for k in range(len(sizes))))
    return apply(*(arange(n, dtype=dtype) for n in sizes))


def piecewise(x: ArrayLike, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """For each element the function of the last true condition (see `jax.numpy.piecewise`).

    Args:
      x: the array.
      condlist: the conditions, arrays of bools that broadcast with it, or one of them.
      funclist: for each condition a function of arrays or a number; one more is for elements
        without a true condition, which otherwise become 0. All functions are called with the
        whole array.
      args, kw: more arguments of the functions.

    Raises:
      ArgumentError: the numbers of conditions and functions do not fit.
    """
    x = array("piecewise", x)
    if ndim(asarray(condlist)) == x.aval.ndim and not isinstance(condlist, list | tuple):
        condlist = [condlist]
    conditions = [truth("piecewise", c) for c in sequence("piecewise: condlist", condlist)]
    functions = sequence("piecewise: funclist", funclist)
    if len(functions) not in (len(conditions), len(conditions) + 1):
        raise ArgumentError(
            f"piecewise: {len(conditions)} conditions need as many functions, or one more, got "
            f"{len(functions)}"
        )
    default = functions.pop() if len(functions) > len(conditions) else 0

    def value(function: Any) -> Any:
        result = function(x, *args, **kw) if callable(function) else function
        return convert(array("piecewise", result), x.aval.dtype)

    out = where(True, value(default), zeros_like(x))
    for condition, function in zip(conditions, functions, strict=True):
        out = where(condition, value(function), out)
    return out


def choose(a: ArrayLike, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """For each element the one of several arrays that an index names (see `jax.numpy.choose`).

    Args:
      a: the indices, integers.
      choices: the arrays, which broadcast with it.
      out: must be None.
      mode: what becomes of indices out of range: "raise" an error, "clip" or "wrap" them.

    Raises:
      ArgumentError: an unknown mode, or an index out of range.
      ConcretizationError: with `mode` "raise", the indices are traced.
      DtypeError: they are no integers.
    """
    refuse_out("choose", out)
    if not is_option(mode, ("raise", "clip", "wrap")):
        raise ArgumentError(
            f"choose: mode must be 'raise', 'clip' or 'wrap', got {shortened(mode)}"
        )
    index = array("choose", a)
    if not dtypes.is_integer(index.aval.dtype):
        raise DtypeError(f"choose: a must hold integers, got {index.aval}")
    arrays = sequence("choose: choices", choices)
    count = len(arrays)
    if not count:
        raise ArgumentError("choose: at least one choice is needed")
    parts = promote("choose", *arrays)
    if mode == "raise":
        if isinstance(index, Tracer):
            raise ConcretizationError(
                "choose: indices that are traced cannot be checked; pass mode='clip' or "
                f"mode='wrap', got {index.aval}"
            )
        if ((index.value < 0) | (index.value >= count)).any():
            raise ArgumentError(f"choose: an index is not in 0 to {count - 1}")
    elif mode == "clip":
        index = clip(index, 0, count - 1)
    else:
        index = index % count
    index, *parts = broadcast_arrays(index, *parts)
    return take_along_axis(stack(parts), index[None], 0)[0]
