"""Which of the user's lines a kernel stands for: that of its group's main equation."""

from __future__ import annotations

from collections.abc import Mapping

from funcdl.compiler.fusion.groups import Group
from funcdl.core.jaxpr import Eqn
from funcdl.core.source import SourceLine
from funcdl.ops.lowering import Accumulation, Contraction, Correlation, Ordering, Reduction, Update

Sources = Mapping[str, SourceLine]
"""The line of each kernel, by its name."""


def main_equation(group: Group) -> Eqn:
    """What a group was made for: a product or scatter, else what reduces, accumulates or sorts.

    Without any of these it is the last result.
    """
    for kinds in ((Contraction, Correlation, Update), (Reduction, Accumulation, Ordering)):
        for eqn in group.members:
            if isinstance(eqn.primitive.lower, kinds):
                return eqn
    outputs = set(group.outputs)
    storing = [eqn for eqn in group.members if outputs.intersection(eqn.outvars)]
    return (storing or group.members)[-1]
