"""Embeddings: a vector for each of a number of things."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.errors import DtypeError
from funcdl.nn import initializers
from funcdl.nn.initializers import Initializer
from funcdl.nn.parameters import check_initializers, checked
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array

EmbeddingParams = dict[str, Any]
"""``{"w": (num_embeddings, features)}``."""


def embedding_init(
    key: Any,
    num_embeddings: int,
    features: int,
    *,
    w_init: Initializer | None = None,
    dtype: Any = None,
) -> EmbeddingParams:
    """A dict with "w", the vectors, of shape ``(num_embeddings, features)``.

    As `flax.linen.Embed`; JAX itself has no layers.

    Args:
      key: a random key.
      num_embeddings: how many vectors.
      features: their size.
      w_init: an initialiser; None means normal numbers with variance ``1 / features``.
      dtype: of the vectors; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: the initialiser is no function.
    """
    sizes = shape_of((num_embeddings, features), "embedding_init: (num_embeddings, features)")
    check_initializers("embedding", w_init=w_init)
    if w_init is None:
        w_init = initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=1, out_axis=0)
    return {"w": w_init(key, sizes, dtype)}


def embedding_apply(params: EmbeddingParams, indices: Any) -> Any:
    """The vectors at `indices`: an array of shape ``(*indices.shape, features)``.

    As `flax.linen.Embed`; JAX itself has no layers. Negative indices count from the end. For one
    outside of the table the result is NaN, as for `numpy.take` in JAX: a compiled program can raise
    no error, and a vector of something else would go unnoticed.

    Args:
      params: from `embedding_init`.
      indices: integers, of any shape.

    Raises:
      TreeError: `params` has no "w".
      DtypeError: `indices` are no integers.
    """
    w = array("embedding_apply", checked("embedding", params, "w")["w"])
    indices = array("embedding_apply", indices)
    if not dtypes.is_integer(indices.aval.dtype):
        raise DtypeError(
            f"embedding_apply: indices must be integers, got {indices.aval}; vectors of "
            "probabilities are multiplied with the table: p @ params['w']"
        )
    return fnp.take(w, indices, axis=0, mode="fill")


def embedding_attend(params: EmbeddingParams, x: Any) -> Any:
    """``x @ w.T``: how well each vector of the table fits, of shape ``(..., num_embeddings)``.

    What makes logits of the table that embeds the inputs (O. Press and L. Wolf, "Using the output
    embedding to improve language models" (2017)); as `flax.linen.Embed.attend`. The dtype is that
    to which both promote.

    Args:
      params: from `embedding_init`.
      x: shape ``(..., features)``.

    Raises:
      TreeError: `params` has no "w".
      ShapeError: `x` has another last size.
    """
    return fnp.matmul(x, array("embedding_attend", checked("embedding", params, "w")["w"]).T)
