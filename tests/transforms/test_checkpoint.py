"""checkpoint changes no value, and lowers peak memory: eager and compiled, measured over depth."""

from __future__ import annotations

import functools
import gc
import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.transforms.compare import assert_same, batches, loop, loss_of, tangents_like
from tests.transforms.table import CASES, Case, draw

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.control import cond, scan
from funcdl.errors import ArgumentError
from funcdl.ops.stop_gradient import stop_gradient
from funcdl.runtime.toolchain import find_compiler

policies = fd.checkpoint_policies
POLICIES = {
    "default": None,
    "everything": policies.everything_saveable,
    "nothing": policies.nothing_saveable,
    "dots": policies.dots_saveable,
    "names": policies.save_only_these_names("hidden"),
    "not names": policies.save_anything_except_these_names("hidden"),
}


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def bits(value: Any) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in fd.tree.leaves(value)]


DIFFERENTIABLE = [c for c in CASES if c.argnums]


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=[c.name for c in DIFFERENTIABLE])
def test_nothing_changes_under_any_transform(case: Case) -> None:
    def remat_of(fun: Any) -> Case:
        return Case(case.name, fd.checkpoint(fun), case.args, {}, case.argnums)

    remat = remat_of(case)
    wanted = fd.grad(loss_of(case), case.argnums)(*case.args)
    assert_same(remat(*case.args), case(*case.args), weak=True)
    assert_same(fd.jit(remat)(*case.args), case(*case.args))
    assert_same(fd.grad(loss_of(remat), case.argnums)(*case.args), wanted)
    assert_same(fd.jit(fd.grad(loss_of(remat), case.argnums))(*case.args), wanted, 10)
    inner = fd.checkpoint(loss_of(remat_of(fd.jit(case))))
    assert_same(fd.grad(inner, case.argnums)(*case.args), wanted)
    args = batches(case, 0)
    assert_same(fd.vmap(remat)(*args), loop(case, 0)(*args), 10)
    gradients = loop(fd.grad(loss_of(case), case.argnums), 0)(*args)
    assert_same(fd.vmap(fd.grad(loss_of(remat), case.argnums))(*args), gradients, 10)
    if case.fwd:
        tangents = tangents_like(case.args)
        assert_same(fd.jvp(remat, case.args, tangents), fd.jvp(case, case.args, tangents))
        out, push = fd.linearize(remat, *case.args)
        assert_same((out, push(*tangents)), fd.jvp(case, case.args, tangents), 10)


def block(w: Any, x: Any) -> Any:
    h = fd.checkpoint_name(fnp.tanh(x @ w), "hidden")
    return fnp.sin(h @ w) * h


def chain(ws: Any, x: Any, step: Callable[[Any, Any], Any] = block) -> Any:
    for w in ws:
        x = step(w, x)
    return (x * x).sum()


@pytest.mark.parametrize("name", POLICIES)
def test_policies_change_no_bit_of_values_and_gradients(name: str) -> None:
    ws, x = [draw(3, 3, seed=i) / 2 for i in range(3)], draw(2, 3)
    step = fd.checkpoint(block, policy=POLICIES[name])
    wanted = fd.value_and_grad(chain, (0, 1))(ws, x)
    found = fd.value_and_grad(functools.partial(chain, step=step), (0, 1))(ws, x)
    assert bits(found) == bits(wanted)
    jitted = fd.jit(fd.value_and_grad(functools.partial(chain, step=step), (0, 1)))(ws, x)
    assert bits(jitted) == bits(fd.jit(fd.value_and_grad(chain, (0, 1)))(ws, x))


def saved(policy: Any) -> int:
    """The number of values that the forward pass hands to the backward pass of one block."""
    step = fd.checkpoint(block, policy=policy)
    program = fd.make_jaxpr(lambda w, x: fd.vjp(step, w, x)[1](x))(draw(3, 3), draw(2, 3))
    forward, backward = (e for e in program.eqns if e.primitive.name == "checkpoint")
    return sum(var in backward.invars for var in forward.outvars)


