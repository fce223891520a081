"""Calls of the three namespaces of linear algebra: those that the tests make elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.differential.calls import Call, Sizes
from tests.linalg.table import PROGRAMS, Program

from funcdl.core import dtypes


def of_program(program: Program) -> Call:
    def function(library: Mapping[str, Any], *xs: Any) -> Any:
        modules = SimpleNamespace(
            lax=library["linalg"], numpy=library["jnp"].linalg, scipy=library["scipy_linalg"]
        )
        return program.function(modules, *xs)

    def operands(kind: str, sizes: Sizes) -> list[Any]:
        return [_cast(x, kind) for x in program.args]

    name = program.name.split(".")[1].rsplit("-", 1)[0]
    return Call(name, program.name, function, operands, program.grad and program.jax_grad)


def _cast(x: np.ndarray[Any, Any], kind: str) -> Any:
    dtype = dtypes.from_short_name(kind)
    if x.dtype.kind not in "fc":
        return x
    return x.astype(dtypes.complex_dtype(dtype) if x.dtype.kind == "c" else dtype)


LAX, NUMPY, SCIPY = (
    [of_program(p) for p in PROGRAMS if p.name.startswith(f"{module}.")]
    for module in ("lax", "numpy", "scipy")
)
