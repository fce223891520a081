"""Multi-head attention with its projections: self, cross, causal, in groups, with a cache.

All sizes are read from the shapes of the parameters: weights are
``(features, heads, head_size)``, and for the output ``(heads, head_size, features)``. Queries, keys
and values of one input lie side by side in "qkv", so that they are one product; cross attention
takes the columns that it needs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax, random
from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.nn import initializers
from funcdl.nn.attention import dot_product_attention
from funcdl.nn.initializers import Initializer
from funcdl.nn.parameters import check_initializers, checked
from funcdl.nn.positions import rotary_embedding
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array
from funcdl.transforms.arguments import describe

AttentionParams = dict[str, Any]
"""``{"qkv": {"w", "b"}, "out": {"w", "b"}}``, or "q" and "kv" for "qkv"; maybe without ``"b"``."""

AttentionCache = dict[str, Any]
"""``{"key", "value": (batch, length, kv_heads, head_size), "index": int32 scalar}``."""

_NAME = "multi_head_attention"


def multi_head_attention_init(
    key: Any,
    features: int,
    heads: int,
    *,
    kv_heads: int | None = None,
    head_size: int | None = None,
    memory_features: int | None = None,
    w_init: Initializer | None = None,
    b_init: Initializer | None = initializers.zeros,
    dtype: Any = None,
) -> AttentionParams:
    """Parameters of multi-head attention (as `torch.nn.MultiheadAttention`; JAX has no layers).

    A dict of affine maps, each a dict with "w" and maybe "b": "qkv", whose weights have shape
    ``(features, heads + 2 * kv_heads, head_size)``, and "out", ``(heads, head_size, features)``.
    With `memory_features` there are "q" and "kv" instead of "qkv", for keys and values of something
    else. Biases have the shapes of the weights without the inputs.

    Args:
      key: a random key.
      features: the size of inputs and outputs.
      heads: how many heads of queries.
      kv_heads: how many heads of keys and values, a divisor of `heads`; None means as many.
      head_size: the size of a head; None means ``features // heads``.
      memory_features: the size of what cross attention reads; None: that of the inputs, or self
        attention.
      w_init: an initialiser of matrices, called with the shapes above flattened to two dimensions;
        None means `initializers.lecun_normal`, as Flax's.
      b_init: an initialiser, called with the key of the weights beside; None means no biases.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer or negative, `heads` does not divide `features`, or
        `kv_heads` does not divide `heads`.
      ArgumentError: no heads, or an initialiser that is no function.
    """
    function = f"{_NAME}_init"
    (features,) = shape_of((features,), f"{function}: features")
    heads = _count(function, "heads", heads)
    groups = heads if kv_heads is None else _count(function, "kv_heads", kv_heads)
    if heads % groups:
        raise ShapeError(f"{function}: kv_heads={groups} must divide heads={heads}")
    if head_size is None and features % heads:
        raise ShapeError(
            f"{function}: heads={heads} must divide features={features}; or give head_size"
        )
    size = _count(function, "head_size", features // heads if head_size is None else head_size)
    check_initializers(_NAME, w_init=w_init, b_init=b_init)
    draw = initializers.lecun_normal() if w_init is None else w_init

    def affine(key: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> dict[str, Any]:
        matrix = draw(key, (math.prod(inputs), math.prod(outputs)), dtype)
        part = {"w": matrix.reshape(inputs + outputs)}
        return part if b_init is None else part | {"b": b_init(key, outputs, dtype)}

    *keys, out_key = random.split(key, 3)
    if memory_features is None:
        parts = {"qkv": affine(keys[0], (features,), (heads + 2 * groups, size))}
    else:
        (memory_features,) = shape_of((memory_features,), f"{function}: memory_features")
        parts = {
            "q": affine(keys[0], (features,), (heads, size)),
            "kv": affine(keys[1], (memory_features,), (2 * groups, size)),
        }
    return parts | {"out": affine(out_key, (heads, size), (features,))}


def multi_head_attention_apply(
    params: AttentionParams,
    x: Any,
    memory: Any = None,
    *,
    bias: Any = None,
    mask: Any = None,
    is_causal: bool = False,
    rotary_base: float | None = None,
    dropout_rate: float = 0.0,
    dropout_key: Any = None,
    cache: AttentionCache | None = None,
) -> Any:
    """Each position of `x` takes a weighted mean of what others hold, once for each head.

    From A. Vaswani and others, "Attention is all you need" (2017); as
    `torch.nn.MultiheadAttention` with ``batch_first``. The attention is `dot_product_attention`,
    which needs no memory for the weights of long sequences.

    Args:
      params: from `multi_head_attention_init`.
      x: queries, and keys and values too where there is no `memory`: shape
        ``(batch, length, features)``, or without the batch.
      memory: cross attention: where keys and values come from, ``(batch, positions, features)``.
      bias, mask: as for `dot_product_attention`, ``(batch, heads, length, positions)`` or what
        broadcasts to it; True in `mask` lets a query see a key.
      is_causal: whether later positions are hidden.
      rotary_base: if given, queries and keys are turned by `rotary_embedding` with this base.
      dropout_rate: the share of weights that are dropped, as for `dot_product_attention`.
      dropout_key: a random key, for a rate above 0.
      cache: from `multi_head_attention_cache`, for decoding: keys and values of `x` are written
        where the cache ends, and queries see them and all before, up to their own position.

    Returns:
      An array like `x`, of the dtype to which it and the parameters promote; with a cache, a pair
      of it and the new cache.

    Raises:
      TreeError: `params` or `cache` lacks an entry.
      ShapeError, DtypeError: arguments do not fit together.
      ArgumentError: a cache and a memory, a rotation of a memory's keys, or another rate.
    """
    function = f"{_NAME}_apply"
    is_causal = flag(f"{function}: is_causal", is_causal)
    heads, groups = _heads(params)
    x = array(function, x)
    if x.ndim not in (2, 3):
        raise ShapeError(
            f"{function}: x must have shape (batch, length, features), or (length, features), got "
            f"{x.aval}"
        )
    if memory is not None and (cache is not None or rotary_base is not None):
        raise ArgumentError(
            f"{function}: memory goes neither with cache, which keeps keys of x, nor with "
            "rotary_base, since its positions are not those of x"
        )
    query, key, value = _projected(params, x, memory, heads, groups)
    start: Any = 0
    if cache is not None:
        cache = _cache(cache, key)
        start = cache["index"]
    if rotary_base is not None:
        positions = start + fnp.arange(x.shape[-2])
        query = rotary_embedding(query, positions, base=rotary_base)
        key = rotary_embedding(key, positions, base=rotary_base)
    if cache is not None:
        cache = _extended(cache, key, value)
        key, value = (cache[name].astype(query.dtype) for name in ("key", "value"))
        seen = fnp.arange(key.shape[-3]) <= start + fnp.arange(x.shape[-2])[:, None]
        # Of the mask's own dtype: attention refuses others than bool.
        mask = seen if mask is None else fnp.where(seen, mask, False)
        is_causal = False  # `seen` says it, for positions in the whole sequence
    mixed = dot_product_attention(
        query,
        key,
        value,
        bias,
        mask,
        is_causal=is_causal,
        dropout_rate=dropout_rate,
        dropout_rng=dropout_key,
    )
    out = _affine(
        params["out"], mixed.reshape((*x.shape[:-1], mixed.shape[-2] * mixed.shape[-1])), inputs=2
    )
    return out if cache is None else (out, cache)


def multi_head_attention_cache(
    params: AttentionParams, length: int, batch: int | None = None, *, dtype: Any = None
) -> AttentionCache:
    """An empty cache of keys and values, for decoding with `multi_head_attention_apply`.

    A dict: "key" and "value", zeros of shape ``(batch, length, kv_heads, head_size)``, and "index",
    an int32 scalar: how many positions are taken. As the cache of `flax.linen.SelfAttention`; JAX
    has no layers. In loops and with donated arguments it is updated in place. Beyond its length it
    must not be used: the last positions would be overwritten.

    Args:
      params: from `multi_head_attention_init`.
      length: room for how many positions.
      batch: how many sequences; None: one, without a dimension for the batch.
      dtype: of what is kept; None means that of the parameters.

    Raises:
      TreeError: `params` has no "qkv": keys of a memory are not kept.
      ShapeError: a size is no integer, or negative.
    """
    function = f"{_NAME}_cache"
    given: Any = params
    if not isinstance(given, Mapping) or "qkv" not in given:
        raise TreeError(
            f"{function}: params must be a dict with 'qkv', as {_NAME}_init makes it without "
            f"memory_features, got {describe(given)}"
        )
    _, groups = _heads(params)
    w = array(function, params["qkv"]["w"])
    sizes = (length,) if batch is None else (batch, length)
    shape = (*shape_of(sizes, f"{function}: (batch, length)"), groups, w.shape[2])
    kept = w.dtype if dtype is None else dtype
    index = fnp.zeros((), "int32")
    return {"key": fnp.zeros(shape, kept), "value": fnp.zeros(shape, kept), "index": index}


def _count(function: str, name: str, value: Any) -> int:
    count = integer(f"{function}: {name}", value)
    if count < 1:
        raise ArgumentError(f"{function}: {name} must be at least 1, got {count}")
    return count


def _heads(params: Any) -> tuple[int, int]:
    """The numbers of heads of queries, and of keys and values."""
    separate = isinstance(params, Mapping) and "q" in params
    checked(_NAME, params, *(("q", "kv") if separate else ("qkv",)), "out")
    names = ("q", "kv", "out") if separate else ("qkv", "out")
    shapes = {}
    for name in names:
        if not isinstance(params[name], Mapping) or "w" not in params[name]:
            raise TreeError(
                f"{_NAME}_apply: params[{name!r}] must be a dict with 'w' and maybe 'b', got "
                f"{describe(params[name])}"
            )
        shapes[name] = array(f"{_NAME}_apply", params[name]["w"]).shape
    heads = shapes["out"][0] if len(shapes["out"]) == 3 else 0
    both = shapes["kv"][1] if separate and len(shapes["kv"]) == 3 else 0
    if not separate and len(shapes["qkv"]) == 3:
        both = shapes["qkv"][1] - heads
    if any(len(shape) != 3 for shape in shapes.values()) or both < 2 or both % 2:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(
            f"{_NAME}_apply: weights must be (features, heads, head_size), and those of 'out' "
            f"(heads, head_size, features), as {_NAME}_init makes them; got {found}"
        )
    return heads, both // 2


def _projected(
    params: AttentionParams, x: Any, memory: Any, heads: int, groups: int
) -> tuple[Any, Any, Any]:
    """Queries, keys and values, ``(..., length, heads, head_size)``, of one dtype."""
    ends = (0, heads, heads + groups, heads + 2 * groups)
    if "qkv" in params and memory is None:
        all_heads = _affine(params["qkv"], x)
        query, key, value = (
            lax.slice_in_dim(all_heads, a, b, axis=-2) for a, b in itertools.pairwise(ends)
        )
        return query, key, value
    if memory is None:
        raise ArgumentError(
            f"{_NAME}_apply: params with 'q' and 'kv' are for cross attention: pass the memory"
        )
    memory = array(f"{_NAME}_apply", memory)
    if "qkv" in params:
        parts = params["qkv"]
        q_part = {name: p[..., :heads, :] for name, p in parts.items()}
        kv_part = {name: p[..., heads:, :] for name, p in parts.items()}
    else:
        q_part, kv_part = params["q"], params["kv"]
    query, both = _affine(q_part, x), _affine(kv_part, memory)
    dtype = fnp.result_type(query, both)
    query, both = query.astype(dtype), both.astype(dtype)
    return query, both[..., :groups, :], both[..., groups:, :]


def _affine(part: Any, x: Any, inputs: int = 1) -> Any:
    """``x @ w + b``, where weights have so many dimensions of inputs, and others of outputs."""
    w = array(f"{_NAME}_apply", part["w"])
    before, after = w.shape[:inputs], w.shape[inputs:]
    rows, columns = math.prod(before), math.prod(after)
    if x.ndim < 1 or x.shape[-1] != rows:
        raise ShapeError(
            f"{_NAME}_apply: the last dimension of the input must be that of its weights, got "
            f"{x.aval} and w {w.aval}"
        )
    out = fnp.matmul(x, w.reshape((rows, columns)))
    if "b" in part:
        out = fnp.add(out, array(f"{_NAME}_apply", part["b"]).reshape((columns,)))
    return out.reshape((*x.shape[:-1], *after))


def _cache(cache: Any, key: Any) -> AttentionCache:
    """A cache that fits these keys."""
    function, names = f"{_NAME}_apply", {"key", "value", "index"}
    if not isinstance(cache, Mapping) or not names <= {*cache}:
        raise TreeError(
            f"{function}: cache must be a dict with 'key', 'value' and 'index', as {_NAME}_cache "
            f"makes it, got {describe(cache)}"
        )
    arrays = {name: array(function, cache[name]) for name in ("key", "value", "index")}
    wanted = (*key.shape[:-3], None, *key.shape[-2:])
    for name in ("key", "value"):
        shape = arrays[name].shape
        fits = len(shape) == len(wanted) and all(
            own == size or size is None for own, size in zip(shape, wanted, strict=True)
        )
        if not fits or shape[-3] < key.shape[-3]:
            shown = ", ".join("length" if size is None else str(size) for size in wanted)
            raise ShapeError(
                f"{function}: cache[{name!r}] must have shape ({shown}) with a length of at least "
                f"{key.shape[-3]}, got {arrays[name].aval}"
            )
    if arrays["index"].shape != () or not dtypes.is_integer(arrays["index"].aval.dtype):
        raise ShapeError(
            f"{function}: cache['index'] must be an integer scalar, got {arrays['index'].aval}"
        )
    return arrays


def _extended(cache: AttentionCache, key: Any, value: Any) -> AttentionCache:
    """The cache with more keys and values at its end."""
    index = cache["index"]
    new = {"index": index + key.shape[-3]}
    for name, given in (("key", key), ("value", value)):
        kept = cache[name]
        new[name] = lax.dynamic_update_slice_in_dim(
            kept, given.astype(kept.dtype), index, axis=kept.ndim - 3
        )
    return {name: new[name] for name in ("key", "value", "index")}