def test_policies_choose_what_is_kept() -> None:
    counts = {name: saved(policy) for name, policy in POLICIES.items()}
    assert counts["default"] == counts["nothing"] == 0
    assert counts["names"] == 1 and counts["dots"] == 2
    assert counts["everything"] > 2
    both = policies.save_from_both_policies(policies.dots_saveable, POLICIES["names"])
    assert saved(both) == 3
    assert saved(policies.save_any_names_but_these("other")) == 1
    assert saved(policies.save_any_names_but_these("hidden")) == 0
    assert saved(policies.dots_with_no_batch_dims_saveable) == 2
    jitted = fd.checkpoint(fd.jit(block), policy=policies.dots_saveable)
    program = fd.make_jaxpr(lambda w, x: fd.vjp(jitted, w, x)[1](x))(draw(3, 3), draw(2, 3))
    backward = [e for e in program.eqns if e.primitive.name == "checkpoint"][-1]
    assert sum(atom.aval.shape == (2, 3) for atom in backward.invars) == 4  # x, two dots, and ct


def counted(step: Callable[[Any, Any], Any]) -> tuple[Callable[[Any, Any], Any], list[int]]:
    """A function, and how often it has run: each run calls back."""
    runs = [0]

    def note(x: Any) -> Any:
        runs[0] += 1
        return x

    def fun(w: Any, x: Any) -> Any:
        shape = fd.ShapeDtypeStruct(x.shape, x.dtype)
        return step(w, x + fd.pure_callback(note, shape, stop_gradient(x)))

    return fun, runs


def hidden(w: Any, x: Any) -> Any:
    return fnp.tanh(fnp.tanh(x @ w) @ w)


def chain_of(depth: int, every: int) -> Callable[[Any, Any], Any]:
    """tanh(x @ w) `depth` times; `every` so many layers a checkpoint, unless 0."""

    def layers(count: int, w: Any, x: Any) -> Any:
        for _ in range(count):
            x = fnp.tanh(x @ w)
        return x

    def loss(w: Any, x: Any) -> Any:
        step = every or depth
        for start in range(0, depth, step):
            part = functools.partial(layers, min(step, depth - start))
            x = (fd.checkpoint(part) if every else part)(w, x)
        return (x * x).sum()

    return loss


W, X = draw(16, 16).astype("float32") / 8, fnp.ones((4096, 16))
DEPTHS = (4, 16, 36)


def compiled_text(loss: Callable[..., Any], stage: str) -> str:
    """The program of the gradient as a stage of the compiler left it; needs no C compiler."""
    with fd.config.override(backend="cpu"):
        return fd.jit(fd.grad(loss)).lower(W, X).as_text(stage)


def arena_bytes(loss: Callable[..., Any]) -> int:
    text = compiled_text(loss, "memory")
    (line,) = [line for line in text.splitlines() if line.startswith("arena")]
    return int(line.split()[1])


def peak_bytes(loss: Callable[..., Any]) -> int:
    fd.grad(loss)(W, X)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fd.grad(loss)(W, X)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def exponent(sizes: list[float]) -> float:
    """The slope of a line through log(sizes) over log(depths)."""
    return float(np.polyfit(np.log(DEPTHS), np.log(sizes), 1)[0])


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("measure", [arena_bytes, peak_bytes], ids=["compiled", "eager"])
def test_peak_memory_grows_with_the_root_of_the_depth(measure: Callable[..., int]) -> None:
    plain = [measure(chain_of(n, 0)) / X.nbytes for n in DEPTHS]
    remat = [measure(chain_of(n, math.isqrt(n))) / X.nbytes for n in DEPTHS]
    # One activation for each checkpoint, and those of one segment with their cotangents.
    for n, units in zip(DEPTHS, remat, strict=True):
        assert units <= 3 * math.isqrt(n) + 8
    assert exponent(plain) > 0.85
    assert exponent(remat) < 0.62
    assert remat[-1] < plain[-1] / 2.5


def test_the_compiler_shares_the_recomputation_only_where_it_may() -> None:
    def dots(loss: Callable[..., Any]) -> int:
        return compiled_text(loss, "simplified").count("dot_general")

    def chained(**options: Any) -> Callable[..., Any]:
        step = fd.checkpoint(hidden, **options)
        return lambda w, x: (step(w, step(w, x)) ** 2).sum()

    plain = dots(lambda w, x: (hidden(w, hidden(w, x)) ** 2).sum())
    assert dots(chained()) == plain + 4
    assert dots(chained(prevent_cse=False)) == plain
    assert dots(chained(policy=policies.everything_saveable)) == plain


