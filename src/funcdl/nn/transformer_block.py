"""The transformer block: look around, look into a memory, think; each adds to what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl import random
from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.nn import initializers
from funcdl.nn.activations import gelu
from funcdl.nn.dropout import dropout
from funcdl.nn.initializers import Initializer
from funcdl.nn.mlp import mlp_apply, mlp_init
from funcdl.nn.multi_head_attention import (
    AttentionCache,
    multi_head_attention_apply,
    multi_head_attention_init,
)
from funcdl.nn.normalization import layer_norm_apply, layer_norm_init
from funcdl.nn.parameters import checked, rate_of
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array
from funcdl.transforms.arguments import check_function

BlockParams = dict[str, Any]
"""``{"norm1", "attention", "norm2", "mlp"}``, and for cross attention ``"norm3", "cross"``."""


def transformer_block_init(
    key: Any,
    features: int,
    heads: int,
    *,
    hidden_features: int | None = None,
    kv_heads: int | None = None,
    memory_features: int | None = None,
    norm_init: Callable[..., Any] = layer_norm_init,
    w_init: Initializer | None = None,
    b_init: Initializer | None = initializers.zeros,
    dtype: Any = None,
) -> BlockParams:
    """Parameters of a transformer block (as `torch.nn.TransformerDecoderLayer`; JAX has no layers).

    A dict: "attention" as `multi_head_attention_init` makes it, "mlp" as `mlp_init` does with three
    sizes, and "norm1" and "norm2" before them. With `memory_features` also "cross", attention to a
    memory, and "norm3" before it.

    Args:
      key: a random key.
      features: the size of inputs and outputs.
      heads, kv_heads: numbers of heads, as for `multi_head_attention_init`.
      hidden_features: units of the perceptron's hidden layer; None means ``4 * features``.
      memory_features: the size of a memory's vectors; None: the block has no memory.
      norm_init: ``norm_init(key, features, dtype=dtype)`` makes the parameters of a norm, such as
        `layer_norm_init` and `rms_norm_init`.
      w_init: an initialiser for all matrices; None means those of attention and perceptron.
      b_init: an initialiser for all biases but those of norms; None means no biases.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer or negative, or does not divide another as it must.
      ArgumentError: no heads, or an initialiser that is no function.
    """
    function = "transformer_block_init"
    check_function(function, norm_init, "norm_init")
    (features,) = shape_of((features,), f"{function}: features")
    hidden = 4 * features if hidden_features is None else hidden_features
    options: dict[str, Any] = {"w_init": w_init, "b_init": b_init, "dtype": dtype}
    keys = random.split(key, 6)
    params = {
        "norm1": norm_init(keys[0], features, dtype=dtype),
        "attention": multi_head_attention_init(
            keys[1], features, heads, kv_heads=kv_heads, **options
        ),
        "norm2": norm_init(keys[2], features, dtype=dtype),
        "mlp": mlp_init(keys[3], [features, hidden, features], **options),
    }
    if memory_features is not None:
        params["norm3"] = norm_init(keys[4], features, dtype=dtype)
        params["cross"] = multi_head_attention_init(
            keys[5],
            features,
            heads,
            kv_heads=kv_heads,
            memory_features=memory_features,
            **options,
        )
    return params


def transformer_block_apply(
    params: BlockParams,
    x: Any,
    memory: Any = None,
    *,
    mask: Any = None,
    memory_mask: Any = None,
    is_causal: bool = False,
    rotary_base: float | None = None,
    norm_first: bool = True,
    norm_apply: Callable[[Any, Any], Any] = layer_norm_apply,
    activation: Callable[[Any], Any] = gelu,
    dropout_rate: float = 0.0,
    dropout_key: Any = None,
    train: bool = False,
    cache: AttentionCache | None = None,
) -> Any:
    """``x + attention(norm(x))``, then the same with a memory, if there is one, and a perceptron.

    From A. Vaswani and others, "Attention is all you need" (2017), with the norms in front (R.
    Xiong and others, "On layer normalization in the transformer architecture" (2020)); or, as
    `torch.nn.TransformerDecoderLayer` has them unless told otherwise, behind.

    Args:
      params: from `transformer_block_init`.
      x: shape ``(batch, length, features)``, or without the batch.
      memory: shape ``(batch, positions, memory_features)``, for parameters with "cross".
      mask, is_causal, rotary_base, cache: of `multi_head_attention_apply`, for self attention.
      memory_mask: its mask for attention to the memory.
      norm_first: whether norms are in front; else ``x = norm(x + attention(x))``.
      norm_apply: ``norm_apply(params, x)``, such as `layer_norm_apply` or `rms_norm_apply`.
      activation: between the perceptron's layers.
      dropout_rate: the share of what each part adds that is dropped, a Python number in [0, 1].
      dropout_key: a random key, where anything is dropped.
      train: whether anything is dropped.

    Returns:
      An array like `x`, of the dtype to which it and the parameters promote; with a cache, a pair
      of it and the new cache.

    Raises:
      TreeError: an entry of `params` is missing.
      ShapeError, DtypeError: arguments do not fit together.
      ArgumentError: a memory without "cross" or the reverse, no key where one is needed, another
        rate, a flag or a function that is none.
    """
    function = "transformer_block_apply"
    given = checked("transformer_block", params, "norm1", "attention", "norm2", "mlp")
    for which, value in (("norm_apply", norm_apply), ("activation", activation)):
        check_function(function, value, which)
    if memory is None and "cross" in given:
        raise ArgumentError(
            f"{function}: params with 'cross', made with memory_features, need a memory to look "
            "into, the argument after x"
        )
    if memory is not None and "cross" not in given:
        raise ArgumentError(
            f"{function}: a memory needs params with 'cross': pass memory_features to "
            "transformer_block_init"
        )
    norm_first = flag(f"{function}: norm_first", norm_first)
    train = flag(f"{function}: train", train)
    rate = rate_of(f"{function}: dropout_rate", dropout_rate) if train else 0.0
    if rate and dropout_key is None:
        raise ArgumentError(
            f"{function}: dropout_rate={rate} needs a random key; pass dropout_key, another one "
            "at each step, or train=False"
        )
    keys = random.split(dropout_key, 3) if rate else (None,) * 3
    x = array(function, x)

    def added(x: Any, norm: str, part: Callable[[Any], Any], key: Any) -> Any:
        """`x` and what a part of the block adds to it."""
        if norm_first:
            return x + dropout(key, part(norm_apply(given[norm], x)), rate)
        return norm_apply(given[norm], x + dropout(key, part(x), rate))

    kept = cache

    def attend(x: Any) -> Any:
        nonlocal kept
        out = multi_head_attention_apply(
            given["attention"],
            x,
            mask=mask,
            is_causal=is_causal,
            rotary_base=rotary_base,
            cache=cache,
        )
        if cache is not None:
            out, kept = out
        return out

    x = added(x, "norm1", attend, keys[0])
    if memory is not None:

        def consult(x: Any) -> Any:
            return multi_head_attention_apply(given["cross"], x, memory, mask=memory_mask)

        x = added(x, "norm3", consult, keys[1])
    x = added(x, "norm2", lambda y: mlp_apply(given["mlp"], y, activation), keys[2])
    return x if cache is None else (x, kept)
