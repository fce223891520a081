"""How exactly a GPU multiplies: by call, by context, by flag."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

X = np.random.default_rng(0).normal(size=(32, 48)).astype(np.float32)


def precision_of(function: Any) -> str:
    """What the rendered product of a program says."""
    with fd.config.override(backend="gpu"):
        text = fd.jit(function).lower(X, X.T).as_text("triton")
    found = {p for p in ("ieee", "tf32", "tf32x3") if f'input_precision="{p}"' in text}
    assert len(found) == 1
    return found.pop()


def product(precision: Any = None) -> Any:
    return lambda x, y: fnp.matmul(x, y, precision=precision)


@pytest.mark.parametrize(
    ("name", "rendered"),
    [
        (None, "ieee"),
        ("highest", "ieee"),
        ("float32", "ieee"),
        ("high", "tf32x3"),
        ("tensorfloat32", "tf32"),
        ("bfloat16", "tf32"),
        ("bfloat16_3x", "tf32x3"),
        (lax.Precision.HIGHEST, "ieee"),
        (lax.Precision.HIGH, "tf32x3"),
        (lax.DotAlgorithmPreset.TF32_TF32_F32, "tf32"),
        (lax.DotAlgorithmPreset.TF32_TF32_F32_X3, "tf32x3"),
    ],
)
def test_by_call_and_by_context(name: Any, rendered: str, gpu: StubGpu) -> None:
    assert precision_of(product(name)) == rendered
    with fd.default_matmul_precision(name):
        assert precision_of(product()) == rendered
        assert precision_of(product("highest")) == "ieee"
        assert precision_of(product("tensorfloat32")) == "tf32"
    assert precision_of(product()) == "ieee"


def test_every_product_takes_a_precision(gpu: StubGpu) -> None:
    for function in (fnp.dot, fnp.inner, lambda x, y, **o: fnp.tensordot(x, y, 1, **o)):
        other = X if function is fnp.inner else X.T
        with fd.config.override(backend="gpu"):
            call = fd.jit(lambda x, y, f=function: f(x, y, precision="tensorfloat32"))
            assert 'input_precision="tf32"' in call.lower(X, other).as_text("triton")
    assert precision_of(lambda x, y: fnp.einsum("ij,jk->ik", x, y, precision="high")) == "tf32x3"


def test_gradients_multiply_as_their_products(gpu: StubGpu) -> None:
    total = lambda x, y: fnp.sum(fnp.matmul(x, y, precision="tensorfloat32"))  # noqa: E731
    assert precision_of(lambda x, y: fd.grad(total)(fnp.sin(x), y)) == "tf32"


def test_programs_are_compiled_for_each_default(gpu: StubGpu) -> None:
    x, y = fd.device_put(X, "gpu"), fd.device_put(X.T, "gpu")
    jitted = fd.jit(product())
    for function in (jitted, fnp.matmul):
        fd.clear_caches()
        counts = []
        for name in ("default", "tensorfloat32", "default", "tensorfloat32"):
            before = len(gpu.compiled)
            with fd.config.override(default_matmul_precision=name):
                np.testing.assert_allclose(np.asarray(function(x, y)), X @ X.T, 1e-5, 1e-5)
            counts.append(len(gpu.compiled) - before)
        assert counts[:2] == [1, 1]
    assert fd.config.default_matmul_precision == "default"
