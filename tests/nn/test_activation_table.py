"""Every activation of `funcdl.nn` against a float64 reference, extreme arguments included."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.core import dtypes
from funcdl.errors import ArgumentError, ShapeError

Function = Callable[[Any], Any]
INF = math.inf


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def _mish_slope(x: float) -> float:
    t = math.tanh(_softplus(x))
    return t + (x * (1 - t * t) * _sigmoid(x) if abs(x) < 1e3 else 0)


def _gelu_slope(x: float) -> float:
    pdf = math.exp(-min(x * x / 2, 700)) / math.sqrt(2 * math.pi)
    return 0.5 * math.erfc(-x / math.sqrt(2)) + (x * pdf if abs(x) < 1e2 else 0)


def _tanh_cdf(x: float) -> float:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3) if abs(x) < 20 else x
    return _sigmoid(2 * inner)


def _tanh_gelu(x: float) -> float:
    return x * _tanh_cdf(x)


def _tanh_gelu_slope(x: float) -> float:
    p = _tanh_cdf(x)
    inner = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2) if abs(x) < 20 else 0
    return p + (x * p * _tanh_cdf(-x) * inner if inner else 0)


def _squareplus(x: float) -> float:
    root = math.hypot(x, 2)
    return x / 2 + root / 2 if x > 0 else 2 / (root - x)


def _log1mexp(x: float) -> float:
    return math.log(-math.expm1(-x)) if x < 0.7 else math.log1p(-math.exp(-x))


def _hard_sigmoid(x: float) -> float:
    return min(max(x + 3, 0), 6) / 6


SCALE, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

# Value and derivative at finite arguments, and the limits of both at minus and plus infinity.
TABLE: dict[str, tuple[Function, Function, Function, tuple[float, ...]]] = {
    "celu": (
        lambda x: nn.celu(x, 0.5),
        lambda x: x if x > 0 else 0.5 * math.expm1(x / 0.5),
        lambda x: 1 if x > 0 else math.exp(x / 0.5),
        (-0.5, INF, 0, 1),
    ),
    "elu": (
        nn.elu,
        lambda x: x if x > 0 else math.expm1(x),
        lambda x: 1 if x > 0 else math.exp(x),
        (-1, INF, 0, 1),
    ),
    "selu": (
        nn.selu,
        lambda x: SCALE * (x if x > 0 else ALPHA * math.expm1(x)),
        lambda x: SCALE * (1 if x > 0 else ALPHA * math.exp(x)),
        (-SCALE * ALPHA, INF, 0, SCALE),
    ),
    "silu": (
        nn.silu,
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + (x * _sigmoid(-x) if x < 700 else 0)),
        (0, INF, 0, 1),
    ),
    "gelu": (
        lambda x: nn.gelu(x, approximate=False),
        lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
        _gelu_slope,
        (0, INF, 0, 1),
    ),
    "gelu_tanh": (nn.gelu, _tanh_gelu, _tanh_gelu_slope, (0, INF, 0, 1)),
    "mish": (nn.mish, lambda x: x * math.tanh(_softplus(x)), _mish_slope, (0, INF, 0, 1)),
    "softplus": (nn.softplus, _softplus, _sigmoid, (0, INF, 0, 1)),
    "log_sigmoid": (
        nn.log_sigmoid,
        lambda x: -_softplus(-x),
        lambda x: _sigmoid(-x),
        (-INF, 0, 1, 0),
    ),
    "soft_sign": (
        nn.soft_sign,
        lambda x: x / (1 + abs(x)),
        lambda x: 1 / (1 + abs(x)) / (1 + abs(x)),
        (-1, 1, 0, 0),
    ),
    "squareplus": (
        nn.squareplus,
        _squareplus,
        lambda x: _squareplus(x) / math.hypot(x, 2),
        (0, INF, 0, 1),
    ),
    "sparse_plus": (
        nn.sparse_plus,
        lambda x: 0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4,
        lambda x: min(max((x + 1) / 2, 0), 1),
        (0, INF, 0, 1),
    ),
    "sparse_sigmoid": (
        nn.sparse_sigmoid,
        lambda x: min(max((x + 1) / 2, 0), 1),
        lambda x: 0.25 if abs(x) == 1 else 0.5 if abs(x) < 1 else 0,
        (0, 1, 0, 0),
    ),
    "hard_sigmoid": (
        nn.hard_sigmoid,
        _hard_sigmoid,
        lambda x: 1 / 6 if abs(x) < 3 else 0,
        (0, 1, 0, 0),
    ),
    "hard_silu": (
        nn.hard_silu,
        lambda x: x * _hard_sigmoid(x),
        lambda x: _hard_sigmoid(x) + (x / 6 if abs(x) < 3 else 0),
        (0, INF, 0, 1),
    ),
    "hard_tanh": (
        nn.hard_tanh,
        lambda x: min(max(x, -1), 1),
        lambda x: 1 if abs(x) <= 1 else 0,
        (-1, 1, 0, 0),
    ),
    "relu": (nn.relu, lambda x: max(x, 0), lambda x: 1 if x > 0 else 0, (0, INF, 0, 1)),
    "relu6": (
        nn.relu6,
        lambda x: min(max(x, 0), 6),
        lambda x: 1 if 0 < x < 6 else 0,
        (0, 6, 0, 0),
    ),
    "identity": (nn.identity, lambda x: x, lambda x: 1, (-INF, INF, 1, 1)),
    "log1mexp": (
        nn.log1mexp,
        _log1mexp,
        lambda x: 1 / math.expm1(x) if x < 700 else 0,
        (math.nan, 0, math.nan, 0),
    ),
}
FLOATS = ["float16", "bfloat16", "float32", "float64"]
names = pytest.mark.parametrize("name", TABLE)


def slope_of(f: Function) -> Function:
    return fd.grad(lambda x: f(x).sum())


def arguments(name: str, dtype: Any) -> Any:
    """Ordinary, kinked, tiny and large numbers that the function is defined at."""
    info = fnp.finfo(dtype)
    sizes = [float(info.tiny) * 4, 1e-3, 0.25, 0.5, 0.693, 0.75, 1, 1.5, 2, 3, 5, 6, 9, 12, 30, 90]
    sizes += [1e3, float(info.max) / 8, float(info.max)]
    points = [s * x for x in sizes for s in ((1,) if name == "log1mexp" else (1, -1))]
    if name != "log1mexp":
        points += [0.0, -0.0]
    return np.array(points, dtypes.as_dtype(dtype))


@names
@pytest.mark.parametrize(
    ("dtype", "compiled"), [*((dtype, False) for dtype in FLOATS), ("float32", True)]
)
def test_values_and_derivatives(name: str, dtype: str, compiled: bool) -> None:
    f, value, slope, _ = TABLE[name]
    x = arguments(name, dtype)
    both: Any = lambda x: (f(x), slope_of(f)(x))  # noqa: E731
    found = (fd.jit(both) if compiled else both)(x)
    eps = float(fnp.finfo(dtype).eps)
    for array, wanted in zip(found, (value, slope), strict=True):
        assert array.dtype == x.dtype
        expected = np.array([wanted(float(point)) for point in x])
        with np.errstate(over="ignore"):
            expected = expected.astype(x.dtype).astype(float)
        # Half types round after each operation when not compiled.
        np.testing.assert_allclose(
            np.asarray(array, float), expected, rtol=16 * eps, atol=4 * eps, err_msg=name
        )


@names
@pytest.mark.parametrize("dtype", FLOATS)
def test_limits_at_infinity_and_nan(name: str, dtype: str) -> None:
    f, _, _, (left, right, slope_left, slope_right) = TABLE[name]
    x = np.array([-INF, INF], dtypes.as_dtype(dtype))
    eps = float(fnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(f(x), float), [left, right], rtol=4 * eps)
    found = np.asarray(slope_of(f)(x), float)
    wanted = [found[0] if math.isnan(slope_left) else slope_left, slope_right]
    np.testing.assert_allclose(found, wanted, rtol=4 * eps)
    assert np.isnan(np.asarray(f(np.array([np.nan], x.dtype)), float)).all()


@names
def test_negative_zero_is_treated_as_zero(name: str) -> None:
    f, value, _, _ = TABLE[name]
    if name == "log1mexp":
        assert np.asarray(f(np.array([0.0, -0.0], np.float32))).tolist() == [-INF, -INF]
        assert np.isnan(np.asarray(f(np.float32(-1))))
        assert np.asarray(slope_of(f)(np.array([0.0], np.float32))).tolist() == [INF]
        return
    found = np.asarray(f(np.array([0.0, -0.0], np.float32)))
    np.testing.assert_array_equal(found, np.full(2, value(0.0), np.float32))
    if name in ("silu", "mish", "hard_tanh", "hard_silu", "identity", "soft_sign", "gelu"):
        np.testing.assert_array_equal(np.signbit(found), [False, True])


@pytest.mark.parametrize("dtype", FLOATS)
def test_squareplus_with_other_bends(dtype: str) -> None:
    x = arguments("", dtype)
    np.testing.assert_array_equal(
        np.asarray(nn.squareplus(x, 0), float), np.asarray(nn.relu(x), float)
    )
    found = np.asarray(slope_of(lambda x: nn.squareplus(x, 0))(x[x != 0]), float)
    np.testing.assert_allclose(found, x[x != 0] > 0)
    by_bend = fd.grad(lambda b: nn.squareplus(fnp.array([-3.0, 0.0, 3.0]), b).sum())(4.0)
    np.testing.assert_allclose(by_bend, 0.25 * (1 / 2 + 2 / math.sqrt(13)), rtol=1e-6)


def test_glu() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 6, 2) / 8
    found = nn.glu(x, axis=1)
    np.testing.assert_allclose(found, x[:, :3] / (1 + np.exp(-x[:, 3:])), rtol=1e-6)
    np.testing.assert_allclose(nn.glu(x), x[..., :1] / (1 + np.exp(-x[..., 1:])), rtol=1e-6)
    with pytest.raises(ShapeError) as error:
        nn.glu(np.zeros((2, 3), np.float32))
    assert str(error.value) == "glu requires an even size along axis -1, to be halved; got f32[2,3]"


@pytest.mark.parametrize("dtype", FLOATS)
def test_standardize(dtype: str) -> None:
    rng = np.random.default_rng(0)
    # Far from 0, where the difference of squares would cancel, and too large to square in float16.
    x = (rng.normal(size=(3, 40)) * 100 + 2000).astype(dtypes.as_dtype(dtype))
    wide = x.astype(float)
    for axis in (-1, 0, (0, 1), None):
        mean, variance = wide.mean(axis, keepdims=True), wide.var(axis, keepdims=True)
        found = nn.standardize(x, axis)
        assert found.dtype == x.dtype
        tolerance = 8e-3 if x.dtype.itemsize == 2 else 2e-5
        wanted = (wide - mean) / np.sqrt(variance + 1e-5)
        np.testing.assert_allclose(np.asarray(found, float), wanted, atol=2 * tolerance)
    where = rng.random((3, 40)) < 0.5
    mean = wide.mean(-1, keepdims=True, where=where)
    variance = wide.var(-1, keepdims=True, where=where)
    found = nn.standardize(x, where=where, algorithm="stable")
    np.testing.assert_allclose(
        np.asarray(found, float), (wide - mean) / np.sqrt(variance + 1e-5), atol=2 * tolerance
    )
    found = nn.standardize(x, mean=2000, variance=1e4, epsilon=0)
    np.testing.assert_allclose(np.asarray(found, float), (wide - 2000) / 100, atol=2 * tolerance)


def test_standardize_of_a_constant_row_and_its_gradient() -> None:
    x = np.full((1, 4), 3, np.float32)
    np.testing.assert_array_equal(nn.standardize(x), np.zeros((1, 4)))
    weights = np.arange(4, dtype=np.float32)
    found = fd.grad(lambda x: (nn.standardize(x) * weights).sum())(x)
    np.testing.assert_allclose(found[0], (weights - weights.mean()) / math.sqrt(1e-5), rtol=1e-4)
    with pytest.raises(ArgumentError) as error:
        nn.standardize(x, algorithm="welford")
    assert str(error.value) == ("standardize: algorithm must be 'fast' or 'stable', got 'welford'")


def test_logsumexp_signs() -> None:
    a = np.array([[1.0, 2.0, -INF], [1000.0, 999.0, 0.0]], np.float32)
    b = np.array([[1.0, -3.0, 2.0], [-1.0, 1.0, 1.0]], np.float32)
    found, sign = nn.logsumexp(a, axis=1, b=b, return_sign=True)
    sums = np.array([math.e - 3 * math.e**2, -1 + 1 / math.e])
    np.testing.assert_allclose(found, np.log(-sums) + np.array([0, 1000]), rtol=1e-6)
    np.testing.assert_array_equal(sign, [-1, -1])
    assert np.isnan(np.asarray(nn.logsumexp(a, axis=1, b=b))).all()
    kept, signs = nn.logsumexp(a, axis=(0, 1), b=b, keepdims=True, return_sign=True)
    assert kept.shape == signs.shape == (1, 1)
    slope = fd.grad(lambda a: nn.logsumexp(a, b=b[0], return_sign=True)[0])(a[0])
    np.testing.assert_allclose(slope, b[0] * np.exp(a[0]) / sums[0], rtol=1e-6)
    pair = np.array([1, -1], np.float32)
    nothing, sign = nn.logsumexp(np.zeros(2, np.float32), b=pair, return_sign=True)
    assert (float(nothing), float(sign)) == (-INF, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_logmeanexp(dtype: str) -> None:
    x = np.array([[1000.0, 1000.0], [-INF, 3.0], [0.5, 1.5]], dtypes.as_dtype(dtype))
    wanted = [1000, 3 - math.log(2), math.log((math.exp(0.5) + math.exp(1.5)) / 2)]
    eps = float(fnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(nn.logmeanexp(x, axis=1), float), wanted, rtol=8 * eps)
    where = np.array([[True, False], [False, True], [False, False]])
    found = nn.logmeanexp(x, axis=1, where=where, keepdims=True)
    assert found.dtype == x.dtype and found.shape == (3, 1)
    np.testing.assert_allclose(np.asarray(found, float)[:, 0], [1000, 3, math.nan], rtol=8 * eps)
    # More elements than a half type can count.
    assert float(nn.logmeanexp(np.zeros(70000, x.dtype))) == pytest.approx(0, abs=0.1)


PEER_CALLS = [
    *(f"m.{name}(x)" for name in TABLE if hasattr(nn, name) and name != "log1mexp"),
    "m.celu(x, 0.7)",
    "m.gelu(x, False)",
    "m.gelu(x)",
    "m.log1mexp(abs(x))",
    "m.leaky_relu(x, 0.3)",
    "m.glu(x[:-1])",
    "m.softmax(x)",
    "m.log_softmax(x)",
    "m.logsumexp(x)",
    "m.logmeanexp(x)",
    "m.standardize(x)",
    "m.squareplus(x, 0.5)",
]


@pytest.mark.peers
def test_special_arguments_like_jax_where_jax_is_not_nan() -> None:
    jax = pytest.importorskip("jax")
    points = np.array([-INF, -1e38, -1.0, -0.0, 0.0, 1.0, 3.0, -3.0, 6.0, 1e38, INF], np.float32)
    for name in set(TABLE) - {"gelu_tanh"}:
        f, g = getattr(nn, name), getattr(jax.nn, name)
        found, wanted = np.asarray(f(points)), np.asarray(g(points))
        known = ~np.isnan(wanted)
        if name == "squareplus":
            known &= np.abs(points) < 1e19  # where its square overflows in JAX
        np.testing.assert_allclose(found[known], wanted[known], rtol=2e-5, atol=1e-30, err_msg=name)
