"""Random orders and choices, with the bits of JAX's functions of the same names."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.lax.sorting import sort_key_val
from funcdl.numpy.creation import ShapeLike, shape_of
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_inexact, strong
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops.sort import top_k
from funcdl.random.key_array import KeyArray
from funcdl.random.keys import UINT32, single_key, split
from funcdl.random.samplers import bits, gumbel, randint, uniform


def _population(name: str, what: str, x: ArrayLike) -> Any:
    """An array of at least one dimension, or a Python integer that stands for a range."""
    if isinstance(x, KeyArray):
        raise DtypeError(
            f"{name}: {what} must be an array of numbers, got keys; permute indices instead: "
            f"keys[random.{name}(key, len(keys))]"
        )
    values = array(name, x)
    if values.aval.shape:
        return values
    if not dtypes.is_integer(values.aval.dtype):
        raise DtypeError(f"{name}: {what} must be an integer or an array, got {values.aval}")
    return operator.index(values)


def permutation(key: Any, x: int | ArrayLike, axis: int = 0, independent: bool = False) -> Any:
    """The elements in random order (see `jax.random.permutation`).

    They are sorted by random 32-bit numbers, often enough for ties to have no influence.

    Args:
      key: one key.
      x: an array, or an integer, which stands for ``arange(x)``.
      axis: the dimension along which to permute.
      independent: whether to permute each vector along the axis on its own, rather than slices.

    Raises:
      DtypeError: `x` is a scalar that is no integer.
      ArgumentError: `axis` is out of range.
    """
    independent = flag("permutation: independent", independent)
    data = single_key("permutation", key)
    values = _population("permutation", "x", x)
    if type(values) is int:
        normalize_axis("permutation", axis, 1)
        return _shuffled(data, fnp.arange(values), 0)
    axis = normalize_axis("permutation", axis, values.ndim)
    if independent or values.ndim == 1:
        return _shuffled(data, values, axis)
    order = _shuffled(data, fnp.arange(values.shape[axis]), 0)
    return fnp.take(values, order, axis)


def _shuffled(data: Any, x: Any, axis: int) -> Any:
    rounds = math.ceil(3 * math.log(max(1, x.size)) / math.log(2**32 - 1))
    for _ in range(rounds):
        keys = split(data)
        data = keys[0]
        _, x = sort_key_val(bits(keys[1], x.shape, UINT32), x, axis)
    return x


def choice(
    key: Any,
    a: int | ArrayLike,
    shape: ShapeLike = (),
    replace: bool = True,
    p: ArrayLike | None = None,
    axis: int = 0,
    mode: str | None = None,
) -> Any:
    """Elements drawn from an array (see `jax.random.choice`).

    Without replacement and with probabilities, these are the largest of their logarithms with
    Gumbel noise (T. Vieira, "Gumbel-max trick and weighted reservoir sampling", 2014).

    Args:
      key: one key.
      a: an array, or an integer, which stands for ``arange(a)``.
      shape: how many; in the result it stands in the place of the axis.
      replace: whether an element can be drawn again.
      p: the elements' probabilities, shape ``[a.shape[axis]]``; None: all equally likely.
      axis: the dimension to choose along.
      mode: how exact Gumbel noise is, see `gumbel`; of use with `p` and without `replace` only.

    Raises:
      ArgumentError: there are too few elements, or `axis` is out of range.
      ShapeError: `p` has another shape.
      DtypeError: `a` is a scalar that is no integer.
    """
    replace = flag("choice: replace", replace)
    data = single_key("choice", key)
    if not isinstance(shape, Sequence):
        raise ShapeError(f"choice: shape must be a sequence of integers, got {shortened(shape)}")
    sizes = shape_of(shape)
    values = _population("choice", "a", a)
    ranged = type(values) is int
    axis = normalize_axis("choice", axis, 1 if ranged else values.ndim)
    population = values if ranged else values.shape[axis]
    draws = math.prod(sizes)
    if draws and population <= 0:
        raise ArgumentError(f"choice: a must have elements to choose {draws} of, got {population}")
    if not replace and draws > population:
        raise ArgumentError(
            f"choice: shape {sizes} asks for {draws} elements without replacement, and a has "
            f"{population} along axis {axis}; draw fewer, or pass replace=True"
        )
    kept = () if ranged else values.shape[:axis]
    rest = () if ranged else values.shape[axis + 1 :]
    if not draws:
        dtype = dtypes.default_dtype("i") if ranged else values.dtype
        return fnp.zeros((*kept, *sizes, *rest), dtype)
    if p is None and not replace:
        whole = permutation(data, values, axis)
        first = whole[(slice(None),) * axis + (slice(draws),)]
        return first.reshape((*kept, *sizes, *rest))
    if p is None:
        indices = randint(data, sizes, 0, population)
    else:
        indices = _weighted(data, p, population, sizes, draws, replace, mode)
    chosen = indices if ranged else fnp.take(values, indices.reshape(-1), axis)
    return chosen.reshape((*kept, *sizes, *rest))


def _weighted(
    data: Any,
    p: ArrayLike,
    population: int,
    sizes: tuple[int, ...],
    draws: int,
    replace: bool,
    mode: str | None,
) -> Any:
    p = strong(promote_inexact("choice", array("choice", p))[0])
    if p.aval.shape != (population,):
        raise ShapeError(f"choice: p must have shape ({population},), got {p.aval}")
    integer = dtypes.default_dtype("i")
    if replace:
        ends = fnp.cumsum(p)
        places = ends[-1] * (1 - uniform(data, sizes, ends.dtype))
        return convert(fnp.searchsorted(ends, places), integer)
    noisy = gumbel(data, (population,), p.dtype, mode) + fnp.log(p)
    return convert(top_k(noisy, k=draws, axis=0)[1], integer)


def categorical(
    key: Any,
    logits: ArrayLike,
    axis: int = -1,
    shape: ShapeLike = None,
    replace: bool = True,
    mode: str | None = None,
) -> Any:
    """Category numbers, drawn with probabilities ``softmax(logits)`` (`jax.random.categorical`).

    The largest of the logits with Gumbel noise added, where the noise is drawn for each sample.

    Args:
      key: one key.
      logits: logarithms of probabilities, up to a constant.
      axis: the dimension that runs over categories.
      shape: the result's shape, which ends in that of `logits` without `axis` (the default).
      replace: whether a category can be drawn again along the dimensions that `shape` has more.
      mode: how exact the noise is, see `gumbel`.

    Raises:
      ArgumentError: without replacement, there are too few categories.
      ShapeError: `shape` does not fit.
      DtypeError: `logits` are no floats.
    """
    replace = flag("categorical: replace", replace)
    data = single_key("categorical", key)
    logits = array("categorical", logits)
    if not dtypes.is_float(logits.aval.dtype):
        raise DtypeError(f"categorical: logits must be floating, got {logits.aval}")
    axis = normalize_axis("categorical", axis, logits.ndim)
    if not replace:
        return _without_replacement(data, logits, axis, shape, mode)
    own = logits.aval.shape
    batch = own[:axis] + own[axis + 1 :]
    sizes = batch if shape is None else shape_of(shape)
    extra = len(sizes) - len(batch)
    fits = extra >= 0 and all(
        size in (1, wanted) for size, wanted in zip(batch, sizes[extra:], strict=True)
    )
    if not fits:
        raise ShapeError(
            f"categorical: shape must end in a shape to which {batch} broadcasts, that of the "
            f"logits without axis {axis}; got {sizes}"
        )
    place = extra + axis
    noise = gumbel(data, (*sizes[:place], own[axis], *sizes[place:]), logits.dtype, mode)
    return fnp.argmax(noise + logits, place)


def _without_replacement(
    data: Any, logits: Any, axis: int, shape: ShapeLike, mode: str | None
) -> Any:
    """`categorical` with distinct categories: the largest logits with Gumbel noise.

    Raises:
      ShapeError: `shape` does not end in the batch shape.
      ArgumentError: there are too few categories.
    """
    own = logits.aval.shape
    batch = own[:axis] + own[axis + 1 :]
    sizes = batch if shape is None else shape_of(shape)
    extra = len(sizes) - len(batch)
    if extra < 0 or sizes[extra:] != batch:
        raise ShapeError(
            f"categorical: shape must end in {batch}, that of the logits without axis {axis}; got "
            f"{sizes}"
        )
    draws = math.prod(sizes[:extra])
    if draws > own[axis]:
        raise ArgumentError(
            f"categorical: shape {sizes} asks for {draws} categories without replacement, and "
            f"there are {own[axis]}; draw fewer, or pass replace=True"
        )
    noisy = fnp.moveaxis(logits + gumbel(data, own, logits.dtype, mode), axis, -1)
    places = convert(top_k(noisy, k=draws, axis=noisy.ndim - 1)[1], np.dtype(np.int32))
    return fnp.moveaxis(places, -1, 0).reshape(sizes)
