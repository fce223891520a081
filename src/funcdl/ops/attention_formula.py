"""Attention and its derivatives written with other primitives, weights of all pairs in memory.

They are the meaning of the primitives in `ops.attention`, what is differentiated where these have
no rule of their own, and what back ends without kernels for them compile.

Shapes: query [B, T, N, H], key and value [B, S, K, H] with K a divisor of N; logits and weights
[B, K, N / K, T, S]. Half types are multiplied and added up in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.ops.arithmetic import add, div, mul, scaled, sub
from funcdl.ops.bits import and_, shift_right_logical
from funcdl.ops.comparison import eq, ge, le, lt
from funcdl.ops.convert import convert_element_type
from funcdl.ops.dot import dot_general
from funcdl.ops.exponential import exp
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.random_bits import threefry2x32
from funcdl.ops.reduction import reduce_max, reduce_sum
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, full_like, iota, reshape, transpose
from funcdl.ops.slicing import slice_along

HIDDEN = -0.7 * float(dtypes.finfo(np.float32).max)
"""The logit of a hidden key: finite, so that a query without any key averages all values."""

EXTRAS = ("bias", "mask", "query_lengths", "key_lengths", "dropout_keys")


def least_kept(rate: float) -> int:
    """The least random word, of 32 bits, whose weight dropout at this rate leaves."""
    return min(round(rate * 2**32), 2**32 - 1)


def dropout(keys: Any, rate: float, shape: Sequence[int]) -> Callable[[Any], Any]:
    """What drops a share `rate` of an array of `shape`, [B, K, N / K, T, S], and scales the rest.

    The words of the pairs of row t with columns 2 i and 2 i + 1 are the two of Threefry-2x32 at the
    counter (t, i), under the key of their head in `keys`, u32[B, N, 2]. So they depend neither on
    how many rows and columns there are, nor on the order or the blocks in which they are visited.
    """
    heads = tuple(shape[:3])
    word = np.dtype(np.uint32)

    def key(i: int) -> Any:
        half = reshape(slice_along(keys, 2, i, i + 1), new_sizes=heads)
        return broadcast_in_dim(half, shape=tuple(shape), broadcast_dimensions=(0, 1, 2))

    row, column = (iota(dtype=word, shape=tuple(shape), dimension=i) for i in (3, 4))
    one = full_like(column, 1)
    even, odd = threefry2x32(key(0), key(1), row, shift_right_logical(column, one))
    words = select_n(eq(and_(column, one), one), even, odd)
    kept = ge(words, full_like(words, least_kept(rate)))
    return lambda x: _where(kept, scaled(x, 1 / (1 - rate)))


def result(*operands: Any, **params: Any) -> list[Any]:
    """The result, and the largest logit and the total of the weights relative to it."""
    query, key, value = operands[:3]
    logits, _ = _logits(query, key, operands[3:], **params)
    largest = reduce_max(logits, axes=(4,))
    weights = exp(sub(logits, _spread(largest, logits)))
    total = reduce_sum(weights, axes=(4,))
    weights = _dropout(operands[3:], logits, params)(div(weights, _spread(total, logits)))
    out = _times_keys(weights, _wide(value), query)
    statistics = (query.shape[0], query.shape[2], query.shape[1])
    return [out, reshape(largest, new_sizes=statistics), reshape(total, new_sizes=statistics)]


def tangent(*operands: Any, **params: Any) -> list[Any]:
    """The result's tangent, from those of query, key and value, which are the last operands.

    Before them come what `result` takes in, and its outputs.
    """
    query, key, value = operands[:3]
    of_query, of_key, of_value = operands[-3:]
    weights, kept = _weights(query, key, operands[3:-6], **params)
    drop = _dropout(operands[3:-6], weights, params)
    logits = add(_products(of_query, key), _products(query, of_key))
    logits = scaled(_where(kept, logits), params["scale"])
    mean = reduce_sum(mul(weights, logits), axes=(4,))
    logits = drop(mul(weights, sub(logits, _spread(mean, logits))))
    weights = drop(weights)
    return [
        add(_times_keys(logits, _wide(value), query), _times_keys(weights, _wide(of_value), query))
    ]


def gradient(*operands: Any, **params: Any) -> list[Any]:
    """Cotangents of query, key and value from that of the result, which is the last operand.

    Before it come what `result` takes in, and its outputs.
    """
    query, key, value = operands[:3]
    cotangent = operands[-1]
    weights, kept = _weights(query, key, operands[3:-4], **params)
    drop = _dropout(operands[3:-4], weights, params)
    pulled = drop(_products(cotangent, value))
    mean = reduce_sum(mul(weights, pulled), axes=(4,))
    pulled = _where(kept, mul(weights, sub(pulled, _spread(mean, pulled))))
    pulled = scaled(pulled, params["scale"])
    return [
        _times_keys(pulled, _wide(key), query),
        _times_queries(pulled, query, key),
        _times_queries(drop(weights), cotangent, value),
    ]


def _wide(x: Any) -> Any:
    dtype = compute_dtype(x.aval.dtype)
    return x if x.aval.dtype == dtype else convert_element_type(x, new_dtype=dtype, weak_type=False)


def _narrow(x: Any, like: Any) -> Any:
    dtype = like.aval.dtype
    return x if x.aval.dtype == dtype else convert_element_type(x, new_dtype=dtype, weak_type=False)


def _heads(x: Any, groups: int) -> Any:
    """[B, T, N, H] as [B, T, K, N / K, H]."""
    batch, length, heads, size = x.shape
    return reshape(_wide(x), new_sizes=(batch, length, groups, heads // groups, size))


def _dot(a: Any, b: Any, contract: tuple[int, int], batch: tuple[tuple[int, ...], ...]) -> Any:
    numbers = (((contract[0],), (contract[1],)), batch)
    return dot_general(a, b, dimension_numbers=numbers, precision=None, preferred_element_type=None)


def _products(query: Any, key: Any) -> Any:
    product = _dot(_heads(query, key.shape[2]), _wide(key), (4, 3), ((0, 2), (0, 2)))
    return transpose(product, permutation=(0, 1, 3, 2, 4))


def _times_keys(weights: Any, value: Any, like: Any) -> Any:
    out = _dot(weights, value, (4, 1), ((0, 1), (0, 2)))
    out = transpose(out, permutation=(0, 3, 1, 2, 4))
    return _narrow(reshape(out, new_sizes=like.shape), like)


def _times_queries(weights: Any, query: Any, like: Any) -> Any:
    # Over both the queries and the heads of a group.
    numbers = (((2, 3), (3, 1)), ((0, 1), (0, 2)))
    out = dot_general(
        weights,
        _heads(query, like.shape[2]),
        dimension_numbers=numbers,
        precision=None,
        preferred_element_type=None,
    )
    return _narrow(transpose(out, permutation=(0, 2, 1, 3)), like)


def _spread(x: Any, like: Any) -> Any:
    return broadcast_in_dim(x, shape=like.shape, broadcast_dimensions=(0, 1, 2, 3))


def _where(kept: Any, x: Any, other: float = 0.0) -> Any:
    return x if kept is None else select_n(kept, full_like(x, other), x)


def _dropout(extras: Sequence[Any], like: Any, params: dict[str, Any]) -> Callable[[Any], Any]:
    rate = params["dropout_rate"]
    if not rate:
        return lambda x: x
    given = dict(zip(params["extra_names"], extras, strict=True))
    return dropout(given["dropout_keys"], rate, like.shape)


def _weights(query: Any, key: Any, extras: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    logits, kept = _logits(query, key, extras, **params)
    weights = exp(sub(logits, _spread(reduce_max(logits, axes=(4,)), logits)))
    return div(weights, _spread(reduce_sum(weights, axes=(4,)), logits)), kept


def _logits(
    query: Any,
    key: Any,
    extras: Sequence[Any],
    *,
    scale: float,
    before: int | None,
    after: int | None,
    extra_names: tuple[str, ...],
    dropout_rate: float,
) -> tuple[Any, Any]:
    """Logits, and where they are those of keys that are seen (None: everywhere)."""
    given = dict(zip(extra_names, extras, strict=True))
    logits = scaled(_products(query, key), scale)
    shape, groups = logits.shape, key.shape[2]
    if "bias" in given:
        logits = add(logits, _over_pairs(given["bias"], shape, groups))
    index = np.dtype(np.int32)
    here = iota(dtype=index, shape=shape, dimension=3)
    there = iota(dtype=index, shape=shape, dimension=4)
    seen = []
    if before is not None:
        seen.append(ge(add(there, full_like(there, min(before, shape[3]))), here))
    if after is not None:
        seen.append(le(there, add(here, full_like(here, min(after, shape[4])))))
    for name, places in (("query_lengths", here), ("key_lengths", there)):
        if name in given:
            lengths = broadcast_in_dim(given[name], shape=shape, broadcast_dimensions=(0,))
            seen.append(lt(places, lengths))
    if "mask" in given:
        seen.append(_over_pairs(given["mask"], shape, groups))
    if not seen:
        return logits, None
    kept = seen[0]
    for other in seen[1:]:
        kept = and_(kept, other)
    return _where(kept, logits, HIDDEN), kept


def _over_pairs(x: Any, shape: tuple[int, ...], groups: int) -> Any:
    """A bias or mask of [B, N, T, S], each of them possibly 1, as logits are."""
    batch, heads, length, positions = x.shape
    own = (1, 1) if heads == 1 else (groups, heads // groups)
    x = reshape(x, new_sizes=(batch, *own, length, positions))
    return broadcast_in_dim(x, shape=shape, broadcast_dimensions=(0, 1, 2, 3, 4))
