"""What activations make of integers is weakly typed where JAX's is: it gives way to any float."""

from __future__ import annotations

import numpy as np
import pytest

import funcdl.numpy as fnp
from funcdl import nn

FLOAT_IN_THE_FORMULA = """
    celu elu hard_sigmoid hard_silu hard_swish leaky_relu selu sparse_plus sparse_sigmoid
"""
INTEGER_IN_THE_FORMULA = "mish soft_sign softplus"
NO_NUMBER = "sigmoid silu gelu log_sigmoid tanh"


def is_weak(name: str, dtype: type) -> bool:
    out = getattr(nn, name)(fnp.asarray(np.array([0, 1], dtype)))
    assert out.dtype == np.float32
    assert (out + fnp.ones(2, "bfloat16")).dtype == ("bfloat16" if out.weak_type else np.float32)
    return bool(out.weak_type)


@pytest.mark.parametrize("name", FLOAT_IN_THE_FORMULA.split())
def test_integers_and_bools_that_meet_a_float(name: str) -> None:
    assert is_weak(name, np.int32) and is_weak(name, bool)


@pytest.mark.parametrize("name", INTEGER_IN_THE_FORMULA.split())
def test_bools_that_meet_an_integer(name: str) -> None:
    assert is_weak(name, bool) and not is_weak(name, np.int32)


@pytest.mark.parametrize("name", NO_NUMBER.split())
def test_what_meets_no_number(name: str) -> None:
    assert not is_weak(name, bool) and not is_weak(name, np.int32)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_floats_keep_their_types(dtype: str) -> None:
    x = fnp.asarray(np.array([-1, 2]), dtype)
    for name in " ".join([FLOAT_IN_THE_FORMULA, INTEGER_IN_THE_FORMULA, NO_NUMBER]).split():
        out = getattr(nn, name)(x)
        assert (out.dtype, out.weak_type) == (x.dtype, False), name
