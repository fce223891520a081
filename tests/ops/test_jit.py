"""Every primitive under jit: on the reference back end, and compiled to C."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.ops.special_values import assert_same_values, special_samples
from tests.ops.table import OPS, assert_close, cases, outputs, reason_missing, samples

from funcdl.compiler.cpu import target  # noqa: F401  (registers the back end)
from funcdl.compiler.cpu.executable import CpuExecutable
from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.ops.linalg.common import LAPACK, LAPACK_IF_LARGE, OWN
from funcdl.ops.registry import Sample
from funcdl.runtime.toolchain import find_compiler
from funcdl.transforms import jit

NDArray = np.ndarray[Any, Any]
Results = dict[str, list[tuple[Sample, list[Any]]]]

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def program_of(calls: dict[str, list[Sample]]) -> tuple[Any, Any]:
    """All calls of all primitives as one jitted function, and its argument."""

    def program(operands: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[list[Any]]]:
        return {
            name: [
                outputs(OPS[name].primitive(*args, **sample.params))
                for args, sample in zip(operands[name], found, strict=True)
            ]
            for name, found in calls.items()
        }

    operands = {name: [tuple(map(Array, s.args)) for s in calls[name]] for name in calls}
    return jit(program), operands


def run_jitted(calls: dict[str, list[Sample]], backend: str) -> Results:
    """The outputs of all calls, from one program, since most of the time is the compiler's."""
    program, operands = program_of(calls)
    with config.override(backend=backend):
        results = program(operands)
    if backend == "cpu":
        (entry,) = program._entries.values()
        assert isinstance(entry.executable, CpuExecutable)
    return {name: list(zip(calls[name], results[name], strict=True)) for name in calls}


# The gradient of softmax subtracts a mean, which C has from the result, rounded to its dtype.
CANCELLING = {"attention_gradient": 4.0}

# Programs that look at keys run on the reference back end, with all else that is in them.
ON_REFERENCE = {"key_use"}


def failures(calls: dict[str, list[Sample]]) -> dict[str, Exception]:
    """Which primitives cannot be lowered, so that one's failure is not that of all."""
    errors: dict[str, Exception] = {}
    for name, found in calls.items():
        program, operands = program_of({name: found})
        try:
            with config.override(backend="cpu"):
                program.lower(operands).as_text("c")
        except Exception as error:
            errors[name] = error
    return errors


@cache
def compiled(dtype: str, special: bool) -> tuple[Results, dict[str, Exception]]:
    """The results of everything that takes a dtype, from C, and what could not be lowered."""
    find = special_samples if special else samples
    calls = {name: list(find(name, dtype)) for name, op in OPS.items() if dtype in op.dtypes}
    calls = {name: found for name, found in calls.items() if found}
    apart = run_jitted({name: calls.pop(name) for name in ON_REFERENCE & calls.keys()}, "reference")
    try:
        return run_jitted(calls, "cpu") | apart, {}
    except Exception:
        errors = failures(calls)
        if not errors:
            raise
    good = {name: found for name, found in calls.items() if name not in errors}
    return run_jitted(good, "cpu") | apart, errors


def compiled_calls(name: str, dtype: str, special: bool) -> list[tuple[Sample, list[Any]]]:
    results, errors = compiled(dtype, special)
    if name in errors:
        raise errors[name]
    return results[name]


def check_compiled(name: str, dtype: str) -> None:
    for sample, found in compiled_calls(name, dtype, False):
        wanted = outputs(OPS[name].primitive.impl(*sample.args, **sample.params))
        for x, y in zip(found, wanted, strict=True):
            assert x.dtype == np.asarray(y).dtype
            assert_close(x, y, 8, x.dtype, CANCELLING.get(name, 0.0))


def check_special(name: str, dtype: str) -> None:
    if not special_samples(name, dtype):
        return
    for sample, (found, *_) in compiled_calls(name, dtype, True):
        wanted = np.asarray(OPS[name].primitive.impl(*sample.args, **sample.params))
        eps = 0.0
        if dtypes.is_inexact(wanted.dtype):
            eps = float(dtypes.finfo(dtypes.real_dtype(wanted.dtype)).eps)
        # Near the zeros of these, rounding errors of the terms remain.
        zero = 8 * eps if name in ("lgamma", "digamma") else 0.0
        assert_same_values(found.value, wanted, 16 * eps, f"{name} {sample.params}", zero)


@pytest.mark.parametrize("name", sorted(OPS))
def test_jit_on_the_reference_back_end_agrees_with_eager(name: str) -> None:
    op = OPS[name]
    dtype = "f32" if "f32" in op.dtypes else op.dtypes[0]
    for sample, found in run_jitted({name: list(samples(name, dtype))}, "reference")[name]:
        eager = outputs(op.primitive(*map(Array, sample.args), **sample.params))
        for x, y in zip(found, eager, strict=True):
            assert x.aval == y.aval
            assert_close(x, y, 2, x.dtype)


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), cases())
def test_c_agrees_with_reference(name: str, dtype: str) -> None:
    check_compiled(name, dtype)


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), cases())
def test_c_agrees_with_reference_on_special_values(name: str, dtype: str) -> None:
    check_special(name, dtype)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), cases(slow=True))
def test_c_agrees_with_reference_for_other_dtypes(name: str, dtype: str) -> None:
    check_compiled(name, dtype)
    check_special(name, dtype)


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), cases())
def test_what_c_lacks_runs_on_the_host(name: str, dtype: str) -> None:
    reason = reason_missing(name, dtype, "c")
    sample = next(s for s in samples(name, dtype) if all(x.size for x in s.args))
    f = jit(lambda *xs: OPS[name].primitive(*xs, **sample.params))
    with config.override(backend="cpu"):
        lowered = f.lower(*map(Array, sample.args))
    words = [line.split()[0] for line in lowered.as_text("kernels").splitlines() if line]
    is_call = name == "fft" or reason in [each["c"] for each in (OWN, LAPACK, LAPACK_IF_LARGE)]
    # The simplifier may leave nothing of an identity.
    assert not words or ("host" in words) == (reason is not None and not is_call), (reason, words)
