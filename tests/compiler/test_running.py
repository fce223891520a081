"""Programs that accumulate and sort: native throughout, and the same as NumPy's results."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.config import config
from funcdl.runtime.toolchain import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

Array = np.ndarray[Any, np.dtype[Any]]
X = np.linspace(-1, 1, 8 * 16, dtype=np.float32).reshape(8, 16)


def softmax_of_sums(x: Any) -> Any:
    shifted = fnp.cumsum(fnp.exp(x), axis=1)
    return fnp.log(shifted) * x


def top_sums(x: Any) -> Any:
    values, places = lax.top_k(fnp.exp(x), 3)
    return fnp.sum(values, axis=1), places


def gradient_of_cumprod(x: Any) -> Any:
    return fd.grad(lambda x: fnp.sum(fnp.cumprod(x + 2, axis=0) * x))(x)


def sums_in_a_loop(x: Any) -> Any:
    def step(total: Any, row: Any) -> tuple[Any, Any]:
        total = total + fnp.cumsum(fnp.sort(row))
        return total, fnp.argsort(total)

    return lax.scan(step, x[0], x)


# Each program, and how many kernels it takes; None where that is no matter.
PROGRAMS: dict[str, tuple[Callable[..., Any], int | None]] = {
    "a scan between elementwise operations": (softmax_of_sums, 1),
    "two scans in one direction": (lambda x: fnp.cumprod(fnp.cumsum(x, 1), 1), 1),
    "two scans in two directions": (
        lambda x: lax.cumsum(lax.cummax(x, 1), 1, reverse=True),
        2,
    ),
    "log of a sum of exponentials": (lambda x: lax.cumlogsumexp(x * 2, 0), 1),
    "sort, then elementwise operations": (lambda x: fnp.exp(fnp.sort(x, axis=0)), 1),
    "sort and argsort": (lambda x: (fnp.sort(x), fnp.argsort(x)), 1),
    "sort of several operands": (lambda x: lax.sort((x, x + 1, x * 2), num_keys=2), None),
    "median": (lambda x: fnp.median(x, axis=1), None),
    "the largest": (top_sums, None),
    "gradient of a sort": (fd.grad(lambda x: fnp.sum(fnp.sort(x)[:, 3] * 2)), None),
    "gradient of a product": (gradient_of_cumprod, None),
    "a batch": (fd.vmap(lambda row: fnp.cumsum(fnp.sort(row))), None),
    "within a loop": (sums_in_a_loop, None),
    "nothing": (lambda x: (fnp.cumsum(x[:0], 1), fnp.sort(x[:, :0]), lax.top_k(x, 0)), None),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_needs_the_host(name: str) -> None:
    f, count = PROGRAMS[name]
    with config.override(backend="cpu"):
        lowered = fd.jit(f).lower(X)
    text = lowered.as_text("kernels")
    assert not [line for line in text.splitlines() if line.startswith("host")]
    if count is not None:
        assert text.count("kernel k") == count, text


@needs_compiler
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_programs_agree_with_eager(name: str) -> None:
    f, _ = PROGRAMS[name]
    with config.override(backend="cpu"):
        found = fd.tree.leaves(fd.jit(f)(X))
    for got, want in zip(found, fd.tree.leaves(f(X)), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), 2e-5, 2e-5)


@needs_compiler
def test_one_call_runs_everything() -> None:
    with config.override(backend="cpu"):
        text = fd.jit(lambda x: fnp.cumsum(fnp.sort(x @ x.T), 0)).lower(X).as_text("c")
    assert text.count("int64_t funcdl_run(void **slots) {") == 1
    assert "fd_sort_by_u32(" in text


@needs_compiler
def test_a_donated_argument_is_accumulated_in_its_own_memory() -> None:
    f = fd.jit(lambda x: x * fnp.cumsum(x, axis=0), donate_argnums=0)
    with config.override(backend="cpu"):
        memory = f.lower(X).compile().memory_analysis()
        assert memory.alias_size_in_bytes == X.nbytes
        np.testing.assert_allclose(f(fnp.array(X)), X * np.cumsum(X, 0), 1e-5, 1e-6)


@cache
def sums(axis: int, reverse: bool) -> Any:
    return fd.jit(lambda x: lax.cumsum(x, axis=axis, reverse=reverse))


@cache
def sorts(axis: int) -> Any:
    return fd.jit(lambda x: (fnp.sort(x, axis=axis), fnp.argsort(x, axis=axis)))


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reverse", [False, True])
def test_logarithms_of_sums_of_near_and_far_numbers(dtype: Any, reverse: bool) -> None:
    """Rows whose elements are near each other have a way of their own."""
    f = fd.jit(lambda x: lax.cumlogsumexp(x, axis=1, reverse=reverse))
    for scale in (1, 30, 300, 3000):
        x = (np.random.default_rng(0).standard_normal((6, 333)) * scale).astype(dtype)
        x[0, 5], x[1, 70], x[2, :100], x[3, 200], x[4, 3] = np.nan, np.inf, -np.inf, -np.inf, 1e4
        rows = x[:, ::-1] if reverse else x
        with np.errstate(all="ignore"):
            want = np.logaddexp.accumulate(rows.astype(np.longdouble), 1).astype(dtype)
        with config.override(backend="cpu"):
            found = np.asarray(f(x))
        tolerance = 20 * np.finfo(dtype).eps
        want = want[:, ::-1] if reverse else want
        np.testing.assert_allclose(found, want, tolerance, tolerance)


# Few shapes, since each is compiled; their rows are of less and of more than a few elements.
SHAPES = [(3, 7), (70, 2), (2, 90)]


@needs_compiler
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(SHAPES).flatmap(
        lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(-(2**31), 2**31 - 1))
    ),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_running_integers_wrap_around(x: Array, axis: int, reverse: bool) -> None:
    with config.override(backend="cpu"):
        found = np.asarray(sums(axis, reverse)(x))
    rows = np.flip(x, axis) if reverse else x
    want = np.cumsum(rows, axis, dtype=np.int32)
    np.testing.assert_array_equal(found, np.flip(want, axis) if reverse else want)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SHAPES).flatmap(
        lambda shape: hnp.arrays(
            np.float32,
            shape,
            elements=st.one_of(
                st.floats(width=32, allow_nan=True),
                st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, float("nan")]),
            ),
        )
    ),
    st.sampled_from([0, 1]),
)
def test_sorting_is_that_of_numpy(x: Array, axis: int) -> None:
    with config.override(backend="cpu"):
        values, places = map(np.asarray, sorts(axis)(x))
    np.testing.assert_array_equal(places, np.argsort(x, axis, kind="stable"))
    # Bit for bit, but for which NaN it is.
    want = np.take_along_axis(x, places, axis)
    np.testing.assert_array_equal(values, want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(values[numbers]), np.signbit(want[numbers]))


@needs_compiler
def test_results_have_the_same_bits_for_any_number_of_threads() -> None:
    x = np.random.default_rng(0).standard_normal((64, 2000)).astype(np.float32)
    f = fd.jit(lambda x: (fnp.cumsum(x, 0), fnp.cumsum(x, 1), fnp.sort(x), fnp.argsort(x, axis=0)))
    with config.override(backend="cpu"):
        found = []
        for threads in (1, 3):
            with config.override(num_threads=threads):
                found.append([np.asarray(y).tobytes() for y in f(x)])
    assert found[0] == found[1]


def rows_with_ties(dtype: np.dtype[Any], length: int) -> Array:
    """Random rows of few values, rows in order and reversed, and rows of ends of the range."""
    rng = np.random.default_rng(length)
    drawn = rng.integers(0, 9, (2, length))
    rising = np.sort(rng.integers(0, 120, length))
    x = np.stack([*drawn, rising, rising[::-1], np.full(length, 7)]).astype(dtype)
    if dtype.kind == "b":
        return x
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        ends = np.array([info.min, info.max], dtype)
    else:
        ends = np.array([np.nan, -np.inf, -0.0, 0.0, np.inf, -np.nan], dtype)
    mostly_least = np.where(rng.random(length) < 0.02, ends[-1], ends[0 if len(ends) == 2 else 1])
    return np.concatenate([x, rng.choice(ends, (2, length)), mostly_least[None].astype(dtype)])


# Rows that are searched for each position, that are sorted in pieces, and as a whole.
FIRST = [(1, 1), (8, 2), (8, 8), (100, 5), (70, 64), (545, 3), (3000, 40), (1500, 65)]


@needs_compiler
@pytest.mark.parametrize("dtype", ["b1", "i1", "u2", "i4", "u8", "f2", "f4", "f8"])
def test_the_largest_come_first_of_rows_and_columns(dtype: str) -> None:
    def largest(*xs: Any) -> Any:
        both = zip(xs, FIRST, strict=True)
        return [(lax.top_k(x, k), lax.top_k(x.T, k, axis=0)) for x, (_, k) in both]

    xs = [rows_with_ties(np.dtype(dtype), length) for length, _ in FIRST]
    with fd.config.override(x64="on"):
        found = fd.tree.map(np.asarray, fd.jit(largest)(*xs))
    for x, (length, k), ((values, places), turned) in zip(xs, FIRST, found, strict=True):
        wide = x.astype(np.float64 if x.dtype.kind in "bf" else x.dtype)
        wanted = length - 1 - np.flip(np.argsort(np.flip(wide, 1), 1, kind="stable"), 1)[:, :k]
        np.testing.assert_array_equal(places, wanted)
        np.testing.assert_array_equal(values, np.take_along_axis(x, wanted, 1))
        np.testing.assert_array_equal(turned[1], wanted.T)


@needs_compiler
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("n", [13, 31, 47, 64, 300])
def test_rows_of_small_integers(n: int, dtype: str) -> None:
    """Also of lengths for which gcc chooses where a row is on the stack, and its instructions."""
    x = np.arange(3 * n).reshape(3, n).astype(dtype)
    with config.override(backend="cpu"):
        found = fd.jit(lambda x: fnp.cumsum(x, axis=1))(x)
    np.testing.assert_array_equal(found, np.cumsum(x, axis=1, dtype=dtype))
