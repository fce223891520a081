"""Effects: what an equation does besides computing its outputs.

An equation without effect may be dropped where nothing reads it, shared with an equal one, or
moved. One with an effect runs exactly as often as the program says; the ordered ones also in the
order in which the program has them.
"""

from __future__ import annotations

import enum
import weakref

from funcdl.core.jaxpr import ClosedJaxpr, Eqn, sub_jaxprs


class Effect(enum.IntEnum):
    """The kinds of effects, weakest first."""

    NONE = 0
    UNORDERED = 1
    ORDERED = 2


def eqn_effect(eqn: Eqn) -> Effect:
    """The strongest effect of an equation and of the programs among its parameters."""
    own = eqn.primitive.effect
    found = Effect.NONE if own is None else own(eqn.params)
    return max([found, *map(program_effect, sub_jaxprs(eqn.params))])


def program_effect(program: ClosedJaxpr) -> Effect:
    """The strongest effect of a program's equations."""
    known = _known.get(program)
    if known is None:
        known = _known[program] = max(map(eqn_effect, program.eqns), default=Effect.NONE)
    return known


_known: weakref.WeakKeyDictionary[ClosedJaxpr, Effect] = weakref.WeakKeyDictionary()
