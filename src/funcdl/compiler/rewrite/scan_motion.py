"""Matrix products that need not wait for their loop: moved before a scan, or after it.

A product of each step's input with a loop constant is made for all steps at once before the loop
(a recurrent layer's input projection). A product with a loop constant that is only an output of its
step is made for all steps after the loop (gradients of inputs, an output projection). A product
that is only summed up over the steps, as weight gradients are, is made once after the loop, with
the steps as one more contracted dimension. Small products, whose weights would be read again at
every step, become large ones.

A product that must stay, and whose right operand is a loop constant with its terms contiguous (in
the gradient of a recurrent layer), gets the constant transposed: once before the loop, where each
step would pack it anew.

Rejected: doing this in `scan`'s transpose rule, where it would miss loops that users write; and
interchanging loops in the kernel IR, which no longer sees that a sum is linear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

from funcdl.control.programs import split
from funcdl.control.scan_primitive import scan_loop
from funcdl.core.avals import ShapedArray
from funcdl.core.effects import eqn_effect
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var, eval_jaxpr
from funcdl.core.pruning import live_eqns
from funcdl.core.records import record
from funcdl.core.staging import trace_to_jaxpr
from funcdl.ops.arithmetic import add
from funcdl.ops.dot import dot_general
from funcdl.ops.lowering import Loop
from funcdl.ops.shape import transpose
from funcdl.transforms.batching import batch_jaxpr

# The most bytes that one moved product may keep in memory for all steps.
LARGEST_STACK = 64 << 20

# What a value of the body depends on, at most.
_CONSTANTS, _STEP, _CARRY = range(3)


def move_products(eqn: Eqn) -> ClosedJaxpr | None:
    """A program for a scan with products moved out of it, or None where there are none to move.

    Its inputs and outputs are those of the equation, whose body must have no constants.
    """
    params = eqn.params
    if params["length"] < 2 or not any(e.primitive is dot_general for e in params["jaxpr"].eqns):
        return None
    body = _Body(params["jaxpr"].jaxpr, params)
    before, after, sums = body.products_before(), body.products_after(), body.sums_after()
    turned = body.products_to_turn([*before, *after.values(), *(item.product for item in sums)])
    if not before and not after and not sums and not turned:
        return None

    def program(*args: Any) -> list[Any]:
        return _run(body, before, after, sums, turned, args)

    jaxpr, consts = trace_to_jaxpr(program, [atom.aval for atom in eqn.invars], name="scan")
    return ClosedJaxpr(jaxpr, consts)


@record
class _Sum:
    """``carry + product`` for carry number `position`; the product's operands are `operands`."""

    position: int
    product: Eqn
    operands: tuple[Var, Var]


@record
class _Turned:
    """A product in the body, as `eqn`, with loop constant `const` transposed to `var`."""

    eqn: Eqn
    const: Var
    permutation: tuple[int, ...]
    var: Var


