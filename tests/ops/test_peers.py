"""Values and dtypes of the elementwise primitives against JAX, on special values."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.ops.special_values import (
    ROWS,
    assert_same_values,
    assert_same_zeros,
    special_samples,
)
from tests.ops.structural.peer import wide_jax
from tests.ops.table import OPS, cases

from funcdl.core import dtypes
from funcdl.ops.registry import INTS, Sample

pytestmark = pytest.mark.peers

NDArray = np.ndarray[Any, Any]

_NAMES = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "not": "bitwise_not"}
_TOLERANCE = {"f16": 2e-3, "bf16": 2e-2, "f32": 1e-5, "c64": 1e-5, "f64": 1e-12, "c128": 1e-12}

# JAX has no integer powers, and rounds log(2) to bfloat16 in exp2.
_NOT_IN_JAX = {("pow", dtype) for dtype in INTS} | {("exp2", "bf16"), ("exp2", "f16")}

# Which of two zeros of different sign is larger is left open.
_ANY_ZERO = {"max", "min", "clamp"}

# XLA's float32 is off by rounding errors of the terms near the zeros of these.
_ABSOLUTE = {"lgamma": 1e-6, "digamma": 1e-6}


def in_jax(jax: Any, name: str, params: dict[str, Any]) -> Any:
    if name == "round":
        method = jax.lax.RoundingMethod(params["rounding_method"])
        return lambda x: jax.lax.round(x, method)
    if name == "copy":
        return jax.lax.copy_p.bind
    function = getattr(jax.lax, _NAMES.get(name, name))
    return lambda *xs: function(*xs, **params)


@cache
def jax_results(dtype: str) -> dict[str, list[tuple[Sample, NDArray]]]:
    """All rows that take a dtype, in one program."""
    calls = [
        (name, sample)
        for name in sorted(ROWS)
        if dtype in OPS[name].dtypes and (name, dtype) not in _NOT_IN_JAX
        for sample in special_samples(name, dtype)
    ]

    def run(operands: list[tuple[Any, ...]]) -> list[Any]:
        return [
            in_jax(jax, name, sample.params)(*args)
            for args, (name, sample) in zip(operands, calls, strict=True)
        ]

    with wide_jax() as jax:
        outs = [np.asarray(x) for x in jax.jit(run)([sample.args for _, sample in calls])]
    results: dict[str, list[tuple[Sample, NDArray]]] = {}
    for (name, sample), out in zip(calls, outs, strict=True):
        results.setdefault(name, []).append((sample, out))
    return results


def check(name: str, dtype: str) -> None:
    if name not in ROWS or (name, dtype) in _NOT_IN_JAX:
        return
    for sample, wanted in jax_results(dtype)[name]:
        found = np.asarray(OPS[name].primitive.impl(*sample.args, **sample.params))
        tolerance = _TOLERANCE.get(dtype, 0.0)
        zero = _ABSOLUTE.get(name, 0.0) if tolerance > 1e-6 else 0.0
        assert_same_values(found, wanted, tolerance, f"{name} {sample.params}", zero)
        if dtypes.is_float(found.dtype) and name not in _ANY_ZERO and not zero:
            assert_same_zeros(found, wanted, f"{name} {sample.params}")


@pytest.mark.parametrize(("name", "dtype"), [*cases(), *((n, "f64") for n in sorted(ROWS))])
def test_values_agree_with_jax(name: str, dtype: str) -> None:
    if dtype in OPS[name].dtypes:
        check(name, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), cases(slow=True))
def test_values_agree_with_jax_for_other_dtypes(name: str, dtype: str) -> None:
    check(name, dtype)
