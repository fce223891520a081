"""The pass `simplify`: a smaller program with the same meaning.

One forward walk inlines nested calls, folds constants, applies algebraic identities that hold
bit for bit, and shares equal equations; one backward walk drops what nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from funcdl.compiler.rewrite.channels_last import channels_last
from funcdl.compiler.rewrite.closed_bodies import close_bodies
from funcdl.compiler.rewrite.constant_carry import without_constant_carry
from funcdl.compiler.rewrite.disjoint_pads import DisjointPads
from funcdl.compiler.rewrite.outer_product import is_outer_product, outer_product
from funcdl.compiler.rewrite.scan_motion import move_products
from funcdl.compiler.rewrite.scan_residuals import drop_residuals
from funcdl.compiler.rewrite.split_complex import split_complex
from funcdl.compiler.rewrite.stencils import is_stencil, stencil
from funcdl.compiler.rewrite.transposed_products import absorb_transposes
from funcdl.control.scan_primitive import scan_loop
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.effects import eqn_effect
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, last_uses
from funcdl.core.primitive import Primitive
from funcdl.core.pruning import live_eqns
from funcdl.ops.attention import attention_tangent
from funcdl.ops.attention import composed as attention_composed
from funcdl.ops.convert import convert_element_type
from funcdl.ops.gather import gather
from funcdl.ops.lowering import Loop, compute_dtype, reason_for_host
from funcdl.ops.shape import broadcast_in_dim, reshape
from funcdl.ops.slicing import slice_
from funcdl.ops.sort import order, take_params
from funcdl.ops.windows.selection import add_selected, select_in_windows

Env = dict[Var, Atom]
Rewrite = Callable[["_Simplifier", Eqn], Atom | list[Atom] | None]
Compose = Callable[[Eqn], ClosedJaxpr | None]


def simplify(program: ClosedJaxpr, composed: Compose = lambda _: None) -> ClosedJaxpr:
    """Inline, fold, simplify, share and prune; complex numbers become pairs of real ones.

    Args:
        composed: gives the program of other primitives that takes an equation's place, where
            the back end has no kernel for it.
    """
    jaxpr = program.jaxpr
    simplifier = _Simplifier(composed, jaxpr.constvars, program.consts)
    outs = simplifier.inline(jaxpr, jaxpr.constvars, jaxpr.invars)
    eqns, _ = live_eqns(simplifier.eqns, outs)
    eqns = absorb_transposes(eqns, outs)
    if any(map(is_outer_product, eqns)):
        # Now only, so that what transposes an outer product has become part of it.
        turned = Jaxpr(simplifier.constvars, jaxpr.invars, outs, eqns)
        simplifier = _Simplifier(composed, simplifier.constvars, simplifier.consts, True)
        outs = simplifier.inline(turned, turned.constvars, turned.invars)
        eqns = simplifier.eqns
    eqns, outs = channels_last(eqns, outs)
    eqns, outs = drop_residuals(eqns, outs)
    eqns, live = live_eqns(eqns, outs)
    constants = zip(simplifier.constvars, simplifier.consts, strict=True)
    kept = [(v, c) for v, c in constants if v in live]
    pruned = Jaxpr([v for v, _ in kept], jaxpr.invars, outs, eqns, jaxpr.names)
    simplified = ClosedJaxpr(pruned, [c for _, c in kept])
    split = split_complex(simplified)
    return simplified if split is simplified else simplify(split, composed)


class _Simplifier:
    def __init__(
        self,
        composed: Compose,
        constvars: Sequence[Var],
        consts: Sequence[Any],
        outer_products: bool = False,
    ) -> None:
        self._composed = composed
        self.outer_products = outer_products
        self.eqns: list[Eqn] = []
        self.constvars = list(constvars)
        self.consts = list(consts)
        self._shared: dict[Any, tuple[Var, ...]] = {}
        self._origin: dict[Var, Eqn] = {}
        self.disjoint_pads = DisjointPads(self.origin, self.scalar)

    def inline(self, jaxpr: Jaxpr, consts: Sequence[Atom], args: Sequence[Atom]) -> list[Atom]:
        """Add a program's equations; returns what its outputs became."""
        env: Env = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        dying = last_uses(jaxpr)
        for position, eqn in enumerate(jaxpr.eqns):
            invars = [env[a] if isinstance(a, Var) else a for a in eqn.invars]
            outs = self._add(eqn, invars)
            env.update(zip(eqn.outvars, outs, strict=True))
            for var in dying.get(position, ()):
                env.pop(var, None)
        return [env[a] if isinstance(a, Var) else a for a in jaxpr.outvars]

    def origin(self, atom: Atom, name: str) -> Eqn | None:
        """The equation of this primitive that computes a value, if it is one."""
        eqn = self._origin.get(atom) if isinstance(atom, Var) else None
        return eqn if eqn is not None and eqn.primitive.name == name else None

    def scalar(self, atom: Atom) -> Any:
        """The value of an atom whose elements are all one known constant, else None."""
        if isinstance(atom, Literal):
            return atom.value.value[()]
        eqn = self.origin(atom, "broadcast_in_dim")
        return None if eqn is None else self.scalar(eqn.invars[0])

    def emit(self, primitive: Primitive, invars: Sequence[Atom], eqn: Eqn, **params: Any) -> Atom:
        """Add an equation that stands for `eqn`; returns its output."""
        avals = primitive.output_avals([atom.aval for atom in invars], params)
        new = Eqn(primitive, invars, list(map(Var, avals)), params, eqn.source)
        return self._add(new, list(invars))[0]

    def _add(self, eqn: Eqn, invars: list[Atom]) -> list[Atom]:
        if eqn.primitive.name in _CALLS:
            inner: ClosedJaxpr = eqn.params["jaxpr"]
            return self.inline(inner.jaxpr, [self._const(c) for c in inner.consts], invars)
        eqn = eqn.replace(invars=tuple(invars))
        whole = self._composed(eqn)
        if eqn.primitive is attention_tangent:
            whole = attention_composed(eqn.primitive, [a.aval for a in invars], eqn.params)
        if whole is not None:
            return self.inline(whole.jaxpr, [self._const(c) for c in whole.consts], invars)
        if isinstance(eqn.primitive.lower, Loop):
            bodies = partial(simplify, composed=self._composed)
            eqn = close_bodies(_map_bodies(eqn, bodies), self._const)
            changing, constant = without_constant_carry(eqn)
            outs = iter(self._add_simple(changing))
            return [constant[i] if i in constant else next(outs) for i in range(len(eqn.outvars))]
        return self._add_simple(eqn)

    def _add_simple(self, eqn: Eqn) -> list[Atom]:
        """Add an equation whose bodies are simplified already."""
        invars = eqn.invars
        if eqn.primitive is scan_loop and (moved := move_products(eqn)) is not None:
            return self.inline(moved.jaxpr, [self._const(c) for c in moved.consts], invars)
        folded = _fold(eqn)
        if folded is not None:
            return folded
        rewrite = _REWRITES.get(eqn.primitive.name)
        if rewrite is not None:
            found = rewrite(self, eqn)
            if found is not None:
                return found if isinstance(found, list) else [found]
        key = (eqn.primitive.name, tuple(map(_atom_key, eqn.invars)), _freeze(eqn.params))
        shared = None if eqn_effect(eqn) else self._shared.get(key)
        if shared is None:
            # Replaced operands may have other weak types, so the outputs are typed anew.
            avals = eqn.primitive.output_avals([atom.aval for atom in invars], eqn.params)
            outvars = tuple(map(Var, avals))
            eqn = eqn.replace(outvars=outvars)
            self.eqns.append(eqn)
            self._origin.update((var, eqn) for var in outvars)
            shared = self._shared[key] = outvars
        return list(shared)

    def _const(self, value: Array) -> Atom:
        for var, known in zip(self.constvars, self.consts, strict=True):
            if known is value:
                return var
        var = Var(value.aval)
        self.constvars.append(var)
        self.consts.append(value)
        return var


