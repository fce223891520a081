"""Stacks between loops that nobody needs: results keep their bits, and memory gets smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcdl as fd
import funcdl.lax as lax
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.compiler.rewrite import scan_residuals
from funcdl.compiler.rewrite import simplify as simplify_module
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, sub_jaxprs

STEPS, BATCH, UNITS = 5, 3, 8
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return (0.5 * RNG.normal(size=shape)).astype(np.float32)


XS = normal(STEPS, BATCH, UNITS)
H = normal(BATCH, UNITS)
W = normal(UNITS, UNITS)


@contextmanager
def without_the_pass() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            simplify_module, "drop_residuals", lambda eqns, outs: (list(eqns), list(outs))
        )
        yield


def lowered(f: Callable[..., Any], *args: Any) -> Any:
    return fd.jit(lambda *xs: f(*xs)).lower(*args)


def scans(program: ClosedJaxpr) -> list[Eqn]:
    return [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]


def stacks(f: Callable[..., Any], *args: Any) -> list[tuple[int, int]]:
    """For each scan of the simplified program: how many stacks it reads, how many it writes."""
    found = []
    for eqn in scans(lowered(f, *args)._lowered._pipeline.simplified):
        carried = eqn.params["num_carry"]
        found.append(
            (len(eqn.invars) - eqn.params["num_consts"] - carried, len(eqn.outvars) - carried)
        )
    return found


def written(f: Callable[..., Any], *args: Any) -> int:
    """How many stacks all scans of a program write, those in bodies included."""

    def count(program: ClosedJaxpr) -> int:
        total = sum(count(p) for eqn in program.eqns for p in sub_jaxprs(eqn.params))
        for eqn in scans(program):
            total += len(eqn.outvars) - int(eqn.params["num_carry"])
        return total

    return count(lowered(f, *args)._lowered._pipeline.simplified)


def check(f: Callable[..., Any], *args: Any) -> None:
    """The pass changes no bit, and leaves no more stacks."""
    found = fd.tree.leaves(fd.jit(lambda *xs: f(*xs))(*args))
    now = written(f, *args)
    with without_the_pass():
        wanted = fd.tree.leaves(fd.jit(lambda *xs: f(*xs))(*args))
        before = written(f, *args)
    assert now <= before
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def tanh_cell(w: Any, h: Any, x: Any) -> Any:
    return fnp.tanh(x + h @ w)


def relu_cell(w: Any, h: Any, x: Any) -> Any:
    return nn.relu(x + h @ w)


def gelu_cell(w: Any, h: Any, x: Any) -> Any:
    return nn.gelu(x + h @ w)


def leaky_cell(w: Any, h: Any, x: Any) -> Any:
    return 0.25 * h + 0.75 * nn.silu(x + h @ w)


def gru_cell(w: Any, h: Any, x: Any) -> Any:
    reset, update = nn.sigmoid(x + h @ w), nn.sigmoid(x - h @ w)
    return update * h + (1 - update) * fnp.tanh(x + (reset * h) @ w)


def norm_cell(w: Any, h: Any, x: Any) -> Any:
    z = x + h @ w
    z = z - z.mean(axis=-1, keepdims=True)
    return z / fnp.sqrt((z * z).mean(axis=-1, keepdims=True) + 1e-5)


def clipped_cell(w: Any, h: Any, x: Any) -> Any:
    return fnp.where(x > 0, fnp.clip(h @ w, -0.5, 0.5) * x, fnp.abs(x) / (1 + h * h))


def biased_cell(w: Any, h: Any, x: Any) -> Any:
    return nn.relu(x * w[0] + nn.silu(h + w[1]) * w[2])


def cell_with_cond(w: Any, h: Any, x: Any) -> Any:
    return lax.cond(x[0, 0] > 0, lambda z: nn.sigmoid(z), lambda z: fnp.tanh(z) * z, x + h @ w)


def cell_with_scan(w: Any, h: Any, x: Any) -> Any:
    return lax.scan(lambda z, _: (nn.sigmoid(x + z @ w), None), h, None, length=3)[0]


def cell_with_while(w: Any, h: Any, x: Any) -> Any:
    steps = lax.while_loop(lambda n: n < 3, lambda n: n + 1, 0)
    return nn.sigmoid(x + steps * (h @ w))


CELLS = [
    tanh_cell,
    relu_cell,
    gelu_cell,
    leaky_cell,
    gru_cell,
    norm_cell,
    clipped_cell,
    biased_cell,
    cell_with_cond,
    cell_with_scan,
    cell_with_while,
]


def rnn(cell: Any, w: Any, h: Any, xs: Any, reverse: bool = False) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = cell(w, h, x)
        return h, h

    return lax.scan(step, h, xs, reverse=reverse)[1]


def loss_of(cell: Any, reverse: bool = False) -> Callable[..., Any]:
    return lambda w, h, xs: fnp.sum(rnn(cell, w, h, xs, reverse) ** 2)


def lstm(w: Any, xs: Any) -> Any:
    def cell(carry: Any, x: Any) -> Any:
        h, c = carry
        i, f, g, o = fnp.split(x @ w["x"] + h @ w["h"], 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * fnp.tanh(g)
        h = nn.sigmoid(o) * fnp.tanh(c)
        return (h, c), h

    return lax.scan(cell, (H, H), xs)[1]


LSTM = fd.grad(lambda w, xs: fnp.sum(lstm(w, xs) ** 2))
LSTM_ARGS = {"x": normal(UNITS, 4 * UNITS), "h": normal(UNITS, 4 * UNITS)}, XS


def test_an_lstm_keeps_its_gates_and_not_their_derivatives() -> None:
    # The output, both old states, four gates and the tanh of the state; backwards, the states' two
    # cotangents are made into those of the products.
    assert stacks(LSTM, *LSTM_ARGS) == [(1, 8), (7, 1)]
    with without_the_pass():
        assert stacks(LSTM, *LSTM_ARGS) == [(1, 13), (12, 1)]
    check(LSTM, *LSTM_ARGS)


def test_an_lstm_needs_less_memory() -> None:
    def arena(f: Any, *args: Any) -> int:
        return int(lowered(f, *args)._lowered._pipeline.program.arena.nbytes)

    args = LSTM_ARGS[0], normal(50, BATCH, UNITS)
    small = arena(LSTM, *args)
    with without_the_pass():
        large = arena(LSTM, *args)
    assert large - small >= 5 * 50 * H.nbytes


def test_the_program_of_a_logistic() -> None:
    def f(h: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            return nn.sigmoid(h) * x, None

        return lax.scan(step, h, xs)[0].sum()

    def bodies() -> str:
        program = lowered(fd.grad(f, (0, 1)), H[0], XS[:, 0])._lowered._pipeline.simplified
        return "\n".join(str(eqn.params["jaxpr"]) for eqn in scans(program))

    with without_the_pass():
        assert bodies().split() == BEFORE.split()
    assert bodies().split() == AFTER.split()


BEFORE = """
{ lambda ; a:f32[8] b:f32[8]. let
    c:f32[8] = logistic a
    d:f32[8] = broadcast_in_dim[broadcast_dimensions=() shape=(8,)] 1.0:f32[]
    e:f32[8] = sub d c
    f:f32[8] = mul c e
    g:f32[8] = mul c b
  in (g, f, c) }
{ lambda ; a:f32[8] b:f32[8] c:f32[8] d:f32[8]. let
    e:f32[8] = mul a d
    f:f32[8] = mul a c
    g:f32[8] = mul f b
  in (g, e) }
