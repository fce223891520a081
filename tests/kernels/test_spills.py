"""No function of the op suite spills registers, in whatever form of kernel it stands."""

from __future__ import annotations

from contextlib import suppress

import pytest
from tests.kernels.spill_cases import FORMS, kernel_of, run
from tests.ops.table import OPS, reason_missing

from funcdl.compiler.cuda.defaults import default_knobs
from funcdl.compiler.cuda.schedule import Knobs, elements_of_thread, parts
from funcdl.core.dtypes import from_short_name
from funcdl.kir import elementwise
from funcdl.ops.lowering import compute_dtype

ROWS = [form for form in FORMS if form != "dot"]
LONGEST = [name for name in sorted(OPS) if name in elementwise.names()]
LONGEST = [name for name in LONGEST if elementwise.lookup(name).cost >= 30]


def functions(dtype: str) -> list[str]:
    """The functions that kernels apply to values of a type."""
    found = []
    for name in elementwise.names():
        if name in OPS and dtype in OPS[name].dtypes and not reason_missing(name, dtype, "triton"):
            template = elementwise.lookup(name).triton
            with suppress(NotImplementedError):  # written by another function
                if callable(template):
                    template(from_short_name(dtype))
                found.append(name)
    return found


@pytest.mark.triton
def test_long_functions_spill_nothing() -> None:
    assert run(90, [(form, "digamma", "f32") for form in ("pointwise", "rows", "running")]) == []
    assert run(80, [("pointwise", "cos", "f32"), ("pointwise", "igammac", "f32")]) == []


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "u64"])
def test_every_function(dtype: str, arch: int) -> None:
    assert compute_dtype(from_short_name(dtype)) == from_short_name(dtype)
    assert run(arch, [("pointwise", name, dtype) for name in functions(dtype)]) == []


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", LONGEST)
def test_long_functions_in_every_form(name: str, arch: int) -> None:
    found = [(form, name, dtype) for form in ROWS for dtype in ("f32", "f64")]
    assert run(arch, found) == []


@pytest.mark.parametrize("name", LONGEST)
def test_threads_take_fewer_elements_of_longer_functions(name: str) -> None:
    kernel = kernel_of("pointwise", name, "f32")
    assert elements_of_thread(kernel) <= 2
    # Rows of the table were made for short functions.
    assert default_knobs(kernel, 90) == Knobs()


def test_cheap_functions_are_not_held_back() -> None:
    for name in ("exp", "tanh", "logistic", "log1p", "sqrt", "add"):
        assert elements_of_thread(kernel_of("pointwise", name, "f32")) == 8


def test_long_functions_stand_apart_from_products() -> None:
    assert parts(kernel_of("dot", "digamma", "f32")) == 0
    assert parts(kernel_of("dot", "tanh", "f32")) == 1
