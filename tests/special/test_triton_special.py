"""Triton forms of special functions: interpreted beside the reference, and compiled."""

from __future__ import annotations

import pytest
from tests.special.triton_process import NAMES, run

from funcdl.kernels.triton.special import sources

pytestmark = pytest.mark.triton

# Multiples of eps, relative; digamma is exact to 2^-52 in absolute terms near its roots.
TOLERANCES = {"f32": 2.0, "f64": 512.0}


@pytest.mark.parametrize("dtype", ["f32", pytest.param("f64", marks=pytest.mark.slow)])
def test_interpreted_values_agree_with_the_reference(dtype: str) -> None:
    found = run("interpret", dtype)
    assert sorted(found) == sorted(NAMES)
    complaints = {n: x for n, x in found.items() if isinstance(x, str) or x > TOLERANCES[dtype]}
    assert not complaints


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["80", "90"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_all_compile(dtype: str, arch: str) -> None:
    assert run("compile", dtype, arch) == dict.fromkeys(NAMES, 0.0)


def test_functions_come_with_those_that_they_call_before_them() -> None:
    names = list(sources("1 + fd_bessel_i0e(x)"))
    assert names == ["fd_bessel_series", "fd_bessel_far", "fd_bessel_scaled", "fd_bessel_i0e"]
    assert sources("tl.exp(x)") == {}
    with pytest.raises(KeyError):
        sources("fd_no_such_function(x)")