"""

AFTER = """
{ lambda ; a:f32[8] b:f32[8]. let
    c:f32[8] = logistic a
    d:f32[8] = mul c b
  in (d, c) }
{ lambda ; a:f32[8] b:f32[8] c:f32[8]. let
    d:f32[8] = broadcast_in_dim[broadcast_dimensions=() shape=(8,)] 1.0:f32[]
    e:f32[8] = sub d c
    f:f32[8] = mul c e
    g:f32[8] = mul a c
    h:f32[8] = mul a b
    i:f32[8] = mul h f
  in (i, g) }
"""


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_keep_their_bits(cell: Any, reverse: bool) -> None:
    check(fd.value_and_grad(loss_of(cell, reverse), (0, 1, 2)), W, H, XS)


@pytest.mark.parametrize("cell", [gru_cell, clipped_cell, cell_with_scan])
def test_other_derivatives_keep_their_bits(cell: Any) -> None:
    loss = loss_of(cell)

    def product(w: Any, h: Any, xs: Any) -> Any:
        return fd.jvp(lambda w: fd.grad(loss)(w, h, xs), (w,), (w,))[1]

    check(product, W, H, XS)
    check(fd.vmap(fd.grad(loss), (None, 0, 1)), W, normal(2, BATCH, UNITS), normal(5, 2, 3, 8))


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_few_steps(steps: int) -> None:
    check(fd.grad(loss_of(gru_cell), (0, 1, 2)), W, H, XS[:steps])


def test_float64() -> None:
    with fd.config.override(x64="on"):
        args = [np.float64(x) for x in (W, H, XS)]
        check(fd.grad(loss_of(gru_cell), (0, 1, 2)), *args)
        assert written(fd.grad(loss_of(gru_cell)), *args) < 8


def test_loops_in_loops() -> None:
    """The pass goes through the bodies, too."""

    def training(w: Any, h: Any, xs: Any) -> Any:
        def step(w: Any, _: Any) -> Any:
            return w - 0.1 * fd.grad(loss_of(gru_cell))(w, h, xs), ()

        return lax.scan(step, w, None, length=3)[0]

    check(training, W, H, XS)
    now = written(training, W, H, XS)
    with without_the_pass():
        assert now < written(training, W, H, XS)


def test_two_layers_of_loops() -> None:
    def loss(w: Any, h: Any, xs: Any) -> Any:
        return fnp.sum(rnn(gru_cell, w, h, rnn(leaky_cell, w, h, xs), True) ** 2)

    check(fd.grad(loss, (0, 1, 2)), W, H, XS)


def test_checkpoint_saves_no_more_than_it_is_told() -> None:
    def named(w: Any, h: Any, x: Any) -> Any:
        gate = fd.checkpoint_name(nn.sigmoid(x + h @ w), "gate")
        return fd.checkpoint_name(gate * (1 - gate), "slope") + h

    for names in ((), ("gate",), ("slope",), ("gate", "slope")):
        policy = fd.checkpoint_policies.save_only_these_names(*names)
        cell = fd.checkpoint(named, policy=policy)
        check(fd.grad(loss_of(cell), (0, 1, 2)), W, H, XS)


def test_effects_run_as_often_and_see_the_same() -> None:
    seen: list[Any] = []

    def cell(w: Any, h: Any, x: Any) -> Any:
        gate = nn.sigmoid(x + h @ w)
        fd.debug.callback(lambda v: seen.append(np.asarray(v).copy()), gate * (1 - gate))
        return gate * h

    f = fd.grad(loss_of(cell))
    fd.block_until_ready(fd.jit(lambda *args: f(*args))(W, H, XS))
    found, seen[:] = list(seen), []
    with without_the_pass():
        fd.block_until_ready(fd.jit(lambda *args: f(*args))(W, H, XS))
    assert len(found) == len(seen) == STEPS
    np.testing.assert_array_equal(found, seen)


# Two loops, the second of which reads what the first stacks.


def pair(make: Callable[[Any, Any], Any], use: Callable[..., Any]) -> Callable[..., Any]:
    def f(h: Any, xs: Any) -> Any:
        def first(h: Any, x: Any) -> Any:
            return fnp.sin(h) + x, make(h, x)

        def second(total: Any, read: Any) -> Any:
            return total + use(*read), None

        h, ys = lax.scan(first, h, xs)
        return h, lax.scan(second, fnp.zeros_like(h), ys, reverse=True)[0]

    return f


PAIRS: dict[str, tuple[Any, Any, tuple[int, int]]] = {
    # What the first loop makes, what the second uses; how many stacks are left between them.
    "equal": (lambda h, x: (fnp.exp(h), fnp.exp(h)), lambda a, b: a * b, (1, 1)),
    "copy of an input": (lambda h, x: (x, fnp.exp(h)), lambda a, b: a * b, (1, 2)),
    "from another": (lambda h, x: (h, (h + 1) * h), lambda a, b: a * b, (1, 1)),
    "from an input": (lambda h, x: (h, x * 2), lambda a, b: a * b, (1, 2)),
    "from both": (lambda h, x: (h, x, h * x - h), lambda a, b, c: a * b + c, (1, 2)),
    "one after the other": (
        lambda h, x: (h, h + 1, (h + 1) * h, -((h + 1) * h)),
        lambda a, b, c, d: a * b + c * d,
        (1, 1),
    ),
    "a select": (
        lambda h, x: (h, fnp.where(h > 0.25, h, 0.5)),
        lambda a, b: a * b,
        (1, 1),
    ),
    "a mask": (lambda h, x: (h, h > 0), lambda a, b: fnp.where(b, a, 1), (1, 1)),
    "a constant": (lambda h, x: (h, h * H), lambda a, b: a * b, (1, 1)),
    "a whole constant": (lambda h, x: (h, fnp.asarray(H)), lambda a, b: a * b, (1, 1)),
    "a broadcast": (
        lambda h, x: (h, h.sum(axis=1, keepdims=True), fnp.broadcast_to(h.sum(1)[:, None], (3, 8))),
        lambda a, b, c: a * b + c,
        (2, 2),
    ),
    "behind a barrier": (
        lambda h, x: (h, lax.optimization_barrier(h) * 2),
        lambda a, b: a * b,
        (2, 2),
    ),
    "dear": (lambda h, x: (h, fnp.exp(h)), lambda a, b: a * b, (2, 2)),
    "through what is dear": (lambda h, x: (h, fnp.tanh(h) + 1), lambda a, b: a * b, (2, 2)),
    "a long way": (
        lambda h, x: (h, sum((h * k for k in range(2, 20)), h)),
        lambda a, b: a * b,
        (2, 2),
    ),
    "a small one from a large one": (lambda h, x: (x > 0, h), lambda a, b: a * b, (2, 2)),
    "to a product": (lambda h, x: (h, h * 2), lambda a, b: a + (b.T @ b)[:3], (2, 2)),
    "half precision": (
        lambda h, x: (h.astype("bfloat16"), h.astype("bfloat16") * 3),
        lambda a, b: (a * b).astype("float32"),
        (2, 2),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    make, use, wanted = PAIRS[name]
    f = pair(make, use)
    (_, made), (read, _) = stacks(f, H, XS)
    assert (made, read) == wanted
    check(f, H, XS)


def test_a_stack_that_others_read_stays() -> None:
    def f(h: Any, xs: Any) -> Any:
        def first(h: Any, x: Any) -> Any:
            return fnp.sin(h) + x, (h, h * 2)

        ys = lax.scan(first, h, xs)[1]
        total = lax.scan(lambda t, y: (t + y[0] * y[1], None), h, ys)[0]
        return total, ys[1].sum()

    assert stacks(f, H, XS) == [(1, 2), (2, 0)]
    check(f, H, XS)


def test_a_stack_that_is_a_result_stays() -> None:
    def f(h: Any, xs: Any) -> Any:
        return lax.scan(lambda h, x: (fnp.sin(h) + x, (x, x, h, h * 2)), h, xs)

    # The copies are copies of the argument.
    assert stacks(f, H, XS) == [(1, 2)]
    check(f, H, XS)


def test_a_donated_argument_that_is_a_result() -> None:
    def f(h: Any, xs: Any) -> Any:
        return lax.scan(lambda h, x: (fnp.sin(h) + x, (x, h * x, x)), h, xs)[1]

    first, product, second = fd.jit(f, donate_argnums=1)(H, fnp.array(XS))
    np.testing.assert_array_equal(first, XS)
    np.testing.assert_array_equal(second, XS)
    np.testing.assert_array_equal(product, f(H, XS)[1])


def test_several_readers() -> None:
    def f(h: Any, xs: Any) -> Any:
        ys = lax.scan(lambda h, x: (fnp.sin(h) + x, (h, h * 2)), h, xs)[1]
        one = lax.scan(lambda t, y: (t + y[0] * y[1], t * y[1]), h, ys, reverse=True)
        return one, lax.scan(lambda t, y: (t - y, None), h, ys[1])[0]

    assert stacks(f, H, XS) == [(1, 1), (1, 1), (1, 0)]
    check(f, H, XS)


def test_a_loop_with_nothing_left_to_do_goes() -> None:
    def f(xs: Any) -> Any:
        ys = lax.scan(lambda _, x: (None, x * 2), None, xs)[1]
        return lax.scan(lambda t, y: (t + y, None), xs[0], ys)[0]

    assert stacks(f, XS) == [(1, 0)]
    check(f, XS)


def test_large_expressions_take_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stack is followed for a few equations only."""
    looked = 0
    is_cheap = scan_residuals._is_cheap

    def counting(eqn: Any) -> bool:
        nonlocal looked
        looked += 1
        return is_cheap(eqn)

    monkeypatch.setattr(scan_residuals, "_is_cheap", counting)

    def make(h: Any, x: Any) -> Any:
        z, out = fnp.sin(h), []
        for _ in range(40):
            for _ in range(10):
                z = z * 0.5 + h
            out.append(z + 1)
        return tuple(out)

    lowered(pair(make, lambda *ys: sum(ys)), H, XS).as_text("simplified")
    assert looked <= 45 * scan_residuals.MOST_VALUES


