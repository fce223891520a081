"""Every structural primitive on its own samples: against JAX, and through its kernel form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.structural.peer import bind_in_jax
from tests.ops.structural.reader import run_kernel

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.dtypes import HALF
from funcdl.ops import registry
from funcdl.ops.arg_reduction import argmax, argmin
from funcdl.ops.dot import dot_general
from funcdl.ops.dynamic import dynamic_slice, dynamic_update_slice
from funcdl.ops.gather import gather
from funcdl.ops.reduction import (
    reduce_and,
    reduce_max,
    reduce_min,
    reduce_or,
    reduce_prod,
    reduce_sum,
)
from funcdl.ops.scatter import scatter, scatter_add, scatter_max, scatter_min, scatter_mul

STRUCTURAL = [
    reduce_sum,
    reduce_prod,
    reduce_max,
    reduce_min,
    reduce_and,
    reduce_or,
    argmax,
    argmin,
    dot_general,
    dynamic_slice,
    dynamic_update_slice,
    gather,
    scatter,
    scatter_add,
    scatter_mul,
    scatter_min,
    scatter_max,
]
NAMES = [primitive.name for primitive in STRUCTURAL]
TOLERANCE = {"f16": 4e-3, "bf16": 3e-2, "f32": 1e-5, "c64": 1e-5}


def samples(name: str, dtype: str) -> list[registry.Sample]:
    seed = np.random.default_rng(7)
    return list(registry.ops()[name].samples(seed, dtypes.from_short_name(dtype)))


def assert_close(found: Any, wanted: Any, dtype: str) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    if dtypes.kind(found.dtype) in ("b", "i", "u"):
        np.testing.assert_array_equal(found, wanted)
        return
    wide = np.complex128 if dtypes.is_complex(found.dtype) else np.float64
    tolerance = TOLERANCE.get(dtype, 1e-10)
    np.testing.assert_allclose(
        found.astype(wide), wanted.astype(wide), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("name", NAMES)
def test_shape_rule_agrees_with_the_reference(name: str) -> None:
    op = registry.ops()[name]
    for dtype in op.dtypes:
        for sample in samples(name, dtype):
            out = op.primitive.impl(*sample.args, **sample.params)
            avals = [ShapedArray(x.shape, x.dtype) for x in sample.args]
            assert op.primitive.shape(*avals, **sample.params) == ShapedArray(out.shape, out.dtype)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in NAMES
        for dtype in ("bool", "i8", "bf16", "c64")
        if dtype in registry.ops()[name].dtypes
    ],
)
def test_reference_agrees_with_jax(name: str, dtype: str) -> None:
    op = registry.ops()[name]
    # Where updates meet, XLA does not say which of them stays.
    calls = [s for s in samples(name, dtype) if name != "scatter" or not updates_meet(s)]
    wanted = bind_in_jax(name, [(s.args, s.params) for s in calls])
    for sample, out in zip(calls, wanted, strict=True):
        assert_close(op.primitive.impl(*sample.args, **sample.params), out, dtype)


def updates_meet(sample: registry.Sample) -> bool:
    operand, indices, updates = sample.args
    blank, ones = np.zeros(operand.shape, np.int32), np.ones(updates.shape, np.int32)
    counts = scatter_add.impl(blank, indices, ones, **sample.params)
    return bool(np.any(counts > 1))


@pytest.mark.parametrize("name", NAMES)
def test_kernel_form_agrees_with_the_reference(name: str) -> None:
    op = registry.ops()[name]
    for dtype in op.dtypes:
        if dtypes.is_complex(dtypes.from_short_name(dtype)):
            continue
        for sample in samples(name, dtype):
            if name.startswith("scatter_") and sample.args[0].dtype in HALF:
                continue  # the compiler accumulates these in a float32 buffer
            found = run_kernel(op.primitive, sample.args, sample.params)
            assert_close(found, op.primitive.impl(*sample.args, **sample.params), dtype)
