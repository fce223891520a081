from __future__ import annotations

import math

import numpy as np
import pytest

import funcdl as fd
from funcdl import nn, random
from funcdl.errors import ArgumentError, DtypeError
from funcdl.nn import initializers

KEY = random.key(0)

# Variance for a weight of shape (200, 50): fan_in 200, fan_out 50, mean 125.
SCALED = {
    "lecun_normal": 1 / 200,
    "lecun_uniform": 1 / 200,
    "glorot_normal": 1 / 125,
    "glorot_uniform": 1 / 125,
    "xavier_normal": 1 / 125,
    "xavier_uniform": 1 / 125,
    "he_normal": 2 / 200,
    "he_uniform": 2 / 200,
    "kaiming_normal": 2 / 200,
    "kaiming_uniform": 2 / 200,
}


@pytest.mark.parametrize("name", SCALED)
def test_statistics_of_scaled_initialisers(name: str) -> None:
    x = np.asarray(getattr(initializers, name)()(KEY, (200, 50)), np.float64)
    stddev = math.sqrt(SCALED[name])
    # Five standard errors of 10000 numbers: a mean's is stddev / 100, a variance's at most 1.4 %.
    assert abs(x.mean()) < 0.05 * stddev
    assert x.var() == pytest.approx(SCALED[name], rel=0.07)
    widest = math.sqrt(3) if name.endswith("uniform") else 2 / 0.87962566
    assert np.abs(x).max() <= widest * stddev * (1 + 1e-5)
    assert np.abs(x).max() > 0.95 * widest * stddev


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_fans_count_the_receptive_field_but_no_batch_axis(mode: str) -> None:
    # A kernel of 3 x 5 pixels, 4 inputs and 6 outputs, 30 times.
    init = initializers.variance_scaling(3.0, mode, "normal", batch_axis=0)
    x = np.asarray(init(KEY, (30, 3, 5, 4, 6)), np.float64)
    fan = {"fan_in": 60, "fan_out": 90, "fan_avg": 75, "fan_geo_avg": math.sqrt(5400)}[mode]
    assert x.var() == pytest.approx(3 / fan, rel=0.07)
    flipped = initializers.variance_scaling(3.0, mode, "normal", -1, -2, 0)
    assert np.asarray(flipped(KEY, (30, 3, 5, 6, 4))).var() == pytest.approx(3 / fan, rel=0.07)


def test_several_axes_of_inputs() -> None:
    init = initializers.lecun_normal(in_axis=(0, 1), out_axis=(2, 3))
    assert np.asarray(init(KEY, (20, 5, 4, 25))).var() == pytest.approx(1 / 100, rel=0.07)


def test_plain_initialisers() -> None:
    np.testing.assert_array_equal(initializers.zeros(KEY, (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.ones(KEY, (2, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(initializers.constant(7)(KEY, (2,)), [7, 7])
    rows = initializers.constant(np.arange(3.0))(KEY, (2, 3))
    np.testing.assert_array_equal(rows, [[0, 1, 2]] * 2)
    x = np.asarray(initializers.normal(0.5)(KEY, (10000,)))
    assert (x.mean(), x.std()) == (pytest.approx(0, abs=0.025), pytest.approx(0.5, rel=0.05))
    x = np.asarray(initializers.uniform(0.5)(KEY, (10000,)))
    assert x.min() >= 0 and 0.49 < x.max() < 0.5
    assert x.mean() == pytest.approx(0.25, rel=0.05)
    x = np.asarray(initializers.truncated_normal(0.5, lower=-1, upper=3)(KEY, (10000,)))
    assert -0.5 <= x.min() < -0.45 and 1.1 < x.max() <= 1.5


@pytest.mark.parametrize("activation", ["relu", "none"])
def test_variance_is_kept_through_depth(activation: str) -> None:
    # He's initialisation through relu, LeCun's without it, twenty layers deep.
    w_init = initializers.he_normal() if activation == "relu" else initializers.lecun_normal()
    params = nn.mlp_init(KEY, [256] * 21, w_init=w_init)
    x = random.normal(random.key(1), (64, 256))
    out = nn.mlp_apply(params, x, nn.relu if activation == "relu" else lambda x: x)
    power = float((out**2).mean() / (x**2).mean())
    # The mean over layers wanders by about 1 / 256 a layer. The last layer has no relu: twice.
    assert 0.4 < power / (2 if activation == "relu" else 1) < 2.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["zeros", "he_normal", "glorot_uniform", "lecun_normal"])
def test_dtypes(name: str, dtype: str) -> None:
    init = getattr(initializers, name)
    if name != "zeros":
        assert init(dtype=dtype)(KEY, (4, 3)).dtype == fd.numpy.dtype(dtype)
        init = init()
    x = init(KEY, (4, 3), dtype)
    assert (x.dtype, x.shape, x.weak_type) == (fd.numpy.dtype(dtype), (4, 3), False)


def test_same_key_same_numbers_and_jit() -> None:
    init = initializers.he_normal()
    first, second = init(KEY, (5, 3)), init(KEY, (5, 3))
    np.testing.assert_array_equal(first, second)
    jitted = fd.jit(lambda key: init(key, (5, 3)))(KEY)
    np.testing.assert_allclose(jitted, first, rtol=1e-5, atol=1e-7)
    assert (np.asarray(init(random.key(1), (5, 3))) != np.asarray(first)).all()


def test_arrays_without_elements() -> None:
    for name in SCALED:
        assert getattr(initializers, name)()(KEY, (0, 3)).shape == (0, 3)


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="'fan_sum'"):
        initializers.variance_scaling(1.0, "fan_sum", "normal")
    with pytest.raises(ArgumentError, match="'cauchy'"):
        initializers.variance_scaling(1.0, "fan_in", "cauchy")
    with pytest.raises(ArgumentError, match=r"shape \(3,\)"):
        initializers.he_normal()(KEY, (3,))
    with pytest.raises(DtypeError, match="int32"):
        initializers.he_normal()(KEY, (3, 4), np.int32)
