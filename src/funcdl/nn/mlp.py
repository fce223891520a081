"""The multi-layer perceptron: affine maps with an activation function between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from funcdl import random
from funcdl.core.options import sequence
from funcdl.errors import ArgumentError
from funcdl.nn import initializers
from funcdl.nn.initializers import Initializer
from funcdl.nn.linear import LinearParams, linear_apply, linear_init
from funcdl.nn.piecewise import relu
from funcdl.numpy.creation import shape_of
from funcdl.transforms.arguments import check_function


def mlp_init(
    key: Any,
    sizes: Sequence[int],
    *,
    w_init: Initializer | None = None,
    b_init: Initializer | None = initializers.zeros,
    dtype: Any = None,
) -> list[LinearParams]:
    """Parameters of a multi-layer perceptron, one entry a layer.

    Each is a dict as `linear_init` makes it. It is one of funcdl's own: JAX has no layers.

    Args:
      key: a random key.
      sizes: the number of inputs, of units in each hidden layer, and of outputs.
      w_init: an initialiser for the weights; None means `initializers.he_normal`, which keeps the
        variance through `relu`.
      b_init: an initialiser for the biases; None means no biases.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: there are fewer than two sizes, or an initialiser is no function.
    """
    sizes = shape_of(sizes, "mlp_init: sizes")
    if len(sizes) < 2:
        raise ArgumentError(
            "mlp_init requires sizes of at least the input and the output, such as [64, 10]; got "
            f"{list(sizes)}"
        )
    if w_init is None:
        w_init = initializers.he_normal()
    keys = random.split(key, len(sizes) - 1)
    return [
        linear_init(keys[i], n_in, n_out, w_init=w_init, b_init=b_init, dtype=dtype)
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes))
    ]


def mlp_apply(
    params: Sequence[LinearParams], x: Any, activation: Callable[[Any], Any] = relu
) -> Any:
    """Outputs of shape ``(..., sizes[-1])`` for inputs of shape ``(..., sizes[0])``.

    It is one of funcdl's own: JAX has no layers.

    Args:
      params: from `mlp_init`.
      x: the inputs.
      activation: applied after every layer but the last.

    Raises:
      TreeError: an entry of `params` has no "w".
      ShapeError: `x` has another last size.
      ArgumentError: `params` is no sequence or empty, or `activation` is no function.
    """
    layers = sequence("mlp_apply: params", params)
    if not layers:
        raise ArgumentError("mlp_apply: params must have one entry for each layer, got none")
    check_function("mlp_apply", activation, "activation")
    *hidden, last = layers
    for layer in hidden:
        x = activation(linear_apply(layer, x))
    return linear_apply(last, x)
