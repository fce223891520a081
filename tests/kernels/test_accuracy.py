"""The script that measures the elementary functions, on a part of what it can measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import accuracy
from tests.kernels.c_harness import HOST, MARKS, OTHERS, apply, every_isa

pytestmark = MARKS

BOUND = 2.0

wide = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= 52, reason="long double is no wider than double"
)
# The compiler takes a tenth of a second for each function in float32.
FAST = {"f32": ("exp", "expm1", "log", "log1p", "tanh", "logistic", "erf", "asin", "acos", "pow")}
FAST |= {"f64": ()}
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
        or result.ulp > BOUND
        or (name in accuracy.UNARY and t == "f32" and _falls(name, result))
    }


def _thinner(name: str, t: str) -> int:
    """Fewer samples where float32 rounds float64's result, which has a test of its own."""
    return 256 if t == "f32" and name in accuracy.UNARY and not accuracy.UNARY[name].exact else 1


def _falls(name: str, result: accuracy.Result) -> bool:
    return accuracy.UNARY[name].rises and result.back > 0


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


# Within some floats of roots of digamma and lgamma left of 0, 1.46 right of it, and of poles.
NEAR = [-0.5040830082644554, -1.5734984731623904, -2.4570247382208006, -2.6107208684441447]
NEAR += [-2.7476826467274127, -3.14358088834998, -3.955294284858598, -5.6671624415568855]
NEAR += [1.4616321449683622, 2.0, -1.0, -2.0, -3.0, -17.0, -20.0, -32.0, -33.0, -40.0]


@every_isa
@pytest.mark.parametrize("name", ["digamma", "lgamma"])
def test_two_ulp_beside_roots_and_poles(name: str, isa: str) -> None:
    mp = pytest.importorskip("mpmath")
    steps = np.concatenate(
        [np.arange(-4, 5), 2 ** np.arange(4, 49, 4), -(2 ** np.arange(4, 49, 4))]
    )
    x = (np.array(NEAR).view(np.int64)[:, None] + steps).ravel().view(np.float64)
    x = x[x != np.rint(x)]
    found = apply(isa, "f64", f"fd_{name}_f64", "f64", x)
    with mp.workprec(200):
        exact = [mp.digamma(v) if name == "digamma" else -mp.log(abs(mp.rgamma(v))) for v in x]
        error = [float(mp.mpf(float(y)) - e) for y, e in zip(found, exact, strict=True)]
    ulps = np.abs(error) / np.spacing(np.abs(np.array(exact, np.float64)))
    assert ulps.max() < BOUND, x[ulps.argmax()]


def test_rows_replace_those_of_the_same_functions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "table.md"
    head = "| function | x |\n|---|--:|"
    table.write_text(f"Text.\n<!-- table f64 -->\n{head}\n| `exp` | 1 |\n| `log` | 2 |\n")
    monkeypatch.setattr(accuracy, "TABLE", table)
    accuracy.replace_rows("f64", [*head.splitlines(), "| `log` | 3 |"])
    assert table.read_text().endswith(f"{head}\n| `exp` | 1 |\n| `log` | 3 |\n")
    with pytest.raises(LookupError, match="has the columns"):
        accuracy.replace_rows("f64", ["| function | y |", "|---|--:|", "| `log` | 3 |"])


def test_the_document_has_a_row_for_each_function() -> None:
    text = Path("docs/accuracy.md").read_text()
    for t in ("f32", "f64"):
        rows = (
            text.partition(f"<!-- table {t} -->")[2].strip().partition("\n\n")[0].splitlines()[2:]
        )
        names = [row.split("`")[1] for row in rows]
        assert names == [*accuracy.UNARY, *accuracy.BINARY]
