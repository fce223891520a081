from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn

Function = Callable[[Any], Any]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def normal_cdf(x: Any) -> Any:
    return np.vectorize(lambda t: 0.5 * math.erfc(-t / math.sqrt(2)))(x)


def normal_pdf(x: Any) -> Any:
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def tanh_cdf(x: Any) -> Any:
    """What stands in for the normal distribution in the approximate gelu."""
    return 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def tanh_cdf_slope(x: Any) -> Any:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 / np.cosh(inner) ** 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)


# Each function, its value, and its derivative worked out by hand.
TABLE: dict[str, tuple[Function, Function, Function]] = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "leaky_relu": (
        functools.partial(nn.leaky_relu, negative_slope=0.2),
        lambda x: np.where(x < 0, 0.2 * x, x),
        lambda x: np.where(x < 0, 0.2, 1),
    ),
    "sigmoid": (nn.sigmoid, sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (nn.tanh, np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "silu": (
        nn.silu,
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) + x * sigmoid(x) * sigmoid(-x),
    ),
    "gelu, approximate": (
        nn.gelu,
        lambda x: x * tanh_cdf(x),
        lambda x: tanh_cdf(x) + x * tanh_cdf_slope(x),
    ),
    "gelu, exact": (
        functools.partial(nn.gelu, approximate=False),
        lambda x: x * normal_cdf(x),
        lambda x: normal_cdf(x) + x * normal_pdf(x),
    ),
    "softplus": (nn.softplus, lambda x: np.logaddexp(x, 0), sigmoid),
    "elu": (
        functools.partial(nn.elu, alpha=1.5),
        lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, 1.5 * np.exp(np.minimum(x, 0))),
    ),
}
names = pytest.mark.parametrize("name", TABLE)
GRID = np.concatenate([np.linspace(-8, 8, 97), [-1e-3, 1e-3, -20.0, 20.0]])


def derivative(f: Function) -> Function:
    return fd.grad(lambda x: f(x).sum())


@names
def test_value_and_derivative_in_float64(name: str) -> None:
    f, value, slope = TABLE[name]
    np.testing.assert_allclose(f(GRID), value(GRID), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(derivative(f)(GRID), slope(GRID), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_compiled_values_and_derivatives(dtype: str) -> None:
    @fd.jit
    def every(x: Any) -> Any:
        return {name: (f(x), derivative(f)(x)) for name, (f, _, _) in TABLE.items()}

    x = GRID.astype(dtype)
    tolerance = max(16 * float(np.finfo(dtype).eps), 1e-13)
    for name, found in every(x).items():
        _, value, slope = TABLE[name]
        for array, wanted in zip(found, (value, slope), strict=True):
            assert array.dtype == np.dtype(dtype)
            expected = wanted(x.astype(np.float64))
            np.testing.assert_allclose(
                array, expected, rtol=tolerance, atol=tolerance, err_msg=name
            )


@names
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 4e-3)])
def test_other_floats_keep_their_dtype(name: str, dtype: str, tolerance: float) -> None:
    f, value, slope = TABLE[name]
    x = GRID.astype(dtype)
    for found, wanted in [(f(x), value), (derivative(f)(x), slope)]:
        assert found.dtype == np.dtype(dtype)
        expected = wanted(x.astype(np.float64))
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@names
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_and_derivatives_stay_finite_at_extremes(name: str, dtype: str) -> None:
    f, _, slope = TABLE[name]
    info = np.finfo(dtype)
    sizes = [0, float(info.tiny), 1, 10, 12, 90, 300, float(info.max) / 2]
    x = np.array([s * size for size in sizes for s in (1, -1)], dtype)
    assert np.isfinite(np.asarray(f(x))).all()
    first = np.asarray(derivative(f)(x))
    with np.errstate(all="ignore"):
        far = np.where(np.abs(x) > 50, (x > 0) * slope(np.array(40.0)), slope(x.astype(float)))
        if name == "leaky_relu":
            far = np.where(x < 0, 0.2, 1)
    tolerance = 4 * float(info.eps)
    np.testing.assert_allclose(first, far, rtol=tolerance, atol=tolerance)
    assert np.isfinite(np.asarray(derivative(derivative(f))(x))).all()


def test_relu_at_zero_and_nan() -> None:
    x = np.array([-0.0, 0.0, np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(nn.relu(x), [0, 0, np.nan, np.inf, 0])
    np.testing.assert_array_equal(derivative(nn.relu)(x)[:2], [0, 0])


def test_softplus_and_gelu_do_not_cancel_in_the_tail() -> None:
    x = np.float32(-10)
    # softplus(x) = exp(x) (1 - exp(x) / 2 + ...), and the normal distribution below -10.
    np.testing.assert_allclose(nn.softplus(x), math.exp(-10) - math.exp(-20) / 2, rtol=1e-6)
    expected = -10 * 0.5 * math.erfc(10 / math.sqrt(2))
    np.testing.assert_allclose(nn.gelu(x, approximate=False), expected, rtol=1e-5)
    expected = -5 * 1 / (1 + math.exp(2 * math.sqrt(2 / math.pi) * (5 + 0.044715 * 125)))
    np.testing.assert_allclose(nn.gelu(np.float32(-5)), expected, rtol=1e-5)


@names
def test_integers(name: str) -> None:
    f, value, _ = TABLE[name]
    x = np.array([-2, 0, 3], np.int32)
    found = f(x)
    assert found.dtype == (np.int32 if name == "relu" else np.float32)
    np.testing.assert_allclose(found, value(x.astype(float)), rtol=1e-6, atol=1e-7)


def test_relu_backwards_is_one_choice() -> None:
    jaxpr = fd.make_jaxpr(fd.grad(lambda x: (nn.relu(x) * 2.0).sum()))(fnp.ones((3,)))
    primitives = [eqn.primitive.name for eqn in jaxpr.jaxpr.eqns]
    assert primitives.count("select_n") == 2  # forwards and backwards
    assert not {"max", "eq", "div"} & set(primitives)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_like_jax(dtype: str) -> None:
    jax = pytest.importorskip("jax")

    peers = {
        name: functools.partial(getattr(jax.nn, name.split(",")[0]), **getattr(f, "keywords", {}))
        for name, (f, _, _) in TABLE.items()
    }

    @jax.jit
    def values(x: Any) -> Any:
        return {name: peer(x) for name, peer in peers.items()}

    @jax.jit
    def slopes(x: Any) -> Any:
        return {name: jax.grad(lambda x, f=f: f(x).sum())(x) for name, f in peers.items()}

    x = np.asarray(jax.numpy.asarray(GRID, dtype))
    tolerance = 2e-6 if dtype == "float32" else 3 * float(jax.numpy.finfo(dtype).eps)
    # JAX's own derivatives in half precision are less exact than ours: compare with float32.
    wanted_slopes = slopes(x.astype(np.float32))
    for name, wanted in values(x).items():
        f, _, _ = TABLE[name]
        found = f(x)
        assert found.dtype == wanted.dtype, name
        np.testing.assert_allclose(
            np.asarray(found, np.float32),
            np.asarray(wanted, np.float32),
            rtol=tolerance,
            atol=tolerance,
            err_msg=name,
        )
        np.testing.assert_allclose(
            np.asarray(derivative(f)(x), np.float32),
            wanted_slopes[name],
            rtol=4 * tolerance,
            atol=tolerance,
            err_msg=name,
        )


def test_relu6_of_integers_is_a_float() -> None:
    found = nn.relu6(np.array([-3, 2, 9], np.int32))
    assert found.dtype == np.float32
    assert found.tolist() == [0, 2, 6]