def test_the_forward_pass_computes_no_residuals() -> None:
    program = fd.make_jaxpr(lambda w, x: fd.vjp(fd.checkpoint(hidden), w, x)[0])(W, X)
    (eqn,) = program.eqns
    inner = eqn.params["jaxpr"]
    assert [e.primitive.name for e in inner.eqns] == ["dot_general", "tanh"] * 2
    assert len(inner.out_avals) == 1


def test_how_often_a_checkpointed_function_runs() -> None:
    def loss(step: Any) -> Callable[..., Any]:
        return lambda w, x: (step(w, x) ** 2).sum()

    for policy, wanted in (("nothing", 2), ("everything", 1)):
        fun, runs = counted(hidden)
        step = fd.checkpoint(lambda w, x, f=fun: f(w, fnp.sin(x)), policy=POLICIES[policy])
        fd.grad(loss(step))(draw(3, 3), draw(2, 3))
        assert runs[0] == wanted
        fd.value_and_grad(loss(step), 1)(draw(3, 3), draw(2, 3))
        assert runs[0] == 2 * wanted


def test_second_derivatives_and_nesting() -> None:
    w, x = draw(3, 3) / 2, draw(2, 3)
    nested = fd.checkpoint(lambda w, x: fd.checkpoint(block)(w, fd.checkpoint(block)(w, x)))

    def loss(step: Callable[..., Any]) -> Callable[..., Any]:
        return lambda w: (step(w, x) ** 2).sum()

    def plain(w: Any, x: Any) -> Any:
        return block(w, block(w, x))

    for second in (
        fd.hessian,
        lambda f: fd.jacrev(fd.jacrev(f)),
        lambda f: fd.jacrev(fd.jacfwd(f)),
    ):
        assert_same(second(loss(nested))(w), second(loss(plain))(w), 10)


def test_in_scan_only_the_carries_are_stacked() -> None:
    """The usual way to train long recurrences: a checkpointed body."""

    def run(step: Callable[..., Any]) -> Callable[..., Any]:
        return lambda w, x: (scan(lambda c, _: (step(w, c), None), x, None, 6)[0] ** 2).sum()

    w, x = draw(3, 3) / 2, draw(2, 3)
    step = fd.checkpoint(block, prevent_cse=False)
    assert_same(fd.grad(run(step))(w, x), fd.grad(run(block))(w, x))
    program = fd.make_jaxpr(fd.grad(run(step)))(w, x)
    forward = next(e for e in program.eqns if e.primitive.name == "scan")
    assert [v.aval.shape for v in forward.outvars] == [(2, 3), (6, 2, 3)]


