"""Elementwise operations become CUDA's accurate forms on GPUs, as docs/accuracy.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.kernels.ptx_forms import run
from tests.ops.table import OPS  # which imports every module of primitives

from funcdl.core.dtypes import from_short_name
from funcdl.kir import elementwise
from funcdl.ops.lowering import compute_dtype

DOCUMENT = Path(__file__).parents[2] / "docs" / "accuracy.md"

# float32: the instructions that round, and that must be among a function's or be all of them.
WHOLE = {"sqrt": ["sqrt.rn.f32"], "div": ["div.rn.f32"], "rsqrt": ["rsqrt.approx.f32"]}
# The argument of a power of 2 is reduced exactly: the fast form has one rounded product.
AMONG = {
    "exp": {"fma.rn.f32", "ex2.approx.ftz.f32"},
    "logistic": {"fma.rn.f32", "ex2.approx.ftz.f32", "div.rn.f32"},
    "log": {"fma.rn.f32"},
    "tanh": {"fma.rn.f32"},
    "sin": {"fma.rn.f32"},
    "erf": {"fma.rn.f32"},
}
# Functions that have roots inside in Triton's library; some releases have others in asin and acos.
COARSE_ROOTS = {"asin", "acos", "asinh", "acosh"}


def documented() -> dict[str, str]:
    """The Triton form of each function in the document's table."""
    _, _, rest = DOCUMENT.read_text().partition("<!-- table gpu -->\n")
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", rest, re.MULTILINE)
    return dict(rows)


def template(name: str, dtype: str) -> str:
    found = elementwise.lookup(name).triton
    text = found(from_short_name(dtype)) if callable(found) else found
    assert text is not None
    return text


def test_the_document_shows_the_forms_that_kernels_have() -> None:
    shown = documented()
    assert {"exp", "logistic", "sqrt", "div", "pow", "lgamma"} <= set(shown) <= set(OPS)
    assert shown == {name: template(name, "f32") for name in shown}


def test_half_types_take_the_forms_of_float32() -> None:
    assert {compute_dtype(from_short_name(t)).name for t in ("f16", "bf16")} == {"float32"}


@pytest.mark.triton
def test_functions_of_float32_are_the_accurate_ones() -> None:
    found = run("f32", [*WHOLE, *AMONG])
    assert {name: found[name] for name in WHOLE} == WHOLE
    lacking = {name: among - set(found[name]) for name, among in AMONG.items()}
    assert not any(lacking.values()), lacking


@pytest.mark.triton
@pytest.mark.slow
def test_no_function_of_float32_divides_or_takes_roots_by_the_operator() -> None:
    for name, instructions in run("f32", documented()).items():
        assert "div.full.f32" not in instructions, name
        assert "sqrt.approx.f32" not in instructions or name in COARSE_ROOTS, name


@pytest.mark.triton
def test_functions_of_float64_are_no_approximations_in_float32() -> None:
    found = run("f64", ["exp", "exp2", "log", "sin", "sqrt", "div", "logistic"])
    assert not [name for name, of in found.items() if any("approx.f32" in i for i in of)]
    assert found["sqrt"] == ["sqrt.rn.f64"] and found["div"] == ["div.rn.f64"]