class _Body:
    """A scan's body, and what each of its values depends on."""

    def __init__(self, jaxpr: Jaxpr, params: dict[str, Any]) -> None:
        self.jaxpr = jaxpr
        self.params = params
        self.length: int = params["length"]
        parts = split(jaxpr.invars, params["num_consts"], params["num_carry"])
        self.consts, self.carry, self.xs = parts
        self.depends: dict[Atom, int] = {}
        for kind, variables in zip((_CONSTANTS, _CARRY, _STEP), parts, strict=True):
            self.depends.update(dict.fromkeys(variables, kind))
        self.producer: dict[Atom, Eqn] = {}
        for eqn in jaxpr.eqns:
            kind = max([self.kind(a) for a in eqn.invars], default=_CONSTANTS)
            if eqn_effect(eqn) or isinstance(eqn.primitive.lower, Loop):
                kind = _CARRY
            for var in eqn.outvars:
                self.depends[var] = kind
                self.producer[var] = eqn
        self.uses = Counter(a for eqn in jaxpr.eqns for a in eqn.invars)
        self.uses.update(jaxpr.outvars)

    def kind(self, atom: Atom) -> int:
        return _CONSTANTS if isinstance(atom, Literal) else self.depends[atom]

    def products_before(self) -> list[Eqn]:
        """Products of a step's input with a loop constant."""
        found = []
        for eqn in self.jaxpr.eqns:
            kinds = {self.kind(a) for a in eqn.invars}
            if eqn.primitive is dot_general and kinds == {_CONSTANTS, _STEP}:
                (product,) = eqn.outvars
                if product.aval.nbytes * self.length <= LARGEST_STACK:
                    found.append(eqn)
        return found

    def products_after(self) -> dict[int, Eqn]:
        """Products with a loop constant that are stacked and not read, by the output's number."""
        found = {}
        for position, out in enumerate(self.jaxpr.outvars[len(self.carry) :]):
            eqn = self.producer.get(out)
            if eqn is None or eqn.primitive is not dot_general or self.uses[out] != 1:
                continue
            kinds = [self.kind(a) for a in eqn.invars]
            if sorted(kinds) == [_CONSTANTS, _CARRY]:
                operand = eqn.invars[kinds.index(_CARRY)]
                if operand.aval.nbytes * self.length <= LARGEST_STACK:
                    found[position] = eqn
        return found

    def sums_after(self) -> list[_Sum]:
        """Carries that only sum up products of values that differ from step to step."""
        found = []
        for position, (var, out) in enumerate(zip(self.carry, self.jaxpr.outvars, strict=False)):
            eqn = self.producer.get(out)
            if eqn is None or eqn.primitive is not add or self.uses[out] != 1:
                continue
            if self.uses[var] != 1 or var not in eqn.invars:
                continue
            other = eqn.invars[1 - eqn.invars.index(var)]
            product = self.producer.get(other)
            if product is None or product.primitive is not dot_general or self.uses[other] != 1:
                continue
            lhs, rhs = product.invars
            if not isinstance(lhs, Var) or not isinstance(rhs, Var):
                continue
            if _CONSTANTS in (self.kind(lhs), self.kind(rhs)):
                continue
            # A step adds to the whole sum, which is read and written; a stack is written once.
            nbytes = lhs.aval.nbytes + rhs.aval.nbytes
            if nbytes <= 2 * out.aval.nbytes and nbytes * self.length <= LARGEST_STACK:
                found.append(_Sum(position, product, (lhs, rhs)))
        return found

    def products_to_turn(self, moved: Sequence[Eqn]) -> dict[Eqn, _Turned]:
        """Products that stay and read a loop constant along its rows, as their right operand."""
        found: dict[Eqn, _Turned] = {}
        for eqn in self.jaxpr.eqns:
            if eqn.primitive is not dot_general or eqn in moved:
                continue
            _, const = eqn.invars
            (lhs_k, rhs_k), (lhs_b, rhs_b) = eqn.params["dimension_numbers"]
            if not isinstance(const, Var) or const not in self.consts or not rhs_k:
                continue
            shape = const.aval.shape
            columns = [d for d in range(len(shape)) if d not in rhs_k and d not in rhs_b]
            if len(shape) - 1 not in rhs_k or prod(shape[d] for d in columns) == 1:
                continue
            permutation = (*rhs_b, *rhs_k, *columns)
            batch, terms = tuple(range(len(rhs_b))), range(len(rhs_b), len(rhs_b) + len(rhs_k))
            var = Var(ShapedArray(tuple(shape[d] for d in permutation), const.aval.dtype))
            numbers = ((lhs_k, tuple(terms)), (lhs_b, batch))
            turned = eqn.replace(
                invars=(eqn.invars[0], var), params=eqn.params | {"dimension_numbers": numbers}
            )
            found[eqn] = _Turned(turned, const, permutation, var)
        return found


