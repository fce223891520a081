"""Laws of functions that are linear in each of two operands, given their definition in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcdl.core.array import as_array
from funcdl.transforms.derivatives import jvp, vjp
from funcdl.transforms.vmap import vmap

NDArray = np.ndarray[Any, Any]
Function = Callable[[Any, Any], Any]
Definition = Callable[[NDArray, NDArray], NDArray]


def operands(shapes: Sequence[tuple[int, ...]], seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    x, y = (np.asarray(rng.normal(size=shape)) for shape in shapes)
    return x, y


def check_derivatives(f: Function, definition: Definition, x: NDArray, y: NDArray) -> None:
    tx, ty = operands((x.shape, y.shape), seed=1)
    out, tangent = jvp(f, (as_array(x), as_array(y)), (as_array(tx), as_array(ty)))
    by_x, by_y = definition(tx, y), definition(x, ty)
    np.testing.assert_allclose(tangent.value, by_x + by_y, rtol=1e-12, atol=1e-12)
    ct = np.asarray(np.random.default_rng(2).normal(size=out.shape))
    x_ct, y_ct = vjp(f, as_array(x), as_array(y))[1](as_array(ct))
    assert (x_ct.shape, y_ct.shape) == (x.shape, y.shape)
    # Each alone: the output is linear in either operand.
    np.testing.assert_allclose(np.sum(x_ct.value * tx), np.sum(ct * by_x), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.sum(y_ct.value * ty), np.sum(ct * by_y), rtol=1e-10, atol=1e-10)


def check_vmap(
    f: Function, definition: Definition, shapes: Sequence[tuple[int, ...]], data: st.DataObject
) -> None:
    """Over one operand or both, along any axis of each."""
    size = data.draw(st.integers(0, 3))
    axes = [data.draw(st.none() | st.integers(0, len(shape))) for shape in shapes]
    if axes == [None, None]:
        return
    args = operands(
        [
            shape if axis is None else (*shape[:axis], size, *shape[axis:])
            for shape, axis in zip(shapes, axes, strict=True)
        ]
    )
    found = vmap(f, in_axes=tuple(axes))(*map(as_array, args))
    assert found.shape[0] == size
    for i in range(size):
        x, y = (v if a is None else np.take(v, i, a) for v, a in zip(args, axes, strict=True))
        np.testing.assert_allclose(found.value[i], definition(x, y), rtol=1e-12, atol=1e-12)
