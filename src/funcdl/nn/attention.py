"""Attention: averages of values, weighted by how well their keys fit a query."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax, random
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.promotion import array
from funcdl.ops.attention import attention
from funcdl.ops.attention_formula import dropout
from funcdl.random.keys import single_key
from funcdl.scipy.special.normalized import logsumexp, softmax

_NAME = "dot_product_attention"

BLOCKWISE_FROM = 128 * 128
"""From this product of the numbers of queries and keys, attention goes block by block."""


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: Any = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
    dropout_rate: float = 0.0,
    dropout_rng: Any = None,
) -> Any:
    """``softmax(scale * query @ key.T + bias) @ value`` (see `jax.nn.dot_product_attention`).

    From A. Vaswani and others, "Attention is all you need" (2017). With fewer heads of keys and
    values than of queries, groups of query heads share one (J. Ainslie and others, "GQA: training
    generalized multi-query transformer models", 2023). Half types are multiplied and normalised in
    float32. Long sequences go block by block, without the weights of all pairs in memory, but for
    derivatives by `bias`, in forward mode and of higher order (docs/attention.md).

    Letters of shapes: B batch, T positions of queries, S positions of keys, N heads of queries, K
    heads of keys, a divisor of N, H size of a head. Without a batch, leave out B everywhere.

    Args:
      query: shape ``[B, T, N, H]``.
      key, value: shape ``[B, S, K, H]``, of the dtype of `query`.
      bias: added to the logits; broadcasts to ``[B, N, T, S]``.
      mask: bool, broadcasts to ``[B, N, T, S]``; False takes a key away from a query.
      scale: what the products are multiplied by; None: ``1 / sqrt(H)``. With an array, which may be
        traced, long sequences do not go block by block.
      is_causal: whether to take away from each query the keys at later positions.
      query_seq_lengths: int32, shape ``[B]``: how many queries of each sequence count. The others'
        results are 0.
      key_value_seq_lengths: int32, shape ``[B]``: how many keys of each sequence count.
      local_window_size: how many positions to the left and to the right of a query keys may be: one
        number or a pair.
      implementation: None or "xla", which mean the same here.
      return_residual: whether to return the logarithm of each softmax's denominator as well, shape
        ``[B, T, N]``, through which no derivative flows.
      dropout_rate: the share of weights that are set to 0, a Python number in [0, 1); the others
        are scaled by ``1 / (1 - dropout_rate)`` (N. Srivastava and others, "Dropout: a simple way
        to prevent neural networks from overfitting", 2014). For training; 0 elsewhere.
      dropout_rng: a random key, typed or raw, that says which weights, others for each batch member
        and head; needed where `dropout_rate` is above 0. A key drops the same weights, whether
        compiled or not, on every device (docs/attention.md). Both names are Flax's.

    Returns:
      An array like `query`. A query without any key gets the average of all values, as in JAX.

    Raises:
      ShapeError, DtypeError: arguments do not fit together.
      ArgumentError: another implementation, a window that is none, a rate that is none, or no key
        for one above 0.
    """
    return_residual = flag("dot_product_attention: return_residual", return_residual)
    if not is_option(implementation, (None, "xla")):
        raise ArgumentError(
            f"{_NAME}: implementation must be None or 'xla', got {shortened(implementation)}"
        )
    shape = array(_NAME, query).aval.shape
    query, key, value = _operands(query, key, value)
    batch, length, heads, size = query.shape
    positions = key.shape[1]
    grid = (batch, heads, length, positions)
    lengths = [
        _lengths(name, given, batch)
        for name, given in (
            ("query_seq_lengths", query_seq_lengths),
            ("key_value_seq_lengths", key_value_seq_lengths),
        )
    ]
    window = _window(local_window_size)
    rate = _rate(dropout_rate)
    drops = None if not rate else _dropout_keys(rate, dropout_rng, batch, heads)
    is_causal = flag("dot_product_attention: is_causal", is_causal)
    if scale is None:
        scale = 1 / math.sqrt(max(size, 1))
    elif isinstance(scale, int | float | np.integer | np.floating):
        scale = float(scale)
    else:
        scale = array("scale", scale).astype(_wide(query))
    if _is_long(query.shape, key.shape) and isinstance(scale, float):
        given = {
            "bias": None if bias is None else _over_pairs("bias", bias, grid).astype(_wide(query)),
            "mask": None if mask is None else _over_pairs("mask", mask, grid),
            "query_lengths": lengths[0],
            "key_lengths": lengths[1],
            "dropout_keys": drops,
        }
        out, residual = _blockwise(query, key, value, given, scale, is_causal, window, rate)
    else:
        drop = None if drops is None else partial(dropout, drops, rate)
        out, residual = _whole(
            query, key, value, bias, mask, scale, is_causal, window, lengths, drop, return_residual
        )
    if lengths[0] is not None:
        counts = fnp.arange(length) < lengths[0][:, None]
        out = fnp.where(counts[:, :, None, None], out, 0)
    if not return_residual:
        return out.reshape(shape)
    residual = fnp.moveaxis(residual.astype(query.dtype).reshape(grid[:3]), 1, 2)
    return out.reshape(shape), residual.reshape(shape[:-1])


def _is_long(query: Sequence[int], key: Sequence[int]) -> bool:
    """Whether attention goes block by block: from where that is faster (docs/attention.md)."""
    return 0 not in (*query, *key) and query[1] * key[1] >= BLOCKWISE_FROM


def _blockwise(
    query: Any,
    key: Any,
    value: Any,
    given: dict[str, Any],
    scale: float,
    is_causal: bool,
    window: tuple[int, int] | None,
    rate: float,
) -> tuple[Any, Any]:
    """The result and its residual, with memory for a few rows of the weights at a time."""
    before, after = window or (None, None)
    if is_causal:
        after = 0
    extras = {name: x for name, x in given.items() if x is not None}
    out, largest, total = attention(
        query,
        key,
        value,
        *extras.values(),
        scale=float(scale),
        before=before,
        after=after,
        extra_names=tuple(extras),
        dropout_rate=rate,
    )
    return out, largest + fnp.log(total)


def _whole(
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    mask: Any,
    scale: Any,
    is_causal: bool,
    window: tuple[int, int] | None,
    lengths: Sequence[Any],
    drop: Callable[[Sequence[int]], Callable[[Any], Any]] | None,
    return_residual: bool,
) -> tuple[Any, Any]:
    """The same with all weights in memory."""
    batch, length, heads, size = query.shape
    positions, groups = key.shape[1:3]
    grid = (batch, heads, length, positions)
    wide = _wide(query)
    grouped = query.reshape((batch, length, groups, heads // groups, size))
    logits = fnp.einsum("btkgh,bskh->bkgts", grouped, key, preferred_element_type=wide)
    logits = logits * scale
    if bias is not None:
        bias = _grouped("bias", bias, grid, groups)
        logits = (logits + bias).astype(wide)
    allowed = _allowed(length, positions, is_causal, window, lengths)
    if mask is not None:
        allowed.append(_grouped("mask", mask, grid, groups))
    if allowed:
        kept = allowed[0]
        for other in allowed[1:]:
            kept = kept & other
        logits = fnp.where(kept, logits, -0.7 * float(dtypes.finfo(np.float32).max))
    weights = softmax(logits, axis=-1)
    if drop is not None:
        weights = drop(weights.shape)(weights)
    weights = weights.astype(value.dtype)
    out = fnp.einsum("bkgts,bskh->btkgh", weights, value, preferred_element_type=wide)
    out = out.astype(query.dtype).reshape(query.shape)
    residual = logsumexp(lax.stop_gradient(logits), axis=-1) if return_residual else None
    return out, residual


def _wide(query: Any) -> np.dtype[Any]:
    """The dtype of logits and sums."""
    return query.dtype if query.dtype.itemsize > 4 else np.dtype(np.float32)


def _operands(*given: Any) -> list[Any]:
    """Query, key and value with all four dimensions."""
    arrays, given_types = [], []
    for name, x in zip(("query", "key", "value"), given, strict=True):
        x = array(_NAME, x)
        if x.ndim not in (3, 4):
            raise ShapeError(
                f"{_NAME}: {name} must have shape [batch, length, heads, size], or [length, heads, "
                f"size], got {x.aval}"
            )
        if not dtypes.is_float(x.aval.dtype):
            raise DtypeError(f"{_NAME}: {name} must be floating, got {x.aval}")
        given_types.append(x.aval)
        arrays.append(x if x.ndim == 4 else x[None])
    query, key, value = arrays
    query_type, key_type, value_type = given_types
    if key.dtype != query.dtype or value.dtype != query.dtype:
        found = ", ".join(map(str, given_types))
        raise DtypeError(
            f"{_NAME}: query, key and value must have one dtype, got {found}; convert with astype"
        )
    if key.shape != value.shape:
        raise ShapeError(
            f"{_NAME}: key and value must have one shape, got {key_type} and {value_type}"
        )
    if (query.shape[0], query.shape[3]) != (key.shape[0], key.shape[3]):
        raise ShapeError(
            f"{_NAME}: query and key must agree in batch and size, their first and last "
            f"dimensions, got {query_type} and {key_type}"
        )
    if not key.shape[2] or query.shape[2] % key.shape[2]:
        raise ShapeError(
            f"{_NAME}: the heads of query must be a multiple of those of key, got "
            f"{query.shape[2]} and {key.shape[2]}, in {query_type} and {key_type}"
        )
    return arrays


def _grouped(name: str, x: Any, grid: Sequence[int], groups: int) -> Any:
    """A bias or a mask with its heads in groups, as the logits have them."""
    x = _over_pairs(name, x, grid)
    batch, heads, length, positions = x.shape
    own = (1, 1) if heads == 1 else (groups, heads // groups)
    return x.reshape((batch, *own, length, positions))


def _over_pairs(name: str, x: Any, grid: Sequence[int]) -> Any:
    """A bias or a mask with all four dimensions."""
    x = array(_NAME, x)
    if name == "mask" and not dtypes.is_bool(x.aval.dtype):
        raise DtypeError(
            f"{_NAME}: mask must be bool, got {x.aval}; write mask != 0, or add a bias"
        )
    fits = x.ndim <= 4 and all(
        own in (1, wanted)
        for own, wanted in zip(reversed(x.aval.shape), reversed(grid), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{_NAME}: {name} must broadcast to [batch, heads, queries, keys] = {tuple(grid)}, got "
            f"{x.aval}"
        )
    return x.reshape((1,) * (4 - x.ndim) + x.aval.shape)


def _lengths(name: str, given: Any, batch: int) -> Any:
    if given is None:
        return None
    lengths = array(_NAME, given)
    if lengths.aval.shape != (batch,) or not dtypes.is_integer(lengths.aval.dtype):
        raise ShapeError(
            f"{_NAME}: {name} must be integers of shape ({batch},), one for each sequence of the "
            f"batch, got {lengths.aval}"
        )
    return lengths.astype(np.int32)


def _window(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else size
    if (
        not isinstance(sides, Sequence)
        or len(sides) != 2
        or not all(isinstance(side, int) and side >= 0 for side in sides)
    ):
        raise ArgumentError(
            f"{_NAME}: local_window_size must be None, an integer >= 0 or a pair of them, got "
            f"{size!r}"
        )
    return sides[0], sides[1]


def _rate(rate: Any) -> float:
    number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not number or not 0 <= rate < 1:
        raise ArgumentError(
            f"{_NAME}: dropout_rate must be a Python number in [0, 1), "
            f"got {shortened(rate)}; it is a part "
            "of the compiled program: make it a static argument of jit"
        )
    return float(rate)


def _dropout_keys(rate: float, key: Any, batch: int, heads: int) -> Any:
    """A key for each head of each batch member, uint32 with a last dimension of size 2."""
    if key is None:
        raise ArgumentError(
            f"{_NAME}: dropout_rate={rate} needs a random key; pass dropout_rng, such as "
            "funcdl.random.key(0), another one at each step, or leave the rate 0 outside of "
            "training"
        )
    data = single_key(f"{_NAME}: dropout_rng", key)
    return random.key_data(random.split(data, (batch, heads)))


def _allowed(
    length: int,
    positions: int,
    is_causal: bool,
    window: tuple[int, int] | None,
    lengths: Sequence[Any],
) -> list[Any]:
    """Conditions on queries and keys, each of which broadcasts to the logits' shape."""
    here = fnp.arange(length)[:, None]
    there = fnp.arange(positions)
    conditions = [there <= here] if is_causal else []
    if window is not None:
        conditions += [there >= here - window[0], there <= here + window[1]]
    for count, index in zip(lengths, (here, there), strict=True):
        if count is not None:
            conditions.append(index < count[:, None, None, None, None])
    return conditions
