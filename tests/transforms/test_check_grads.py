"""check_grads itself: it finds wrong derivatives, and takes what functions take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.test_util import check_grads


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def with_slope(slope: Any) -> Any:
    """The square, with a derivative of one's own."""
    square = fd.custom_jvp(lambda x: x * x)
    square.defjvp(lambda primals, tangents: (square(*primals), slope(*primals) * tangents[0]))
    return square


X = np.array([0.4, -1.3, 2.0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("order", [1, 2])
def test_right_derivatives_pass_in_every_dtype(dtype: str, order: int) -> None:
    x = fnp.asarray(X).astype(dtype)
    check_grads(lambda x: fnp.sin(x) * x, (x,), order)
    check_grads(with_slope(lambda x: 2 * x), (x,), order)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("modes", "name"), [("fwd", "jvp"), ("rev", "vjp"), (["rev"], "vjp")])
def test_wrong_derivatives_are_found_in_every_dtype(dtype: str, modes: Any, name: str) -> None:
    """A tenth too much, which differences in half precision would hide."""
    x = fnp.asarray(X).astype(dtype)
    with pytest.raises(AssertionError, match=rf"^{name} is off by .* more than the .* allowed\n"):
        check_grads(with_slope(lambda x: 2.2 * x), (x,), 1, modes)


def test_wrong_second_derivatives_are_found_at_order_two() -> None:
    slope = fd.custom_jvp(lambda x: 2 * x)
    slope.defjvp(lambda primals, tangents: (slope(*primals), 3 * tangents[0]))
    check_grads(with_slope(slope), (X,), 1)
    for modes, path in (("fwd", "jvp of jvp"), ("rev", "vjp of vjp")):
        with pytest.raises(AssertionError, match=f"^{path} is off"):
            check_grads(with_slope(slope), (X,), 2, modes)


def test_trees_integers_and_none_are_taken() -> None:
    def f(params: Any, n: Any, nothing: Any, flag: Any) -> Any:
        assert nothing is None
        out = fnp.tanh(params["w"][0] * params["s"]) * n
        return {"out": fnp.where(flag, out, -out), "n": n + 1, "none": None}

    check_grads(f, ({"w": [X], "s": 1.5}, 3, None, np.array([True, False, True])), 2)


def test_forward_mode_may_be_left_out() -> None:
    f = fd.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, ct: (2 * x * ct,))
    check_grads(f, (X,), 1, "rev")


def test_without_64_bit_types_differences_are_coarser() -> None:
    with fd.config.override(x64="off"):
        check_grads(fnp.sin, (fnp.float32(0.5),), 2)
        with pytest.raises(AssertionError):
            check_grads(with_slope(lambda x: 2.2 * x), (X,))


def test_tolerances_and_steps_are_the_users() -> None:
    f = with_slope(lambda x: 2.2 * x)
    check_grads(f, (X,), 1, atol=1.0, rtol=1.0)
    with pytest.raises(AssertionError):
        check_grads(fnp.exp, (X,), 1, eps=0.5)


BAD = [
    (
        {"modes": ("fwd", "back")},
        "check_grads: modes must be 'fwd', 'rev' or both, got ('fwd', 'back')",
    ),
    ({"modes": ()}, "check_grads: modes must be 'fwd', 'rev' or both, got ()"),
    ({"order": 0}, "check_grads: order must be at least 1, got 0"),
    (
        {"args": fnp.ones(3)},
        "check_grads: args must be a tuple or list with one entry for each argument, got Array; "
        "write (x,) for a single argument",
    ),
    (
        {"args": (3,)},
        "check_grads: no argument is float or complex, so there is no derivative",
    ),
    (
        {"f": lambda x: x > 0},
        "check_grads: no result is float or complex, so there is no derivative",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_arguments(options: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_grads(**({"f": fnp.sin, "args": (1.0,), "order": 1} | options))
    assert str(caught.value) == message
