"""Small and thin products as what they are by definition: a multiplication and a sum over k."""

from __future__ import annotations

from dataclasses import replace

from funcdl.kir.builder import renumber
from funcdl.kir.ir import Dot, Elementwise, Instruction, Kernel, Reduce, ValueType, operands


def dot_as_sum(kernel: Kernel) -> Kernel:
    """The kernel with each `Dot` spelled out; other kernels come back as they are."""
    if not any(isinstance(i, Dot) for i in kernel.body):
        return kernel
    body: list[Instruction] = []
    ids: dict[int, int] = {}
    for id, instruction in enumerate(kernel.body):
        renumbered = renumber(instruction, ids)
        if isinstance(renumbered, Dot):
            varies = {*kernel.value_type(id).axes}
            varies.update(*(kernel.value_type(arg).axes for arg in operands(instruction)))
            axes = tuple(axis.name for axis in kernel.axes if axis.name in varies)
            product = ValueType(renumbered.type.dtype, axes)
            body.append(Elementwise(product, "mul", (renumbered.lhs, renumbered.rhs)))
            renumbered = Reduce(renumbered.type, "sum", len(body) - 1, (renumbered.k,))
        ids[id] = len(body)
        body.append(renumbered)
    return replace(kernel, body=tuple(body))
