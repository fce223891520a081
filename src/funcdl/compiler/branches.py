"""Operands of a cond in whose memory its branches make results.

A branch that returns an operand, or an operand with a few elements changed, has nothing else to
write where operand and result are one memory. For that to be so, all branches must write the result
there. One that computes it anew may have to read the operand until the end: it writes elsewhere,
and copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from funcdl.compiler.update_chains import updated_inputs
from funcdl.core.jaxpr import Eqn, Var

# Smaller arrays are copied as soon as it is found that they need not be.
MIN_BYTES = 4096


def shared_operands(eqn: Eqn, dying: Collection[Var]) -> list[tuple[int, int]]:
    """The numbers of a branch's inputs, and of the results that take over their memory.

    Each input has one result, and each result one input: the one that most branches update or pass
    on.

    Args:
        dying: the operands that nothing reads later.
    """
    operands = eqn.invars[1:]
    votes = Counter(
        (number, out)
        for branch in eqn.params["branches"]
        for number, out in updated_inputs(branch.jaxpr)
        if operands[number] in dying
        # A branch would read an operand that is passed twice after it has written there.
        and eqn.invars.count(operands[number]) == 1
        and operands[number].aval.same_type(eqn.outvars[out].aval)
        and eqn.outvars[out].aval.nbytes >= MIN_BYTES
    )
    found: dict[int, int] = {}
    for number, out in sorted(votes, key=lambda pair: (-votes[pair], pair)):
        if number not in found and out not in found.values():
            found[number] = out
    return sorted(found.items())
