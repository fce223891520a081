"""Every primitive that has a rule, on its own samples: onnxruntime beside the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.onnx.models import checked, onnxruntime, run, session, without_bfloat16
from tests.ops.special_values import assert_same_values, special_samples
from tests.ops.table import OPS, assert_close, function_of, outputs, quick_dtypes, samples

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.errors import MissingRuleError
from funcdl.onnx import export, translate
from funcdl.ops.registry import Sample

NAMES = sorted(name for name in OPS if translate.has_form(name))
CASES = [
    (name, dtype)
    for name in NAMES
    for dtype in OPS[name].dtypes
    if not dtypes.is_complex(dtypes.from_short_name(dtype))
    and (name != "pow" or dtypes.is_float(dtypes.from_short_name(dtype)))
]
QUICK = [(name, dtype) for name, dtype in CASES if dtype in quick_dtypes(OPS[name])]

# What onnxruntime's CPUs have no kernel for, though the standard has the operator.
NOT_THERE = {
    (name, "f64")
    for name in (
        *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cosh", "erf", "erfc"),
        *("sinh", "tan"),
    )
}

# Where values cancel that the two compute with different rounding errors.
TERMS = {"attention_gradient": 4.0}
ULPS = 8


def is_refused(name: str, sample: Sample) -> bool:
    """Whether the parameters or dtypes of a call are some that have no form."""
    params, dtype = sample.params, sample.args[0].dtype if sample.args else None
    if name == "pow":
        return dtypes.is_integer(dtype)
    if name == "convert_element_type":
        return dtypes.is_complex(params["new_dtype"])
    if name == "bitcast_convert_type":
        is_float = dtypes.is_float(dtype) or dtypes.is_float(params["new_dtype"])
        return is_float and dtype != params["new_dtype"]
    if name == "reduce_precision":
        info, wanted = dtypes.finfo(dtype), (params["exponent_bits"], params["mantissa_bits"])
        kept = wanted[0] >= info.iexp and wanted[1] >= info.nmant
        return not kept and (wanted != (8, 7) or dtype != np.float32)
    return False


def is_undefined(name: str, sample: Sample) -> bool:
    """Whether the standard leaves the result open (docs/deployment.md lists these)."""
    x = sample.args[0] if sample.args else np.zeros(())
    if not dtypes.is_float(x.dtype):
        return False
    if name == "convert_element_type" and dtypes.is_integer(sample.params["new_dtype"]):
        info = np.iinfo(sample.params["new_dtype"])
        wide = x.astype(np.float64)
        return not bool(np.all((wide > info.min - 1.0) & (wide < info.max + 1.0)))
    has_nan = bool(np.isnan(x).any())
    if name == "top_k":  # by their places
        return has_nan and bool(np.isposinf(x).any())
    return name in ("argmax", "argmin") and has_nan


def program_of(name: str, calls: Sequence[Sample]) -> tuple[Callable[..., Any], Any]:
    """All calls as one function, and its argument: bfloat16 goes in and out as float32."""

    def program(operands: list[list[Any]]) -> list[list[Any]]:
        made = []
        for args, sample in zip(operands, calls, strict=True):
            given = [x.astype(like.dtype) for x, like in zip(args, sample.args, strict=True)]
            outs = outputs(OPS[name].primitive(*given, **sample.params))
            made.append([without_bfloat16(x) for x in outs])
        return made

    return program, [[Array(without_bfloat16(x)) for x in sample.args] for sample in calls]


def results(name: str, calls: Sequence[Sample]) -> list[tuple[Sample, list[Any], list[Any]]]:
    """For each call what onnxruntime and what the reference computes."""
    program, operands = program_of(name, calls)
    found = iter(run(checked(export(program, operands)), operands))
    triples = []
    for sample in calls:
        outs = outputs(OPS[name].primitive.impl(*sample.args, **sample.params))
        wanted = [np.asarray(y) for y in outs]
        triples.append((sample, [next(found) for _ in wanted], wanted))
    return triples


def defined(name: str, calls: Sequence[Sample]) -> list[Sample]:
    return [s for s in calls if not is_refused(name, s) and not is_undefined(name, s)]


def check(name: str, dtype: str) -> None:
    calls = defined(name, list(samples(name, dtype)))
    if (name, dtype) in NOT_THERE:
        program, operands = program_of(name, calls)
        model = checked(export(program, operands))
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented):
            session(model)
        return
    for _, found, wanted in results(name, calls):
        for x, y in zip(found, wanted, strict=True):
            assert x.dtype == without_bfloat16(y).dtype
            assert_close(x, y, ULPS, y.dtype, TERMS.get(name, 0.0))


@pytest.mark.parametrize(("name", "dtype"), QUICK)
def test_agrees_with_reference(name: str, dtype: str) -> None:
    check(name, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [case for case in CASES if case not in QUICK])
def test_agrees_with_reference_for_other_dtypes(name: str, dtype: str) -> None:
    check(name, dtype)


def check_special(name: str, dtype: str) -> None:
    calls = defined(name, special_samples(name, dtype))
    for sample, found, wanted in results(name, calls) if calls else ():
        eps = 0.0
        if dtypes.is_inexact(wanted[0].dtype):
            eps = float(dtypes.finfo(wanted[0].dtype).eps)
        # As a difference, erfc has the error of erf; onnxruntime's sigmoid has that of tanh.
        zero = 4 * eps if name in ("erfc", "logistic") else 0.0
        # A power of a huge number, whose logarithm has an error of its own.
        ulps = 64 if name == "cbrt" else 16
        assert_same_values(
            found[0].astype(wanted[0].dtype), wanted[0], ulps * eps, f"{name} {sample.params}", zero
        )


def has_special(name: str, dtype: str) -> bool:
    return (name, dtype) not in NOT_THERE and bool(defined(name, special_samples(name, dtype)))


@pytest.mark.parametrize(("name", "dtype"), [case for case in QUICK if has_special(*case)])
def test_agrees_on_special_values(name: str, dtype: str) -> None:
    check_special(name, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [case for case in CASES if case not in QUICK and has_special(*case)]
)
def test_agrees_on_special_values_for_other_dtypes(name: str, dtype: str) -> None:
    check_special(name, dtype)


@pytest.mark.parametrize("name", sorted(OPS))
def test_what_has_no_form_is_refused(name: str) -> None:
    """Each primitive, or call of one, without a form, and everything complex."""
    tried = 0
    for dtype in OPS[name].dtypes:
        calls = list(samples(name, dtype))
        is_complex = dtypes.is_complex(dtypes.from_short_name(dtype))
        whole = name not in NAMES or is_complex
        refused = (
            calls[:1] if whole else [s for s in calls if is_refused(name, s) and s.args[0].size][:3]
        )
        for sample in refused:
            tried += 1
            argument = any(dtypes.is_complex(x.dtype) for x in sample.args)
            message = r"argument values\[\d\] is c" if argument else f"  {name}, at .*table.py:"
            with pytest.raises(MissingRuleError, match=message):
                export(
                    function_of(name, sample, tuple(range(len(sample.args)))),
                    *map(Array, sample.args),
                )
    assert tried or (name in NAMES)