def _run(
    body: _Body,
    before: Sequence[Eqn],
    after: dict[int, Eqn],
    sums: Sequence[_Sum],
    turned: dict[Eqn, _Turned],
    args: Sequence[Any],
) -> list[Any]:
    """Bind the products before the loop, the smaller scan, and the products after it."""
    params = body.params
    consts, carry, xs = split(args, params["num_consts"], params["num_carry"])
    made = [eqn.outvars[0] for eqn in before]
    stacks = dict(zip(body.xs, xs, strict=True))
    constants = dict(zip(body.consts, consts, strict=True))
    values = _for_all_steps(body, made, constants, stacks)
    stacks.update(zip(made, values, strict=True))

    # Operands that are no inputs of the loop already become outputs of it.
    needed: list[Any] = [v for item in sums for v in item.operands]
    needed += [a for eqn in after.values() for a in eqn.invars if body.kind(a) == _CARRY]
    kept = list(dict.fromkeys(v for v in needed if v not in stacks))
    summed = {item.position for item in sums}
    stay = [i for i in range(len(body.carry)) if i not in summed]
    carry_outs, ys = split(body.jaxpr.outvars, len(body.carry))
    ys_stay = [i for i in range(len(ys)) if i not in after]
    outvars = [*(carry_outs[i] for i in stay), *(ys[i] for i in ys_stay), *kept]
    extra = [item.var for item in turned.values()]
    transposed = [
        transpose.bind(constants[item.const], permutation=item.permutation)
        for item in turned.values()
    ]
    invars = [*body.consts, *extra, *(body.carry[i] for i in stay), *body.xs, *made]
    eqns = [turned[e].eqn if e in turned else e for e in body.jaxpr.eqns if e not in before]
    inner = Jaxpr([], invars, outvars, live_eqns(eqns, outvars)[0])
    outs = scan_loop.bind(
        *consts,
        *transposed,
        *(carry[i] for i in stay),
        *xs,
        *(stacks[var] for var in made),
        jaxpr=ClosedJaxpr(inner, []),
        num_consts=len(consts) + len(transposed),
        num_carry=len(stay),
        length=body.length,
        reverse=params["reverse"],
    )
    carry_left, ys_left, stacked = split(outs, len(stay), len(ys_stay))
    stacks.update(zip(kept, stacked, strict=True))
    carry_results = dict(zip(stay, carry_left, strict=True))
    for item in sums:
        total = _sum_of_products(item, [stacks[v] for v in item.operands])
        carry_results[item.position] = add.bind(carry[item.position], total)
    ys_results = dict(zip(ys_stay, ys_left, strict=True))
    for position, eqn in after.items():
        known = {v: stacks[v] for v in kept}
        (value,) = _for_all_steps(body, eqn.outvars, constants, known)
        ys_results[position] = value
    return [results[i] for results in (carry_results, ys_results) for i in sorted(results)]


def _for_all_steps(
    body: _Body,
    outvars: Sequence[Var],
    constants: dict[Var, Any],
    stacks: dict[Var, Any],
) -> list[Any]:
    """Values of the body computed from loop constants and from values known for every step.

    They have the steps as their first dimension.
    """
    if not outvars:
        return []
    inner = [eqn for eqn in body.jaxpr.eqns if not any(v in stacks for v in eqn.outvars)]
    jaxpr = Jaxpr([], [*constants, *stacks], outvars, live_eqns(inner, outvars)[0])
    flags = (False,) * len(constants) + (True,) * len(stacks)
    force = (True,) * len(outvars)
    batched, _ = batch_jaxpr(ClosedJaxpr(jaxpr, []), body.length, flags, force)
    return list(eval_jaxpr(batched.jaxpr, batched.consts, [*constants.values(), *stacks.values()]))


def _sum_of_products(item: _Sum, stacked: Sequence[Any]) -> Any:
    """The sum over steps: the first dimension of both stacks is contracted too."""
    (contract, batch) = item.product.params["dimension_numbers"]
    lhs_k, rhs_k = ((0, *(d + 1 for d in dims)) for dims in contract)
    lhs_b, rhs_b = (tuple(d + 1 for d in dims) for dims in batch)
    params = item.product.params | {"dimension_numbers": ((lhs_k, rhs_k), (lhs_b, rhs_b))}
    return dot_general.bind(*stacked, **params)
