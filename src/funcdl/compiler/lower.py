"""The pass `lower`: a fusion group to kernels, by pulling each stored value through its equations.

The compiler asks for the value of a variable at an index; equations answer by asking for their
operands. Answers are kept by (variable, index), so that the work is linear in the group's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from funcdl.compiler.fusion.by_parts import pieces, shifted
from funcdl.compiler.fusion.fuse import Grouping, contraction_dtype
from funcdl.compiler.fusion.groups import Group, Parts, domain_axes
from funcdl.compiler.fusion.reads import operand_position
from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, Eqn, Literal, Var
from funcdl.core.source import SourceLine
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.index import Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Conv,
    Dot,
    DotPrecision,
    Kernel,
    Reduce,
    ReduceOp,
    Role,
    Store,
)
from funcdl.ops.dot import dot_dimensions
from funcdl.ops.lowering import (
    Accumulation,
    Contraction,
    Correlation,
    Ordering,
    Pointwise,
    Position,
    Reduction,
    Update,
    View,
    WindowReduction,
    compute_dtype,
)
from funcdl.ops.shape import flat_index, position_in
from funcdl.ops.windows.convolution import convolution_of
from funcdl.ops.windows.lowering import convolution_loops


class LoweredKernel:
    """A kernel, the variable behind each of its buffers, and the user's line it stands for."""

    __slots__ = ("kernel", "source", "variables")

    def __init__(
        self, kernel: Kernel, variables: Mapping[str, Var], source: SourceLine | None = None
    ) -> None:
        self.kernel = kernel
        self.source = source
        self.variables = tuple(variables[buffer.name] for buffer in kernel.buffers)

    @property
    def names(self) -> dict[str, Var]:
        """The variables by the names of their buffers."""
        pairs = zip(self.kernel.buffers, self.variables, strict=True)
        return {buffer.name: var for buffer, var in pairs}


def lower(grouping: Grouping, group: Group, name: str) -> list[LoweredKernel]:
    """The kernels of a group: one, or a copy and an update for a scatter."""
    if group.kind == "update":
        return _lower_update(grouping, group, name)
    lowering = _Lowering(grouping, group, name)
    for eqn in group.members:
        for var in eqn.outvars:
            if var in group.by_parts:
                lowering.store_parts(eqn, group.by_parts[var])
            elif var not in grouping.inlined and not dtypes.is_complex(var.aval.dtype):
                lowering.value(var, group.placement[var])
    for var in group.outputs:
        if var.aval.size and var not in group.by_parts:
            lowering.store(var, group.placement[var])
    return [lowering.build()]


def _lower_update(grouping: Grouping, group: Group, name: str) -> list[LoweredKernel]:
    (eqn,) = group.members
    (out,) = eqn.outvars
    form = eqn.primitive.lower
    assert isinstance(form, Update)
    axes, position = domain_axes(out.aval.shape)
    copy = _Lowering(grouping, group, f"{name}_copy", axes)
    copy.store_value(out, position, copy.value(eqn.invars[0], position))
    update = _Lowering(grouping, group, name)
    reader = _EqnReader(update, eqn, None)
    target, mask = form.rule(reader, group.position, eqn.params)
    value = update.value(eqn.invars[2], group.position, mask)
    buffer = update.buffer_of(out, "inout")
    flat = flat_index(target, out.aval.shape)
    value = update.stored_form(value, out.aval.dtype)
    mask = update.at_every_point(flat, value, mask)
    update.builder.atomic_update(form.op, buffer, flat, value, mask)
    return [copy.build(), update.build()]


