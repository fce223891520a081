"""Declarative rows for elementwise primitives: one call gives a primitive all of its rules.

Every row names exactly one derivative form: `Jvp`, `Linear`, `Bilinear`, `NoDerivative` (zero
almost everywhere) or `NotDifferentiable` (an error that says why).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive, all_weak, never_weak
from funcdl.core.quiet import quietly
from funcdl.core.records import record
from funcdl.core.symbolic_zero import is_linear
from funcdl.errors import DtypeError, ShapeError
from funcdl.kir import elementwise as kernel_table
from funcdl.ops import registry
from funcdl.ops.jvp_rules import bilinear_jvp, jvp_from_rules, linear_jvp, refuse_jvp, zero_jvp
from funcdl.ops.lowering import Pointwise, Rewritten, View
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import broadcast_in_dim, move_to_front

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

NDArray = np.ndarray[Any, Any]
Template = str | Callable[[np.dtype[Any]], str] | None
OutDtype = Literal["same", "bool", "real", "complex"]
KernelRule = Callable[["KernelBuilder", list[int], list[ShapedArray], dict[str, Any]], int]

_KINDS: dict[str, set[np.dtype[Any]]] = {kind: set() for kind in "biufc"}
"""The dtypes of each kind, half precision apart."""
for _dtype in set(dtypes.SUPPORTED) - set(dtypes.HALF):
    _KINDS[dtypes.kind(_dtype)].add(_dtype)

_OUT_DTYPES: dict[str, Callable[[np.dtype[Any]], np.dtype[Any]]] = {
    "same": lambda dtype: dtype,
    "bool": lambda dtype: np.dtype(bool),
    "real": dtypes.real_dtype,
    "complex": lambda dtype: np.result_type(dtype, np.complex64),
}


@record
class Jvp:
    """One rule an operand: ``rule(tangent, output, *primals)``, or None where it has no effect.

    `transpose`, where given, has the meaning of `Primitive.transpose`: for operations such as
    division that are linear in some operand.
    """

    rules: tuple[Callable[..., Any] | None, ...]
    transpose: Callable[..., list[Any]] | None = None


@record
class Linear:
    """Linear in all operands together: the tangent is the operation on the tangents."""

    transpose: Callable[..., list[Any]]


@record
class Bilinear:
    """Linear in either operand: ``rule(cotangent, other operand)`` for each."""

    lhs: Callable[[Any, Any], Any]
    rhs: Callable[[Any, Any], Any]


@record
class NoDerivative:
    """Piecewise constant: the derivative is zero wherever it exists."""


@record
class NotDifferentiable:
    """No derivative is known; asking for one is an error with this reason."""

    reason: str


Derivative = Jvp | Linear | Bilinear | NoDerivative | NotDifferentiable


def elementwise(
    name: str,
    numpy: Callable[..., Any],
    *,
    accepts: tuple[str, ...],
    derivative: Derivative,
    arity: int = 1,
    out: OutDtype = "same",
    c: Template = None,
    triton: Template = None,
    lower: KernelRule | None = None,
    form: Pointwise | View | Rewritten | None = None,
    native_half: bool = False,
    cost: int = 1,
    domain: tuple[float, float] | Sequence[tuple[float, float]] = (-3.0, 3.0),
    samples: registry.SampleMaker | None = None,
    check: Callable[..., None] | None = None,
    order: int = 2,
    ufuncs: Mapping[str, np.ufunc] | None = None,
) -> Primitive:
    """Define an elementwise primitive.

    Half precision is computed in float32, by kernels and by `numpy` alike. Kernels have no complex
    numbers: the compiler writes operations on those as operations on their parts.

    Args:
      name: the primitive's name, as in JAX's jaxprs; also its name in the kernel IR.
      numpy: its meaning on NumPy arrays of equal dtype that broadcast; gets the parameters as
        keywords.
      accepts: short names of the operand dtypes that it takes; all operands share one.
      derivative: its derivative form.
      out: the output's dtype: ``"same"``, ``"bool"``, or the ``"real"`` or ``"complex"`` dtype of
        the same precision.
      c, triton: expression templates (see `kir.elementwise.ElementwiseOp`).
      lower: writes it with other kernel operations: ``lower(builder, values, avals, params)``; by
        default it is the kernel operation of its own name.
      form: how the compiler expresses it, in place of all of these.
      native_half: half precision is not computed in float32, but by `numpy` as it is; `lower` gets
        it as float32, and has to do the same.
      cost: in units of one addition.
      domain: where test operands are drawn from: one range for all, or one for each.
      samples: other test calls than the default ones.
      check: raises an error if the parameters do not fit the operand: ``check(aval, **params)``.
      order: the highest derivative that tests check.
      ufuncs: the functions of NumPy's that `numpy` is for these kinds of dtypes, all parameters
        apart; by default `numpy` itself, for all kinds, if it is such a function.
    """
    primitive = Primitive(name)
    shape = _shape_rule(name, accepts, out, check)
    primitive.shape = shape
    primitive.impl = _reference(numpy, shape, accepts, out, native_half, check is not None)
    if ufuncs is None and isinstance(numpy, np.ufunc) and check is None:
        accepted = frozenset(map(dtypes.from_short_name, accepts))
        ufuncs = {kind: numpy for kind, known in _KINDS.items() if known <= accepted}
    primitive.ufuncs = ufuncs or {}
    primitive.weak = never_weak if out == "bool" else all_weak
    primitive.batch = elementwise_batch(primitive)
    _install_derivative(primitive, derivative, arity)
    if c is not None or triton is not None:
        kernel_table.define(kernel_table.ElementwiseOp(name, arity, numpy, c, triton, cost))
        lower = lower or _by_name(name)
    if lower is not None:
        form = Pointwise(_first_output(lower), lambda: cost)
    primitive.lower = form
    ranges: Any = [domain] * arity if isinstance(domain[0], int | float) else domain
    registry.add(
        Op(
            primitive,
            accepts,
            samples or _default_samples(arity, ranges, _differentiable(derivative)),
            _missing_columns(derivative, form, c, triton),
            order,
        )
    )
    return primitive


def _shape_rule(
    name: str, accepts: tuple[str, ...], out: OutDtype, check: Callable[..., None] | None
) -> Callable[..., ShapedArray]:
    accepted = frozenset(map(dtypes.from_short_name, accepts))

    def shape(*avals: ShapedArray, **params: Any) -> ShapedArray:
        first = avals[0]
        for aval in avals[1:]:
            if aval.shape != first.shape:
                raise ShapeError(
                    f"{name} requires operands of equal shape, got {', '.join(map(str, avals))}.\n"
                    "Primitives do not broadcast; the functions of funcdl.numpy do."
                )
            if aval.dtype != first.dtype:
                raise DtypeError(
                    f"{name} requires operands of equal dtype, got {', '.join(map(str, avals))}.\n"
                    "Primitives do not promote; the functions of funcdl.numpy do."
                )
        if first.dtype not in accepted:
            raise DtypeError(f"{name} does not accept {first}; it takes {', '.join(accepts)}")
        if check is not None:
            check(first, **params)
        return ShapedArray(first.shape, _OUT_DTYPES[out](first.dtype))

    return shape


def _reference(
    numpy: Callable[..., Any],
    shape: Callable[..., ShapedArray],
    accepts: tuple[str, ...],
    out: OutDtype,
    native_half: bool,
    has_check: bool,
) -> Callable[..., NDArray]:
    """The meaning on NumPy arrays, which calls the shape rule only where it may refuse them."""
    accepted = frozenset(map(dtypes.from_short_name, accepts))

    def impl(*arrays: NDArray, **params: Any) -> NDArray:
        first = arrays[0]
        dtype = first.dtype
        for array in arrays[1:]:
            if array.shape != first.shape or array.dtype is not dtype:
                shape(*(ShapedArray(a.shape, a.dtype) for a in arrays), **params)
        if dtype not in accepted or has_check:
            shape(ShapedArray(first.shape, dtype), **params)
        if dtype in dtypes.HALF and not native_half:
            widened: NDArray = quietly(in_float32, *arrays, **params)
            return widened
        result: NDArray = quietly(numpy, *arrays, **params)
        return result

    def in_float32(*arrays: NDArray, **params: Any) -> NDArray:
        result: NDArray = numpy(*(array.astype(np.float32) for array in arrays), **params)
        return result if out == "bool" else result.astype(arrays[0].dtype)

    return impl


def by_kind(**templates: str) -> Callable[[np.dtype[Any]], str]:
    """A template chosen by the dtype's kind.

    The keys are kinds as in ``dtypes.kind``, or several in one word: ``iu="…", f="…"``. The
    templates may use ``{u}``, the short name of the unsigned integer of the same width, ``{i}``,
    that of the signed one, and ``{bits}``, besides those of `ElementwiseOp`.
    """
    table = {kind: text for kinds, text in templates.items() for kind in kinds}

    def template(dtype: np.dtype[Any]) -> str:
        text = table.get(dtypes.kind(dtype))
        if text is None:
            raise NotImplementedError(f"no expression for {dtypes.short_name(dtype)}")
        bits = 8 * dtype.itemsize
        for key, value in (("{u}", f"u{bits}"), ("{i}", f"i{bits}"), ("{bits}", str(bits))):
            text = text.replace(key, value)
        return text

    return template


def elementwise_batch(primitive: Primitive) -> Callable[..., tuple[Any, int]]:
    """The batching rule of any operation on operands of equal shape."""

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[Any, int]:
        first = next(dim for dim in dims if dim is not None)
        if all(dim == first for dim in dims):
            return primitive.bind(*args, **params), first
        args = [
            broadcast_batch(x, axis_size) if dim is None else move_to_front(x, dim)
            for x, dim in zip(args, dims, strict=True)
        ]
        return primitive.bind(*args, **params), 0

    return batch


def broadcast_batch(x: Any, axis_size: int) -> Any:
    """Repeat an unbatched operand along a new leading batch dimension."""
    return broadcast_in_dim(
        x, shape=(axis_size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1))
    )


def _install_derivative(primitive: Primitive, derivative: Derivative, arity: int) -> None:
    match derivative:
        case Jvp(rules, transpose):
            assert len(rules) == arity, primitive.name
            primitive.jvp = jvp_from_rules(primitive, rules)
            primitive.transpose = transpose
        case Linear(transpose):
            primitive.jvp = linear_jvp(primitive)
            primitive.transpose = transpose
        case Bilinear(lhs, rhs):
            primitive.jvp = bilinear_jvp(primitive)
            primitive.transpose = _bilinear_transpose(lhs, rhs)
        case NoDerivative():
            primitive.jvp = zero_jvp(primitive)
        case NotDifferentiable(reason):
            primitive.jvp = refuse_jvp(primitive, reason)


def _bilinear_transpose(
    lhs: Callable[[Any, Any], Any], rhs: Callable[[Any, Any], Any]
) -> Callable[..., list[Any]]:
    def transpose(ct: Any, x: Any, y: Any) -> list[Any]:
        return [lhs(ct, y), None] if is_linear(x) else [None, rhs(ct, x)]

    return transpose


def _by_name(name: str) -> KernelRule:
    return lambda builder, values, avals, params: builder.elementwise(name, *values)


def _first_output(lower: KernelRule) -> Callable[..., int]:
    def rule(
        builder: KernelBuilder,
        values: list[int],
        avals: list[ShapedArray],
        output: int,
        params: dict[str, Any],
    ) -> int:
        return lower(builder, values, avals, params)

    return rule


def _differentiable(derivative: Derivative) -> bool:
    return isinstance(derivative, Jvp | Linear | Bilinear)


def _missing_columns(
    derivative: Derivative, form: Pointwise | View | Rewritten | None, c: Template, triton: Template
) -> dict[str, str]:
    missing = {}
    if isinstance(derivative, NotDifferentiable):
        missing["jvp"] = derivative.reason
    if form is None or (c is None and triton is not None):
        missing["c"] = "runs on the host"
    if form is None:
        missing["triton"] = "runs on the host"
    elif triton is None and c is not None:
        missing["triton"] = "has no Triton expression"
    return missing


def _default_samples(
    arity: int, ranges: Sequence[tuple[float, float]], differentiable: bool
) -> registry.SampleMaker:
    def samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
        grad = tuple(range(arity)) if differentiable and dtypes.is_inexact(dtype) else ()
        for shape in ((), (5,), (3, 7), (2, 0)):
            args = tuple(random_array(rng, shape, dtype, low, high) for low, high in ranges)
            yield Sample(args, {}, grad)

    return samples
