"""Products of all other numbers that share a place, for derivatives of products by place."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.ops.arithmetic import mul
from funcdl.ops.comparison import eq
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, full_like, iota, rev
from funcdl.ops.slicing import concatenate, slice_along
from funcdl.ops.sort import sort


def product_of_others(places: Any, values: Any) -> Any:
    """For each number the product of all others at its place; 1 if it is alone there.

    Only multiplications are used, no quotients, so that zeros do no harm and derivatives of any
    order are right. Numbers are sorted by place; products of 2, 4, 8, ... neighbours follow from
    each other, in about log2(n) passes.

    Args:
      places: integers ``[n]``.
      values: numbers ``[n]``.

    Returns:
      ``[n]``.
    """
    (count,) = values.aval.shape
    dtype = np.dtype(np.int32 if count < 2**31 else np.int64)
    number = iota(dtype=dtype, shape=(count,), dimension=0)
    at, order, ordered = sort(places, number, values, dimension=0, is_stable=True, num_keys=1)
    before = _products_before(at, ordered)
    after = _flip(_products_before(_flip(at), _flip(ordered)))
    others = mul(before, after)
    return sort(order, others, dimension=0, is_stable=True, num_keys=1)[1]


def _flip(x: Any) -> Any:
    return rev(x, dimensions=(0,))


def _products_before(at: Any, values: Any) -> Any:
    """The product of all earlier numbers at the same place, which lie side by side."""
    (count,) = values.aval.shape
    product = values
    distance = 1
    while distance < count:
        product = mul(product, _earlier(at, product, distance))
        distance *= 2
    return _earlier(at, product, 1)


def _earlier(at: Any, values: Any, distance: int) -> Any:
    """The number that stands so far before, where it is at the same place; else 1."""
    (count,) = values.aval.shape
    distance = min(distance, count)
    same = eq(slice_along(at, 0, distance, count), slice_along(at, 0, 0, count - distance))
    rest = slice_along(values, 0, 0, count - distance)
    found = select_n(same, full_like(rest, 1), rest)
    return concatenate(full((distance,), 1, values.aval.dtype), found, dimension=0)