def _map_bodies(eqn: Eqn, f: Callable[[ClosedJaxpr], ClosedJaxpr]) -> Eqn:
    """The equation with every program among its parameters transformed."""

    def apply(value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            return f(value)
        return tuple(map(apply, value)) if isinstance(value, tuple) else value

    return eqn.replace(params={name: apply(value) for name, value in eqn.params.items()})


def _atom_key(atom: Atom) -> Any:
    if isinstance(atom, Var):
        return id(atom)
    return atom.aval.dtype, atom.value.value.tobytes()


def _freeze(params: dict[str, Any]) -> Any:
    return tuple((k, id(v) if isinstance(v, ClosedJaxpr) else v) for k, v in params.items())


def _fold(eqn: Eqn) -> list[Atom] | None:
    """Evaluate an equation on scalar literals with a scalar result."""
    primitive = eqn.primitive
    scalars = all(isinstance(a, Literal) for a in eqn.invars) and eqn.invars
    if not scalars or primitive.impl is None or any(v.aval.shape for v in eqn.outvars):
        return None
    if primitive.effect is not None:  # a user's function, to be run when the program is
        return None
    values = [a.value.value for a in eqn.invars if isinstance(a, Literal)]
    out = primitive.impl(*values, **eqn.params)
    outs = out if primitive.multiple_results else [out]
    return [
        Literal(Array(np.asarray(x), var.aval.weak_type))
        for x, var in zip(outs, eqn.outvars, strict=True)
    ]


def _identity(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    """Operations that return their operand."""
    return eqn.invars[0]


def _convert(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    (x,) = eqn.invars
    return x if x.aval.dtype == eqn.outvars[0].aval.dtype else None


def _reshape(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    (x,) = eqn.invars
    shape = eqn.outvars[0].aval.shape
    if x.aval.shape == shape:
        return x
    inner = simplifier.origin(x, "reshape")
    if inner is not None:
        return simplifier.emit(eqn.primitive, inner.invars, eqn, **eqn.params)
    return None


def _transpose(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    (x,) = eqn.invars
    order = eqn.params["permutation"]
    if order == tuple(range(len(order))):
        return x
    inner = simplifier.origin(x, "transpose")
    if inner is not None:
        composed = tuple(inner.params["permutation"][i] for i in order)
        return simplifier.emit(eqn.primitive, inner.invars, eqn, permutation=composed)
    return None


def _broadcast(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    (x,) = eqn.invars
    if x.aval.shape == eqn.params["shape"]:
        return x
    inner = simplifier.origin(x, "broadcast_in_dim")
    if inner is not None:
        dims = eqn.params["broadcast_dimensions"]
        composed = tuple(dims[d] for d in inner.params["broadcast_dimensions"])
        return simplifier.emit(
            eqn.primitive,
            inner.invars,
            eqn,
            shape=eqn.params["shape"],
            broadcast_dimensions=composed,
        )
    return None


def _dot(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    """A sum of no products is zero, and a sum of one is it."""
    if not all(atom.aval.size for atom in eqn.invars):
        return _zeros(simplifier, eqn)
    if simplifier.outer_products and is_outer_product(eqn):
        return outer_product(simplifier.emit, eqn)
    return None


def _conv(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    if not all(atom.aval.size for atom in (*eqn.invars, *eqn.outvars)):
        return _zeros(simplifier, eqn)
    return stencil(simplifier.emit, eqn) if is_stencil(eqn) else None


def _zeros(simplifier: _Simplifier, eqn: Eqn, number: int = 0) -> Atom:
    aval = eqn.outvars[number].aval
    zero = Literal(Array(np.zeros((), aval.dtype), aval.weak_type))
    params = {"shape": aval.shape, "broadcast_dimensions": ()}
    return simplifier.emit(broadcast_in_dim, (zero,), eqn, **params)


def _add(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    return simplifier.disjoint_pads.concatenation(simplifier.emit, eqn)


def _mul(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    x, y = eqn.invars
    if _is(simplifier.scalar(y), 1):
        return x
    return y if _is(simplifier.scalar(x), 1) else None


def _div(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    x, y = eqn.invars
    return x if _is(simplifier.scalar(y), 1) else None


def _neg(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    inner = simplifier.origin(eqn.invars[0], "neg")
    return None if inner is None else inner.invars[0]


def _integer_pow(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    return eqn.invars[0] if eqn.params["y"] == 1 else None


def _reduce(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    return eqn.invars[0] if eqn.params["axes"] == () else None


def _half_update(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    """Kernels have no arithmetic in half precision, so the whole scatter is done in float32."""
    target, indices, updates = eqn.invars
    dtype = target.aval.dtype
    if dtype not in dtypes.HALF:
        return None

    def convert(x: Atom, new: np.dtype[Any]) -> Atom:
        params = {"new_dtype": new, "weak_type": x.aval.weak_type}
        return simplifier.emit(convert_element_type, (x,), eqn, **params)

    wide = compute_dtype(dtype)
    operands = (convert(target, wide), indices, convert(updates, wide))
    return convert(simplifier.emit(eqn.primitive, operands, eqn, **eqn.params), dtype)


def _select_and_scatter(simplifier: _Simplifier, eqn: Eqn) -> Atom | None:
    """What each window selects, and then what each element collects: two reductions of windows."""
    source, operand = eqn.invars
    if not (source.aval.size and operand.aval.size):
        return _zeros(simplifier, eqn)
    numbers = simplifier.emit(select_in_windows, (operand,), eqn, **eqn.params)
    params = {name: value for name, value in eqn.params.items() if name != "select_prim"}
    shape = operand.aval.shape
    return simplifier.emit(add_selected, (source, numbers), eqn, shape=shape, **params)


def _sort(simplifier: _Simplifier, eqn: Eqn) -> list[Atom] | None:
    """The positions in order of the keys, and each operand at these."""
    axis = eqn.params["dimension"]
    keys = eqn.invars[: eqn.params["num_keys"]]
    if not _can_order(eqn, axis):
        return None
    if not eqn.invars[0].aval.size:
        return [_zeros(simplifier, eqn, i) for i in range(len(eqn.outvars))]
    places = simplifier.emit(order, keys, eqn, dimension=axis, descending=False, first=0)
    return [_take(simplifier, eqn, x, places, axis) for x in eqn.invars]


def _top_k(simplifier: _Simplifier, eqn: Eqn) -> list[Atom] | None:
    """The first of the positions in falling order, and the elements there."""
    (x,), axis = eqn.invars, eqn.params["axis"]
    if not _can_order(eqn, axis):
        return None
    if not eqn.outvars[0].aval.size:
        return [_zeros(simplifier, eqn, 0), _zeros(simplifier, eqn, 1)]
    shape = eqn.outvars[0].aval.shape
    wanted = {"dimension": axis, "descending": True, "first": shape[axis]}
    places = simplifier.emit(order, (x,), eqn, **wanted)
    if shape != x.aval.shape:
        limits = {"start_indices": (0,) * len(shape), "limit_indices": shape, "strides": None}
        places = simplifier.emit(slice_, (places,), eqn, **limits)
    return [_take(simplifier, eqn, x, places, axis), places]


def _can_order(eqn: Eqn, axis: int) -> bool:
    """Whether kernels know the element types, and positions fit into 32 bits."""
    types = {atom.aval.dtype for atom in eqn.invars}
    return not reason_for_host(eqn.primitive.lower, types) and (
        eqn.invars[0].aval.shape[axis] < 2**31
    )


def _take(simplifier: _Simplifier, eqn: Eqn, x: Atom, places: Atom, axis: int) -> Atom:
    shape = places.aval.shape
    index = simplifier.emit(reshape, (places,), eqn, new_sizes=(*shape, 1))
    return simplifier.emit(gather, (x, index), eqn, **take_params(len(shape), axis))


def _is(value: Any, constant: int) -> bool:
    return value is not None and bool(value == constant)


_CALLS = frozenset(
    {"checkpoint", "custom_call", "custom_vmap_call", "jit", "linear_call", "linear_solve"}
)
_REWRITES: dict[str, Rewrite] = {
    "add": _add,
    "broadcast_in_dim": _broadcast,
    "checkpoint_name": _identity,
    "conv_general_dilated": _conv,
    "convert_element_type": _convert,
    "copy": _identity,
    "div": _div,
    "dot_general": _dot,
    "integer_pow": _integer_pow,
    "mul": _mul,
    "neg": _neg,
    "reduce_and": _reduce,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_or": _reduce,
    "reduce_prod": _reduce,
    "reduce_sum": _reduce,
    "reshape": _reshape,
    "scatter_add": _half_update,
    "scatter_max": _half_update,
    "scatter_min": _half_update,
    "scatter_mul": _half_update,
    "select_and_scatter_add": _select_and_scatter,
    "sort": _sort,
    "stop_gradient": _identity,
    "top_k": _top_k,
    "transpose": _transpose,
}
