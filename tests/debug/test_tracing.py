"""disable_jit, log_compiles, explain_cache_misses, checking_leaks and named_scope."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import errors, lax
from funcdl.core.printer import format_jaxpr

X = np.arange(3, dtype=np.float32)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(r.name == "funcdl" and r.levelname == "WARNING" for r in caplog.records)
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_disable_jit() -> None:
    seen: list[Any] = []

    @fd.jit
    def f(x: Any, n: int = 2) -> Any:
        seen.append(type(x).__name__)
        return x * n

    with fd.disable_jit():
        assert float(f(fnp.float32(3), n=4)) == 12
        assert float(fd.grad(f)(3.0)) == 2
        np.testing.assert_array_equal(fd.vmap(f)(fnp.asarray(X)), X * 2)
        with fd.disable_jit(False):
            f(X)
    f(X)
    assert seen == ["Array", "JVPTracer", "BatchTracer", "JaxprTracer"]


def test_log_compiles(caplog: pytest.LogCaptureFixture) -> None:
    @fd.jit
    def train_step(params: Any, x: Any) -> Any:
        return params["w"] * x

    with fd.log_compiles():
        for _ in range(2):
            train_step({"w": X}, 2.0)
    found = [re.sub(r"[\d.]+ ms", "? ms", message) for message in messages(caplog)]
    types = "(params['w']: f32[3], x: ~f32[])"
    assert found == [
        f"train_step was {what} in ? ms for {types}" for what in ("traced", "compiled")
    ]
    train_step({"w": X}, X)
    assert messages(caplog) == []


def train_step(x: Any, n: int) -> Any:
    return fd.tree.map(lambda leaf: leaf * n, x)


ONES = np.ones((128, 784), np.float32)

# (arguments of the calls, the message about the last)
MISSES: dict[str, tuple[list[tuple[Any, ...]], str]] = {
    "shape": (
        [(ONES, 2), (ONES[:64], 2)],
        "train_step was traced again: argument x: called with f32[64,784] where f32[128,784] is "
        "cached",
    ),
    "dtype": (
        [(ONES, 2), (ONES.astype(np.int32), 2)],
        "train_step was traced again: argument x: called with i32[128,784] where f32[128,784] is "
        "cached",
    ),
    "weak type": (
        [(np.float32(2), 2), (2.0, 2)],
        "train_step was traced again: argument x: called with ~f32[] where f32[] is cached (a "
        "Python scalar, or a value made of those, against an array)",
    ),
    "static": (
        [(ONES, 2), (ONES, 3)],
        "train_step was traced again: static argument n: called with 3 where 2 is cached",
    ),
    "structure": (
        [(ONES, 2), ({"a": ONES}, 2)],
        "train_step was traced again: arguments: called with the structure ({'a': *},) where (*,) "
        "is cached",
    ),
    "leaf": (
        [({"a": X, "b": X}, 2), ({"a": X, "b": ONES}, 2)],
        "train_step was traced again: argument x['b']: called with f32[128,784] where f32[3] is "
        "cached",
    ),
    "nearest": (
        [(X, 2), (X, 3), (ONES, 3)],
        "train_step was traced again: argument x: called with f32[128,784] where f32[3] is cached",
    ),
    "two reasons": (
        [(X, 2), (ONES, 3)],
        "train_step was traced again: argument x: called with f32[128,784] where f32[3] is cached; "
        "static argument n: called with 3 where 2 is cached",
    ),
}


@pytest.mark.parametrize("case", MISSES)
def test_explain_cache_misses(case: str, caplog: pytest.LogCaptureFixture) -> None:
    calls, message = MISSES[case]
    jitted = fd.jit(train_step, static_argnums=1)
    jitted.clear_cache()
    for args in calls[:-1]:
        jitted(*args)
    with fd.explain_cache_misses():
        for _ in range(2):  # the second call finds its program
            jitted(*calls[-1])
    assert messages(caplog) == [message]


def test_the_first_trace(caplog: pytest.LogCaptureFixture) -> None:
    def fresh(x: Any) -> Any:
        return x

    with fd.explain_cache_misses():
        fd.jit(fresh)(X)
        fd.jit(fresh, donate_argnums=0)(X)
    assert messages(caplog) == [
        "fresh was traced for the first time",
        "fresh was traced again: nothing of it is cached for these options of jit",
    ]


def test_the_x64_flag_explains_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    f = fd.jit(lambda x: x)
    f(X)
    with fd.explain_cache_misses(), fd.config.override(x64="on"):
        f(X)
    assert messages(caplog) == [
        "<lambda> was traced again: config.x64: now 'on' where 'explicit' is cached"
    ]


def test_functions_defined_in_a_loop_explain_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    with fd.explain_cache_misses():
        for _ in range(2):

            def step(x: Any) -> Any:
                return x

            fd.jit(step)(X)
    first, second = messages(caplog)
    assert first == "step was traced for the first time"
    line = step.__code__.co_firstlineno
    assert second == (
        "step was traced again: this is another function object, made by the same lines "
        f"({__file__}:{line}), and programs are cached by function object. Define the function "
        "once, outside of the loop or function that calls it"
    )


kept: list[Any] = []


class Model:
    state: Any = None


model = Model()


def into_a_list(x: Any) -> Any:
    kept.append(x * 2)
    return x.sum()


def into_an_attribute(x: Any) -> Any:
    model.state = x + 1
    return x.sum()


def into_a_closure() -> Callable[[Any], Any]:
    last = None

    def remember(x: Any) -> Any:
        nonlocal last
        last = x - 1
        return x.sum()

    return remember


LEAKS = [
    (into_a_list, f"an element of a list of 1, which is the global variable kept of {__name__}"),
    (into_an_attribute, "the attribute state of an object of class Model"),
    (
        into_a_closure(),
        "the variable last that into_a_closure.<locals>.remember closes over",
    ),
]


@pytest.mark.parametrize("transform", [fd.jit, fd.grad, fd.vmap, fd.make_jaxpr])
@pytest.mark.parametrize(("f", "holder"), LEAKS)
def test_leaks(f: Callable[[Any], Any], holder: str, transform: Any) -> None:
    x = fnp.ones((2, 2)) if transform is fd.vmap else fnp.ones(2)
    line = f.__code__.co_firstlineno + (2 if "nonlocal" in holder or "closes" in holder else 1)
    text = {"list": "kept.append(x * 2)", "attr": "model.state = x + 1", "last": "last = x - 1"}
    (source,) = [text[word] for word in text if word in holder]
    try:
        with fd.checking_leaks(), pytest.raises(errors.LeakedTracerError) as caught:
            transform(f)(x)
        title = f"{transform.__name__} of {f.__name__}"
        assert str(caught.value) == (
            f"{title} has ended, and traced values of it are still there:\n"
            f"  f32[2] created at {__file__}:{line} ({f.__qualname__}): {source}\n"
            f"    held by {holder}\n"
            "They leaked through a side effect of the traced function. Return them instead."
        )
    finally:
        kept.clear()
        model.state = None


def test_a_leak_out_of_a_loop() -> None:
    try:
        with (
            fd.checking_leaks(),
            pytest.raises(errors.LeakedTracerError, match="scan of <lambda> has ended"),
        ):
            lax.scan(lambda c, x: (kept.append(c), (c + x, c))[1], 0.0, X)
    finally:
        kept.clear()


@pytest.mark.usefixtures("short_search")
def test_programs_without_leaks_pass() -> None:
    def f(x: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            fd.debug.print("{}", carry)
            return carry + fnp.sin(x), carry

        y = fd.checkpoint(fd.jit(fnp.cos))(x)
        total = lax.scan(step, 0.0, y)[0]
        return lax.cond(total > 0, lambda t: t * x.sum(), lambda t: t, total)

    x = fnp.asarray(X)
    with fd.checking_leaks():
        for transform in (lambda f: f, fd.jit):
            transform(fd.grad(f))(x)
            transform(fd.vmap(fd.grad(f)))(fnp.stack([x, x]))
            fd.jvp(transform(f), (x,), (x,))
            fd.linearize(transform(f), x)[1](x)
            fd.vjp(transform(f), x)[1](fnp.float32(1))


def test_named_scopes_are_shown_with_the_source() -> None:
    @fd.named_scope("attention")
    def attention(x: Any) -> Any:
        return fnp.exp(x)

    def f(x: Any) -> Any:
        with fd.named_scope("layer0"):
            x = attention(fnp.sin(x))
        return fnp.cos(x)

    program = fd.make_jaxpr(f)(X)
    assert [eqn.source.scope for eqn in program.eqns] == ["layer0", "layer0/attention", ""]
    comments = [
        line.split("# ")[1]
        for line in format_jaxpr(program.jaxpr, source=True).split("\n")
        if "#" in line
    ]
    assert [re.sub(r"\d+", "?", text) for text in comments] == [
        "test_tracing.py:? layer?",
        "test_tracing.py:? layer?/attention",
        "test_tracing.py:?",
    ]
    gradient = fd.make_jaxpr(fd.grad(lambda x: fd.jit(f)(x).sum()))(X)
    inner = [e for eqn in gradient.eqns if "jaxpr" in eqn.params for e in eqn.params["jaxpr"].eqns]
    assert {e.source.scope for e in inner} == {"layer0", "layer0/attention", ""}


@pytest.mark.parametrize("name", ["", None, 3])
def test_scopes_have_names(name: Any) -> None:
    message = f"named_scope requires a string that is not empty, got {name!r}"
    with (
        pytest.raises(errors.ArgumentError, match=f"^{re.escape(message)}$"),
        fd.named_scope(name),
    ):
        pass
