"""scan is a Python loop, for random bodies; and what loops cost in traces and memory."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.control.table import PRIMITIVES, PYTHON, Flow
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.control import cond, fori_loop, scan, switch, while_loop
from funcdl.core.primitive import Primitive


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


@dataclass(frozen=True)
class Body:
    """A random loop: sizes, which values its step reads, and what stands around it."""

    carries: tuple[int, ...]  # the width of each float carry; 0 for an integer counter
    inputs: tuple[int, ...]
    steps: tuple[tuple[str, int, int], ...]
    outputs: tuple[int, ...]
    order: tuple[int, ...]
    length: int
    reverse: bool
    nested: bool
    seed: int


OPS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b * 0.5,
    "sin": lambda a, b: fnp.sin(a),
    "mix": lambda a, b: fnp.tanh(a) - b.sum() * 0.1,
    "where": lambda a, b: fnp.where(a > 0, a * 0.9, b.sum()),
}


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    carries = tuple(draw(st.lists(st.sampled_from([0, 2, 2]), min_size=1, max_size=3)))
    inputs = tuple(draw(st.lists(st.just(2), max_size=2)))
    pool = 2 + len(carries) + len(inputs)
    steps = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(sorted(OPS)))
        steps.append((name, draw(st.integers(0, pool - 1)), draw(st.integers(0, pool - 1))))
        pool += 1
    pick = st.integers(0, pool - 1)
    return Body(
        carries,
        inputs,
        tuple(steps),
        tuple(draw(st.lists(pick, max_size=2))),
        tuple(draw(pick) for _ in carries),
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.integers(0, 999)),
    )


def run(body: Body, flow: Flow, w: Any, init: Any, xs: Any) -> Any:
    """The loop, on a captured value `w`, with trees for carry and inputs."""

    def step(carry: Any, x: Any) -> Any:
        leaves = list(carry["c"])
        values = [fnp.ones(2, "float64"), w, *leaves, *([] if x is None else x["x"])]
        for name, a, b in body.steps:
            values.append(OPS[name](as_float(values[a]), as_float(values[b])))
        if body.nested:
            start, pairs = as_float(values[-1]), fnp.stack([w, w])
            inner = flow.scan(lambda c, e: (c * 0.5 + e, c * e), start, pairs)
            values.append(as_float(inner[0] + inner[1].sum(axis=0)))
        new = [
            old + 1 if width == 0 else as_float(values[i])
            for old, i, width in zip(leaves, body.order, body.carries, strict=True)
        ]
        return {"c": tuple(new)}, [values[i] for i in body.outputs]

    length = body.length if not body.inputs else None
    return flow.scan(step, init, xs, length=length, reverse=body.reverse)


def as_float(x: Any) -> Any:
    """Two floats, whatever the value was."""
    return fnp.asarray(x).astype("float64") + fnp.zeros(2, "float64")


def arguments(body: Body) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(body.seed)

    def floats(*shape: int) -> Any:
        return fnp.asarray(rng.uniform(-1, 1, shape))

    init = tuple(fnp.asarray(rng.integers(3)) if n == 0 else floats(n) for n in body.carries)
    xs = {"x": [floats(body.length, n) for n in body.inputs]} if body.inputs else None
    return floats(2), {"c": init}, xs


def scalar(tree: Any) -> Any:
    leaves = [fnp.asarray(x) for x in fd.tree.leaves(tree)]
    return sum((fnp.cos(x + i).sum() for i, x in enumerate(leaves) if x.dtype == np.float64), 0.0)


@settings(max_examples=40)
@given(bodies())
def test_scan_is_a_python_loop(body: Body) -> None:
    w, init, xs = arguments(body)
    wanted = run(body, PYTHON, w, init, xs)
    assert_same(run(body, PRIMITIVES, w, init, xs), wanted, 10)
    jitted = fd.jit(lambda *args: run(body, PRIMITIVES, *args))
    assert_same(jitted(w, init, xs), wanted, 10)

    def loss(flow: Flow) -> Callable[..., Any]:
        """The captured value is a tracer of grad, and inside of vmap one of that as well."""

        def total(w: Any, xs: Any) -> Any:
            one = fd.vmap(lambda s: run(body, flow, w * s, init, xs))
            batch = fnp.asarray([0.5, 1.0])
            return scalar(run(body, flow, w, init, xs)) + scalar(one(batch)) * 1.0 + w.sum()

        return total

    assert_same(fd.grad(loss(PRIMITIVES), (0, 1))(w, xs), fd.grad(loss(PYTHON), (0, 1))(w, xs), 100)


@pytest.mark.parametrize("reverse", [False, True])
def test_loops_without_steps(reverse: bool) -> None:
    def step(c: Any, x: Any) -> Any:
        return c * x.sum(), (c, x > 0, None)

    def run(c: Any, xs: Any) -> Any:
        return scan(step, c, xs, reverse=reverse)

    c, xs = fnp.ones(2), fnp.zeros((0, 3))
    final, (ys, flags, _) = run(c, xs)
    assert_same(final, c)
    assert ys.aval.shape == (0, 2) and flags.aval.shape == (0, 3) and flags.dtype == bool
    assert_same(fd.jit(run)(c, xs)[0], c)
    assert_same(fd.grad(lambda c, xs: run(c, xs)[0].sum(), (0, 1))(c, xs), (fnp.ones(2), xs))
    assert_same(fd.vmap(run, (0, None))(fnp.ones((4, 2)), xs)[0], fnp.ones((4, 2)))


ran = Primitive("counted")
runs: list[int] = []


def _note(x: Any) -> Any:
    runs.append(1)
    return x.copy()


ran.impl = _note
ran.shape = lambda x: x
ran.jvp = lambda primals, tangents: (ran.bind(*primals), tangents[0])
ran.batch = lambda size, args, dims: (ran.bind(*args), dims[0])


def count(fun: Callable[..., Any], *args: Any) -> int:
    runs.clear()
    fun(*args)
    return len(runs)


def test_only_the_chosen_branch_runs() -> None:
    def twice(x: Any) -> Any:
        return ran.bind(ran.bind(x))

    def f(p: Any, x: Any) -> Any:
        return cond(p, twice, ran.bind, x)

    def g(i: Any, x: Any) -> Any:
        return switch(i, [fnp.sin, ran.bind, twice], x)

    x, yes, no = fnp.ones(3), fnp.asarray(True), fnp.asarray(False)
    for transform in (lambda f: f, fd.jit, lambda f: fd.jit(fd.vmap(f, (None, 0)))):
        assert [count(transform(f), p, x) for p in (yes, no)] == [2, 1]
        wanted = [(-1, 0), (0, 0), (1, 1), (2, 2), (9, 2)]
        assert [count(transform(g), fnp.asarray(i), x) for i, _ in wanted] == [n for _, n in wanted]
    many = fnp.asarray([True, True, False])
    assert count(fd.vmap(f), many, x) == 3, "a batched predicate runs both branches once"
    assert count(fd.vmap(f, (0, None)), many, x) == 3


def test_a_batched_predicate_becomes_a_select() -> None:
    def f(p: Any, x: Any) -> Any:
        return cond(p, fnp.sin, fnp.cos, x)

    def names(axes: Any) -> set[str]:
        program = fd.make_jaxpr(fd.vmap(f, axes))(fnp.ones(2, bool), fnp.ones(2))
        return {eqn.primitive.name for eqn in program.eqns}

    assert "select_n" in names((0, 0)) and "cond" not in names((0, 0))
    program = fd.make_jaxpr(fd.vmap(f, (None, 0)))(fnp.asarray(True), fnp.ones(2))
    assert [eqn.primitive.name for eqn in program.eqns][-1] == "cond"


def test_while_runs_as_long_as_its_slowest_lane() -> None:
    def f(n: Any) -> Any:
        return while_loop(lambda s: s[0] > 0, lambda s: (s[0] - 1, ran.bind(s[1] + 2.0)), (n, 0.0))

    lanes = fnp.asarray([3, 0, 5])
    assert count(fd.vmap(f), lanes) == 5
    assert_same(fd.vmap(f)(lanes), (fnp.asarray([0, 0, 0]), fnp.asarray([6.0, 0.0, 10.0])))


def test_an_eager_body_is_traced_once_and_forgotten_with_its_function() -> None:
    traces = []

    def make() -> Callable[..., Any]:
        def step(c: Any, x: Any) -> Any:
            traces.append(1)
            return c + x, c

        return step

    step = make()
    for _ in range(3):
        scan(step, fnp.zeros(2), fnp.ones((3, 2)))
        fd.grad(lambda c, f=step: scan(f, c, fnp.ones((3, 2)))[0].sum())(fnp.zeros(2))
    assert len(traces) == 1
    scan(step, fnp.zeros(2), fnp.ones((3, 2), "int32"))
    assert len(traces) == 2
    gone = weakref.ref(step)
    del step
    gc.collect()
    assert gone() is None


def test_the_body_of_fori_loop_is_traced_once() -> None:
    traces = []

    def body(i: Any, c: Any) -> Any:
        traces.append(1)
        return c * i

    for n in (2, 3, 2):
        fori_loop(0, n, body, 1.0)
    assert len(traces) == 1


def test_captured_values_are_never_stale() -> None:
    array = fnp.ones(2)

    def step(c: Any, _: Any) -> Any:
        return c * array, None

    first = scan(step, fnp.ones(2), None, 2)[0]
    array = fnp.ones(2) * 3
    second = scan(step, fnp.ones(2), None, 2)[0]
    assert_same((first, second), (fnp.ones(2), fnp.ones(2) * 9))


def residuals(fun: Callable[..., Any], *args: Any) -> list[tuple[int, ...]]:
    """The shapes of what the forward loop of a gradient returns."""
    program = fd.make_jaxpr(fd.grad(fun, tuple(range(len(args)))))(*args)
    forward = next(eqn for eqn in program.eqns if eqn.primitive.name == "scan")
    return [v.aval.shape for v in forward.outvars]


def test_what_is_the_same_in_every_step_is_not_stacked() -> None:
    w, x = fnp.ones((5, 5)), fnp.ones(5)

    def f(w: Any, x: Any) -> Any:
        return scan(lambda c, _: (c @ fnp.sin(w), None), x, None, 4)[0].sum()

    assert residuals(f, w, x) == [(5,), (4, 5)]
    s = fnp.sin
    wanted = fd.grad(lambda w, x: (x @ s(w) @ s(w) @ s(w) @ s(w)).sum(), (0, 1))(w, x)
    assert_same(fd.grad(f, (0, 1))(w, x), wanted, 10)


def test_an_output_that_is_a_residual_is_stacked_once() -> None:
    def f(x: Any) -> Any:
        def step(c: Any, _: Any) -> Any:
            new = fnp.exp(c * 0.1)
            return new, new

        return scan(step, x, None, 4)[1].sum()

    assert residuals(f, fnp.ones(3)) == [(3,), (4, 3)]


def test_programs_and_trace_times_do_not_depend_on_the_length() -> None:
    def loss(n: int) -> Callable[..., Any]:
        return lambda x: (scan(lambda c, _: (fnp.sin(c) * x, c), x, None, n)[0] ** 2).sum()

    def text(n: int) -> int:
        return str(fd.make_jaxpr(fd.hessian(loss(n)))(fnp.ones(3))).count("\n")

    assert text(2) == text(1000)


def test_trace_time_grows_linearly_with_the_body() -> None:
    def body(size: int) -> Callable[..., Any]:
        def step(c: Any, x: Any) -> Any:
            for _ in range(size):
                c = fnp.sin(c) * x
            return c, c

        return lambda x: (scan(step, x, fnp.ones((4, 3)))[0] ** 2).sum()

    def seconds(size: int) -> float:
        best = np.inf
        for _ in range(3):
            start = time.process_time()
            fd.make_jaxpr(fd.vmap(fd.grad(body(size))))(fnp.ones((2, 3)))
            best = min(best, time.process_time() - start)
        return best

    seconds(8)
    small, large = seconds(20), seconds(160)
    assert large < 8 * small * 2