class _Lowering:
    """One kernel being written."""

    def __init__(
        self,
        grouping: Grouping,
        group: Group,
        name: str,
        axes: Sequence[tuple[str, int]] | None = None,
    ) -> None:
        self.builder = KernelBuilder(name)
        self._grouping = grouping
        self._group = group
        self._members = {var: eqn for eqn in group.members for var in eqn.outvars}
        self._memo: dict[tuple[Var, Position, int | None], int] = {}
        self._buffers: dict[Var, str] = {}
        self._variables: dict[str, Var] = {}
        for axis_name, extent in group.axes if axes is None else axes:
            self.builder.axis(axis_name, extent)

    def build(self) -> LoweredKernel:
        return LoweredKernel(_without_dead_axes(self.builder.build()), self._variables)

    def value(self, atom: Atom, index: Position, mask: int | None = None) -> int:
        """The value of an atom at an index, in the dtype that kernels compute in."""
        if isinstance(atom, Literal):
            dtype = compute_dtype(atom.aval.dtype)
            return self.builder.const(atom.value.value.astype(dtype).item(), dtype)
        if atom.aval.size == 1:
            # The only element may be read whatever the mask says, and is then computed once for
            # the whole kernel, not by every point that asks for it.
            index, mask = tuple(kindex.constant(0) for _ in index), None
        key = (atom, index, mask)
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = self._compute(atom, index, mask)
        return known

    def store(self, var: Var, index: Position) -> None:
        if dtypes.is_complex(var.aval.dtype):
            self._store_parts_of_number(var, index)
        else:
            self.store_value(var, index, self.value(var, index))

    def _store_parts_of_number(self, var: Var, index: Position) -> None:
        """Write the real and the imaginary parts of complex numbers side by side."""
        flat = flat_index(index, var.aval.shape)
        for number, part in enumerate(self._members[var].invars):
            value = self.value(part, operand_position(part, index))
            self.builder.store(self.buffer_of(var, "out"), flat * 2 + number, value)

    def part(self, var: Var, index: Position, number: int, mask: int | None) -> int:
        """One of the parts of complex numbers in memory."""
        if var.aval.size == 0:
            return self.builder.const(0, dtypes.real_dtype(var.aval.dtype))
        flat = flat_index(index, var.aval.shape)
        return self.builder.load(self.buffer_of(var), flat * 2 + number, mask)

    def store_value(self, var: Var, index: Position, value: int) -> None:
        """Write the value of a variable at an index to its buffer."""
        flat = flat_index(index, var.aval.shape)
        form = self.stored_form(value, var.aval.dtype)
        self.builder.store(self.buffer_of(var, "out"), flat, form)

    def store_parts(self, eqn: Eqn, parts: Parts) -> None:
        """Write what a concatenation joins, each piece at its place."""
        (out,), dimension = eqn.outvars, eqn.params["dimension"]
        for piece in pieces(eqn, parts.shape):
            value = self.value(piece.operand, shifted(parts.position, dimension, piece.start))
            self.store_value(out, shifted(parts.position, dimension, piece.place), value)

    def stored_form(self, value: int, dtype: np.dtype) -> int:
        """A value in the dtype of the memory that it goes to."""
        return self.builder.cast(value, dtype)

    def at_every_point(self, index: Index, value: int, mask: int | None) -> int | None:
        """A mask with which an update happens at every point.

        By itself it happens once for each point that its index, value and mask vary over.
        """
        builder = self.builder
        used = set(index.axes())
        for id in (value, *index.values(), *(() if mask is None else (mask,))):
            used |= set(builder.type_of(id).axes)
        unused = [axis for axis in self._group.axes if axis[0] not in used]
        place = kindex.combine([(kindex.axis(*axis), 1) for axis in unused])
        if place.is_constant:
            return mask
        # Always true, which the builder does not see through.
        point = builder.index_value(place, np.int64)
        zero = builder.elementwise("xor", point, point)
        always = builder.elementwise("eq", zero, builder.const(0, np.int64))
        return always if mask is None else builder.elementwise("and", mask, always)

    def buffer_of(self, var: Var, role: Role = "in") -> str:
        """The buffer that holds a variable, named after it; complex numbers are two elements."""
        name = self._buffers.get(var)
        if name is None:
            name = self._buffers[var] = self._grouping.buffer_names[var]
            self._variables[name] = var
            dtype, size = var.aval.dtype, var.aval.size
            if dtypes.is_complex(dtype):
                dtype, size = dtypes.real_dtype(dtype), 2 * size
            self.builder.buffer(name, dtype, size, role)
        return name

    def _compute(self, var: Var, index: Position, mask: int | None) -> int:
        eqn = self._grouping.inlined.get(var)
        if eqn is None and var in self._members and self._group.kind != "update":
            eqn = self._members[var]
        if eqn is None and var.aval.size == 0:
            # Read at no point, and at no valid index.
            return self.builder.const(0, compute_dtype(var.aval.dtype))
        if eqn is None:
            flat = flat_index(index, var.aval.shape)
            value = self.builder.load(self.buffer_of(var), flat, mask)
            return self.builder.cast(value, compute_dtype(var.aval.dtype))
        match eqn.primitive.lower:
            case View(rule):
                return rule(_EqnReader(self, eqn, mask), index, eqn.params)
            case Pointwise(rule):
                values = [
                    self.value(atom, operand_position(atom, index), mask) for atom in eqn.invars
                ]
                avals = [atom.aval for atom in eqn.invars]
                number = eqn.outvars.index(var)
                return rule(self.builder, values, avals, number, eqn.params)
            case Reduction(op):
                return self._reduction(eqn, op, index)
            case Accumulation(op):
                axis, _ = self._group.axes[eqn.params["axis"]]
                arg = self.value(eqn.invars[0], self._group.position)
                return self.builder.running(op, arg, axis, eqn.params["reverse"])
            case Ordering():
                axis, _ = self._group.axes[eqn.params["dimension"]]
                keys = [self.value(key, self._group.position) for key in eqn.invars]
                return self.builder.order(keys, axis, eqn.params["descending"], eqn.params["first"])
            case Contraction():
                return self._contraction(eqn)
            case Correlation():
                return self._convolution(eqn)
            case WindowReduction() as form:
                return self._windows(eqn, form, index)
            case _:
                raise AssertionError(eqn.primitive.name)

    def _reduction(self, eqn: Eqn, op: ReduceOp, index: Position) -> int:
        group = self._group
        assert group.reduce_dims is not None
        value = self.value(eqn.invars[0], group.position)
        axes = [group.axes[d][0] for d in group.reduce_dims]
        reduced = self.builder.reduce(op, value, axes)
        # Positions (argmax) are found as int32, whatever type was asked for.
        return self.builder.cast(reduced, compute_dtype(eqn.outvars[0].aval.dtype))

    def _contraction(self, eqn: Eqn) -> int:
        lhs, rhs = eqn.invars
        dims = dot_dimensions(lhs.aval.shape, rhs.aval.shape, eqn.params["dimension_numbers"])
        *batch, m, n, k = (kindex.axis(name, extent) for name, extent in self._group.axes)
        m_index, n_index = position_in(m, dims.m_sizes), position_in(n, dims.n_sizes)
        k_index = position_in(k, dims.k_sizes)
        lhs_index = _scatter(
            len(lhs.aval.shape), (dims.lhs_batch, batch), (dims.m, m_index), (dims.lhs_k, k_index)
        )
        rhs_index = _scatter(
            len(rhs.aval.shape), (dims.rhs_batch, batch), (dims.n, n_index), (dims.rhs_k, k_index)
        )
        out_dtype = eqn.outvars[0].aval.dtype
        dtype = contraction_dtype(eqn)
        left = self.builder.cast(self.value(lhs, lhs_index), dtype)
        right = self.builder.cast(self.value(rhs, rhs_index), dtype)
        if self._group.kind == "dot":
            product = self.builder.dot(left, right, "m", "n", "k", _precision(eqn))
        else:
            product = self.builder.reduce(
                "sum", self.builder.elementwise("mul", left, right), ["k"]
            )
        return self.builder.cast(product, compute_dtype(out_dtype))

    def _convolution(self, eqn: Eqn) -> int:
        lhs, rhs = eqn.invars
        conv = convolution_of(lhs.aval, rhs.aval, eqn.params)
        loops = convolution_loops(conv, eqn.params["batch_group_count"] > 1)
        out_dtype = eqn.outvars[0].aval.dtype
        dtype = contraction_dtype(eqn)
        left = self.builder.cast(self.value(lhs, loops.lhs), dtype)
        right = self.builder.cast(self.value(rhs, loops.rhs), dtype)
        result = self.builder.conv(
            left, right, "n", "co", "ci", loops.slides, _precision(eqn), _direct(eqn)
        )
        return self.builder.cast(result, compute_dtype(out_dtype))

    def _windows(self, eqn: Eqn, form: WindowReduction, index: Position) -> int:
        group = self._group
        assert group.reduce_dims is not None
        axes = [group.axes[d][0] for d in group.reduce_dims]
        place = tuple(group.position[d] for d in group.reduce_dims)
        reader = _EqnReader(self, eqn, None)
        return form.rule(
            reader, index, place, lambda op, value: self.builder.reduce(op, value, axes), eqn.params
        )