def test_with_control_flow_inside() -> None:
    def f(x: Any) -> Any:
        y, ys = scan(lambda c, e: (fnp.sin(c) * e, c), x[0], x)
        return cond(y > 0, lambda v: v * y, fnp.cos, ys)

    def loss(f: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda x: (f(x) ** 2).sum()

    x = draw(5)
    assert_same(fd.grad(loss(fd.checkpoint(f)))(x), fd.grad(loss(f))(x))
    assert_same(fd.jit(fd.hessian(loss(fd.checkpoint(f))))(x), fd.hessian(loss(f))(x), 10)


def test_values_of_outer_transforms_may_be_captured() -> None:
    def f(step: Callable[..., Any]) -> Callable[..., Any]:
        def outer(w: Any, x: Any) -> Any:
            return fd.vmap(lambda row: step(lambda r: fnp.sin(r @ w) * x[0], row))(x).sum()

        return outer

    def plain(g: Any, row: Any) -> Any:
        return g(row)

    def remat(g: Any, row: Any) -> Any:
        return fd.checkpoint(g)(row)

    w, x = draw(3, 3), draw(2, 3)
    wanted = fd.grad(f(plain), (0, 1))(w, x)
    assert_same(fd.grad(f(remat), (0, 1))(w, x), wanted)
    assert_same(fd.jit(fd.grad(f(remat), (0, 1)))(w, x), wanted, 10)


def test_static_arguments_and_keywords() -> None:
    def f(x: Any, kind: str, *, scale: Any = 1.0) -> Any:
        return getattr(fnp, kind)(x) * scale

    step = fd.checkpoint(f, static_argnums=1)
    for kind in ("sin", "cos", "sin"):
        found = fd.grad(lambda x, k=kind: step(x, k, scale=x).sum())(draw(3))
        wanted = fd.grad(lambda x, k=kind: f(x, k, scale=x).sum())(draw(3))
        assert_same(found, wanted)
    assert fd.remat is fd.checkpoint


def test_effects_in_the_forward_pass_remain(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        fd.debug.print("x = {}", x.sum())
        return fnp.sin(x)

    fd.grad(lambda x: fd.checkpoint(f)(x).sum())(fnp.ones(2))
    assert capsys.readouterr().out == "x = 2.0\n"


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"requires a function, got NoneType; .*partial"):
        fd.checkpoint(None)
    with pytest.raises(ArgumentError, match="requires policy to be a function, such as"):
        fd.checkpoint(block, policy="dots")


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("widths", [(16, 16), (16, 48)])
def test_compiled_programs_agree(widths: tuple[int, int]) -> None:
    """Also where the recomputation fits the loops of the forward pass and no others."""
    a, b = draw(*widths) / 8, draw(*widths[::-1]) / 8

    def step(u: Any, a: Any) -> Any:
        return (fnp.sin(u * a[0, 0]) * fnp.exp(u)) @ a

    def loss(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(a: Any, b: Any, x: Any) -> Any:
            for _ in range(3):
                x = step(x, a) @ b
            return (x * x).sum()

        return run

    x = draw(32, 16) / 8
    with fd.config.override(backend="cpu"):
        found = fd.jit(fd.grad(loss(fd.checkpoint(step)), (0, 1)))(a, b, x)
    assert_same(found, fd.grad(loss(step), (0, 1))(a, b, x), 20)


def io_scale(seen: list[float]) -> Any:
    """The identity, which writes down its argument."""

    def call(v: Any) -> Any:
        seen.append(float(v))
        return v

    return lambda x: fd.io_callback(call, fd.ShapeDtypeStruct((), np.float64), x)


EFFECTS: dict[str, Any] = {
    "result used": lambda io, x: fnp.sin(x) * io(lax.stop_gradient(x)),
    "result not used": lambda io, x: (fnp.sin(fnp.sin(x)), io(lax.stop_gradient(x)))[0],
    "in jit": lambda io, x: fd.jit(lambda y: fnp.sin(y) * io(lax.stop_gradient(y)))(x),
    "in cond": lambda io, x: lax.cond(
        x > 0, lambda y: fnp.sin(y) * io(lax.stop_gradient(y)), fnp.sin, x
    ),
    "in scan": lambda io, x: lax.scan(
        lambda c, _: (fnp.sin(c) * io(lax.stop_gradient(x)), None), x, None, 3
    )[0],
}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", EFFECTS)
def test_effects_are_not_repeated(name: str, jit: bool) -> None:
    """They are of the forward pass, and what they return is kept."""
    seen: list[float] = []
    io, x = io_scale(seen), fnp.float64(0.7)

    def f(x: Any) -> Any:
        return EFFECTS[name](io, x)

    wanted = fd.grad(f)(x)
    plain, seen[:] = list(seen), []
    found = fd.grad(fd.checkpoint(f))
    assert_same((fd.jit(found) if jit else found)(x), wanted)
    assert seen == plain


@pytest.mark.parametrize("jit", [False, True])
def test_prints_in_loops_are_not_repeated(jit: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """The loop itself is, since its print can be left out."""

    def f(x: Any) -> Any:
        def step(c: Any, _: Any) -> Any:
            fd.debug.print("step")
            return fnp.sin(c), None

        return lax.scan(step, x, None, 3)[0]

    found = fd.grad(fd.checkpoint(f))
    (fd.jit(found) if jit else found)(0.7)
    assert capsys.readouterr().out == "step\n" * 3
    push = fd.linearize(fd.checkpoint(f), 0.7)[1]
    loops = [e for e in fd.make_jaxpr(push)(1.0).eqns if e.primitive.name == "checkpoint"]
    assert [e.primitive.name for e in loops[0].params["jaxpr"].eqns].count("scan") == 2
