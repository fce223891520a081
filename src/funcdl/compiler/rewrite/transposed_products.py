"""Transposes that products absorb: ``transpose(dot(a, b))`` is ``dot(b, a)``.

Convolutions write their results in any order of dimensions. Gradients of weights come out of their
rules transposed, and sums of them, as second derivatives have, as transposes of sums. A kernel that
only moves numbers is saved for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from funcdl.core.jaxpr import Atom, Eqn, Var
from funcdl.ops.dot import dot_general
from funcdl.ops.shape import transpose
from funcdl.ops.windows.convolution import conv_general_dilated

Permutation = tuple[int, ...]

# Through these a transpose moves to their operands.
_ELEMENTWISE = frozenset({"add", "convert_element_type", "mul", "neg", "sub"})


def absorb_transposes(eqns: Sequence[Eqn], outs: Sequence[Atom]) -> list[Eqn]:
    """The equations, with products in another order instead of transposes of them.

    What nothing reads any more is left in.
    """
    absorber = _Absorber(eqns, outs)
    absorbed: list[Eqn] = []
    for eqn in eqns:
        found = None
        if eqn.primitive is transpose:
            found = absorber.transposed(eqn.invars[0], eqn.params["permutation"])
        if found:
            found[-1] = found[-1].replace(outvars=eqn.outvars)
        absorbed += found or [eqn]
    return absorbed


class _Absorber:
    def __init__(self, eqns: Sequence[Eqn], outs: Sequence[Atom]) -> None:
        self._uses = Counter(atom for eqn in eqns for atom in eqn.invars) + Counter(outs)
        self._made = {var: eqn for eqn in eqns for var in eqn.outvars}

    def transposed(self, x: Atom, permutation: Permutation) -> list[Eqn] | None:
        """Equations whose last gives `x` transposed; None where that would not be for nothing."""
        eqn = self._made.get(x) if isinstance(x, Var) and self._uses[x] == 1 else None
        if eqn is None:
            return None
        if eqn.primitive is dot_general:
            return _swap_operands(eqn, permutation)
        if eqn.primitive is conv_general_dilated:
            return [_reorder_result(eqn, permutation)]
        if eqn.primitive.name == "broadcast_in_dim" and not eqn.params["broadcast_dimensions"]:
            shape = tuple(x.aval.shape[d] for d in permutation)
            return [_again(eqn, eqn.invars, params={**eqn.params, "shape": shape})]
        if eqn.primitive.name not in _ELEMENTWISE:
            return None
        made: list[Eqn] = []
        operands: list[Atom] = []
        for operand in eqn.invars:
            found = self.transposed(operand, permutation)
            if found is None:
                return None
            made += found
            operands.append(found[-1].outvars[0])
        return [*made, _again(eqn, operands, params=eqn.params)]


def _swap_operands(product: Eqn, permutation: Permutation) -> list[Eqn] | None:
    """The product the other way round, if that is what the permutation makes of it."""
    lhs, rhs = product.invars
    (lhs_k, rhs_k), (lhs_batch, rhs_batch) = product.params["dimension_numbers"]
    batch, ndim = len(lhs_batch), len(permutation)
    m = len(lhs.aval.shape) - len(lhs_k) - batch
    if permutation != (*range(batch), *range(batch + m, ndim), *range(batch, batch + m)):
        return None
    numbers = ((rhs_k, lhs_k), (rhs_batch, lhs_batch))
    return [_again(product, (rhs, lhs), {**product.params, "dimension_numbers": numbers})]


def _reorder_result(convolution: Eqn, permutation: Permutation) -> Eqn:
    numbers = convolution.params["dimension_numbers"]
    out = tuple(map(permutation.index, numbers.out_spec))
    params = {**convolution.params, "dimension_numbers": numbers._replace(out_spec=out)}
    return _again(convolution, convolution.invars, params)


def _again(eqn: Eqn, invars: Sequence[Atom], params: dict[str, object]) -> Eqn:
    (aval,) = eqn.primitive.output_avals([atom.aval for atom in invars], params)
    return eqn.replace(invars=tuple(invars), outvars=(Var(aval),), params=params)