def _without_dead_axes(kernel: Kernel) -> Kernel:
    """Drop axes without positions that nothing varies over any more, such as those of a reduction
    that was folded away: their loops would store nothing."""
    if all(axis.extent for axis in kernel.axes):
        return kernel
    used: set[str] = set()
    for instruction in kernel.body:
        match instruction:
            case Store() | AtomicUpdate():
                used |= set(instruction.index.axes())
            case Dot() | Conv():
                return kernel
            case Reduce(axes=reduced):
                used |= {*instruction.type.axes, *reduced}
            case _:
                used |= set(instruction.type.axes)
    axes = tuple(axis for axis in kernel.axes if axis.extent or axis.name in used)
    return replace(kernel, axes=axes)


class _EqnReader:
    """Reads the operands of one equation, under the mask of whoever asked for its output."""

    def __init__(self, lowering: _Lowering, eqn: Eqn, mask: int | None) -> None:
        self._lowering = lowering
        self._eqn = eqn
        self._mask = mask

    @property
    def builder(self) -> KernelBuilder:
        return self._lowering.builder

    def read(self, operand: int, index: Position, mask: int | None = None) -> int:
        if mask is None:
            mask = self._mask
        elif self._mask is not None:
            mask = self.builder.elementwise("and", self._mask, mask)
        return self._lowering.value(self._eqn.invars[operand], index, mask)

    def part(self, operand: int, index: Position, number: int) -> int:
        var = self._eqn.invars[operand]
        assert isinstance(var, Var), "literals are parted by the compiler"
        return self._lowering.part(var, index, number, self._mask)

    def aval(self, operand: int) -> ShapedArray:
        return self._eqn.invars[operand].aval

    @property
    def out_aval(self) -> ShapedArray:
        return self._eqn.outvars[0].aval


