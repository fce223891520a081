"""Every function against NumPy's in float64, and again under jit, grad and vmap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.numpy import cases, cases_data, cases_structure
from tests.numpy.cases import Case

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core.trace import Tracer

CASES = [*cases.CASES, *cases_data.CASES, *cases_structure.CASES]
BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def assert_same(found: Any, wanted: Any, **tolerance: float) -> None:
    found, wanted = (x if isinstance(x, list | tuple) else [x] for x in (found, wanted))
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.shape == theirs.shape
        assert (ours.dtype.kind == "f") == (theirs.dtype.kind == "f")
        np.testing.assert_allclose(ours, theirs, **(tolerance or {"rtol": 1e-12, "atol": 1e-12}))


@BY_NAME
def test_as_numpy(case: Case) -> None:
    if not case.in_numpy:
        pytest.skip("NumPy has no such function")
    arrays = case.arrays()
    with np.errstate(all="ignore"):
        wanted = case.f(np, *arrays)
    assert_same(case.f(fnp, *map(fnp.array, arrays)), wanted)


@BY_NAME
def test_traced_as_eager(case: Case) -> None:
    """Tracing takes no shortcuts for small arrays, and knows types before values."""
    arrays = [fnp.array(x) for x in case.arrays()]

    def f(*xs: Any) -> Any:
        assert all(isinstance(x, Tracer) for x in xs)
        return case.f(fnp, *xs)

    eager = case.f(fnp, *arrays)
    with fd.config.override(backend="reference"):
        assert_same(fd.jit(f)(*arrays), eager)
    types = fd.tree.leaves(fd.eval_shape(f, *arrays))
    for value, struct in zip(fd.tree.leaves(eager), types, strict=True):
        assert fd.tree.leaves(struct)[0].aval == value.aval


@BY_NAME
def test_vmap_is_a_loop(case: Case) -> None:
    first, second = ([fnp.array(x) for x in case.arrays(seed=seed)] for seed in (0, 1))
    stacked = [fnp.stack(pair) for pair in zip(first, second, strict=True)]
    found = fd.tree.leaves(fd.vmap(lambda *xs: case.f(fnp, *xs))(*stacked))
    each = [fd.tree.leaves(case.f(fnp, *xs)) for xs in (first, second)]
    wanted = [np.stack([np.asarray(x) for x in pair]) for pair in zip(*each, strict=True)]
    assert_same(found, wanted)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.differentiable], ids=lambda case: case.name
)
def test_gradient_is_the_difference_quotient(case: Case) -> None:
    arrays = case.arrays()
    rng = np.random.default_rng(7)
    directions = [rng.normal(size=x.shape) for x in arrays]

    def total(*xs: Any) -> Any:
        """A scalar of all outputs that weighs each element differently."""
        result: Any = 0.0
        for out in fd.tree.leaves(case.f(fnp, *xs)):
            weights = np.cos(np.arange(out.size, dtype=float)).reshape(out.shape)
            result = result + (out * weights).sum()
        return result

    gradients = fd.grad(total, argnums=tuple(range(len(arrays))))(*map(fnp.array, arrays))
    found = sum(
        float(np.sum(np.asarray(g) * d)) for g, d in zip(gradients, directions, strict=True)
    )
    step = 1e-6
    ends = [
        float(total(*(fnp.array(x + s * d) for x, d in zip(arrays, directions, strict=True))))
        for s in (step, -step)
    ]
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log10_is_within_two_units_of_the_last_digit(dtype: str) -> None:
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("no wider type to compare with")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0.01, 1, 50000), 10 ** rng.uniform(-37, 37, 20000)])
    x = x.astype(dtype)
    wanted = np.log10(x.astype(np.longdouble))
    unit = np.spacing(np.abs(wanted.astype(dtype)))
    found = np.asarray(fd.jit(fnp.log10)(x))
    assert np.max(np.abs(found - wanted) / unit) <= 2
    ends = np.array([0, np.inf, -1, np.nan, 1], dtype)
    np.testing.assert_array_equal(fnp.log10(ends), [-np.inf, np.inf, np.nan, np.nan, 0])


def test_gradient_of_integers_takes_the_type_of_the_distance() -> None:
    x = fnp.asarray(np.arange(4) ** 2)
    assert fnp.gradient(x, 2.0).weak_type
    assert not fnp.gradient(x).weak_type
    assert fnp.gradient(x, fnp.asarray(2.0, "bfloat16")).dtype == "bfloat16"
