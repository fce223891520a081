"""What no result depends on is not computed, not stacked and not kept, through all control flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, sub_jaxprs
from funcdl.core.pruning import live_eqns, pruned
from funcdl.errors import MissingRuleError
from funcdl.runtime.toolchain import find_compiler

XS = fnp.arange(1.0, 5.0)


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def equations(program: ClosedJaxpr) -> Iterator[Eqn]:
    for eqn in program.eqns:
        yield eqn
        for inner in sub_jaxprs(eqn.params):
            yield from equations(inner)


def names(program: ClosedJaxpr) -> list[str]:
    return [eqn.primitive.name for eqn in equations(program)]


def first(f: Any) -> ClosedJaxpr:
    """The program of a function's first output."""
    program = fd.make_jaxpr(f)(XS)
    read = [i == 0 for i in range(len(program.out_avals))]
    return pruned(program, read)[0]


def dead_scan(xs: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        a, b, c = carry
        return (a + x, fnp.sin(b) * x, c + b), (fnp.exp(x), fnp.tan(b))

    (a, b, c), ys = lax.scan(step, (0.0, 1.0, 2.0), xs)
    return a, b, c, ys


def dead_while(xs: Any) -> Any:
    def body(state: Any) -> Any:
        i, a, b, c = state
        return i + 1, a + 1.0, fnp.sin(b), c * b

    _, a, b, c = lax.while_loop(lambda s: s[0] < 3, body, (0, xs.sum(), 1.0, 2.0))
    return a, b, c


def dead_cond(xs: Any) -> Any:
    return lax.cond(
        xs[0] > 0, lambda x, y: (x + 1, fnp.sin(y)), lambda x, y: (x, fnp.tan(y)), xs, xs * 3
    )


def dead_jit(xs: Any) -> Any:
    return fd.jit(lambda x, y: (x + 1, fnp.sin(y)))(xs, xs * 3)


def dead_checkpoint(xs: Any) -> Any:
    return fd.checkpoint(lambda x, y: (x + 1, fnp.sin(y)))(xs, xs * 3)


def dead_in_depth(xs: Any) -> Any:
    """A value that one loop carries for an output of another, which nothing reads."""

    def step(c: Any, x: Any) -> Any:
        return (c[0] + x, dead_while(xs)[1]), dead_cond(xs)[1]

    (a, b), ys = fd.jit(lambda: lax.scan(step, (0.0, 1.0), xs))()
    return a, b, ys


DEAD = [dead_scan, dead_while, dead_cond, dead_jit, dead_checkpoint, dead_in_depth]


@pytest.mark.parametrize("f", DEAD)
def test_unread_results_are_not_computed(f: Any) -> None:
    assert {"sin", "tan", "exp"} & set(names(fd.make_jaxpr(f)(XS)))
    program = first(f)
    assert not {"sin", "tan", "exp"} & set(names(program))
    found = fd.jit(lambda x: f(x)[0]).lower(XS)
    with fd.config.override(backend="reference"):
        assert_same(fd.jit(lambda x: f(x)[0])(XS), f(XS)[0])
    assert found is not None


@pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("f", DEAD)
def test_compiled_programs_leave_it_out(f: Any) -> None:
    with fd.config.override(backend="cpu"):
        lowered = fd.jit(lambda x: f(x)[0]).lower(XS)
        text = lowered.as_text("simplified")
        assert not any(f" = {name} " in text for name in ("sin", "tan", "exp"))
        assert_same(fd.jit(lambda x: f(x)[0])(XS), f(XS)[0])


def scan_of(program: ClosedJaxpr) -> Eqn:
    (eqn,) = [e for e in equations(program) if e.primitive.name == "scan"]
    return eqn


def test_carries_that_others_need_are_kept() -> None:
    def f(xs: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            a, b, c = carry
            return (b, c, a + x), None

        return lax.scan(step, (0.0, 1.0, 2.0), xs)[0]

    eqn = scan_of(first(f))
    assert eqn.params["num_carry"] == 3
    assert_same(fd.jit(lambda x: f(x)[0])(XS), f(XS)[0])


def test_unused_inputs_of_loops_are_dropped() -> None:
    eqn = scan_of(first(dead_scan))
    assert (eqn.params["num_carry"], len(eqn.invars), len(eqn.outvars)) == (1, 2, 1)


def test_effects_are_kept_with_what_they_read() -> None:
    seen: list[float] = []

    def f(xs: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            fd.debug.callback(lambda v: seen.append(float(v)), c[1])
            return (c[0] + x, c[1] * 2), fnp.sin(x)

        return lax.scan(step, (0.0, 1.0), xs)[0][0]

    assert fd.jit(f)(XS) == 10.0
    assert seen == [1.0, 2.0, 4.0, 8.0]


def test_gradients_keep_no_residuals_of_unread_results() -> None:
    def loss(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            a, b = carry
            return (a * x, fnp.sin(b) * x), fnp.exp(b)

        (a, _), _ = lax.scan(step, (1.0, 1.0), None, 5)
        return a

    program = fd.make_jaxpr(fd.grad(loss))(2.0)
    kept = pruned(program, (True,))[0]
    assert not {"sin", "cos", "exp"} & set(names(kept))
    assert fd.grad(loss)(2.0) == 80.0
    assert fd.jit(fd.grad(loss))(2.0) == 80.0
    _, push = fd.linearize(loss, 2.0)
    assert not {"sin", "cos", "exp"} & set(names(fd.make_jaxpr(push)(1.0)))


def test_the_linear_loop_does_not_carry_cotangents_of_unread_outputs() -> None:
    def loss(x: Any) -> Any:
        _, ys = lax.scan(lambda c, e: (c * x, (c + e, fnp.sin(c) * x)), x, XS)
        return ys[0].sum()

    program = pruned(fd.make_jaxpr(fd.grad(loss))(2.0), (True,))[0]
    assert "cos" not in names(program)
    assert fd.grad(loss)(2.0) == pytest.approx(1 + 4 + 12 + 32)


def test_checkpointed_scans_compute_again_only_what_is_needed() -> None:
    def f(x: Any) -> Any:
        def step(c: Any, e: Any) -> Any:
            return (fnp.cos(c[0]) * e, fnp.tanh(c[1])), fnp.exp(c[1])

        (a, b), ys = lax.scan(step, (x, x), XS)
        return a, b, ys

    push = fd.linearize(fd.checkpoint(lambda x: f(x)[0]), 2.0)[1]
    assert not {"tanh", "exp"} & set(names(fd.make_jaxpr(push)(1.0)))


@pytest.mark.parametrize("fun", [lambda f: f, fd.jit])
def test_linearize_splits_while_loops(fun: Any) -> None:
    """What is known and nothing unknown depends on runs once, ahead."""

    def f(x: Any) -> Any:
        def body(s: Any) -> Any:
            i, k, a = s
            return i + 1, fnp.tan(k), a * x

        return lax.while_loop(lambda s: s[0] < 3, body, (0, 0.5, x))

    out, push = fd.linearize(fun(f), 2.0)
    assert_same(out, f(2.0))
    program = fd.make_jaxpr(push)(1.0)
    (eqn,) = [e for e in equations(program) if e.primitive.name == "while"]
    assert "tan" not in names(program)
    assert len(eqn.outvars) == 3  # the index, a and its tangent
    assert_same(push(1.0)[2], fnp.asarray(32.0))


def test_pruning_keeps_what_is_needed_as_it_is() -> None:
    program = fd.make_jaxpr(dead_scan)(XS)
    everything = pruned(program, (True,) * len(program.out_avals))[0]
    assert everything is pruned(program, (True,) * len(program.out_avals))[0]
    assert everything.eqns == program.eqns
    eqns, live = live_eqns(program.eqns, [])
    assert eqns == [] and live == set()


@pytest.mark.parametrize("fun", [lambda f: f, fd.jit])
def test_effects_in_while_loops_are_not_repeated(fun: Any) -> None:
    seen: list[float] = []

    def f(x: Any) -> Any:
        def body(s: Any) -> Any:
            fd.debug.callback(lambda i: seen.append(int(i)), s[0])
            return s[0] + 1, s[1] * x

        return lax.while_loop(lambda s: s[0] < 3, body, (0, x))[1]

    _, push = fd.linearize(fun(f), 2.0)
    assert push(1.0) == 32.0
    assert seen == [0, 1, 2]


def test_what_a_repeated_loop_cannot_leave_out_is_refused() -> None:
    def f(x: Any) -> Any:
        def body(s: Any) -> Any:
            k = fd.io_callback(lambda: 2.0, fd.ShapeDtypeStruct((), "float32"))
            return s[0] + 1, s[1] * k

        return lax.while_loop(lambda s: s[0] < 3, body, (0, x))[1]

    assert fd.jvp(f, (2.0,), (1.0,)) == (16.0, 8.0)
    with pytest.raises(MissingRuleError, match="an io_callback with results in its body"):
        fd.linearize(f, 2.0)


def test_the_work_is_linear_in_the_depth_of_calls() -> None:
    """Programs within programs are each looked at once."""
    f: Any = fnp.sin
    for _ in range(40):
        f = fd.jit(lambda x, f=f: f(x) * 2)
    program = fd.make_jaxpr(lambda x: (f(x), x))(1.0)
    assert first_outputs(program, 1) is not program
    assert fd.grad(f)(0.0) == 2.0**40


def first_outputs(program: ClosedJaxpr, count: int) -> ClosedJaxpr:
    return pruned(program, [i < count for i in range(len(program.out_avals))])[0]
