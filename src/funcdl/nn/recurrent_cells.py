"""Recurrent cells: one moment of a simple recurrent network, an LSTM or a GRU.

Parameters of all three are "x", the weights of the input, "h", those of the state, and "b", a bias;
gates lie side by side in the columns. ``<cell>_apply(params, state, x)`` returns the next state and
the output, so that ``functools.partial(lstm_cell_apply, params)`` is the body of a `lax.scan`.

A cell is two parts, of which only the second needs the state: the products of the input, which
`recurrent` computes for all moments at once, in one large product, and a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import funcdl.numpy as fnp
from funcdl import random
from funcdl.core.options import number
from funcdl.errors import ShapeError, TreeError
from funcdl.nn import initializers
from funcdl.nn.activations import sigmoid
from funcdl.nn.initializers import Initializer
from funcdl.nn.parameters import check_initializers, checked
from funcdl.numpy import tanh
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array, promote_inexact
from funcdl.transforms.arguments import check_function, describe

CellParams = dict[str, Any]
"""``{"x": (in_features, gates * units), "h": (units, gates * units), "b": (gates * units,)}``;
a GRU also has ``"c": (units,)``."""

Step = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Cell:
    """What tells one kind of cell from another.

    Attributes:
      name: of the layer, as in ``<name>_apply``.
      gates: how many numbers for each unit come out of the products.
      states: how many arrays of shape ``(batch, units)`` the state has; a pair's first is output.
      step: ``step(params, state, products of the input)`` is the next state.
      entries: names of the parameters.
    """

    name: str
    gates: int
    states: int
    step: Step
    entries: tuple[str, ...] = ("x", "h", "b")


def rnn_step(activation: Callable[[Any], Any]) -> Step:
    """The step of a simple recurrent network."""
    return lambda params, h, z: activation(z + fnp.matmul(h, params["h"]))


def lstm_step(params: CellParams, state: tuple[Any, Any], z: Any) -> tuple[Any, Any]:
    """The next (h, c); gates are input, forget, candidate, output."""
    h, c = state
    i, f, g, o = fnp.split(z + fnp.matmul(h, params["h"]), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru_step(params: CellParams, h: Any, z: Any) -> Any:
    """The next h; gates are reset, update, candidate."""
    r, u, n = fnp.split(z, 3, axis=-1)
    r_h, u_h, n_h = fnp.split(fnp.matmul(h, params["h"]), 3, axis=-1)
    u = sigmoid(u + u_h)
    n = tanh(n + sigmoid(r + r_h) * (n_h + params["c"]))
    return n + u * (h - n)


LSTM = Cell("lstm", 4, 2, lstm_step)
GRU = Cell("gru", 3, 1, gru_step, ("x", "h", "b", "c"))


def rnn(activation: Any, function: str) -> Cell:
    """The simple recurrent network with this activation function."""
    check_function(function, activation, "activation")
    return Cell("rnn", 1, 1, rnn_step(activation))


def rnn_cell_init(
    key: Any,
    in_features: int,
    units: int,
    *,
    w_init: Initializer | None = None,
    h_init: Initializer | None = None,
    dtype: Any = None,
) -> CellParams:
    """Parameters of a simple recurrent cell (as `flax.linen.SimpleCell`; JAX has no layers).

    A dict: "x" of shape ``(in_features, units)``, "h" ``(units, units)``, "b" ``(units,)``, zeros.

    Args:
      key: a random key.
      in_features, units: sizes of the input and of the state.
      w_init: an initialiser of "x"; None means `initializers.lecun_normal`.
      h_init: an initialiser of the square matrices in "h"; None means `initializers.orthogonal`,
        with which a state neither dies away nor explodes.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: an initialiser is no function.
    """
    return cell_init("rnn_cell", 1, key, in_features, units, w_init, h_init, dtype)


def rnn_cell_apply(
    params: CellParams, state: Any, x: Any, *, activation: Callable[[Any], Any] = tanh
) -> tuple[Any, Any]:
    """``h = activation(x @ params["x"] + h @ params["h"] + params["b"])``, twice: state and output.

    From J. L. Elman, "Finding structure in time" (1990); as `torch.nn.RNNCell`.

    Args:
      params: from `rnn_cell_init`.
      state: h, of shape ``(..., units)``.
      x: the input, of shape ``(..., in_features)``.
      activation: a function of arrays.

    Returns:
      The next state and the output, of the dtype to which `x` and the parameters promote.

    Raises:
      TreeError: an entry of `params` is missing.
      ShapeError: `x` or `state` has another last size.
      ArgumentError: `activation` is no function.
    """
    return _apply(rnn(activation, "rnn_cell_apply"), params, state, x)


def lstm_cell_init(
    key: Any,
    in_features: int,
    units: int,
    *,
    w_init: Initializer | None = None,
    h_init: Initializer | None = None,
    forget_bias: Any = 1.0,
    dtype: Any = None,
) -> CellParams:
    """Parameters of an LSTM cell: shapes, dtypes and errors are as for `rnn_cell_init`.

    There are ``4 * units`` columns, for the gates input, forget, candidate and output, as in
    `torch.nn.LSTMCell`.

    Args:
      key: a random key.
      in_features, units, w_init, h_init, dtype: as for `rnn_cell_init`.
      forget_bias: where the forget gates begin: open, so that what is remembered stays until the
        cell learns to forget (R. Jozefowicz, W. Zaremba and I. Sutskever, "An empirical
        exploration of recurrent network architectures" (2015)).
    """
    forget_bias = number("lstm_cell_init: forget_bias", forget_bias)
    params = cell_init("lstm_cell", 4, key, in_features, units, w_init, h_init, dtype)
    return params | {"b": params["b"].at[units : 2 * units].set(forget_bias)}


def lstm_cell_apply(
    params: CellParams, state: tuple[Any, Any], x: Any
) -> tuple[tuple[Any, Any], Any]:
    """One moment of a long short-term memory: the next state ``(h, c)``, and h as output.

    ``c = f * c + i * g; h = o * tanh(c)``, where i, f and o are sigmoids and g is the tanh of
    ``x @ params["x"] + h @ params["h"] + params["b"]``. From S. Hochreiter and J. Schmidhuber,
    "Long short-term memory" (1997), with the forget gate of F. Gers, J. Schmidhuber and F. Cummins,
    "Learning to forget" (2000); as `torch.nn.LSTMCell`.

    Shapes, dtypes and errors are those of `rnn_cell_apply`, but that `state` is a pair.

    Args:
      params: from `lstm_cell_init`.
      state: ``(h, c)``, each of shape ``(..., units)``.
      x: the input, of shape ``(..., in_features)``.
    """
    return _apply(LSTM, params, state, x)


def gru_cell_init(
    key: Any,
    in_features: int,
    units: int,
    *,
    w_init: Initializer | None = None,
    h_init: Initializer | None = None,
    dtype: Any = None,
) -> CellParams:
    """Parameters of a GRU cell: shapes, dtypes and errors are as for `rnn_cell_init`.

    There are ``3 * units`` columns, for the reset gate, the update gate and the candidate, as in
    `torch.nn.GRUCell`, and "c" of shape ``(units,)``, the bias of the candidate's part of the
    state, which the reset gate multiplies too.

    Args:
      key: a random key.
      in_features, units, w_init, h_init, dtype: as for `rnn_cell_init`.
    """
    params = cell_init("gru_cell", 3, key, in_features, units, w_init, h_init, dtype)
    return params | {"c": fnp.zeros_like(params["b"][:units])}


def gru_cell_apply(params: CellParams, state: Any, x: Any) -> tuple[Any, Any]:
    """One moment of a gated recurrent unit: the next state h, which is the output too.

    ``h = (1 - u) * n + u * h`` with the update gate u, the reset gate r and the candidate
    ``n = tanh(x_n + r * (h_n + params["c"]))``, where x_n and h_n are the candidate's columns of
    the products. From K. Cho and others, "Learning phrase representations using RNN encoder-decoder
    for statistical machine translation" (2014), in the form of `torch.nn.GRUCell`.

    Shapes, dtypes and errors are those of `rnn_cell_apply`.

    Args:
      params: from `gru_cell_init`.
      state: h, of shape ``(..., units)``.
      x: the input, of shape ``(..., in_features)``.
    """
    return _apply(GRU, params, state, x)


def cell_init(
    layer: str,
    gates: int,
    key: Any,
    in_features: int,
    units: int,
    w_init: Initializer | None,
    h_init: Initializer | None,
    dtype: Any,
) -> CellParams:
    """Parameters of a cell; the square matrices of "h" are initialised one by one."""
    in_features, units = shape_of((in_features, units), f"{layer}_init: (in_features, units)")
    check_initializers(layer, w_init=w_init, h_init=h_init)
    w_init = initializers.lecun_normal() if w_init is None else w_init
    h_init = initializers.orthogonal() if h_init is None else h_init
    x_key, *h_keys = random.split(key, 1 + gates)
    x = w_init(x_key, (in_features, gates * units), dtype)
    h = [h_init(h_key, (units, units), dtype) for h_key in h_keys]
    return {"x": x, "h": fnp.concatenate(h, axis=1), "b": fnp.zeros(gates * units, dtype)}


def project(layer: str, cell: Cell, params: Any, x: Any) -> tuple[CellParams, Any]:
    """The parameters, of one dtype with `x`, and the products of the input with the bias."""
    function = f"{layer}_apply"
    given = checked(layer, params, *cell.entries)
    x, *parts = promote_inexact(function, x, *(given[name] for name in cell.entries))
    params = dict(zip(cell.entries, parts, strict=True))
    units = params["h"].shape[0] if params["h"].ndim == 2 else None
    columns = cell.gates * (units or 0)
    if units is None or params["h"].shape[1] != columns or params["x"].shape[-1:] != (columns,):
        raise ShapeError(
            f"{function}: params['x'] and params['h'] must have {cell.gates} columns for each row "
            f"of the second, got {params['x'].aval} and {params['h'].aval}"
        )
    if x.ndim < 1 or x.shape[-1] != params["x"].shape[0]:
        raise ShapeError(
            f"{function}: the last dimension of x must be the first of params['x'], got "
            f"{x.aval} and {params['x'].aval}"
        )
    return params, fnp.matmul(x, params["x"]) + params["b"]


def check_state(function: str, cell: Cell, state: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """A state whose arrays must have this shape, converted to the dtype.

    Raises:
      TreeError: it is no pair where it must be one.
      ShapeError: an array has another shape.
    """
    if cell.states == 2 and not (isinstance(state, tuple | list) and len(state) == 2):
        raise TreeError(
            f"{function}: state must be a pair (h, c) of arrays of shape {shape}, got "
            f"{describe(state)}"
        )
    arrays = [array(function, part) for part in (state if cell.states == 2 else [state])]
    if any(part.shape != shape for part in arrays):
        found = " and ".join(str(part.aval) for part in arrays)
        raise ShapeError(f"{function}: state must be of shape {shape}, got {found}")
    converted = tuple(part.astype(dtype) for part in arrays)
    return converted if cell.states == 2 else converted[0]


def _apply(cell: Cell, params: Any, state: Any, x: Any) -> tuple[Any, Any]:
    layer = f"{cell.name}_cell"
    params, z = project(layer, cell, params, x)
    shape = (*z.shape[:-1], params["h"].shape[0])
    state = cell.step(params, check_state(f"{layer}_apply", cell, state, shape, z.dtype), z)
    return state, state[0] if cell.states == 2 else state
