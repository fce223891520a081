"""The same primitives in JAX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

NDArray = np.ndarray[Any, Any]


@contextmanager
def wide_jax() -> Iterator[Any]:
    """JAX with 64-bit types, which is restored afterwards."""
    jax = pytest.importorskip("jax")
    old = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield jax
    finally:
        jax.config.update("jax_enable_x64", old)


def bind_in_jax(
    name: str, calls: Sequence[tuple[tuple[NDArray, ...], dict[str, Any]]]
) -> list[NDArray]:
    """The outputs of the JAX primitive of this name, for operands and parameters of each call."""

    def run(operands: list[tuple[Any, ...]]) -> list[Any]:
        return [
            function_in_jax(jax, name, params)(*args)
            for args, (_, params) in zip(operands, calls, strict=True)
        ]

    with wide_jax() as jax:
        # One compilation for all calls, which takes most of the time.
        outs = jax.jit(run)([args for args, _ in calls])
        return [np.asarray(out) for out in outs]


def function_in_jax(jax: Any, name: str, params: dict[str, Any]) -> Any:
    """The JAX primitive of this name as a function of its array operands."""
    lax = jax.lax
    if name in ("argmax", "argmin"):
        (axis,), dtype = params["axes"], params["index_dtype"]
        return lambda x: getattr(lax, name)(x, axis, dtype)
    if name == "dot_general":
        rest = {key: params[key] for key in ("precision", "preferred_element_type")}
        return lambda x, y: lax.dot_general(x, y, params["dimension_numbers"], **rest)
    if name == "dynamic_slice":
        # The primitives themselves: the functions count negative starts from the end.
        return lambda x, *starts: lax.dynamic_slice_p.bind(x, *starts, **params)
    if name == "dynamic_update_slice":
        return lambda x, update, *starts: lax.dynamic_update_slice_p.bind(x, update, *starts)
    if name == "gather" or name.startswith("scatter"):
        kind = lax.GatherDimensionNumbers if name == "gather" else lax.ScatterDimensionNumbers
        numbers = kind(**params["dimension_numbers"]._asdict())
        mode = lax.GatherScatterMode[params["mode"].name]
        changed = params | {"dimension_numbers": numbers, "mode": mode}
        return lambda *args: getattr(lax, name)(*args, **changed)
    return lambda x: getattr(lax, name)(x, **params)
