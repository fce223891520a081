"""Convolutions and their gradients in C, in the IR's interpreter, and on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.convolutions import TABLE, Case, error, random_case
from tests.compiler.run import interpret, pipeline_of
from tests.kernels.c_harness import OTHERS

import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.control.scan import scan
from funcdl.core.array import Array
from funcdl.kernels.cpu_c.isa import compile_flags
from funcdl.kernels.cpu_c.program import native as native_programs
from funcdl.kir.convolution import conv_as_dot, find_conv
from funcdl.runtime.toolchain import find_compiler
from funcdl.transforms import jit, make_jaxpr
from funcdl.transforms.derivatives import vjp

NDArray = np.ndarray[Any, Any]
MOST = 4.0  # roundings

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def all_three(case: Case, lhs: Any, rhs: Any, ct: Any) -> tuple[Any, Any, Any]:
    """The convolution, and the gradients of its inner product with `ct`."""
    out, pull = vjp(case, lhs, rhs)
    return (out, *pull(ct))


def arguments(case: Case, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    lhs, rhs = case.operands(rng)
    ct = rng.normal(size=case.reference(lhs, rhs).shape).astype(case.dtype)
    return lhs, rhs, ct


def wanted(case: Case, args: Sequence[NDArray]) -> list[NDArray]:
    """All three in double precision, from the reference."""
    with config.override(x64="on"):
        wide = [Array(x.astype(np.float64)) for x in args]
        return [np.asarray(x.value, np.float64) for x in all_three(case, *wide)]


def check(case: Case, args: Sequence[NDArray], found: Sequence[Any]) -> None:
    lhs, _, ct = args
    lengths = (1, max(ct.size // max(lhs.size, 1), 1), max(ct.size, 1))
    for which, x, y, more in zip(
        ("out", "lhs", "rhs"), found, wanted(case, args), lengths, strict=True
    ):
        assert error(x, y, case) <= MOST * np.sqrt(more), (which, case)


def native(lowered: Any) -> bool:
    return "host" not in [
        line.split()[0] for line in lowered.as_text("kernels").split("\n") if line
    ]


Arguments = tuple[NDArray, NDArray, NDArray]


@cache
def program_of(seed: int | None) -> tuple[dict[str, Case], Callable[..., Any]]:
    """The table (or random cases by a seed), and one program for all of it."""
    cases = TABLE
    if seed is not None:
        rng = np.random.default_rng(seed)
        cases = {str(number): random_case(rng) for number in range(24)}

    def program(operands: dict[str, tuple[Any, Any, Any]]) -> dict[str, Any]:
        return {name: all_three(cases[name], *given) for name, given in operands.items()}

    return cases, jit(program)


def run(seed: int | None, args: dict[str, Arguments]) -> dict[str, Any]:
    _, f = program_of(seed)
    operands = {name: tuple(map(Array, given)) for name, given in args.items()}
    with config.override(backend="cpu", x64="on"):
        assert native(f.lower(operands))
        results: dict[str, Any] = f(operands)
    return results


@cache
def compiled(seed: int | None) -> dict[str, tuple[Case, Arguments, Any]]:
    """All cases with random arguments, and what is found for them."""
    cases, _ = program_of(seed)
    args = {name: arguments(case) for name, case in cases.items()}
    results = run(seed, args)
    return {name: (case, args[name], results[name]) for name, case in cases.items()}


@needs_compiler
@pytest.mark.parametrize("name", TABLE)
def test_c_agrees_with_the_reference(name: str) -> None:
    check(*compiled(None)[name])


@needs_compiler
@pytest.mark.parametrize("seed", [0, 1])
def test_random_convolutions_in_c(seed: int) -> None:
    for case, args, found in compiled(seed).values():
        check(case, args, found)


@needs_compiler
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("which", [1, 2])
def test_padding_is_zero_or_nothing_beside_what_is_not_finite(which: int, value: float) -> None:
    """A weight or cotangent spoils what it meets elements for; beside padding alone it may give the
    NaN that a product with zero is, or count for nothing."""
    args = {name: arguments(case) for name, case in TABLE.items()}
    for operands in args.values():
        operands[which].reshape(-1)[:1] = value
    results = run(None, args)
    depend = [0, 1] if which == 1 else [1, 2]
    for name, case in TABLE.items():
        there = [np.ones_like(x) for x in args[name]]
        there[which][...] = ~np.isfinite(args[name][which])
        meets, expected = wanted(case, there), wanted(case, args[name])
        for at in depend:
            found, met = np.asarray(results[name][at].value), meets[at] > 0
            special = ~np.isfinite(found)
            assert special[met].all(), name
            assert np.isnan(expected[at][special & ~met]).all(), name
            infinite = np.isinf(expected[at])
            np.testing.assert_array_equal(found[infinite], expected[at][infinite], name)


def kernels_of(case: Case, args: Sequence[NDArray]) -> Any:
    with config.override(x64="on"):
        closed = make_jaxpr(lambda *xs: all_three(case, *xs))(*map(Array, args))
        return pipeline_of(closed)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_interpreter_agrees_with_the_reference(seed: int) -> None:
    case = random_case(np.random.default_rng(seed))
    args = arguments(case)
    check(case, args, interpret(kernels_of(case, args), args))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_as_a_product_of_matrices_it_is_the_same(seed: int) -> None:
    """What renderers without a convolution of their own render, run by the interpreter."""
    from funcdl.kir.check.checker import check as check_kernel
    from funcdl.kir.interpreter import interpret as run_kernel

    case = random_case(np.random.default_rng(seed))
    args = arguments(case)
    for step in kernels_of(case, args).steps:
        for lowered in step:
            kernel = lowered.kernel
            if find_conv(kernel) is None:
                continue
            rng = np.random.default_rng(seed)
            given = {b.name: rng.normal(size=b.size).astype(b.dtype) for b in kernel.buffers}
            direct = {name: x.copy() for name, x in given.items()}
            run_kernel(kernel, direct)
            spelled = conv_as_dot(kernel)
            assert find_conv(spelled) is None
            check_kernel(spelled)
            run_kernel(spelled, given)
            for name, x in given.items():
                np.testing.assert_allclose(x, direct[name], rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_single(dtype: str) -> None:
    from funcdl.core import dtypes

    half = np.dtype(dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(np.float16)
    case = TABLE["3x3, many features"]
    lhs, rhs, ct = (x.astype(half) for x in arguments(case))
    with config.override(backend="cpu"):
        f = jit(lambda *xs: all_three(case, *xs))
        assert native(f.lower(Array(lhs), Array(rhs), Array(ct)))
        found = f(Array(lhs), Array(rhs), Array(ct))
    for x, y in zip(found, wanted(case, (lhs, rhs, ct)), strict=True):
        assert x.dtype == half
        step = float(dtypes.finfo(half).eps)
        np.testing.assert_allclose(
            np.asarray(x.value, np.float64), y, rtol=step, atol=step * 1e-2 * np.abs(y).max()
        )


@needs_compiler
def test_integers_and_wider_results() -> None:
    rng = np.random.default_rng(0)
    case = TABLE["strided"]
    lhs, rhs = (rng.integers(-9, 9, x.shape).astype(np.int32) for x in case.operands(rng))
    with config.override(backend="cpu"):
        f = jit(case)
        assert native(f.lower(Array(lhs), Array(rhs)))
        found = f(Array(lhs), Array(rhs))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found.value, case.reference(lhs, rhs))


@needs_compiler
@pytest.mark.parametrize(
    "name",
    [
        *("3x3", "strided", "spread", "depthwise", "1-D, long"),
        *("3x3, many features", "3x3, odd tiles", "tiles", "tiles, odd"),
    ],
)
def test_the_same_bits_on_any_number_of_threads(name: str) -> None:
    case = TABLE[name]
    args = tuple(map(Array, arguments(case)))
    f = jit(lambda *xs: all_three(case, *xs))
    bits = []
    for threads in (1, 2, 4):
        with config.override(backend="cpu", num_threads=threads):
            bits.append([x.value.tobytes() for x in f(*args)])
    assert bits[0] == bits[1] == bits[2]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("isa", OTHERS)
def test_other_instruction_sets(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        native_programs, "compile_flags", lambda **kinds: compile_flags(isa, **kinds)
    )
    for case, args, found in compiled.__wrapped__(None).values():
        check(case, args, found)


@needs_compiler
@pytest.mark.parametrize(
    "name", ["3x3, many features", "strided", "spread", "depthwise", "1-D", "tiles, odd"]
)
def test_what_follows_is_computed_in_the_same_kernel(name: str) -> None:
    """Scale, shift, activation and residual, as after a batch norm: one kernel."""
    case = TABLE[name]
    rng = np.random.default_rng(0)
    lhs, rhs = case.operands(rng)
    out = case.reference(lhs, rhs)
    scale, shift = (rng.normal(size=out.shape[-1]).astype(np.float32) for _ in range(2))
    residual = rng.normal(size=out.shape).astype(np.float32)

    def layer(lhs: Any, rhs: Any, scale: Any, shift: Any, residual: Any) -> Any:
        return fnp.maximum(case(lhs, rhs) * scale + shift, 0) + residual

    args = [Array(x) for x in (lhs, rhs, scale, shift, residual)]
    with config.override(backend="cpu"):
        f = jit(layer)
        kernels = f.lower(*args).as_text("kernels")
        found = f(*args)
    assert kernels.count("kernel k") == 1 and " conv %" in kernels
    assert error(found, np.maximum(out * scale + shift, 0) + residual, case) <= MOST


@needs_compiler
@pytest.mark.parametrize(
    "name", ["3x3", "3x3, odd tiles", "depthwise", "first layer", "tiles, odd"]
)
def test_a_step_against_the_gradient_is_in_its_kernel(name: str) -> None:
    """With momentum: the sums of one task or of several, and two arrays as large as the kernel."""
    case = TABLE[name]
    lhs, rhs, ct = arguments(case)
    momentum = np.random.default_rng(1).normal(size=rhs.shape).astype(np.float32)

    def step(lhs: Any, rhs: Any, ct: Any, momentum: Any) -> tuple[Any, Any]:
        gradient = vjp(lambda k: case(lhs, k), rhs)[1](ct)[0]
        momentum = 0.5 * momentum + gradient
        return momentum, rhs - 2 * momentum

    args = [Array(x) for x in (lhs, rhs, ct, momentum)]
    with config.override(backend="cpu"):
        f = jit(step)
        kernels = f.lower(*args).as_text("kernels")
        new, moved = f(*args)
    assert kernels.count("kernel k") == 1 and " conv %" in kernels
    gradient = wanted(case, (lhs, rhs, ct))[2]
    found = np.asarray(new.value, np.float64) - 0.5 * momentum
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())
    np.testing.assert_array_equal(np.asarray(moved.value), rhs - 2 * np.asarray(new.value))


@needs_compiler
def test_a_loop_of_convolutions_is_native() -> None:
    case = Case(2, 6, 6, (5, 7), (3, 3), padding=((1, 1), (1, 1)))
    lhs, rhs = case.operands(np.random.default_rng(0))
    with config.override(backend="cpu"):
        f = jit(lambda x, w: scan(lambda x, _: (case(x, w), None), x, None, length=3)[0])
        assert native(f.lower(Array(lhs), Array(rhs)))
        found = f(Array(lhs), Array(rhs))
    wanted = lhs
    for _ in range(3):
        wanted = case.reference(wanted, rhs)
    np.testing.assert_allclose(found.value, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
