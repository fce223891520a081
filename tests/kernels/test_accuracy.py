"""The script that measures the elementary functions, on a part of what it can measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import accuracy
from tests.kernels.c_harness import HOST, MARKS, OTHERS

pytestmark = MARKS

# Where the bound is not 2 ulp, for reasons in docs/accuracy.md.
BOUNDS = {
    ("lgamma", "f64"): 5.0,
    ("digamma", "f64"): np.inf,  # at its roots left of 0
    ("bessel_i0e", "f64"): 10.0,
    ("bessel_i1e", "f64"): 10.0,
}
# Two neighbours of a rising function may be out of order, by one ulp.
FALLS = {"tanh", "logistic"}

wide = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= 52, reason="long double is no wider than double"
)
# The compiler takes a tenth of a second for each function in float32.
FAST = {"f32": ("exp", "expm1", "log", "log1p", "tanh", "logistic", "erf", "pow"), "f64": ()}
each_type = pytest.mark.parametrize("t", ["f32", pytest.param("f64", marks=wide)])


def failures(
    t: str, isa: str, stride: int, names: tuple[str, ...] = ()
) -> dict[str, accuracy.Result]:
    found = {
        name: accuracy.measure(name, t, isa, stride * _thinner(name, t), names=names)
        for name in names or (*accuracy.UNARY, *accuracy.BINARY)
    }
    return {
        name: result
        for name, result in found.items()
        if result.wrong
        or result.ulp > BOUNDS.get((name, t), 2.0)
        or (name in accuracy.UNARY and t == "f32" and _falls(name, result))
    }


def _thinner(name: str, t: str) -> int:
    """Fewer samples where float32 rounds float64's result, which has a test of its own."""
    return 16 if t == "f32" and name in accuracy.UNARY and not accuracy.UNARY[name].exact else 1


def _falls(name: str, result: accuracy.Result) -> bool:
    return accuracy.UNARY[name].rises and result.back > 0 and name not in FALLS


@each_type
def test_two_ulp_on_a_sample(t: str) -> None:
    assert failures(t, HOST.name, 16381, FAST[t]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("isa", [HOST.name, *OTHERS])
@each_type
def test_two_ulp_on_a_larger_sample(isa: str, t: str) -> None:
    assert failures(t, isa, 509) == {}


def test_an_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = accuracy.Function("exp(x) * (1 + 0x1p-22)", "0", rises=True)
    monkeypatch.setattr(accuracy, "UNARY", {"exp": wrong, "log": accuracy.Function("log(x)", "0")})
    monkeypatch.setattr(accuracy, "BINARY", {})
    accuracy.library.cache_clear()
    try:
        found = accuracy.measure("exp", "f32", HOST.name, 65521)
        low = accuracy.measure("log", "f32", HOST.name, 65521)
    finally:
        accuracy.library.cache_clear()
    assert 2 < found.ulp < 6
    assert found.wrong == 0
    assert low.wrong > 1000  # logarithms below 0, which the range excludes
    assert low.wrong_y < 0


def test_the_document_has_a_row_for_each_function() -> None:
    text = Path("docs/accuracy.md").read_text()
    for t in ("f32", "f64"):
        rows = (
            text.partition(f"<!-- table {t} -->")[2].strip().partition("\n\n")[0].splitlines()[2:]
        )
        names = [row.split("`")[1] for row in rows]
        assert names == [*accuracy.UNARY, *accuracy.BINARY]
