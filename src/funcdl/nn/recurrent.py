"""Recurrent layers over whole sequences: stacked, in both directions, with state carried on.

Sequences are time-major, ``(time, batch, features)``, so that a moment is one slice of memory. A
layer is one `scan`; the products of its inputs, which need no state, are one product before it.

Parameters are a list with an entry for each layer: those of a cell, or, for both directions, a dict
of two, "forward" and "backward". States have the same structure. So functions see from parameters
how many layers and directions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax, random
from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.core.options import flag, sequence
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.nn.initializers import Initializer
from funcdl.nn.recurrent_cells import (
    GRU,
    LSTM,
    Cell,
    check_state,
    gru_cell_init,
    lstm_cell_init,
    project,
    rnn,
    rnn_cell_init,
)
from funcdl.numpy import tanh
from funcdl.numpy.promotion import array
from funcdl.transforms.arguments import describe

RecurrentParams = list[dict[str, Any]]
_DIRECTIONS = ("forward", "backward")


def rnn_init(
    key: Any,
    in_features: int,
    units: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    w_init: Initializer | None = None,
    h_init: Initializer | None = None,
    dtype: Any = None,
) -> RecurrentParams:
    """Parameters of a simple recurrent network (as `torch.nn.RNN`; JAX has no layers).

    A list with an entry for each layer: parameters as `rnn_cell_init` makes them, which says their
    shapes, or, for both directions, a dict of two, "forward" and "backward".

    Args:
      key: a random key.
      in_features, units: sizes of the inputs and of each state.
      layers: how many; each reads the outputs of the one before.
      bidirectional: whether each layer also runs backwards; its outputs are then
        ``2 * units`` large, forwards first.
      w_init, h_init, dtype: as for `rnn_cell_init`.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: fewer than one layer, a flag that is none, or an initialiser that is no
        function.
    """
    options = {"w_init": w_init, "h_init": h_init, "dtype": dtype}
    return _init("rnn", rnn_cell_init, key, in_features, units, layers, bidirectional, options)


def rnn_apply(
    params: RecurrentParams,
    xs: Any,
    state: Any = None,
    *,
    lengths: Any = None,
    activation: Callable[[Any], Any] = tanh,
) -> tuple[Any, Any]:
    """The last state and all outputs of a simple recurrent network (see `rnn_cell_apply`).

    As `torch.nn.RNN`, but for the order of the results, which is that of `jax.lax.scan`.

    Args:
      params: from `rnn_init`.
      xs: shape ``(time, batch, in_features)``, or without the batch.
      state: where to begin, of the structure of the state returned; None means zeros. Hand on the
        state returned to go on with the next piece of a sequence; a gradient is cut off where the
        state is an argument that is not differentiated.
      lengths: integers of shape ``(batch,)``, how many moments of each sequence count. Afterwards
        the state stays as it is, and outputs are 0; backwards, a sequence begins at its own end.
      activation: a function of arrays.

    Returns:
      A pair: the state, a list with an array ``(batch, units)`` for each layer, or a dict "forward"
      and "backward" of two; and outputs ``(time, batch, units)``, ``2 * units`` for both
      directions. All are of the dtype to which inputs and parameters promote.

    Raises:
      TreeError: `params` or `state` has another structure.
      ShapeError: arrays do not fit together.
      ArgumentError: `lengths` are no integers, or `activation` is no function.
    """
    return _apply(rnn(activation, "rnn_apply"), params, xs, state, lengths)


def lstm_init(
    key: Any,
    in_features: int,
    units: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    w_init: Initializer | None = None,
    h_init: Initializer | None = None,
    forget_bias: Any = 1.0,
    dtype: Any = None,
) -> RecurrentParams:
    """Parameters of an LSTM: structure, shapes, dtypes and errors are as for `rnn_init`.

    Each layer's are as `lstm_cell_init` makes them. See `torch.nn.LSTM`.

    Args:
      key: a random key.
      in_features, units, layers, bidirectional, w_init, h_init, dtype: as for `rnn_init`.
      forget_bias: as for `lstm_cell_init`.
    """
    options = {"w_init": w_init, "h_init": h_init, "forget_bias": forget_bias, "dtype": dtype}
    return _init("lstm", lstm_cell_init, key, in_features, units, layers, bidirectional, options)


def lstm_apply(
    params: RecurrentParams, xs: Any, state: Any = None, *, lengths: Any = None
) -> tuple[Any, Any]:
    """The last state and all outputs of an LSTM (see `lstm_cell_apply`).

    Arguments, results, shapes, dtypes and errors are those of `rnn_apply`, but that a layer's state
    is a pair ``(h, c)``. As `torch.nn.LSTM`, but for the order of the results.

    Args:
      params: from `lstm_init`.
      xs: shape ``(time, batch, in_features)``, or without the batch.
      state: where to begin; None means zeros.
      lengths: how many moments of each sequence count.
    """
    return _apply(LSTM, params, xs, state, lengths)


def gru_init(
    key: Any,
    in_features: int,
    units: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    w_init: Initializer | None = None,
    h_init: Initializer | None = None,
    dtype: Any = None,
) -> RecurrentParams:
    """Parameters of a GRU: structure, shapes, dtypes and errors are as for `rnn_init`.

    Each layer's are as `gru_cell_init` makes them. See `torch.nn.GRU`.

    Args:
      key: a random key.
      in_features, units, layers, bidirectional, w_init, h_init, dtype: as for `rnn_init`.
    """
    options = {"w_init": w_init, "h_init": h_init, "dtype": dtype}
    return _init("gru", gru_cell_init, key, in_features, units, layers, bidirectional, options)


def gru_apply(
    params: RecurrentParams, xs: Any, state: Any = None, *, lengths: Any = None
) -> tuple[Any, Any]:
    """The last state and all outputs of a GRU (see `gru_cell_apply`).

    Arguments, results, shapes, dtypes and errors are those of `rnn_apply`. As `torch.nn.GRU`, but
    for the order of the results.

    Args:
      params: from `gru_init`.
      xs: shape ``(time, batch, in_features)``, or without the batch.
      state: where to begin; None means zeros.
      lengths: how many moments of each sequence count.
    """
    return _apply(GRU, params, xs, state, lengths)


def _init(
    layer: str,
    cell_init: Callable[..., dict[str, Any]],
    key: Any,
    in_features: int,
    units: int,
    layers: int,
    bidirectional: bool,
    options: dict[str, Any],
) -> RecurrentParams:
    count = integer(f"{layer}_init: layers", layers)
    if count < 1:
        raise ArgumentError(f"{layer}_init: layers must be at least 1, got {count}")
    directions = 2 if flag(f"{layer}_init: bidirectional", bidirectional) else 1
    keys = random.split(key, (count, directions))
    params = []
    for i in range(count):
        inputs = directions * units if i else in_features
        each = [cell_init(keys[i, d], inputs, units, **options) for d in range(directions)]
        params.append(dict(zip(_DIRECTIONS, each, strict=True)) if directions == 2 else each[0])
    return params


def _apply(cell: Cell, params: Any, xs: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    function = f"{cell.name}_apply"
    layers = sequence(f"{function}: params", params)
    if not layers:
        raise ArgumentError(f"{function}: params must have one entry for each layer, got none")
    xs = array(function, xs)
    if xs.ndim not in (2, 3):
        raise ShapeError(
            f"{function}: xs must have shape (time, batch, features), or (time, features), got "
            f"{xs.aval}"
        )
    alive = None if lengths is None else _alive(function, lengths, xs)
    if alive is not None:  # what does not count may be NaN, and weights must not learn by it
        xs = fnp.where(alive, xs, 0)
    states = [None] * len(layers) if state is None else sequence(f"{function}: state", state)
    if len(states) != len(layers):
        raise TreeError(
            f"{function}: state must have one entry for each of {len(layers)} layers, as "
            f"{function} returns it, got {len(states)}"
        )
    last: list[Any] = []
    for layer, first in zip(layers, states, strict=True):
        if not isinstance(layer, Mapping) or "forward" not in layer:
            end, xs = _run(cell, layer, xs, first, alive, reverse=False)
            last.append(end)
            continue
        if first is not None and not (isinstance(first, Mapping) and {*_DIRECTIONS} <= {*first}):
            raise TreeError(
                f"{function}: the state of a layer with both directions must be a dict with "
                f"'forward' and 'backward', got {describe(first)}"
            )
        ends, outs = {}, []
        for name in _DIRECTIONS:
            begin = None if first is None else first[name]
            reverse = name == "backward"
            ends[name], out = _run(cell, layer.get(name), xs, begin, alive, reverse)
            outs.append(out)
        last.append(ends)
        xs = fnp.concatenate(outs, axis=-1)
    return last, xs


def _run(
    cell: Cell, params: Any, xs: Any, state: Any, alive: Any, reverse: bool
) -> tuple[Any, Any]:
    """One layer in one direction: the last state, and the outputs in the order of the inputs."""
    params, zs = project(cell.name, cell, params, xs)
    shape = (*zs.shape[1:-1], params["h"].shape[0])
    if state is None:
        zero = fnp.zeros(shape, zs.dtype)
        state = (zero, zero) if cell.states == 2 else zero
    state = check_state(f"{cell.name}_apply", cell, state, shape, zs.dtype)

    def step(state: Any, given: Any) -> tuple[Any, Any]:
        z, counts = given if alive is not None else (given, None)
        new = cell.step(params, state, z)
        out = new[0] if cell.states == 2 else new
        if counts is None:
            return new, out
        if cell.states == 2:
            kept: Any = tuple(fnp.where(counts, a, b) for a, b in zip(new, state, strict=True))
        else:
            kept = fnp.where(counts, new, state)
        return kept, fnp.where(counts, out, 0)

    return lax.scan(step, state, zs if alive is None else (zs, alive), reverse=reverse)


def _alive(function: str, lengths: Any, xs: Any) -> Any:
    """Which moments of which sequences count: bool ``(time, batch, 1)``."""
    lengths = array(function, lengths)
    if lengths.shape != xs.shape[1:-1] or not dtypes.is_integer(lengths.aval.dtype):
        raise ArgumentError(
            f"{function}: lengths must be integers of shape {xs.shape[1:-1]}, one for each "
            f"sequence of the batch, got {lengths.aval}"
        )
    moments = fnp.arange(xs.shape[0]).reshape((-1, *(1,) * (xs.ndim - 1)))
    return moments < lengths[..., None]
