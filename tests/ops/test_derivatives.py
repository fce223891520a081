"""Derivatives of every primitive against finite differences, in both modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.table import (
    OPS,
    assert_close,
    differentiable,
    function_of,
    outputs,
    reason_missing,
    samples,
)

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.primitive import Primitive
from funcdl.errors import MissingRuleError, NotDifferentiableError
from funcdl.ops import arithmetic, comparison, complex_parts, select
from funcdl.ops.registry import Sample
from funcdl.test_util import check_grads
from funcdl.transforms import grad, jvp, vjp

WIDE = ("f64", "c128")


def array(values: Any, dtype: Any = np.float64) -> Array:
    return Array(np.asarray(values, dtype))


def differentiable_samples(name: str, dtype: str) -> list[Sample]:
    return [s for s in samples(name, dtype) if differentiable(s)]


def check_sample(name: str, sample: Sample) -> None:
    positions = differentiable(sample)
    f = function_of(name, sample, positions)
    check_grads(f, [Array(sample.args[i]) for i in positions], OPS[name].order)


def smallest(found: list[Sample]) -> list[Sample]:
    """Of each set of parameters the sample with the fewest elements (but some)."""
    best: dict[str, Sample] = {}
    for sample in sorted(found, key=lambda s: sum(x.size for x in s.args)):
        if all(x.size for x in sample.args):
            best.setdefault(f"{sample.params} {[x.ndim > 0 for x in sample.args]}", sample)
    return list(best.values())


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if "f64" in op.dtypes))
def test_derivatives_agree_with_differences(name: str, dtype: str) -> None:
    if dtype not in OPS[name].dtypes or reason_missing(name, dtype, "jvp"):
        return
    for sample in smallest(differentiable_samples(name, dtype))[:4]:
        check_sample(name, sample)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if "f64" in op.dtypes))
def test_derivatives_of_all_samples(name: str, dtype: str) -> None:
    if dtype not in OPS[name].dtypes or reason_missing(name, dtype, "jvp"):
        return
    for sample in differentiable_samples(name, dtype):
        check_sample(name, sample)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "c64"])
@pytest.mark.parametrize("name", sorted(OPS))
def test_narrow_derivatives_agree_with_double_precision(name: str, dtype: str) -> None:
    """Dtypes of tangents and cotangents, and their values within what the dtype can hold."""
    if dtype not in OPS[name].dtypes or reason_missing(name, dtype, "jvp"):
        return
    narrow = dtypes.from_short_name(dtype)
    wide = np.dtype(np.complex128 if dtypes.is_complex(narrow) else np.float64)
    for sample in smallest(differentiable_samples(name, dtype))[:3]:
        if any(isinstance(value, np.dtype) for value in sample.params.values()):
            continue
        args = tuple(x.astype(wide) if x.dtype == narrow else x for x in sample.args)
        found = derivatives(name, sample)
        wanted = derivatives(name, Sample(args, sample.params, sample.grad))
        for x, y in zip(found, wanted, strict=True):
            assert dtypes.real_dtype(x.dtype) == dtypes.real_dtype(narrow)
            assert_close(x, y, 100, narrow)


def derivatives(name: str, sample: Sample) -> list[Any]:
    """The tangents of all outputs and the cotangents of all operands, along ones."""
    positions = differentiable(sample)
    call = function_of(name, sample, positions)

    def f(*xs: Any) -> Any:
        out = call(*xs)
        return [x for x in out if dtypes.is_inexact(x.dtype)] if isinstance(out, list) else out

    primals = [Array(sample.args[i]) for i in positions]
    ones = [Array(np.ones(x.shape, x.dtype)) for x in primals]
    out, tangents = jvp(f, primals, ones)
    _, pullback = vjp(f, *primals)
    units = [Array(np.ones(x.shape, x.dtype)) for x in outputs(out)]
    cts = pullback(units if isinstance(out, list | tuple) else units[0])
    for x, primal in zip(cts, primals, strict=True):
        assert (x.shape, x.dtype) == (primal.shape, primal.dtype)
    for x, y in zip(outputs(tangents), outputs(out), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
    return [*outputs(tangents), *cts]


def test_missing_derivatives_are_refused_with_the_reason() -> None:
    refused = 0
    for name, op in OPS.items():
        reason = op.missing.get("jvp")
        if reason is None:
            continue
        sample = next(samples(name, "f32" if "f32" in op.dtypes else op.dtypes[0]))
        if not sample.args:
            assert reason == "has no operands"
            continue
        f = function_of(name, sample, (0,))
        with pytest.raises((NotDifferentiableError, MissingRuleError), match=reason):
            jvp(f, [Array(sample.args[0])], [Array(np.ones_like(sample.args[0]))])
        refused += 1
    assert refused


def test_piecewise_constant_primitives_have_zero_derivatives() -> None:
    x = array([0.3, -1.7])
    for name in ("floor", "ceil", "sign"):
        _, tangent = jvp(OPS[name].primitive, [x], [array([1.0, 1.0])])
        assert tangent.tolist() == [0.0, 0.0]
    _, tangent = jvp(lambda v: comparison.lt(v, v), [x], [x])
    assert tangent.dtype == dtypes.float0


@pytest.mark.parametrize("primitive", [arithmetic.max_, arithmetic.min_])
def test_ties_share_the_derivative(primitive: Primitive) -> None:
    x = array([1.0, 2.0, np.nan])
    _, pullback = vjp(primitive, x, array([1.0, 5.0, 1.0]))
    left, right = pullback(array([1.0, 1.0, 1.0]))
    wins = 0.0 if primitive is arithmetic.max_ else 1.0
    assert left.tolist() == [0.5, wins, 0.0]
    assert right.tolist() == [0.5, 1 - wins, 0.0]


def test_derivatives_at_the_edges() -> None:
    assert grad(arithmetic.abs_)(array(0.0)).item() == 1.0
    assert grad(arithmetic.pow_)(array(0.0), array(0.0)).item() == 0.0
    assert grad(arithmetic.pow_)(array(0.0), array(1.0)).item() == 1.0
    assert grad(arithmetic.pow_, 1)(array(0.0), array(2.0)).item() == 0.0
    zero = array(0.0, np.complex128)
    assert vjp(arithmetic.abs_, zero)[1](array(1.0))[0].item() == 0
    assert vjp(arithmetic.sign, zero)[1](zero)[0].item() == 0


def test_scalar_bounds_of_clamp_gather_their_cotangents() -> None:
    _, pullback = vjp(select.clamp, array(-1.0), array([-2.0, 0.0, 3.0, 4.0]), array(1.0))
    low, x, high = pullback(array([1.0, 2.0, 3.0, 4.0]))
    assert (low.item(), x.tolist(), high.item()) == (1.0, [0.0, 2.0, 0.0, 0.0], 7.0)


def test_check_grads_finds_wrong_rules() -> None:
    def broken(rule: Any, transpose: Any = None) -> Primitive:
        primitive = Primitive("broken")
        primitive.impl = np.sin
        primitive.shape = lambda x: x
        primitive.jvp = rule
        primitive.transpose = transpose
        return primitive

    cos = OPS["cos"].primitive

    def right(primals: Any, tangents: Any) -> Any:
        return sine(*primals), arithmetic.mul(tangents[0], cos(*primals))

    sine = broken(right)
    check_grads(sine, [array([0.3, 1.0])], order=3)

    wrong = broken(lambda p, t: (sine(*p), arithmetic.mul(t[0], sine(*p))))
    for mode, message in (("fwd", "^jvp is off"), ("rev", "^vjp is off")):
        with pytest.raises(AssertionError, match=message):
            check_grads(wrong, [array([0.3, 1.0])], modes=[mode])

    # Right at first order, where the wrong rule is not yet used.
    def late(primals: Any, tangents: Any) -> Any:
        return sine(*primals), arithmetic.mul(tangents[0], wrong_cosine(*primals))

    wrong_cosine = broken(lambda p, t: (cos(*p), arithmetic.mul(t[0], sine(*p))))
    wrong_cosine.impl = np.cos
    check_grads(broken(late), [array([0.3, 1.0])], order=1)
    with pytest.raises(AssertionError, match=r"jvp of jvp is off"):
        check_grads(broken(late), [array([0.3, 1.0])], order=2)


def test_check_grads_pairs_complex_numbers_without_conjugates() -> None:
    z = array([1 + 2j, -0.5 + 0.3j], np.complex128)
    check_grads(lambda x: arithmetic.mul(complex_parts.conj(x), x), [z], order=2)
    check_grads(lambda x: arithmetic.square(arithmetic.abs_(x)), [z], order=2)
    with pytest.raises(ValueError, match="modes"):
        check_grads(arithmetic.neg, [z], modes=["both"])
