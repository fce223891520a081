"""The affine map, the layer that all others are made of."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.nn import initializers
from funcdl.nn.initializers import Initializer
from funcdl.nn.parameters import check_initializers, checked
from funcdl.numpy.creation import shape_of

LinearParams = dict[str, Any]
"""``{"w": (in_features, out_features), "b": (out_features,)}``; ``"b"`` may be absent."""


def linear_init(
    key: Any,
    in_features: int,
    out_features: int,
    *,
    w_init: Initializer | None = None,
    b_init: Initializer | None = initializers.zeros,
    dtype: Any = None,
) -> LinearParams:
    """Parameters of an affine map.

    A dict: "w" of shape ``(in_features, out_features)``, and "b" of shape ``(out_features,)``. It
    is one of funcdl's own: JAX has no layers.

    Args:
      key: a random key; all of it goes to the weights, so give `b_init` none that needs one.
      in_features, out_features: sizes.
      w_init: an initialiser; None means `initializers.lecun_normal`, which keeps the variance.
      b_init: an initialiser; None means no bias.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: an initialiser is no function.
    """
    in_features, out_features = shape_of(
        (in_features, out_features), "linear_init: (in_features, out_features)"
    )
    check_initializers("linear", w_init=w_init, b_init=b_init)
    if w_init is None:
        w_init = initializers.lecun_normal()
    params = {"w": w_init(key, (in_features, out_features), dtype)}
    if b_init is not None:
        params["b"] = b_init(key, (out_features,), dtype)
    return params


def linear_apply(params: LinearParams, x: Any) -> Any:
    """``x @ w + b`` for `x` of shape ``(..., in_features)``.

    The result has shape ``(..., out_features)`` and the dtype to which both promote. It is one of
    funcdl's own: JAX has no layers.

    Args:
      params: from `linear_init`.
      x: the inputs.

    Raises:
      TreeError: `params` has no "w".
      ShapeError: `x` has another last size.
    """
    out = fnp.matmul(x, checked("linear", params, "w", optional="b")["w"])
    return fnp.add(out, params["b"]) if "b" in params else out
