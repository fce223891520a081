"""The registry as test cases: every primitive on its own samples."""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from funcdl import ops
from funcdl.compiler.rewrite.split_complex import is_split
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.kir import elementwise as kernel_table
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Elementwise
from funcdl.ops import (
    arithmetic,
    bits,
    comparison,
    complex_parts,
    exponential,
    registry,
    rounding,
    select,
    trigonometric,
)
from funcdl.ops.lowering import Loop, Pointwise, compute_dtype, reason_for_host
from funcdl.ops.registry import Op, Sample
from funcdl.ops.special import error_functions as special

NDArray = np.ndarray[Any, Any]

for _module in pkgutil.walk_packages(ops.__path__, "funcdl.ops."):
    importlib.import_module(_module.name)

OPS: dict[str, Op] = registry.ops()

ELEMENTWISE: dict[str, Primitive] = {
    value.name: value
    for module in (
        arithmetic,
        bits,
        comparison,
        complex_parts,
        exponential,
        rounding,
        special,
        trigonometric,
    )
    for value in vars(module).values()
    if isinstance(value, Primitive) and value is not select.select_n
}
"""The primitives that `rows.elementwise` defines, but for those that `tests/special` covers."""

QUICK_DTYPES = ("bool", "i32", "u8", "bf16", "f32", "c64")
"""What runs by default; the slow tests run all dtypes."""


def cases(*, slow: bool = False) -> list[tuple[str, str]]:
    """Pairs of primitive and dtype; with `slow`, those that the others leave out."""
    return [
        (name, dtype)
        for name, op in sorted(OPS.items())
        for dtype in op.dtypes
        if (dtype not in quick_dtypes(op)) == slow
    ]


def quick_dtypes(op: Op) -> list[str]:
    """The dtypes of a primitive that run by default: one at least."""
    return [name for name in QUICK_DTYPES if name in op.dtypes] or [op.dtypes[0]]


def samples(name: str, dtype: str) -> Iterator[Sample]:
    """The primitive's test calls, the same ones on every run."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {dtype}".encode()))
    return OPS[name].samples(rng, dtypes.from_short_name(dtype))


def differentiable(sample: Sample) -> tuple[int, ...]:
    """The operands that can be differentiated."""
    return tuple(i for i in sample.grad if dtypes.is_inexact(sample.args[i].dtype))


def function_of(name: str, sample: Sample, positions: tuple[int, ...]) -> Callable[..., Any]:
    """The call as a function of some of its operands, the others fixed."""
    primitive = OPS[name].primitive

    def call(*values: Any) -> Any:
        args: list[Any] = [Array(x) for x in sample.args]
        for i, value in zip(positions, values, strict=True):
            args[i] = value
        return primitive(*args, **sample.params)

    return call


def outputs(result: Any) -> list[Any]:
    """The outputs of a primitive as a list."""
    return list(result) if isinstance(result, list | tuple) else [result]


def reason_missing(name: str, dtype: str, column: str) -> str | None:
    """Why a primitive lacks a column for a dtype, or None."""
    op = OPS[name]
    if column in op.missing:
        return op.missing[column]
    form = op.primitive.lower
    if column not in ("c", "triton") or isinstance(form, Loop):
        return None
    if is_by_parts(name, dtype) or form is None:  # what has no form is listed, or a pass writes it
        return None
    reason = reason_for_host(form, [dtypes.from_short_name(dtype)])
    if reason:
        return reason
    if isinstance(form, Pointwise):
        for operation, argument in _kernel_operations(name, dtype):
            if not _has_template(operation, column, argument):
                return f"{operation} has no expression"
    return None


def is_by_parts(name: str, dtype: str) -> bool:
    """Whether a primitive is computed by the real and imaginary parts of its operands or result."""
    is_complex = dtypes.is_complex(dtypes.from_short_name(dtype))
    return is_split(name) and (is_complex or name == "complex")


def _kernel_operations(name: str, dtype: str) -> set[tuple[str, np.dtype[Any]]]:
    """The elementwise kernel operations that a primitive becomes, and the dtypes of their operands.

    That of the first sample; other parameters use the same operations.
    """
    primitive = OPS[name].primitive
    sample = next(samples(name, dtype))
    avals = [ShapedArray(x.shape, x.dtype) for x in sample.args]
    builder = KernelBuilder("k")
    values = [
        builder.load(
            builder.buffer(f"x{i}", compute_dtype(aval.dtype), 1, "in"), kindex.constant(0)
        )
        for i, aval in enumerate(avals)
    ]
    out = primitive.lower.rule(builder, values, avals, 0, sample.params)
    stored = builder.buffer("out", builder.type_of(out).dtype, 1, "out")
    builder.store(stored, kindex.constant(0), out)
    kernel = builder.build()
    return {
        (instruction.name, kernel.value_type(instruction.args[0]).dtype)
        for instruction in kernel.body
        if isinstance(instruction, Elementwise)
    }


def _has_template(operation: str, column: str, dtype: np.dtype[Any]) -> bool:
    template = getattr(kernel_table.lookup(operation), column)
    if callable(template):
        try:
            template(dtype)
        except NotImplementedError:
            return False
    return template is not None


def assert_close(
    found: Any, wanted: Any, ulps: float, dtype: np.dtype[Any], terms: float = 0.0
) -> None:
    """Compare within some units in the last place of `dtype`, of the largest element.

    `terms`: the size of terms that cancel in the results, and leave their rounding errors.
    """
    x, y = np.asarray(found), np.asarray(wanted)
    assert x.shape == y.shape
    if not dtypes.is_inexact(x.dtype):
        np.testing.assert_array_equal(x, y)
        return
    x, y = x.astype(np.complex128), y.astype(np.complex128)
    finite = np.isfinite(y)
    scale = max(terms, np.abs(y[finite]).max(initial=0.0))
    tolerance = ulps * float(dtypes.finfo(dtypes.real_dtype(dtype)).eps)
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale)