def _precision(eqn: Eqn) -> DotPrecision:
    """What a product may round its factors to: what was asked for, else what is configured."""
    asked: DotPrecision | None = eqn.params["precision"]
    return config.matmul_precision if asked is None else asked


def _direct(eqn: Eqn) -> bool:
    """Whether the highest precision was asked for, or is configured where nothing was asked for."""
    asked: DotPrecision | None = eqn.params["precision"]
    if asked is None:
        return config.default_matmul_precision in ("highest", "float32")
    return asked == "ieee"


def _scatter(ndim: int, *parts: tuple[Sequence[int], Sequence[kindex.Index]]) -> Position:
    """An index of `ndim` dimensions from (dimensions, indices) pairs."""
    index: list[kindex.Index] = [kindex.constant(0)] * ndim
    for dims, places in parts:
        for d, place in zip(dims, places, strict=True):
            index[d] = place
    return tuple(index)


def describe_kernel(group: Group) -> str:
    """A name that says what a group computes: ``dot_add_max``."""
    names: list[str] = []
    for eqn in group.members:
        name = eqn.primitive.name.removeprefix("reduce_").removesuffix("_general")
        if not names or names[-1] != name:
            names.append(name)
    if len(names) > 4:
        names = [*names[:3], names[-1]]
    return "_".join(names)


def is_empty(group: Group) -> bool:
    """Whether a group stores no element at all."""
    return all(math.prod(var.aval.shape) == 0 for var in group.outputs)
