"""debug.print, debug.callback, pure_callback and io_callback under every transform."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import errors, lax
from funcdl.runtime.toolchain import find_compiler

F32 = fd.ShapeDtypeStruct((), "float32")
X = np.arange(3, dtype=np.float32)


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def back_end(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "cpu" and find_compiler() is None:
        pytest.skip("no C compiler")
    with fd.config.override(backend=request.param):
        yield


def scalar_steps(x: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        fd.debug.print("{} + {}", carry, x, ordered=True)
        return carry + x, None

    return lax.scan(step, 0.0, x)[0]


def count_down(x: Any) -> Any:
    def body(x: Any) -> Any:
        fd.debug.print("{:.0f}", x, ordered=True)
        return x - 1

    return lax.while_loop(lambda x: x > 0, body, x)


def printed_twice(x: Any) -> Any:
    fd.debug.print("same")
    fd.debug.print("same")
    return x


def shown(x: Any) -> Any:
    fd.debug.print("{x} of {} {}", 2, "words", x=x)
    return x * x


def branches(x: Any) -> Any:
    def yes(x: Any) -> Any:
        fd.debug.print("positive")
        return x

    return lax.cond(x.sum() > 0, yes, lambda x: -x, x)


SUM_STEPS = "0.0 + 0.0\n0.0 + 1.0\n1.0 + 2.0\n"

# (what is called, with what, what it prints)
PRINTS: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "eager": (shown, X, "[0. 1. 2.] of 2 words\n"),
    "jit": (fd.jit(shown), X, "[0. 1. 2.] of 2 words\n"),
    "grad": (fd.grad(lambda x: shown(x).sum()), X, "[0. 1. 2.] of 2 words\n"),
    "jit of grad": (fd.jit(fd.grad(lambda x: shown(x).sum())), X, "[0. 1. 2.] of 2 words\n"),
    "grad of jit": (fd.grad(fd.jit(lambda x: shown(x).sum())), X, "[0. 1. 2.] of 2 words\n"),
    "hessian-like": (fd.grad(fd.grad(shown)), np.float32(3), "3.0 of 2 words\n"),
    "vmap": (fd.vmap(shown), X, "0.0 of 2 words\n1.0 of 2 words\n2.0 of 2 words\n"),
    "vmap of jit": (
        fd.vmap(fd.jit(shown)),
        X,
        "0.0 of 2 words\n1.0 of 2 words\n2.0 of 2 words\n",
    ),
    "vmap of rows": (
        fd.jit(fd.vmap(shown, in_axes=1)),
        np.float32([[1, 2], [3, 4]]),
        "[1. 3.] of 2 words\n[2. 4.] of 2 words\n",
    ),
    "not batched": (
        fd.vmap(lambda x: (fd.debug.print("once {}", X.sum()), x)[1]),
        X,
        "once 3.0\n",
    ),
    "equal effects": (fd.jit(printed_twice), X, "same\nsame\n"),
    "results unused": (fd.jit(lambda x: (shown(x), x)[1]), X, "[0. 1. 2.] of 2 words\n"),
    "constants": (fd.jit(lambda x: (fd.debug.print("{}", 1.5), x)[1]), X, "1.5\n"),
    "scan": (scalar_steps, X, SUM_STEPS),
    "jit of scan": (fd.jit(scalar_steps), X, SUM_STEPS),
    "jit of grad of scan": (fd.jit(fd.grad(scalar_steps)), X, SUM_STEPS),
    "vmap of scan": (
        fd.vmap(scalar_steps),
        np.float32([[1, 2], [3, 4]]),
        "0.0 + 1.0\n0.0 + 3.0\n1.0 + 2.0\n3.0 + 4.0\n",
    ),
    "while": (fd.jit(count_down), np.float32(3), "3\n2\n1\n"),
    "cond taken": (fd.jit(branches), X, "positive\n"),
    "cond not taken": (fd.jit(branches), -X, ""),
    "remat": (
        fd.jit(lambda x: fd.checkpoint(shown)(x).sum()),
        X,
        "[0. 1. 2.] of 2 words\n",
    ),
}


@pytest.mark.parametrize("case", PRINTS)
def test_print(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    f, x, wanted = PRINTS[case]
    for _ in range(2):  # traced and cached
        f(fnp.asarray(x))
        assert capfd.readouterr().out == wanted


def test_values_do_not_change() -> None:
    for f in (scalar_steps, lambda x: shown(x).sum()):
        want = fd.value_and_grad(f)(fnp.asarray(X))
        found = fd.jit(fd.value_and_grad(f))(fnp.asarray(X))
        np.testing.assert_allclose(want[0], found[0])
        np.testing.assert_allclose(want[1], found[1])


@settings(max_examples=8)
@given(st.lists(st.sampled_from(["product", "sum", "input", "constant", "loop"]), max_size=5))
def test_ordered_effects_keep_the_programs_order(kinds: list[str]) -> None:
    seen: list[str] = []

    def note(label: str, value: Any) -> None:
        seen.append(label)

    def f(x: Any) -> Any:
        total = x
        for i, kind in enumerate(kinds):
            label = f"{kind}{i}"
            value = {
                "product": lambda total=total: total @ total,
                "sum": lambda total=total: fnp.exp(total).sum(),
                "input": lambda: x,
                "constant": lambda: fnp.ones(2),
                "loop": lambda: x,
            }[kind]()
            if kind == "loop":
                total = lax.fori_loop(
                    0,
                    2,
                    lambda _, t, n=label: (fd.debug.callback(note, n, t, ordered=True), t)[1],
                    total,
                )
            else:
                fd.debug.callback(note, label, value, ordered=True)
            total = total * 0.5 + x.T if kind == "product" else total
        return total

    fd.jit(f)(fnp.ones((2, 2)))
    want = [f"{k}{i}" for i, k in enumerate(kinds) for _ in range(2 if k == "loop" else 1)]
    assert seen == want


def test_a_callback_may_keep_its_arguments() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        y = fnp.exp(x)
        fd.debug.callback(kept.append, y)
        return fnp.sin(y) @ fnp.ones((3, 3))

    for scale in (1, 2, 3):
        fd.jit(f)(fnp.asarray(X) * scale)
    for scale, y in zip((1, 2, 3), kept, strict=True):
        np.testing.assert_allclose(y, np.exp(X * scale), rtol=1e-5)


def test_callback_passes_trees_and_keywords() -> None:
    seen: list[Any] = []
    note = lambda *args, **kwargs: seen.append((args, kwargs))  # noqa: E731
    fd.jit(lambda x: fd.debug.callback(note, {"a": x, "b": "text"}, [None, 2], key=x))(X)
    (((tree, pair), keywords),) = seen
    assert tree["b"] == "text" and pair[0] is None and pair[1] == 2
    np.testing.assert_array_equal(tree["a"], X)
    np.testing.assert_array_equal(keywords["key"], X)


def host_sin(x: Any, **options: Any) -> Any:
    calls: list[tuple[int, ...]] = options.pop("calls", [])

    def on_host(x: Any) -> Any:
        calls.append(x.shape)
        return np.sin(x)

    aval = fd.ShapeDtypeStruct(x.shape, x.dtype)
    return fd.pure_callback(on_host, aval, x, **options)


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        ("sequential", [(3,), (3,)]),
        ("sequential_unrolled", [(3,), (3,)]),
        ("expand_dims", [(2, 3)]),
        ("broadcast_all", [(2, 3)]),
    ],
)
def test_pure_callback_under_vmap(method: str, shapes: list[Any]) -> None:
    x = np.float32([[0, 1, 2], [3, 4, 5]])
    calls: list[Any] = []
    f = fd.vmap(lambda x: host_sin(x, vmap_method=method, calls=calls))
    for transformed in (f, fd.jit(f)):
        np.testing.assert_allclose(transformed(x), np.sin(x), rtol=1e-6)
        assert calls == shapes
        calls.clear()


@pytest.mark.parametrize(("method", "shape"), [("expand_dims", (1, 3)), ("broadcast_all", (2, 3))])
def test_operands_that_are_not_mapped(method: str, shape: tuple[int, ...]) -> None:
    seen: list[Any] = []

    def add(x: Any, y: Any) -> Any:
        seen.append((x.shape, y.shape))
        return np.asarray(x) + np.asarray(y)

    aval = fd.ShapeDtypeStruct((3,), "float32")
    f = fd.vmap(lambda x, y: fd.pure_callback(add, aval, x, y, vmap_method=method), (0, None))
    found = f(np.ones((2, 3), np.float32), X)
    np.testing.assert_array_equal(found, np.stack([X + 1, X + 1]))
    assert seen == [((2, 3), shape)]


def test_an_unused_pure_callback_does_not_run_in_compiled_programs() -> None:
    calls: list[Any] = []
    x = fd.jit(lambda x: (host_sin(x, calls=calls), x * 2)[1])(X)
    np.testing.assert_array_equal(x, X * 2)
    if fd.config.backend == "cpu":
        assert calls == []


def test_pure_callback_with_a_rule_has_derivatives() -> None:
    @fd.custom_jvp
    def sin(x: Any) -> Any:
        return host_sin(x, vmap_method="expand_dims")

    @sin.defjvp
    def sin_jvp(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        return sin(x), fnp.cos(x) * t

    for transform in (lambda f: f, fd.jit):
        gradient = transform(fd.grad(lambda x: sin(x).sum()))
        np.testing.assert_allclose(gradient(fnp.asarray(X)), np.cos(X), rtol=1e-6)
        batched = transform(fd.vmap(fd.grad(sin)))
        np.testing.assert_allclose(batched(fnp.asarray(X)), np.cos(X), rtol=1e-6)


def test_io_callback_counts() -> None:
    calls: list[float] = []

    def next_number(x: Any) -> Any:
        calls.append(float(x))
        return len(calls)

    def f(x: Any) -> Any:
        number = fd.ShapeDtypeStruct((), "int32")
        first = fd.io_callback(next_number, number, x, ordered=True)
        second = fd.io_callback(next_number, number, x, ordered=True)
        fd.io_callback(next_number, number, x + 1, ordered=True)
        return second * 10 + first

    assert int(fd.jit(f)(2.0)) == 21
    assert calls == [2.0, 2.0, 3.0]
    np.testing.assert_array_equal(fd.jit(fd.vmap(f))(fnp.asarray([5.0, 6.0])), [64, 75])
    assert calls[3:] == [5.0, 6.0, 5.0, 6.0, 6.0, 7.0]


def test_io_callback_runs_in_every_step_under_grad() -> None:
    """What depends on constants only is the same in every step, unless it has an effect."""
    calls: list[int] = []

    def scale() -> Any:
        calls.append(1)
        return np.float32(len(calls))

    def f(x: Any) -> Any:
        return lax.scan(lambda c, _: (c * fd.io_callback(scale, F32), None), x, None, length=3)[0]

    for n, transform in enumerate((lambda f: f, fd.jit)):
        calls.clear()
        assert float(transform(fd.grad(f))(1.0)) == 6.0, n
        assert len(calls) == 3


def two(x: Any) -> Any:
    return x, x


MISTAKES: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (
        fd.grad(lambda x: host_sin(x).sum()),
        errors.NotDifferentiableError,
        "pure_callback of on_host has no derivative, since what the function computes is not "
        "known. Wrap the call in a function with a custom_jvp or custom_vjp rule, or pass "
        "stop_gradient of its arguments.",
    ),
    (
        fd.vmap(host_sin),
        errors.MissingRuleError,
        "pure_callback of on_host cannot be used under vmap without vmap_method: pass "
        "vmap_method='sequential' for one call for each element, or 'expand_dims' or "
        "'broadcast_all' where the function takes a leading batch axis",
    ),
    (
        lambda x: host_sin(x, vmap_method="loop"),
        errors.ArgumentError,
        "pure_callback requires vmap_method to be None or one of 'sequential', "
        "'sequential_unrolled', 'expand_dims', 'broadcast_all'; got 'loop'",
    ),
    (
        lambda x: fd.pure_callback(3, F32, x),
        errors.ArgumentError,
        "pure_callback requires a function, got int",
    ),
    (
        lambda x: fd.io_callback(two, {"a": F32, "b": "float32"}, x),
        errors.LeafTypeError,
        "io_callback requires result_shape_dtypes['b'] to have a shape and a dtype, got str: "
        "'float32'; pass ShapeDtypeStruct(shape, dtype)",
    ),
    (
        fd.jit(lambda x: fd.pure_callback(two, F32, x)),
        errors.TreeError,
        "pure_callback requires two to return the structure of result_shape_dtypes:\n"
        "  found:  (*, *)\n  wanted: *",
    ),
    (
        fd.jit(lambda x: fd.pure_callback(two, (F32, F32), x)),
        errors.ShapeError,
        "pure_callback of two returned f32[3] as result 0, where result_shape_dtypes says f32[]; "
        "return that shape, or declare another",
    ),
    (
        fd.jit(lambda x: fd.io_callback(lambda x: np.int32(1), F32, x)),
        errors.DtypeError,
        "io_callback of <lambda> returned i32[] as result 0, where result_shape_dtypes says f32[]; "
        "convert it with .astype('float32'), or declare another dtype",
    ),
    (
        fd.jit(lambda x: fd.io_callback(lambda x: "text", F32, x)),
        errors.LeafTypeError,
        "io_callback of <lambda>: result 0: expected an array or a scalar, got str: 'text'.\n"
        "Arrays, NumPy arrays, and Python or NumPy scalars are valid leaves; for other static data "
        "use static_argnums or close over it.",
    ),
    (
        lambda x: fd.debug.callback(None, x),
        errors.ArgumentError,
        "debug.callback requires a function, got NoneType",
    ),
    (
        lambda x: fd.debug.print(x),
        errors.ArgumentError,
        'debug.print requires a format string first, got Array; write debug.print("{}", x)',
    ),
    (
        fd.jit(lambda x: fd.debug.print(f"x = {x}")),
        errors.ArgumentError,
        "debug.print got a string that shows a traced value already: "
        "'x = Tracer<f32[3]>(under jit of <lambda>)'. Pass the value as an argument: "
        'debug.print("x = {x}", x=x), without an f before the string',
    ),
    (
        lambda x: fd.debug.print("{} and {}", x),
        errors.ArgumentError,
        "debug.print cannot fill in '{} and {}': it asks for more than the 1 positional arguments",
    ),
    (
        lambda x: fd.debug.print("{y}", x=x),
        errors.ArgumentError,
        "debug.print cannot fill in '{y}': there is no argument 'y'",
    ),
    (
        lambda x: fd.debug.print("nothing", x, x=x),
        errors.ArgumentError,
        "debug.print cannot fill in 'nothing': it does not use argument 0, x",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m[2][:40])
def test_mistakes(mistake: tuple[Callable[[Any], Any], type[Exception], str]) -> None:
    f, kind, message = mistake
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        f(fnp.asarray(X))


def test_errors_of_the_function_come_through() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fd.jit(lambda x: fd.pure_callback(broken, F32, x))(1.0)


@pytest.mark.parametrize(
    ("declared", "value"),
    [("float32", 3), ("float32", np.float64(3)), ("int32", np.int64(3)), ("float16", 3.0)],
)
def test_default_types_are_converted(declared: str, value: Any) -> None:
    found = fd.jit(lambda: fd.pure_callback(lambda: value, fd.ShapeDtypeStruct((), declared)))()
    assert found.dtype == np.dtype(declared) and float(found) == 3
