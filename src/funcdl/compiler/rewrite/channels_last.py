"""Features last: convolutions of a program in any layout compute on images whose features are last.

Kernels of convolutions read and write vectors of features. In other layouts, such as NCHW, each
would rearrange what it reads and writes. So this pass gives convolutions their operands in the
order batch, space, features, and carries the order on through everything between them that can be
computed in it as well: elementwise operations, reductions, windows, broadcasts, pads, reshapes.
What remains to transpose is what enters and leaves. Kernels stay as they are: they are small, and
packed by each convolution anyway.

The gradient of a kernel is a convolution in which batch and features have changed roles, so its
operands want the same order (see `_features_last`), and its result, which is small, any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from funcdl.compiler.rewrite.transposed_products import absorb_transposes
from funcdl.core.avals import Shape
from funcdl.core.jaxpr import Atom, Eqn, Var
from funcdl.core.primitive import Primitive
from funcdl.core.pruning import live_eqns
from funcdl.ops.barrier import optimization_barrier
from funcdl.ops.complex_parts import complex_
from funcdl.ops.lowering import Accumulation, Pointwise, Reduction
from funcdl.ops.shape import broadcast_in_dim, inverse_permutation, reshape, transpose
from funcdl.ops.windows.convolution import conv_general_dilated
from funcdl.ops.windows.convolution_dimensions import ConvDimensionNumbers
from funcdl.ops.windows.selection import add_selected, select_in_windows

Order = tuple[int, ...]
"""Dimensions of a value in the order in which they lie: `transpose` with it gives that order."""

Params = dict[str, Any]


def channels_last(eqns: list[Eqn], outs: list[Atom]) -> tuple[list[Eqn], list[Atom]]:
    """The equations with features last, and what the outputs became.

    They are the given ones where that would not save moving elements.
    """
    before = _moved_elements(eqns)
    if not any(eqn.primitive is conv_general_dilated for eqn in eqns) or not before:
        return eqns, outs
    walk = _Walk(eqns)
    for eqn in eqns:
        walk.visit(eqn)
    new_outs = [walk.at(atom, _same(atom)) for atom in outs]
    found, _ = live_eqns(walk.eqns, new_outs)
    found = absorb_transposes(found, new_outs)
    return (found, new_outs) if _moved_elements(found) < before else (eqns, outs)


def _moved_elements(eqns: Sequence[Eqn]) -> int:
    """How many elements transposes move, and convolutions that read or write another order."""
    count = 0
    for eqn in eqns:
        if eqn.primitive is transpose and _reorders(eqn.invars[0], eqn.params["permutation"]):
            count += eqn.invars[0].aval.size
        elif eqn.primitive is conv_general_dilated:
            *orders, out = _conv_orders(eqn)
            for atom, order in zip((*eqn.invars, *eqn.outvars), (*orders, out), strict=True):
                count += _reorders(atom, order) * atom.aval.size
    return count


class _Walk:
    """One forward walk; values are computed in the order in which their operands are."""

    def __init__(self, eqns: Sequence[Eqn]) -> None:
        self.eqns: list[Eqn] = []
        self._made = {var: eqn for eqn in eqns for var in eqn.outvars}
        # The order in which a value is computed, where it is not its own.
        self._home: dict[Var, Order] = {}
        self._known: dict[tuple[Var, Order], Atom] = {}
        # Numbers of selected elements count them in this order.
        self._numbers: dict[Var, tuple[Order, Atom]] = {}

    def at(self, atom: Atom, order: Order) -> Atom:
        """A value with its dimensions in another order."""
        if not isinstance(atom, Var):
            return atom
        if atom not in self._home:
            self._set(atom, _same(atom), atom)
        if (atom, order) not in self._known:
            self._known[atom, order] = self._move(atom, self._home[atom], order)
        return self._known[atom, order]

    def _move(self, var: Var, home: Order, order: Order) -> Atom:
        made = self._made.get(var)
        if made is not None and made.primitive is broadcast_in_dim:
            (x,), dims = made.invars, made.params["broadcast_dimensions"]
            places = [order.index(d) for d in dims]
            inner = tuple(sorted(range(len(dims)), key=places.__getitem__))
            params: Params = {
                "shape": tuple(var.aval.shape[d] for d in order),
                "broadcast_dimensions": tuple(sorted(places)),
            }
            return self._emit(made, (self.at(x, inner),), params)[0]
        source = self.at(var, home)
        permutation = tuple(home.index(d) for d in order)
        primitive: Primitive = transpose
        params = {"permutation": permutation}
        if not _reorders(source, permutation):
            primitive = reshape
            params = {"new_sizes": tuple(var.aval.shape[d] for d in order)}
        (aval,) = primitive.output_avals([source.aval], params)
        moved = Var(aval)
        line = None if made is None else made.source
        self.eqns.append(Eqn(primitive, (source,), (moved,), params, line))
        return moved

    def _emit(self, eqn: Eqn, invars: Sequence[Atom], params: Params) -> tuple[Var, ...]:
        avals = eqn.primitive.output_avals([atom.aval for atom in invars], params)
        outvars = tuple(map(Var, avals))
        self.eqns.append(eqn.replace(invars=tuple(invars), outvars=outvars, params=params))
        return outvars

    def visit(self, eqn: Eqn) -> None:
        """Add an equation, on operands in whatever order suits them."""
        found = self._ordered(eqn)
        if found is None:
            invars = tuple(self.at(atom, _same(atom)) for atom in eqn.invars)
            self.eqns.append(eqn.replace(invars=invars))
            self._note_transpose(eqn)
            return
        orders, params, out = found
        invars = tuple(map(self.at, eqn.invars, orders))
        outvars = self._emit(eqn, invars, params)
        for var, moved in zip(eqn.outvars, outvars, strict=True):
            self._set(var, out, moved)

    def _set(self, var: Var, order: Order, moved: Atom) -> None:
        self._home[var] = order
        self._known[var, order] = moved

    def _note_transpose(self, eqn: Eqn) -> None:
        """What is transposed back is what it was."""
        if eqn.primitive is transpose:
            back = inverse_permutation(eqn.params["permutation"])
            self._known[eqn.outvars[0], back] = self.at(eqn.invars[0], _same(eqn.invars[0]))

    def _ordered(self, eqn: Eqn) -> tuple[Sequence[Order], Params, Order] | None:
        """The orders of operands, parameters and the order of results; None for their own."""
        if eqn.primitive is conv_general_dilated:
            orders = _conv_orders(eqn)
            specs = (
                tuple(order.index(d) for d in spec)
                for order, spec in zip(orders, eqn.params["dimension_numbers"], strict=True)
            )
            numbers = ConvDimensionNumbers(*specs)
            return orders[:2], {**eqn.params, "dimension_numbers": numbers}, orders[2]
        if eqn.primitive is add_selected:
            return self._add_selected(eqn)
        order = self._order_of(eqn.invars)
        if order is None:
            return None
        if eqn.primitive is transpose:
            back = inverse_permutation(eqn.params["permutation"])
            out = tuple(back[d] for d in order)
            self._set(eqn.outvars[0], out, self.at(eqn.invars[0], order))
            return None
        if eqn.primitive is select_in_windows:
            self._select_in_windows(eqn, order)
            return None
        found = _reordered(eqn, order)
        if found is None:
            return None
        rank = len(order)
        operands = [order if len(x.aval.shape) == rank else _same(x) for x in eqn.invars]
        return operands, *found

    def _order_of(self, operands: Sequence[Atom]) -> Order | None:
        """The order of the first operand that has one of its own."""
        rank = max((len(x.aval.shape) for x in operands), default=0)
        homes = (self._home.get(x, ()) for x in operands if isinstance(x, Var))
        return next((o for o in homes if len(o) == rank and o != tuple(range(rank))), None)

    def _select_in_windows(self, eqn: Eqn, order: Order) -> None:
        """The numbers are others in another order, so they are kept apart for `add_selected`."""
        if _keeps_ties(eqn, order):
            params = _window_params(eqn.params, order)
            (numbers,) = self._emit(eqn, (self.at(eqn.invars[0], order),), params)
            self._numbers[eqn.outvars[0]] = (order, numbers)

    def _add_selected(self, eqn: Eqn) -> tuple[Sequence[Order], Params, Order] | None:
        numbers = eqn.invars[1]
        if not isinstance(numbers, Var) or numbers not in self._numbers:
            return None
        order, counted = self._numbers[numbers]
        self._known[numbers, order] = counted
        shape = tuple(eqn.params["shape"][d] for d in order)
        return (order, order), {**_window_params(eqn.params, order), "shape": shape}, order


def _reordered(eqn: Eqn, order: Order) -> tuple[Params, Order] | None:
    """The parameters for operands in another order, and the order of the results; None if none."""
    form, params = eqn.primitive.lower, eqn.params
    shapes = {atom.aval.shape for atom in (*eqn.invars, *eqn.outvars)}
    if eqn.primitive is complex_:
        return None  # what is joined goes to memory, and no kernel moves it there
    if isinstance(form, Pointwise):
        return (params, order) if len(shapes - {()}) == 1 else None
    if isinstance(form, Reduction):
        axes = tuple(sorted(map(order.index, params["axes"])))
        return {**params, "axes": axes}, _without(order, params["axes"])
    if isinstance(form, Accumulation):
        return {**params, "axis": order.index(params["axis"])}, order
    if eqn.primitive is optimization_barrier:
        return (params, order) if len(eqn.invars) == 1 else None
    if eqn.primitive is reshape:
        shape = eqn.outvars[0].aval.shape
        out = _reshaped(eqn.invars[0].aval.shape, shape, order)
        return None if out is None else ({**params, "new_sizes": tuple(shape[d] for d in out)}, out)
    if eqn.primitive.name in _PARAMETERS and _keeps_ties(eqn, order):
        return _PARAMETERS[eqn.primitive.name](params, order), order
    return None


def _same(atom: Atom) -> Order:
    return tuple(range(len(atom.aval.shape)))


def _reorders(atom: Atom, order: Order) -> bool:
    """Whether elements lie otherwise in this order of dimensions."""
    kept = [d for d in order if atom.aval.shape[d] != 1]
    return kept != sorted(kept)


def _conv_orders(eqn: Eqn) -> tuple[Order, Order, Order]:
    """The orders in which a convolution wants its operands and computes its result."""
    lhs, rhs, out = eqn.params["dimension_numbers"]
    if lhs[0] < lhs[1]:
        return _features_last(lhs), _same(eqn.invars[1]), _features_last(out)
    return _features_last(lhs), _features_last(rhs), _same(eqn.outvars[0])


def _features_last(spec: Order) -> Order:
    """Batch, space, features of an image, of which batch or features are named first.

    The gradient of a kernel exchanges their roles; in images, the batch comes before the features.
    """
    return (min(spec[:2]), *sorted(spec[2:]), max(spec[:2]))


def _without(order: Order, axes: Sequence[int]) -> Order:
    """The order of the dimensions that are left."""
    left = [d for d in order if d not in axes]
    return tuple(sorted(left).index(d) for d in left)


def _reshaped(old: Shape, new: Shape, order: Order) -> Order | None:
    """The order of the result of a reshape that only splits and merges what lies together."""
    groups = _factors(old, new)
    placed: list[tuple[int, range]] = []
    for inner, outer in groups or ():
        places = [order.index(d) for d in inner]
        if places and places != list(range(places[0], places[0] + len(places))):
            return None
        placed.append((places[0] if places else len(order), outer))
    placed.sort(key=lambda found: found[0])
    return tuple(d for _, outer in placed for d in outer) if groups else None


def _factors(old: Shape, new: Shape) -> list[tuple[range, range]] | None:
    """Dimensions before and after a reshape, in parts of equal size; None without elements."""
    if not prod(old):
        return None
    groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (left := prod(old[first:i])) != (right := prod(new[second:j])):
            i, j = (i + 1, j) if left < right else (i, j + 1)
        groups.append((range(first, i), range(second, j)))
    return groups


def _keeps_ties(eqn: Eqn, order: Order) -> bool:
    """Whether elements of a window keep their order: the first extreme is the one selected."""
    if "select_prim" not in eqn.params:
        return True
    window = eqn.params["window_dimensions"]
    wide = [d for d in order if window[d] != 1]
    return wide == sorted(wide)


def _entries(*names: str) -> Callable[[Params, Order], Params]:
    """A change of parameters that have one entry for each dimension."""

    def reorder(params: Params, order: Order) -> Params:
        changed = {
            name: tuple(params[name][d] for d in order)
            for name in names
            if params[name] is not None
        }
        return {**params, **changed}

    return reorder


_window_params = _entries(
    "window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation"
)

_PARAMETERS: dict[str, Callable[[Params, Order], Params]] = {
    "concatenate": lambda params, order: {"dimension": order.index(params["dimension"])},
    "pad": _entries("padding_config"),
    "reduce_window_max": _window_params,
    "reduce_window_min": _window_params,
    "reduce_window_sum": _window_params,
    "rev": lambda params, order: {"dimensions": tuple(map(order.index, params["dimensions"]))},
    "select_and_gather_add": _window_params,
    "slice": _entries("start_indices", "limit_indices", "strides"),
}
