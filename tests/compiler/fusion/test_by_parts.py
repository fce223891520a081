"""Concatenations stored by the kernels that compute their parts, and those that stay views."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.run import interpret, pipeline_of

import funcdl as fd
import funcdl.lax as lax
import funcdl.numpy as fnp
from funcdl.compiler.piece_shapes import MAX_PIECES, piece_shape

RNG = np.random.default_rng(0)


def array(*shape: int) -> Any:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def joined(f: Callable[..., Any], *args: Any) -> list[str]:
    """The kernels of a program, whose results the interpreter and C find alike."""
    pipeline = pipeline_of(fd.make_jaxpr(f)(*args))
    with fd.config.override(backend="reference"):
        wanted = fd.tree.leaves(fd.jit(f)(*args))
    found = fd.tree.leaves(fd.jit(f)(*args))
    meant = interpret(pipeline, [np.asarray(x) for x in args])
    for a, b, c in zip(found, meant, wanted, strict=True):
        np.testing.assert_allclose(a, c, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(b, c, rtol=2e-5, atol=2e-6)
    _, *texts = pipeline.as_text("kernels").split("kernel ")
    return texts


def chooses(kernels: list[str]) -> bool:
    return any("select" in kernel or " if " in kernel for kernel in kernels)


def mixed(x: Any, y: Any) -> Any:
    """x[0], y[0], x[1], …"""
    return fnp.stack([x, y], -1).reshape(-1)


X, Y, W = array(5, 32), array(5, 32), array(64, 7)

# Programs whose concatenations are stored by parts, and how many kernels they have.
STORED: dict[str, tuple[Callable[..., Any], list[Any], int]] = {
    "a result": (lambda x, y: fnp.concatenate([fnp.sin(x), x * y], 1), [X, Y], 1),
    "first dimension": (lambda x, y: fnp.concatenate([x + 1, x * y]), [X, Y], 1),
    "new dimension": (lambda x, y: fnp.stack([x + 1, x * y, y], -1), [X, Y], 1),
    "a part twice": (lambda x: fnp.concatenate([x, x + 1, x], 1), [X], 1),
    "constants": (lambda x: fnp.concatenate([fnp.zeros_like(x), x], 1), [X], 1),
    "scalars": (lambda x: fnp.stack([fnp.sum(x), x[0, 0], x[1, 2] * 2]), [X], 1),
    "types of one byte": (lambda x, y: fnp.concatenate([x > y, x < 0], 1), [X, Y], 1),
    "half precision": (
        lambda x, y: fnp.concatenate([x * 2, y], 1),
        [X.astype(np.float16), Y.astype(np.float16)],
        1,
    ),
    "read by a product": (lambda x, y, w: fnp.concatenate([x * 2, y], 1) @ w, [X, Y, W], 2),
    "reshaped for a product": (
        lambda x, y, w: fnp.stack([x * 2, y], 1).reshape(5, 64) @ w,
        [X, Y, W],
        2,
    ),
    "several results": (
        lambda x, y: (fnp.concatenate([x * 2, y], 1), fnp.concatenate([y + x, x]), x - y),
        [X, Y],
        3,
    ),
    "read again": (
        lambda x, y: (lambda z: (z, z * 2, fnp.sum(z, 1)))(fnp.concatenate([x * 2, y], 1)),
        [X, Y],
        3,
    ),
    "of rows": (
        lambda x, y: fnp.concatenate([x - fnp.max(x, 1, keepdims=True), fnp.sin(y)], 1),
        [X, Y],
        1,
    ),
    "of sums of rows": (
        lambda x, y: fnp.concatenate([fnp.sum(x * y, 1), fnp.max(x + y, 1)]),
        [X, Y],
        1,
    ),
    "of running sums": (lambda x: fnp.concatenate([fnp.cumsum(x, 1), x], 1), [X], 1),
    "of columns": (
        lambda x, y: fnp.concatenate([x * fnp.sum(x, 0), y], 1),
        [X, Y],
        1,
    ),
    "of a product": (lambda x, y: fnp.concatenate([x @ y.T, y @ x.T]), [X, Y], 3),
    "a part that needs another": (
        lambda x, y: fnp.concatenate([(a := x * y), a @ (a.T @ x)], 1),
        [X, Y],
        4,
    ),
    "pieces of one size": (
        lambda x, y: fnp.concatenate([x + 1, fnp.sin(y)], 1),
        [X, array(5, 64)],
        2,
    ),
    "of concatenations": (
        lambda x, y: fnp.stack([fnp.concatenate([x, y], 1), fnp.concatenate([y, x], 1)]),
        [X, Y],
        3,
    ),
    "interleaved again": (
        lambda x, y: mixed(mixed(x, y), mixed(y, x)) * 2,
        [X[0], Y[0]],
        4,
    ),
}


@pytest.mark.parametrize("name", STORED)
def test_parts_are_stored_at_their_places(name: str) -> None:
    f, args, count = STORED[name]
    kernels = joined(f, *args)
    assert not chooses(kernels)
    assert len(kernels) == count


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lambda x, y: fnp.concatenate([x, y], 1) * 2, [X, Y]),
        (lambda x, y: fnp.sum(fnp.concatenate([x, y], 1), 1), [X, Y]),
        (lambda x, y: fnp.concatenate([x, y], 1), [array(5, 3), array(5, 4)]),
        (lambda *xs: fnp.stack(xs), [array(3)] * (MAX_PIECES + 1)),
    ],
    ids=["read by loops", "read by a sum", "no common size", "many"],
)
def test_others_are_views(f: Any, args: list[Any]) -> None:
    assert chooses(joined(f, *args))


def test_empty_parts_are_left_out() -> None:
    kernels = joined(lambda x, y: fnp.concatenate([x[:, :0], x, y[:, 3:3], y], 1), X, Y)
    assert not chooses(kernels)
    assert joined(lambda x: fnp.concatenate([x[:, :0], x[:, :0]], 1), X) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_odd_shapes(axis: int) -> None:
    for shape in [(3, 5, 7), (1, 1, 1), (2, 33, 1), (17, 1, 9)]:
        assert not chooses(joined(lambda x: fnp.concatenate([x * 2, x - 1], axis), array(*shape)))


def test_donated_memory_is_not_read_after_a_part_is_stored() -> None:
    def swap(x: Any) -> Any:
        return fnp.concatenate([x[8:], x[:8]])

    x = array(16)
    out = fd.jit(swap, donate_argnums=0)(fd.device_put(x.copy()))
    np.testing.assert_array_equal(out, np.roll(x, 8))


def test_convolutions_read_what_is_stored() -> None:
    def f(x: Any, y: Any, w: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        joint = fnp.concatenate([fnp.maximum(x, 0), y], 3)
        return lax.conv_general_dilated(joint, w, (1, 1), "SAME", dimension_numbers=numbers)

    kernels = joined(f, array(2, 6, 5, 8), array(2, 6, 5, 8), array(3, 3, 16, 4))
    assert not chooses(kernels)
    assert len(kernels) == 2


def test_with_loops_around() -> None:
    def f(x: Any, y: Any) -> Any:
        def step(c: Any, y: Any) -> Any:
            z = fnp.concatenate([c[32:] * 2, y], 0)
            return z, fnp.stack([y, y + 1])

        return lax.scan(step, x, y)

    joined(f, array(64), array(4, 32))


def test_gradients_of_parts_are_written_where_they_are_computed() -> None:
    def loss(w: Any, x: Any) -> Any:
        i, f, g = fnp.split(x @ w, 3, axis=1)
        return fnp.sum(fnp.tanh(i) * f + g * g)

    kernels = joined(fd.grad(loss), array(6, 24), array(5, 6))
    assert not chooses(kernels)
    assert len(kernels) == 3


@pytest.mark.parametrize(
    ("shapes", "dimension", "wanted"),
    [
        ([(3, 4), (3, 4)], 1, (3, 4)),
        ([(3, 1), (3, 1)], 1, (3, 1)),
        ([(3, 0), (3, 4), (3, 4)], 1, (3, 4)),
        ([(3, 32), (3, 48)], 1, (3, 16)),
        ([(4, 4), (6, 4)], 0, None),
        ([(4, 8), (6, 8)], 0, (2, 8)),
        ([(3, 8), (3, 12)], 1, None),
        ([(3, 4)], 1, None),
        ([(0, 4), (0, 4)], 1, None),
        ([(1, 16), (MAX_PIECES, 16)], 0, None),
    ],
)
def test_shapes_of_pieces(shapes: Any, dimension: int, wanted: Any) -> None:
    assert piece_shape(shapes, dimension) == wanted


@pytest.mark.parametrize("count", [1, 2, 16, 37, 127, 128])
def test_a_level_of_an_associative_scan_reads_stored_ones(count: int) -> None:
    kernels = joined(lambda x: lax.associative_scan(fnp.maximum, x), array(count, 3))
    # Some choices at the start of a level, and at the end of one of odd length.
    assert all(kernel.count("select") <= 5 for kernel in kernels)
    assert len(kernels) <= 4 * math.ceil(math.log2(count)) + 1
