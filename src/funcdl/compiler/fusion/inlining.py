"""Which values are never stored but computed wherever they are read.

Views are, and cheap values of the program's inputs, as far as they do not reach back too far.
"""

from __future__ import annotations

from funcdl.compiler.fusion.reads import leaf_vars
from funcdl.core.jaxpr import Eqn, Jaxpr, Literal, Var
from funcdl.ops.lowering import Pointwise

# Additions that a value may cost, with all it is made of, to be computed by each of its readers in
# place of being stored.
CLONE_COST = 6

# A value that is computed where it is read may go back through so many equations, and to so many
# stored values; beyond, it is stored itself. Without a bound, programs such as repeated rolls
# (slice, slice, concatenate) would grow exponentially.
INLINE_DEPTH = 24
INLINE_READS = 16


class Inlined:
    """The values that their readers compute, with the equations that say how."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.eqns: dict[Var, Eqn] = {}
        self._clone_cost: dict[Var, int] = dict.fromkeys((*jaxpr.constvars, *jaxpr.invars), 0)
        self._expansion: dict[Var, tuple[int, int]] = {}  # depth and reads

    def __contains__(self, var: object) -> bool:
        return var in self.eqns

    def get(self, var: Var) -> Eqn | None:
        """The equation of a value that its readers compute; None if it is stored."""
        return self.eqns.get(var)

    def add(self, eqn: Eqn) -> None:
        """Let readers compute the results of an equation."""
        costs = [self._clone_cost.get(a) for a in eqn.invars if isinstance(a, Var)]
        expansion = self._expanded(eqn)
        for var in eqn.outvars:
            self.eqns[var] = eqn
            self._expansion[var] = expansion
            if var not in self._clone_cost and None not in costs:
                self._clone_cost[var] = sum(cost or 0 for cost in costs)

    def is_short(self, eqn: Eqn) -> bool:
        """Whether an equation, with what is inlined into it, is small enough to be inlined."""
        depth, reads = self._expanded(eqn)
        return depth <= INLINE_DEPTH and reads <= INLINE_READS

    def _expanded(self, eqn: Eqn) -> tuple[int, int]:
        """How many equations deep, and from how many stored values, an equation is computed."""
        operands = [self._expansion.get(a, (0, 1)) for a in eqn.invars if isinstance(a, Var)]
        depth = max((depth for depth, _ in operands), default=0)
        return depth + 1, sum(reads for _, reads in operands)

    def can_clone(self, eqn: Eqn) -> bool:
        """Whether readers may compute a value themselves: scalars, and cheap values of inputs."""
        if any(var.aval.size <= 1 for var in eqn.outvars):
            return True
        assert isinstance(eqn.primitive.lower, Pointwise)
        cost = eqn.primitive.lower.cost()
        reads = 0
        for atom in set(eqn.invars):
            if isinstance(atom, Literal):
                continue
            inner = self._clone_cost.get(atom)
            if inner is None:
                return False
            cost += inner
        for var in leaf_vars(eqn.invars, self.get):
            reads += var.aval.size > 1
        if cost > CLONE_COST or reads > 1:
            return False
        for var in eqn.outvars:
            self._clone_cost[var] = cost
        return True
