"""Triton forms of the elementwise primitives: interpreted on special values, and compiled."""

from __future__ import annotations

import pytest
from tests.ops.triton_process import run

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("dtype", ["bool", "i32", "f32"])
def test_interpreted_values_agree_with_reference(dtype: str) -> None:
    assert run("interpret", dtype) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["i8", "i16", "i64", "u8", "u16", "u32", "u64", "bf16", "f16", "f64"]
)
def test_interpreted_values_of_other_dtypes(dtype: str) -> None:
    assert run("interpret", dtype) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["bool", "i8", "i32", "i64", "u8", "u32", "u64", "bf16", "f16", "f32", "f64"]
)
def test_all_forms_compile(dtype: str) -> None:
    assert run("compile", dtype) == []
