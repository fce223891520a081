"""One element of each row, read or written at a computed place: as operations that fuse.

The cross-entropy of labels reads the label's logit of each row, and its gradient adds to it. As a
gather and a scatter, both end a fusion group: log-probabilities are stored for the gather to read
one of each row, and the scatter fills an array with zeros, and adds to one of each row. But

* a gather of what is computed element by element is computed from gathered operands, and
* a scatter into zeros is a choice: where the position is the label's, the update, else zero.
  The sum along such a row, which a gradient of log-probabilities needs, is the update.

With these, a loss and its gradient are one kernel over rows. The price of the choice is a
comparison for each element.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.ops.arithmetic import add, div, max_, min_, mul, neg, sub
from funcdl.ops.comparison import eq, lt
from funcdl.ops.convert import convert_element_type
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.reduction import reduce_sum
from funcdl.ops.scatter import scatter_add
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, iota, reshape
from funcdl.ops.slicing import concatenate

# NaN in gives NaN out, so that what a gather fills in for missing elements stays.
_KEEP_NAN = frozenset([add, sub, mul, div, neg, convert_element_type])


def fuse_one_per_row(program: ClosedJaxpr) -> ClosedJaxpr:
    """Replace gathers and scatters of one element of each row."""
    return _Rewriter(program).run()


class _Rewriter:
    def __init__(self, program: ClosedJaxpr) -> None:
        self._program = program
        self._makers = {v: eqn for eqn in program.jaxpr.eqns for v in eqn.outvars}
        self._eqns: list[Eqn] = []
        self._changed = False
        # Rows with one element: its place, it, and whether its place is sure to be in the row.
        self._alone: dict[Var, tuple[Var, Atom, bool]] = {}

    def run(self) -> ClosedJaxpr:
        for eqn in self._program.jaxpr.eqns:
            made = None
            if eqn.primitive is gather:
                made = self._gathered(eqn)
            elif eqn.primitive is scatter_add:
                made = self._chosen(eqn)
            elif eqn.primitive is reduce_sum:
                made = self._summed(eqn)
            if made is None:
                self._eqns.append(eqn)
                continue
            self._changed = True
            # The last equation made gives the result.
            last = self._eqns.pop()
            self._eqns.append(last.replace(outvars=eqn.outvars))
        if not self._changed:
            return self._program
        return ClosedJaxpr(
            self._program.jaxpr.replace(eqns=tuple(self._eqns)), self._program.consts
        )

    def _maker(self, x: Atom) -> Eqn | None:
        """The equation that computes `x`; None of inputs and literals."""
        return self._makers.get(x) if isinstance(x, Var) else None

    def _emit(self, like: Eqn, primitive: Primitive, *operands: Atom, **params: Any) -> Var:
        (aval,) = primitive.output_avals([atom.aval for atom in operands], params)
        out = Var(aval)
        self._eqns.append(Eqn(primitive, operands, [out], params, like.source))
        return out

    # Gathers

    def _gathered(self, eqn: Eqn) -> Var | None:
        operand = eqn.invars[0]
        names, params = eqn.params["dimension_numbers"], eqn.params
        shape = operand.aval.shape
        fills = params["mode"] is GatherScatterMode.FILL_OR_DROP
        if (
            not dtypes.is_float(operand.aval.dtype)
            or (fills and params["fill_value"] is not None)
            or any(size != 1 for size in params["slice_sizes"])
            or eqn.outvars[0].aval.size != math.prod(shape[:-1])
            or not self._is_one_per_row(
                eqn,
                names.start_index_map,
                names.operand_batching_dims,
                names.start_indices_batching_dims,
            )
            or self._inner(operand) is None
        ):
            return None
        return self._picked(eqn, operand)

    def _inner(self, x: Atom) -> Eqn | None:
        """The equation that computes `x` by element from one array and row-wise values."""
        eqn = self._maker(x)
        if eqn is None or eqn.primitive not in _KEEP_NAN:
            return None
        if not all(dtypes.is_float(atom.aval.dtype) for atom in eqn.invars):
            return None
        if eqn.primitive is convert_element_type and self._maker(eqn.invars[0]) is None:
            return None  # an input is converted wherever it is read
        return eqn if sum(self._row_wise(atom) is None for atom in eqn.invars) <= 1 else None

    def _row_wise(self, x: Atom) -> Eqn | None:
        """What spreads `x` over rows, if it is the same all along each row."""
        eqn = self._maker(x)
        if eqn is None or eqn.primitive is not broadcast_in_dim:
            return None
        (operand,) = eqn.invars
        dims = eqn.params["broadcast_dimensions"]
        last = len(x.aval.shape) - 1
        along = last in dims and operand.aval.shape[dims.index(last)] != 1
        return None if along else eqn

    def _picked(self, like: Eqn, x: Atom) -> Var:
        """One element of each row of `x`, in the shape of the gather's result."""
        out = like.outvars[0].aval.shape
        eqn = self._inner(x)
        if eqn is None:
            return self._emit(like, gather, x, like.invars[1], **like.params)
        operands: list[Atom] = []
        for atom in eqn.invars:
            spread = self._row_wise(atom)
            if spread is None:
                operands.append(self._picked(like, atom))
            else:
                operands.append(self._spread(like, spread, out))
        return self._emit(like, eqn.primitive, *operands, **eqn.params)

    def _spread(self, like: Eqn, eqn: Eqn, out: tuple[int, ...]) -> Var:
        """A broadcast's operand at one element of each row."""
        (operand,) = eqn.invars
        shape, dims = eqn.outvars[0].aval.shape, eqn.params["broadcast_dimensions"]
        rows = shape[:-1]
        kept = tuple(d for d in dims if d < len(rows))
        sizes = tuple(operand.aval.shape[dims.index(d)] for d in kept)
        found = operand
        if sizes != operand.aval.shape:
            found = self._emit(like, reshape, found, new_sizes=sizes)
        found = self._emit(like, broadcast_in_dim, found, shape=rows, broadcast_dimensions=kept)
        return self._emit(like, reshape, found, new_sizes=out)

    # Scatters

    def _chosen(self, eqn: Eqn) -> Var | None:
        zeros, indices, updates = eqn.invars
        names, shape = eqn.params["dimension_numbers"], zeros.aval.shape
        if (
            len(shape) < 2
            or np.iinfo(indices.aval.dtype).max < shape[-1]
            or updates.aval.size != math.prod(shape[:-1])
            or not self._is_zero(zeros)
            or not self._is_one_per_row(
                eqn,
                names.scatter_dims_to_operand_dims,
                names.operand_batching_dims,
                names.scatter_indices_batching_dims,
            )
        ):
            return None
        label = self._labels(indices)
        rows = shape[:-1]
        label = self._emit(eqn, reshape, label, new_sizes=rows)
        dtype = label.aval.dtype
        clipped = eqn.params["mode"] is GatherScatterMode.CLIP
        if clipped:
            for primitive, bound in ((max_, 0), (min_, shape[-1] - 1)):
                label = self._emit(eqn, primitive, label, self._full(eqn, bound, label))
        every = tuple(range(len(rows)))

        def spread(x: Atom) -> Var:
            return self._emit(eqn, broadcast_in_dim, x, shape=shape, broadcast_dimensions=every)

        positions = self._emit(eqn, iota, dimension=len(rows), dtype=dtype, shape=shape)
        here = self._emit(eqn, eq, spread(label), positions)
        update = self._emit(eqn, reshape, updates, new_sizes=rows)
        self._alone[eqn.outvars[0]] = label, updates, clipped
        return self._emit(eqn, select_n, here, zeros, spread(update))

    def _summed(self, eqn: Eqn) -> Var | None:
        """The sum along rows with one element: that, where its place is one of the row's."""
        x, negated = eqn.invars[0], False
        while (maker := self._maker(x)) is not None and maker.primitive is neg:
            x, negated = maker.invars[0], not negated
        last = len(x.aval.shape) - 1
        if not isinstance(x, Var) or x not in self._alone or eqn.params["axes"] != (last,):
            return None
        label, updates, inside = self._alone[x]
        # So few operations that readers compute it: the opposite of an opposite is none.
        while (maker := self._maker(updates)) is not None:
            if maker.primitive is neg:
                negated = not negated
            elif maker.primitive is not reshape:
                break
            updates = maker.invars[0]
        found = self._emit(eqn, reshape, updates, new_sizes=label.aval.shape)
        if not inside:
            unsigned = np.dtype(f"u{label.aval.dtype.itemsize}")
            if unsigned != label.aval.dtype:  # what is negative becomes large
                params = {"new_dtype": unsigned, "weak_type": False}
                label = self._emit(eqn, convert_element_type, label, **params)
            test = self._emit(eqn, lt, label, self._full(eqn, x.aval.shape[last], label))
            found = self._emit(eqn, select_n, test, self._full(eqn, 0, found), found)
        return self._emit(eqn, neg, found) if negated else found

    def _full(self, like: Eqn, value: int, x: Var) -> Var:
        """An array of one value, of the shape and type of another."""
        literal = Literal(Array(np.asarray(value, x.aval.dtype)))
        shape = x.aval.shape
        return self._emit(like, broadcast_in_dim, literal, shape=shape, broadcast_dimensions=())

    def _is_zero(self, x: Atom) -> bool:
        eqn = self._maker(x)
        if eqn is None or eqn.primitive is not broadcast_in_dim:
            return False
        (operand,) = eqn.invars
        return isinstance(operand, Literal) and not operand.value.value.any()

    # Indices

    def _is_one_per_row(
        self,
        eqn: Eqn,
        mapped: tuple[int, ...],
        operand_batching: tuple[int, ...],
        indices_batching: tuple[int, ...],
    ) -> bool:
        """Whether indices say where in the last dimension one element of each row is, in order."""
        operand, indices = eqn.invars[0].aval, eqn.invars[1]
        rank = len(operand.shape)
        every = tuple(range(rank - 1))
        if mapped == (rank - 1,):
            one_each = indices.aval.size == math.prod(operand.shape[:-1])
            return operand_batching == indices_batching == every and one_each
        # x[arange(n), label]
        return rank == 2 and mapped == (0, 1) and self._column(indices) is not None

    def _labels(self, indices: Atom) -> Atom:
        """The positions along rows."""
        return self._column(indices) or indices

    def _column(self, indices: Atom) -> Atom | None:
        """Where indices are the rows' own numbers beside others: the others."""
        eqn = self._maker(indices)
        shape = indices.aval.shape
        if eqn is None or eqn.primitive is not concatenate or len(eqn.invars) != 2:
            return None
        if eqn.params["dimension"] != len(shape) - 1 or len(shape) != 2:
            return None
        numbers, others = eqn.invars
        return others if self._counts(numbers, shape[0]) else None

    def _counts(self, x: Atom, count: int) -> bool:
        """Whether `x` is 0, 1, 2, …, be it that negative numbers would count from the end."""
        eqn = self._maker(x)
        if eqn is None:
            return False
        if eqn.primitive in (reshape, convert_element_type):
            # To the labels' type, where that is a longer one.
            (operand,) = eqn.invars
            types = (operand.aval.dtype, x.aval.dtype)
            exact = all(t.kind in "iu" and np.iinfo(t).max >= count for t in types)
            return exact and self._counts(operand, count)
        if eqn.primitive is select_n and len(eqn.invars) == 3:
            which, found, _ = eqn.invars
            test = self._maker(which)
            if test is None or test.primitive is not lt or test.invars[0] is not found:
                return False
            return self._is_zero(test.invars[1]) and self._counts(found, count)
        return eqn.primitive is iota and eqn.params["shape"] == (count,)