UNARY: list[Callable[[Any], Any]] = [
    lambda x: -x,
    lambda x: 1 - x,
    lambda x: x * 0.5,
    fnp.abs,
    nn.sigmoid,
    fnp.tanh,
    lambda x: (x > 0.125).astype("float32"),
    lambda x: fnp.broadcast_to(x.max(axis=1, keepdims=True), x.shape),
    lambda x: x.T.reshape(x.shape),
    lambda x: x @ W,
]
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - y,
    lambda x, y: x / (1 + y * y),
    lambda x, y: fnp.where(x > y, x, y * 0.75),
    fnp.maximum,
]

Step = tuple[int, int, int]


def run(steps: list[Step], values: list[Any]) -> list[Any]:
    """A random program: each step applies an operation to values made before."""
    values = list(values)
    for op, i, j in steps:
        x, y = values[i % len(values)], values[j % len(values)]
        if op < len(UNARY):
            values.append(UNARY[op](x))
        else:
            values.append(BINARY[op - len(UNARY)](x, y))
    return values


STEP = st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 9), st.integers(0, 9))
PROGRAM = st.lists(STEP, min_size=1, max_size=6)
CHOICE = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(max_examples=25)
@given(PROGRAM, PROGRAM, PROGRAM, CHOICE, CHOICE, st.booleans(), st.booleans())
def test_random_loops_keep_their_bits(
    first: list[Step],
    second: list[Step],
    third: list[Step],
    stacked: list[int],
    passed: list[int],
    backwards: bool,
    results: bool,
) -> None:
    def f(h: Any, xs: Any) -> Any:
        def one(h: Any, x: Any) -> Any:
            values = run(first, [h, x, H * 2])
            return fnp.tanh(values[-1] + x), tuple(values[i % len(values)] for i in stacked)

        def two(h: Any, read: Any) -> Any:
            values = run(second, [h, *read])
            return fnp.tanh(values[-1]), tuple(values[i % len(values)] for i in passed)

        def three(total: Any, read: Any) -> Any:
            return total + run(third, list(read))[-1], None

        h, ys = lax.scan(one, h, xs)
        h, zs = lax.scan(two, h, ys, reverse=backwards)
        total, _ = lax.scan(three, h, (*ys, *zs), reverse=True)
        return (h, total, ys[-1]) if results else (h, total)

    check(f, H, XS)


@settings(max_examples=15)
@given(PROGRAM, st.booleans())
def test_gradients_of_random_loops_keep_their_bits(steps: list[Step], reverse: bool) -> None:
    def cell(w: Any, h: Any, x: Any) -> Any:
        return run(steps, [h @ w, x, h])[-1] * 0.5 + h @ w

    check(fd.grad(loss_of(cell, reverse), (0, 1, 2)), W, H, XS)
