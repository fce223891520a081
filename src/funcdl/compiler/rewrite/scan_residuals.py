"""Stacks that loops write for other loops, and that those can do without.

The gradient of a scan is two loops: a forward one stacks residuals, a backward one reads them.
Linearization keeps for each nonlinear step what its derivative needs, so that of a logistic both
``s`` and ``s * (1 - s)`` are stacked, though the second follows from the first in two operations.
Such a stack is removed, and the loops that read it compute its elements, by the same operations and
so with the same bits, from stacks that they read anyway. Of two equal stacks one stays, and a stack
that copies an input of its loop is that input.

Rejected: choosing in `scan`'s reverse rule, where operations within calls are not seen yet, and
loops that users write are never seen; and the smallest cut that `fusion.recompute` finds, which
would compute exponentials again and so needs more than a count of bytes for loops whose stacks
stay in caches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from funcdl.compiler.prices import ADDITIONS_PER_BYTE
from funcdl.control.programs import split
from funcdl.control.scan_primitive import scan_loop
from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var
from funcdl.core.properties import computed_once
from funcdl.core.pruning import live_eqns
from funcdl.core.records import record
from funcdl.ops.lowering import Pointwise, Reduction, reason_for_host
from funcdl.ops.shape import broadcast_in_dim, reshape
from funcdl.ops.slicing import slice_

# The dearest operation that is done again, in additions: a division, a square root.
DEAREST = 4

# The most values that are looked at for one stack.
MOST_VALUES = 32

_VIEWS = frozenset({broadcast_in_dim, reshape, slice_})


def drop_residuals(eqns: Sequence[Eqn], outs: Sequence[Atom]) -> tuple[list[Eqn], list[Atom]]:
    """The equations of a program that reads fewer stacks, and what its outputs became.

    What nothing reads any more is left in. Bodies of scans must have no constants.
    """
    count = sum(eqn.primitive is scan_loop for eqn in eqns)
    if not count:
        return list(eqns), list(outs)
    eqns, outs = _without_copies(eqns, outs)
    if count > 1:
        eqns, _ = live_eqns(eqns, outs)
        _replace_derived(eqns, outs)
    return eqns, outs


def _without_copies(eqns: Sequence[Eqn], outs: Sequence[Atom]) -> tuple[list[Eqn], list[Atom]]:
    """Read one of several equal stacks, and the input that a stack is a copy of."""
    env: dict[Atom, Atom] = {}
    kept = []
    for eqn in eqns:
        if env:
            invars = tuple(env.get(atom, atom) for atom in eqn.invars)
            eqn = eqn.replace(invars=invars) if invars != eqn.invars else eqn
        if eqn.primitive is scan_loop:
            eqn = _read_once(eqn)
            loop = _Loop(eqn)
            same: dict[Atom, Var] = {var: stack for stack, var in loop.xs.items()}
            for atom, stack in loop.ys:
                known = same.setdefault(atom, stack)
                if known is not stack and known.aval == stack.aval:
                    env[stack] = known
        kept.append(eqn)
    return kept, [env.get(atom, atom) for atom in outs]


def _read_once(eqn: Eqn) -> Eqn:
    """The loop with each stack only once among those that it reads."""
    params = eqn.params
    jaxpr: Jaxpr = params["jaxpr"].jaxpr
    start = params["num_consts"] + params["num_carry"]
    first: dict[Atom, Var] = {}
    env: dict[Atom, Atom] = {}
    for atom, var in zip(eqn.invars[start:], jaxpr.invars[start:], strict=True):
        known = first.setdefault(atom, var)
        if known is not var and known.aval == var.aval:
            env[var] = known
    if not env:
        return eqn
    pairs = [p for p in zip(eqn.invars, jaxpr.invars, strict=True) if p[1] not in env]
    body = _substituted(jaxpr, [v for _, v in pairs], [], env)
    return eqn.replace(
        invars=[a for a, _ in pairs], params={**params, "jaxpr": ClosedJaxpr(body, [])}
    )


def _replace_derived(eqns: list[Eqn], outs: Sequence[Atom]) -> None:
    """Let loops compute cheap elements of stacks that they read; changes `eqns`."""
    loops = {i: _Loop(eqn) for i, eqn in enumerate(eqns) if eqn.primitive is scan_loop}
    readers: dict[Atom, list[_Loop]] = defaultdict(list)
    elsewhere: set[Atom] = set(outs)
    for position, eqn in enumerate(eqns):
        loop = loops.get(position)
        if loop is None:
            elsewhere.update(eqn.invars)
            continue
        for atom, var in zip(eqn.invars, loop.jaxpr.invars, strict=True):
            if isinstance(atom, Var) and loop.xs.get(atom) is var:
                readers[atom].append(loop)
            else:
                elsewhere.add(atom)
    for position, loop in loops.items():
        if loop.changed:
            eqns[position] = loop.rebuilt()
            loop = _Loop(eqns[position])
        candidates = {a: s for a, s in loop.ys if s not in elsewhere and readers[s]}
        for var in loop.in_order(candidates):
            stack = candidates[var]
            found = loop.derive(var)
            if found is not None and found.pays(stack, readers[stack]):
                for reader in readers[stack]:
                    reader.compute(stack, found)
                loop.leaves.pop(var, None)


@record
class _Derivation:
    """How a value of a body follows from stacks and constants of its loop.

    `leaves` are these values in the body, with the operand or result of the loop that holds them
    and whether that is a stack.
    """

    var: Var
    eqns: tuple[Eqn, ...]
    leaves: dict[Var, tuple[Var, bool]]

    def pays(self, stack: Var, readers: Sequence[_Loop]) -> bool:
        """Whether less memory is moved, and no reader needs more of it than before."""
        additions = sum(_cost(eqn) * eqn.outvars[0].aval.size for eqn in self.eqns)
        (length, *_), nbytes = stack.aval.shape, stack.aval.nbytes
        price = additions * length * len(readers) / ADDITIONS_PER_BYTE
        for reader in readers:
            if not reader.can_compute(stack, self):
                return False
            new = sum(held.aval.nbytes for held in reader.not_read(self.leaves.values()))
            if new > nbytes:
                return False
            price += new
        return price < nbytes * (1 + len(readers))


class _Loop:
    """A scan: what its body reads and writes, and what it is going to compute besides."""

    def __init__(self, eqn: Eqn) -> None:
        params = eqn.params
        self.eqn = eqn
        self.jaxpr: Jaxpr = params["jaxpr"].jaxpr
        assert not self.jaxpr.constvars
        operands = split(eqn.invars, params["num_consts"], params["num_carry"])
        self.parts = split(self.jaxpr.invars, params["num_consts"], params["num_carry"])
        self.consts = _agreeing(operands[0], self.parts[0], stacked=False)
        self.xs = _agreeing(operands[2], self.parts[2], stacked=True)
        count: int = params["num_carry"]
        pairs = zip(self.jaxpr.outvars[count:], eqn.outvars[count:], strict=True)
        self.ys: list[tuple[Atom, Var]] = list(pairs)
        self._additions: list[Eqn] = []
        self._computed: dict[Atom, Atom] = {}
        self._replaced: dict[Atom, Atom] = {}
        self._new: tuple[list[tuple[Var, Var]], ...] = ([], [])

    @computed_once
    def leaves(self) -> dict[Atom, tuple[Var, bool]]:
        """Values of the body that other loops can read: where each is held, and if in a stack."""
        found: dict[Atom, tuple[Var, bool]] = {}
        for atom, stack in self.ys:
            if atom.aval == _step(stack.aval):
                found[atom] = stack, True
        found.update((var, (held, True)) for held, var in self.xs.items())
        found.update((var, (held, False)) for held, var in self.consts.items())
        return found

    @computed_once
    def _producer(self) -> dict[Atom, Eqn]:
        return {var: eqn for eqn in self.jaxpr.eqns for var in eqn.outvars}

    @computed_once
    def _read_whole(self) -> set[Atom]:
        """What is read by more than elementwise operations and reductions."""
        found: set[Atom] = set(self.jaxpr.outvars)
        for eqn in self.jaxpr.eqns:
            if not isinstance(eqn.primitive.lower, Pointwise | Reduction):
                found.update(eqn.invars)
        return found

    def in_order(self, candidates: dict[Atom, Var]) -> list[Var]:
        """The variables among the candidates in the order in which the body computes them."""
        if not candidates:
            return []
        made = (var for eqn in self.jaxpr.eqns for var in eqn.outvars)
        return [var for var in (*self.parts[0], *made) if var in candidates]

    def derive(self, var: Var) -> _Derivation | None:
        """How a stacked value follows from others by cheap operations, if it does."""
        leaves: dict[Var, tuple[Var, bool]] = {}
        eqns: list[Eqn] = []
        seen: set[Var] = set()
        pending: list[tuple[Var, Eqn | None]] = [(var, None)]
        while pending:
            at, ready = pending.pop()
            if ready is not None:
                eqns.append(ready)
                continue
            if at in seen:
                continue
            seen.add(at)
            held = self.leaves.get(at)
            if held is not None and (at is not var or not held[1]):
                leaves[at] = held
                continue
            eqn = self._producer.get(at)
            if eqn is None or not _is_cheap(eqn) or len(seen) > MOST_VALUES:
                return None
            pending.append((at, eqn))
            pending += [(a, None) for a in reversed(eqn.invars) if isinstance(a, Var)]
        return _Derivation(var, tuple(eqns), leaves)

    def not_read(self, held: Iterable[tuple[Var, bool]]) -> list[Var]:
        """Which of these constants and stacks the loop does not read yet."""
        return [x for x, stacked in held if x not in (self.xs if stacked else self.consts)]

    def can_compute(self, stack: Var, derivation: _Derivation) -> bool:
        """Whether the value can take the place of the stack's elements in the body."""
        var = self.xs.get(stack)
        return var is not None and var.aval == derivation.var.aval and var not in self._read_whole

    def compute(self, stack: Var, derivation: _Derivation) -> None:
        """Plan to compute a stack's elements in the body instead of reading them."""
        for var, (held, stacked) in derivation.leaves.items():
            known = self.xs if stacked else self.consts
            if held not in known:
                known[held] = Var(var.aval)
                self._new[stacked].append((held, known[held]))
            self._computed[var] = known[held]
        for eqn in derivation.eqns:
            (out,) = eqn.outvars
            if out not in self._computed:
                invars = [self._computed.get(a, a) for a in eqn.invars]
                self._computed[out] = Var(out.aval)
                self._additions.append(eqn.replace(invars=invars, outvars=[self._computed[out]]))
        self._replaced[self.xs.pop(stack)] = self._computed[derivation.var]

    @property
    def changed(self) -> bool:
        """Whether anything was planned."""
        return bool(self._replaced)

    def rebuilt(self) -> Eqn:
        """The loop with what was planned."""
        params = self.eqn.params
        operands = split(self.eqn.invars, params["num_consts"], params["num_carry"])
        consts, carry, xs = (
            list(zip(atoms, variables, strict=True))
            for atoms, variables in zip(operands, self.parts, strict=True)
        )
        xs = [pair for pair in xs if pair[1] not in self._replaced]
        consts, xs = [*consts, *self._new[False]], [*xs, *self._new[True]]
        pairs = [*consts, *carry, *xs]
        body = _substituted(self.jaxpr, [v for _, v in pairs], self._additions, self._replaced)
        return self.eqn.replace(
            invars=[atom for atom, _ in pairs],
            params={**params, "jaxpr": ClosedJaxpr(body, []), "num_consts": len(consts)},
        )


