"""Operations on the bits of half precision: every number, in compiled code."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.runtime.toolchain import find_compiler

NEIGHBOURS = (0.0, -0.0, -1.5, np.inf, np.nan)
FORMATS = ((5, 10), (8, 7), (4, 3), (2, 0))


def program(x: Any) -> list[Any]:
    towards = [fnp.full_like(x, y) for y in NEIGHBOURS]
    return [
        *(fnp.nextafter(x, y) for y in towards),
        *(fnp.nextafter(y, x) for y in towards),
        *(lax.reduce_precision(x, *bits) for bits in FORMATS),
        # What a fused kernel has in float32 must be rounded first.
        fnp.nextafter(x * x + x, x),
        lax.reduce_precision(x * x + x, 8, 3),
    ]


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
def test_every_number(dtype: Any) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with fd.config.override(backend="cpu"):
        lowered = fd.jit(program).lower(x)
        assert "host" not in lowered.as_text("kernels")
        found = [np.asarray(out) for out in fd.jit(program)(x)]
    total = np.asarray(fd.jit(lambda x: x * x + x)(x))
    with fd.config.override(backend="reference"):
        wanted = [np.asarray(out) for out in fd.jit(program)(x)]
        wanted[-2:] = (
            np.asarray(fnp.nextafter(total, x)),
            np.asarray(lax.reduce_precision(total, 8, 3)),
        )
    for left, right in zip(found, wanted, strict=True):
        number = ~fnp.isnan(right).value
        np.testing.assert_array_equal(fnp.isnan(left).value, ~number)
        np.testing.assert_array_equal(left.view(np.uint16)[number], right.view(np.uint16)[number])
