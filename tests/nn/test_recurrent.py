"""Recurrent layers beside PyTorch's, and cells by their formulas."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, random
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.test_util import check_grads

KEY = random.key(0)
RNG = np.random.default_rng(0)
T, B, IN, UNITS = 6, 3, 4, 5
layers: Any = nn  # whose types do not matter here
KINDS = ("rnn", "lstm", "gru")
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def drawn(params: Any) -> Any:
    """Biases that do something."""
    return fd.tree.map(
        lambda p: fnp.asarray(RNG.normal(0, 0.5, p.shape), p.dtype) if p.ndim == 1 else p, params
    )


def states(kind: str, shape: tuple[int, ...] = (B, UNITS), dtype: str = "float32") -> Any:
    h, c = (fnp.asarray(RNG.normal(size=shape), dtype) for _ in range(2))
    return (h, c) if kind == "lstm" else h


def formula(kind: str, params: Any, state: Any, x: Any) -> Any:
    """The next state, gate by gate, in float64."""
    p = {name: np.asarray(w, np.float64) for name, w in params.items()}
    x = np.asarray(x, np.float64)
    h = np.asarray(state[0] if kind == "lstm" else state, np.float64)
    of_x = np.split(x @ p["x"] + p["b"], GATES[kind], -1)
    of_h = np.split(h @ p["h"], GATES[kind], -1)
    if kind == "rnn":
        return np.tanh(of_x[0] + of_h[0])
    if kind == "lstm":
        i, f, g, o = (a + b for a, b in zip(of_x, of_h, strict=True))
        c = sigmoid(f) * np.asarray(state[1], np.float64) + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    r, u = (sigmoid(a + b) for a, b in zip(of_x[:2], of_h[:2], strict=True))
    n = np.tanh(of_x[2] + r * (of_h[2] + p["c"]))
    return (1 - u) * n + u * h


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_cells(kind: str, dtype: str) -> None:
    init, apply = (getattr(layers, f"{kind}_cell_{name}") for name in ("init", "apply"))
    params = drawn(init(KEY, IN, UNITS, dtype=dtype))
    state = states(kind, dtype=dtype)
    x = fnp.asarray(RNG.normal(size=(B, IN)), dtype)
    new, out = apply(params, state, x)
    expected = formula(kind, params, state, x)
    tolerance = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    for a, b in zip(fd.tree.leaves(new), fd.tree.leaves(expected), strict=True):
        assert a.dtype.name == dtype
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(out, fd.tree.leaves(new)[0])


def test_initial_weights() -> None:
    params = nn.lstm_cell_init(KEY, 200, UNITS)
    assert {name: p.shape for name, p in params.items()} == {
        "x": (200, 4 * UNITS),
        "h": (UNITS, 4 * UNITS),
        "b": (4 * UNITS,),
    }
    np.testing.assert_allclose(np.asarray(params["x"]).var(), 1 / 200, rtol=0.1)
    for gate in np.split(np.asarray(params["h"]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(UNITS), atol=1e-5)
    expected = np.zeros(4 * UNITS)
    expected[UNITS : 2 * UNITS] = 1
    np.testing.assert_array_equal(params["b"], expected)
    assert not np.asarray(nn.lstm_cell_init(KEY, 2, 3, forget_bias=0)["b"]).any()
    first, second = nn.gru_init(KEY, UNITS, UNITS, layers=2)
    assert set(first) == {"x", "h", "b", "c"}
    assert (np.asarray(first["x"]) != np.asarray(second["x"])).any()


def to_torch(torch: Any, kind: str, params: Any, bidirectional: bool) -> Any:
    module = getattr(torch.nn, kind.upper())(IN, UNITS, len(params), bidirectional=bidirectional)
    with torch.no_grad():
        for i, layer in enumerate(params):
            each = (layer["forward"], layer["backward"]) if bidirectional else (layer,)
            for suffix, p in zip(("", "_reverse"), each, strict=False):

                def copy(name: str, value: Any, suffix: str = f"_l{i}{suffix}") -> None:
                    getattr(module, name + suffix).copy_(torch.tensor(np.asarray(value)))

                copy("weight_ih", np.asarray(p["x"]).T)
                copy("weight_hh", np.asarray(p["h"]).T)
                copy("bias_ih", p["b"])
                b_h = np.zeros(GATES[kind] * UNITS, np.float32)
                if kind == "gru":
                    b_h[2 * UNITS :] = p["c"]
                copy("bias_hh", b_h)
    return module


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_are_those_of_pytorch(kind: str, count: int, bidirectional: bool) -> None:
    torch = pytest.importorskip("torch")
    params = drawn(
        getattr(layers, f"{kind}_init")(KEY, IN, UNITS, layers=count, bidirectional=bidirectional)
    )
    apply = getattr(layers, f"{kind}_apply")
    xs = RNG.normal(size=(T, B, IN)).astype(np.float32)
    module = to_torch(torch, kind, params, bidirectional)
    directions = 2 if bidirectional else 1
    begin = states(kind, (count * directions, B, UNITS))
    pair = begin if kind == "lstm" else (begin,)
    theirs = tuple(torch.tensor(np.asarray(part)) for part in pair)
    expected, end = module(torch.tensor(xs), theirs if kind == "lstm" else theirs[0])
    ends = end if kind == "lstm" else (end,)

    def pick(i: int) -> Any:
        parts = tuple(part[i] for part in pair)
        return parts if kind == "lstm" else parts[0]

    state = [
        {"forward": pick(2 * i), "backward": pick(2 * i + 1)} if bidirectional else pick(i)
        for i in range(count)
    ]
    for f in (apply, fd.jit(apply)):
        last, out = f(params, xs, state)
        np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
        assert fd.tree.structure(last) == fd.tree.structure(state)
        for i, layer in enumerate(last):
            each = (layer["forward"], layer["backward"]) if bidirectional else (layer,)
            for d, found in enumerate(each):
                for part, whole in zip(found if kind == "lstm" else (found,), ends, strict=True):
                    wanted = whole[i * directions + d].detach().numpy()
                    np.testing.assert_allclose(part, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_a_scan_of_the_cell(kind: str) -> None:
    params = drawn(getattr(layers, f"{kind}_init")(KEY, IN, UNITS))
    cell = functools.partial(getattr(layers, f"{kind}_cell_apply"), params[0])
    xs = RNG.normal(size=(T, B, IN)).astype(np.float32)
    state = states(kind)
    expected = lax.scan(cell, state, xs)
    (last,), out = getattr(layers, f"{kind}_apply")(params, xs, [state])
    for a, b in zip(fd.tree.leaves((last, out)), fd.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_those_of_single_sequences(kind: str, bidirectional: bool) -> None:
    params = drawn(
        getattr(layers, f"{kind}_init")(KEY, IN, UNITS, layers=2, bidirectional=bidirectional)
    )
    apply = getattr(layers, f"{kind}_apply")
    xs = RNG.normal(size=(T, B, IN)).astype(np.float32)
    lengths = np.array([T, 0, 3])
    for t, length in enumerate(lengths):
        xs[length:, t] = np.nan  # must not be seen
    last, out = apply(params, xs, lengths=lengths)
    for b, length in enumerate(lengths):
        with fd.disable_jit():  # every length would be a program
            alone, expected = apply(params, xs[:length, b])
        np.testing.assert_allclose(out[:length, b], expected, rtol=1e-4, atol=1e-5)
        assert not np.asarray(out[length:, b]).any()
        for whole, one in zip(fd.tree.leaves(last), fd.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(whole[b], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_see_nothing_behind_the_end(kind: str) -> None:
    init, apply = (getattr(layers, f"{kind}_{name}") for name in ("init", "apply"))
    params = drawn(init(KEY, IN, UNITS, bidirectional=True))
    xs = RNG.normal(size=(T, 1, IN)).astype(np.float32)
    xs[3:] = np.nan

    def loss(params: Any, xs: Any, lengths: Any) -> Any:
        state, out = apply(params, xs, lengths=lengths)
        return (out**2).sum() + sum(part.sum() for part in fd.tree.leaves(state))

    gradient = fd.grad(loss, (0, 1))
    with fd.disable_jit():
        by_params, by_xs = gradient(params, xs, np.array([3]))
        expected, by_start = gradient(params, xs[:3], None)
    fd.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), by_params, expected
    )
    np.testing.assert_allclose(by_xs[:3], by_start, rtol=1e-4, atol=1e-5)
    assert not np.asarray(by_xs[3:]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_carried_on(kind: str) -> None:
    params = drawn(getattr(layers, f"{kind}_init")(KEY, IN, UNITS, layers=2))
    apply = getattr(layers, f"{kind}_apply")
    xs = RNG.normal(size=(T, B, IN)).astype(np.float32)
    whole = apply(params, xs)
    state, first = apply(params, xs[:2])
    state, second = apply(params, xs[2:], state)
    joined = state, fnp.concatenate([first, second])
    for a, b in zip(fd.tree.leaves(joined), fd.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_and_transforms(kind: str) -> None:
    init, apply = (getattr(layers, f"{kind}_{name}") for name in ("init", "apply"))
    params = drawn(init(KEY, 2, 3, bidirectional=True, dtype="float64"))
    xs = RNG.normal(size=(3, 2, 2))
    lengths = np.array([3, 2])

    def loss(params: Any, xs: Any) -> Any:
        state, out = apply(params, xs, lengths=lengths)
        return (out**2).sum() + sum(part.sum() for part in fd.tree.leaves(state))

    def curvature(params: Any, xs: Any) -> Any:
        """The gradient, and how it changes in one direction."""
        return fd.jvp(fd.grad(fd.jit(loss)), (params, xs), (params, xs))

    # In Python in all modes, since every one is several programs; compiled forward over reverse.
    with fd.disable_jit():
        check_grads(loss, (params, xs), order=2)
        expected = curvature(params, xs)
    found = fd.jit(curvature)(params, xs)
    fd.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), found, expected)
    eager = fd.grad(loss)(params, xs)
    fd.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), eager, expected[0])
    mapped = fd.vmap(lambda x: apply(params, x)[1], in_axes=1, out_axes=1)(xs)
    np.testing.assert_allclose(mapped, apply(params, xs)[1], rtol=1e-10)


@pytest.mark.parametrize("shape", [(0, B, IN), (T, 0, IN), (T, B, 0)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    for kind in KINDS:
        params = getattr(layers, f"{kind}_init")(KEY, shape[-1], UNITS)
        (state,), out = getattr(layers, f"{kind}_apply")(params, np.zeros(shape, np.float32))
        assert out.shape == (*shape[:2], UNITS)
        assert fd.tree.leaves(state)[0].shape == (shape[1], UNITS)


def test_dtypes_are_promoted() -> None:
    params = nn.lstm_init(KEY, IN, UNITS, dtype="bfloat16")
    xs = fnp.ones((T, B, IN), "float32")
    assert {a.dtype.name for a in fd.tree.leaves(nn.lstm_apply(params, xs))} == {"float32"}
    xs = xs.astype("bfloat16")
    assert {a.dtype.name for a in fd.tree.leaves(nn.lstm_apply(params, xs))} == {"bfloat16"}


CELL = nn.lstm_cell_init(KEY, IN, UNITS)
LSTM = nn.lstm_init(KEY, IN, UNITS)
BOTH = nn.gru_init(KEY, IN, UNITS, bidirectional=True)
X, H = np.zeros((T, B, IN), np.float32), np.zeros((B, UNITS), np.float32)
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: layers.lstm_cell_apply({}, (H, H), X[0]), TreeError, "with 'x', 'h' and 'b', as lstm"),
    (
        lambda: layers.lstm_cell_apply(CELL, H, X[0]),
        TreeError,
        r"a pair \(h, c\) .* ndarray",
    ),
    (lambda: layers.lstm_cell_apply(CELL, (H, H[1:]), X[0]), ShapeError, r"\(3, 5\), got .*f32\[2"),
    (lambda: layers.lstm_cell_apply(CELL, (H, H), X[0, :, 1:]), ShapeError, r"f32\[3,3\] and f32"),
    (lambda: layers.gru_cell_apply(CELL | {"c": H[0]}, H, X[0]), ShapeError, "3 columns for each"),
    (lambda: layers.rnn_cell_apply(CELL, H, X[0], activation=1), ArgumentError, "as activation"),
    (lambda: layers.lstm_apply([], X), ArgumentError, "one entry for each layer, got none"),
    (lambda: layers.lstm_apply(LSTM[0], X), ArgumentError, "lstm_apply: params must be a sequence"),
    (lambda: layers.lstm_apply(LSTM, X[0, 0]), ShapeError, r"\(time, batch, features\), or"),
    (lambda: layers.lstm_apply(LSTM, X, [(H, H)] * 2), TreeError, "one entry for each of 1 layers"),
    (lambda: layers.lstm_apply(LSTM, X, [H]), TreeError, "lstm_apply: state must be a pair"),
    (lambda: layers.gru_apply(BOTH, X, [H]), TreeError, "'forward' and 'backward', got a ndarray"),
    (lambda: layers.gru_apply([{"forward": 1}], X), TreeError, "with 'x', 'h', 'b' and 'c'"),
    (lambda: layers.lstm_apply(LSTM, X, lengths=H[0]), ArgumentError, r"of shape \(3,\), one for"),
    (
        lambda: layers.lstm_init(KEY, IN, UNITS, layers=0),
        ArgumentError,
        "must be at least 1",
    ),
    (lambda: layers.rnn_init(KEY, IN, -1), ShapeError, "no negative sizes"),
    (lambda: layers.gru_init(KEY, IN, UNITS, h_init=3), ArgumentError, "as h_init"),
    (lambda: layers.lstm_init(KEY, IN, UNITS, forget_bias="x"), ArgumentError, "must be a number"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
