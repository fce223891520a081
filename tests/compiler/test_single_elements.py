"""What is a single element is computed once for a kernel, however many points might read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

X = np.linspace(-1, 1, 600, dtype=np.float32).reshape(20, 30)

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "added at a place": lambda x, s: x.at[4, 7].add(fnp.sin(s)),
    "set at a computed place": lambda x, s: x.at[s.astype(int), 7].set(fnp.sin(s)),
    "padded": lambda x, s: lax.pad(fnp.sin(s)[None, None], np.float32(2), [(3, 1, 0), (5, 2, 0)]),
    "joined": lambda x, s: fnp.concatenate([fnp.sin(s)[None], x[0], fnp.sin(s)[None]]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_single_elements_are_computed_outside_of_loops(name: str) -> None:
    function, s = FUNCTIONS[name], np.float32(1.5)
    program = fd.jit(function)
    kernels = program.lower(X, s).as_text("c").split("/* kernel ")[1:]
    (kernel,) = (kernel for kernel in kernels if "fd_sin_f32" in kernel)
    assert "fd_sin_f32" not in kernel.partition("for (")[2]
    expected = np.asarray(function(fnp.asarray(X), fnp.asarray(s)))
    np.testing.assert_allclose(np.asarray(program(X, s)), expected, rtol=1e-6, atol=1e-5)
