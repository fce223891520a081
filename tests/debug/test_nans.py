"""debug_nans and debug_infs: whole messages, whatever transforms are around."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import errors, lax
from funcdl.runtime.toolchain import find_compiler

X = np.float32([1, -2, 3])
W = {"w": np.ones(3, np.float32)}


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def back_end(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "cpu" and find_compiler() is None:
        pytest.skip("no C compiler")
    with fd.config.override(backend=request.param):
        yield


def loss(params: Any, x: Any) -> Any:
    y = x * params["w"]
    with fd.named_scope("head"), fd.named_scope("log"):
        z = fnp.log(y)  # line of loss
    return z.sum()


def loop(x: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        root = fnp.sqrt(carry)  # line of loop.<locals>.step
        return carry - 1, root

    return lax.scan(step, fnp.float32(1), x)[1].sum()


def until(x: Any) -> Any:
    def step(x: Any) -> Any:
        return fnp.log(x)  # line of until.<locals>.step

    return lax.while_loop(lambda x: x.sum() > 2, step, x)


def root(x: Any) -> Any:
    y = fnp.sqrt(x)  # line of root
    return (y * x).sum()


def shifted(x: Any) -> Any:
    return x + 1  # line of shifted


@fd.custom_jvp
def custom(x: Any) -> Any:
    return x.sum()


@custom.defjvp
def custom_rule(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return custom(x), (t * fnp.log(x)).sum()  # line of custom_rule


def place(function: str) -> str:
    """The end of a message about the marked line of a function in this file."""
    lines = inspect.getsource(inspect.getmodule(place)).splitlines()  # type: ignore[arg-type]
    mark = f"# line of {function}"
    ((number, text),) = [(i, x) for i, x in enumerate(lines, 1) if x.endswith(mark)]
    scope = " in scope head/log" if function == "loss" else ""
    return f"at {__file__}:{number} ({function}){scope}: {text.strip()}"


# (call, message without the source line, the function where that is)
CASES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "eager": (
        lambda: loss(W, fnp.asarray(X)),
        "log made the first NaN:\n  a:f32[3] = log b\n  where b has elements from -2.0 to 3.0",
        "loss",
    ),
    "jit": (
        lambda: fd.jit(loss)(W, X),
        "jitted loss: log made the first NaN:\n  d:f32[3] = log c\n"
        "  where c has elements from -2.0 to 3.0",
        "loss",
    ),
    "vmap of jit": (
        lambda: fd.vmap(fd.jit(loss), (None, 0))(W, X[None]),
        "jitted vmap_loss: log made the first NaN:\n  e:f32[1,3] = log d\n"
        "  where d has elements from -2.0 to 3.0",
        "loss",
    ),
    "value of grad of jit": (
        lambda: fd.value_and_grad(fd.jit(loss))(W, X),
        "jitted jvp_loss: log made the first NaN:\n  d:f32[3] = log c\n"
        "  where c has elements from -2.0 to 3.0",
        "loss",
    ),
    "scan": (
        lambda: loop(X),
        "scan: sqrt made the first NaN:\n  c:f32[] = sqrt a\n  where a is -1.0",
        "loop.<locals>.step",
    ),
    "jit of scan": (
        lambda: fd.jit(loop)(X),
        "jitted loop: sqrt made the first NaN:\n  c:f32[] = sqrt a\n  where a is -1.0",
        "loop.<locals>.step",
    ),
    "jit of while": (
        lambda: fd.jit(until)(np.float32([-1, 9])),
        "jitted until: log made the first NaN:\n  b:f32[2] = log a\n"
        "  where a has elements from -1.0 to 9.0",
        "until.<locals>.step",
    ),
    "grad": (
        lambda: fd.grad(root)(fnp.zeros(3)),
        "mul made the first NaN:\n  a:f32[3] = mul b c\n"
        "  where b has elements from 0.0 to 0.0\n  where c has 3 of 3 elements infinite",
        "root",
    ),
    "jit of grad": (
        lambda: fd.jit(fd.grad(root))(fnp.zeros(3)),
        "jitted root: mul made the first NaN:\n  i:f32[3] = mul h d\n"
        "  where h has elements from 0.0 to 0.0\n  where d has 3 of 3 elements infinite",
        "root",
    ),
    "argument": (
        lambda: fd.jit(shifted)(np.float32([[np.nan, 1]])),
        "jitted shifted: add passed on the NaN of an operand:\n  c:f32[1,2] = add a b\n"
        "  where a (argument x) has 1 of 2 elements NaN\n  where b has elements from 1.0 to 1.0",
        "shifted",
    ),
    "donated argument": (
        lambda: fd.jit(shifted, donate_argnums=0)(fnp.asarray(np.float32([np.nan, 1]))),
        "jitted shifted: add passed on the NaN of an operand:\n  c:f32[2] = add a b\n"
        "  where a (argument x) has 1 of 2 elements NaN\n  where b has elements from 1.0 to 1.0",
        "shifted",
    ),
    "custom rule": (
        lambda: fd.grad(custom)(fnp.asarray(X)),
        "log made the first NaN:\n  a:f32[3] = log b\n  where b has elements from -2.0 to 3.0",
        "custom_rule",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_nan_is_named(case: str) -> None:
    call, message, function = CASES[case]
    call()  # without the flag there is no error, and what is cached then is not used later
    with fd.debug_nans(), pytest.raises(errors.NonFiniteError) as caught:
        call()
    assert str(caught.value) == f"{message}\n{place(function)}"
    assert isinstance(caught.value, FloatingPointError)
    call()


def test_infinities_have_a_flag_of_their_own() -> None:
    f = fd.jit(lambda x: 1 / x)
    with fd.debug_nans():
        assert np.isinf(f(0.0))
    with fd.debug_infs(), pytest.raises(FloatingPointError, match="div made the first Inf"):
        f(0.0)
    for divide in (fnp.divide, lambda x, y: x / y):
        with fd.debug_infs(), pytest.raises(FloatingPointError, match="div made the first Inf"):
            divide(fnp.ones(2), fnp.zeros(2))
    with fd.debug_infs(), pytest.raises(FloatingPointError, match="dot_general made the first Inf"):
        fnp.full((2, 2), 1e30) @ fnp.full((2, 2), 1e30)
    with fd.debug_infs():
        assert np.isnan(fnp.asarray(np.nan) + 1)


def test_effects_do_not_run_again_in_the_search(capfd: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        fd.debug.print("{}", x)
        return fnp.log(x)

    with fd.debug_nans(), pytest.raises(FloatingPointError):
        fd.jit(f)(-1.0)
    assert capfd.readouterr().out == "-1.0\n"


def test_finite_programs_run_as_ever() -> None:
    x = fnp.asarray(abs(X))
    want = fd.value_and_grad(loss)(W, x)
    with fd.debug_nans(), fd.debug_infs():
        found = fd.jit(fd.value_and_grad(loss))(W, x)
        donated = fd.jit(shifted, donate_argnums=0)
        y = x + 0
        np.testing.assert_array_equal(donated(y), x + 1)
        assert y.is_deleted()
        assert fd.jit(lambda x: x + 1)(3) == 4
    np.testing.assert_allclose(found[0], want[0], rtol=1e-6)
    np.testing.assert_allclose(found[1]["w"], want[1]["w"], rtol=1e-6)