def _agreeing(atoms: Sequence[Atom], variables: Sequence[Var], stacked: bool) -> dict[Var, Var]:
    """Variables of a body by their operands, those with other weak types left out."""
    found = {}
    for atom, var in zip(atoms, variables, strict=True):
        if isinstance(atom, Var) and var.aval == (_step(atom.aval) if stacked else atom.aval):
            found[atom] = var
    return found


def _step(stack: ShapedArray) -> ShapedArray:
    return stack.update(shape=stack.shape[1:])


def _substituted(
    jaxpr: Jaxpr, invars: Sequence[Var], additions: Sequence[Eqn], env: dict[Atom, Atom]
) -> Jaxpr:
    """A body with other inputs and more equations, and with some variables replaced."""
    eqns = list(additions)
    for eqn in jaxpr.eqns:
        if any(atom in env for atom in eqn.invars):
            eqn = eqn.replace(invars=[env.get(atom, atom) for atom in eqn.invars])
        eqns.append(eqn)
    return Jaxpr([], invars, [env.get(atom, atom) for atom in jaxpr.outvars], eqns)


def _is_cheap(eqn: Eqn) -> bool:
    """Whether to compute a value again, where it has the same bits as at first.

    Kernels keep half precision in float32 until it is stored, so that what is computed from stored
    values may differ.
    """
    types = {atom.aval.dtype for atom in (*eqn.invars, *eqn.outvars)}
    if types & dtypes.HALF or len(eqn.outvars) != 1 or reason_for_host(eqn.primitive.lower, types):
        return False
    return eqn.primitive in _VIEWS or (
        isinstance(eqn.primitive.lower, Pointwise) and _cost(eqn) <= DEAREST
    )


def _cost(eqn: Eqn) -> int:
    form = eqn.primitive.lower
    return form.cost() if isinstance(form, Pointwise) else 0
