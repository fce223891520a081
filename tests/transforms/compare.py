"""Comparing trees, making batches, and loops in place of vmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tests.transforms.table import Case, is_float

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core import tree as core_tree

BATCH = 3
_TOLERANCE = {"f16": 2e-3, "bf16": 2e-2, "f32": 5e-6, "f64": 1e-12}


def assert_same(found: Any, wanted: Any, factor: float = 1.0, weak: bool = False) -> None:
    """Equal structure, shapes and dtypes, and values within `factor` times the dtype's tolerance.

    With `weak`, weak types must be equal as well.
    """
    found_leaves, found_tree = fd.tree.flatten(found)
    wanted_leaves, wanted_tree = fd.tree.flatten(wanted)
    assert found_tree == wanted_tree
    for i, (x, y) in enumerate(zip(found_leaves, wanted_leaves, strict=True)):
        x, y = fnp.asarray(x), fnp.asarray(y)
        where = f"leaf {i} of {found_tree}"
        assert x.aval.same_type(y.aval), f"{where}: {x.aval}, not {y.aval}"
        if weak:
            assert x.weak_type == y.weak_type, f"{where}: {x.aval}, not {y.aval}"
        if dtypes.is_inexact(x.dtype):
            rtol = factor * _TOLERANCE[dtypes.short_name(dtypes.real_dtype(x.dtype))]
            a, b = x.value.astype(np.complex128), y.value.astype(np.complex128)
            scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=where)
        elif x.dtype != dtypes.float0:
            np.testing.assert_array_equal(x.value, y.value, err_msg=where)


def loss_of(case: Case, fun: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A scalar made of everything that a function returns and that has a derivative."""
    fun = case if fun is None else fun

    def loss(*args: Any) -> Any:
        total = fnp.float64(0.0)
        for i, leaf in enumerate(filter(is_float, fd.tree.leaves(fun(*args)))):
            total = total + (fnp.cos(i + 1.0 + leaf) * leaf).sum().astype("float64")
        return total

    return loss


def batches(case: Case, axes: Any) -> tuple[Any, ...]:
    """Arguments with a batch along the axes that `vmap` is told; others unchanged."""
    return tuple(
        _batch_argument(arg, axis, 11 * i)
        for i, (arg, axis) in enumerate(zip(case.args, argument_axes(case.args, axes), strict=True))
    )


def _batch_argument(arg: Any, axis: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)

    def stack(leaf: Any, leaf_axis: int | None) -> Any:
        if leaf_axis is None:
            return leaf
        leaf = fnp.asarray(leaf)
        scales = rng.uniform(0.9, 1.1, BATCH) if is_float(leaf) else np.ones(BATCH)
        members = [(leaf * s).astype(leaf.dtype) for s in scales]
        return fnp.stack(members, axis=leaf_axis)

    return map_axes(stack, arg, axis)


def argument_axes(args: Sequence[Any], axes: Any) -> tuple[Any, ...]:
    return axes if isinstance(axes, tuple) else (axes,) * len(args)


def map_axes(f: Callable[[Any, int | None], Any], tree: Any, axes: Any) -> Any:
    """Map over a tree's leaves and the axes that a prefix tree gives them."""

    def axis_of(path: tuple[Any, ...]) -> int | None:
        found = axes
        for key in path:
            if found is None or isinstance(found, int):
                break
            found = (
                getattr(found, key) if isinstance(key, str) and hasattr(found, key) else found[key]
            )
        return found  # type: ignore[no-any-return]

    return core_tree.map_with_path(lambda path, leaf: f(leaf, axis_of(path)), tree)


def loop(fun: Callable[..., Any], axes: Any, out_axes: Any = 0) -> Callable[..., Any]:
    """What `vmap` means: one call for each member, results stacked."""

    def looped(*args: Any) -> Any:
        def member(i: int) -> tuple[Any, ...]:
            return tuple(
                map_axes(lambda x, d: x if d is None else fnp.take(x, i, axis=d), arg, axis)
                for arg, axis in zip(args, argument_axes(args, axes), strict=True)
            )

        outs = [fun(*member(i)) for i in range(BATCH)]
        columns = zip(*map(fd.tree.leaves, outs), strict=True)
        stacked = [fnp.stack(list(map(fnp.asarray, c)), axis=out_axes) for c in columns]
        return fd.tree.structure(outs[0]).unflatten(stacked)

    return looped


def tangents_like(values: Any, seed: int = 5) -> Any:
    """Random tangents of every leaf; float0 for those without derivative."""
    rng = np.random.default_rng(seed)

    def draw(x: Any) -> Any:
        x = fnp.asarray(x)
        if not is_float(x):
            return np.zeros(x.shape, dtypes.float0)
        t = rng.standard_normal(x.shape)
        return fnp.asarray(np.asarray(t).astype(x.dtype))

    return fd.tree.map(draw, values)


def pair(left: Any, right: Any) -> float:
    """The inner product of two trees of tangents or cotangents."""
    leaves = zip(fd.tree.leaves(left), fd.tree.leaves(right), strict=True)
    total = 0.0
    for a, b in leaves:
        if fnp.asarray(a).dtype != dtypes.float0:
            total += float(np.sum(np.asarray(a, np.float64) * np.asarray(b, np.float64)))
    return total
