"""Derivatives where the pieces of a function meet: of every order those of either piece."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
import funcdl.scipy.special as sp

# Both arguments are the same, or the only one is 0: the first, second, ... derivative there.
TRIGAMMA_2, TRIGAMMA_4 = math.pi**2 / 6 - 1, math.pi**2 / 6 - 1 - 1 / 4 - 1 / 9
HAZARD = math.sqrt(2 / math.pi)
POINTS: dict[str, tuple[Callable[[Any], Any], float, list[float]]] = {
    "logaddexp, first": (lambda x: fnp.logaddexp(x, 0.5), 0.5, [0.5, 0.25, 0.0, -0.125]),
    "logaddexp, second": (lambda x: fnp.logaddexp(0.5, x), 0.5, [0.5, 0.25, 0.0, -0.125]),
    "logaddexp, both": (lambda x: fnp.logaddexp(x, x), 0.5, [1.0, 0.0, 0.0]),
    "logaddexp2": (lambda x: fnp.logaddexp2(x, 3.0), 3.0, [0.5, math.log(2) / 4, 0.0]),
    "hypot, first": (lambda x: fnp.hypot(x, 1.0), 1.0, [2**-0.5, 2**-1.5, -3 * 2**-2.5]),
    "hypot, second": (lambda x: fnp.hypot(1.0, x), 1.0, [2**-0.5, 2**-1.5, -3 * 2**-2.5]),
    "numpy.i0": (fnp.i0, 0.0, [0.0, 0.5, 0.0]),
    "i0": (sp.i0, 0.0, [0.0, 0.5, 0.0]),
    "i1": (sp.i1, 0.0, [0.5, 0.0]),
    "log_ndtr": (
        sp.log_ndtr,
        0.0,
        [HAZARD, -(HAZARD**2), 2 * HAZARD**3 - HAZARD],
    ),
    "betaln": (
        lambda x: sp.betaln(x, 2.0),
        2.0,
        [-1 / 2 - 1 / 3, TRIGAMMA_2 - TRIGAMMA_4],
    ),
    "poch, second": (lambda m: sp.poch(2.0, m), 0.0, [1 - np.euler_gamma]),
    "poch, first": (lambda z: sp.poch(z, 0.0), 2.0, [0.0, 0.0]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POINTS)
def test_derivatives(name: str, dtype: str) -> None:
    f, point, wanted = POINTS[name]
    x = np.dtype(dtype).type(point)
    found = []
    for _ in wanted:
        f = fd.grad(f)
        found.append(float(f(x)))
    tolerance = 4e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(found, wanted, tolerance, tolerance)


def test_slopes_without_end_are_infinite() -> None:
    for f, points in ((fnp.cbrt, (0.0, -0.0)), (sp.logit, (0.0, 1.0))):
        assert [float(fd.grad(f)(x)) for x in points] == [math.inf] * 2
    assert float(fd.grad(fnp.cbrt)(math.inf)) == 0


def test_values_at_the_edges() -> None:
    nan, inf = math.nan, math.inf
    pairs = np.array([[0.0, nan], [nan, 0.0], [1.0, nan], [nan, inf], [0.0, 0.0], [-inf, 2.0]])
    np.testing.assert_array_equal(fnp.hypot(*pairs.T), np.hypot(*pairs.T))
    edges = np.array([[inf, inf], [-inf, -inf], [inf, -inf], [nan, inf], [-inf, nan], [-inf, 3.0]])
    with np.errstate(invalid="ignore"):
        wanted = np.logaddexp(*edges.T)
    np.testing.assert_array_equal(fnp.logaddexp(*edges.T), wanted)
    np.testing.assert_array_equal(sp.poch(np.array([0.0, -2.0, nan, inf, 3.0]), 0.0), np.ones(5))
