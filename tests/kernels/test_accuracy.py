"""The script that measures the elementary functions, on a part of what it can measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import accuracy
from tests.kernels.c_harness import HOST, MARKS, OTHERS

pytestmark = MARKS

# Relative to the result, which comes close to 0 between its arguments of whole numbers, or a long
# sum: see docs/accuracy.md.
LOOSE = {("lgamma", "f64"), ("digamma", "f64"), ("bessel_i0e", "f64"), ("bessel_i1e", "f64")}
# Two neighbours of a rising function may be out of order, by one ulp.
FALLS = {"tanh", "logistic"}

wide = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= 52, reason="long double is no wider than double"
)
each_type = pytest.mark.parametrize("t", ["f32", pytest.param("f64", marks=wide)])


def failures(t: str, isa: str, stride: int) -> dict[str, accuracy.Result]:
    found = {
        name: accuracy.measure(name, t, isa, stride) for name in (*accuracy.UNARY, *accuracy.BINARY)
    }
    return {
        name: result
        for name, result in found.items()
        if result.wrong
        or (result.ulp > 2 and (name, t) not in LOOSE)
        or (name in accuracy.UNARY and t == "f32" and _falls(name, result))
    }


def _falls(name: str, result: accuracy.Result) -> bool:
    return accuracy.UNARY[name].rises and result.back > 0 and name not in FALLS


@each_type
def test_two_ulp_on_a_sample(t: str) -> None:
    assert failures(t, HOST.name, 16381) == {}


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
