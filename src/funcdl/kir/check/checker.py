"""Checks that a kernel keeps the rules of the kernel IR, on which renderers rely.

The rules themselves are in `kir.check.values`, `kir.check.memory` and `kir.check.form`.
"""

from __future__ import annotations

from funcdl.core import dtypes
from funcdl.kir.check.facts import Facts
from funcdl.kir.check.form import check_form
from funcdl.kir.check.memory import (
    check_aliases,
    check_buffers,
    check_effect,
    check_load,
    check_stores,
)
from funcdl.kir.check.values import result_dtype, vary
from funcdl.kir.ir import Effect, Instruction, Kernel, Load, ValueType, operands
from funcdl.kir.printer import format_type
from funcdl.kir.rules import KernelError

__all__ = ["KernelError", "check"]


def check(kernel: Kernel) -> None:
    """Check every rule of the kernel IR.

    Raises:
        KernelError: a rule is broken; the message names the kernel, the instruction and the rule.
    """
    facts = Facts(kernel)
    _check_names(facts)
    for id, instruction in enumerate(kernel.body):
        facts.at = id
        _check_operands(facts, instruction)
        facts.varies[id] = vary(facts, instruction)
        if isinstance(instruction, Effect):
            check_effect(facts, instruction)
            continue
        if isinstance(instruction, Load):
            check_load(facts, instruction)
        facts.types[id] = instruction.type
        wanted = ValueType(result_dtype(facts, instruction), facts.in_order(facts.varies[id]))
        if instruction.type != wanted:
            facts.fail(f"type must be {format_type(wanted)}, is {format_type(instruction.type)}")
    if kernel.library is None:
        check_form(facts)
        check_buffers(facts)
        check_stores(facts)
    check_aliases(facts)


def _check_names(facts: Facts) -> None:
    kernel = facts.kernel
    seen: set[str] = set()
    if not kernel.name.isidentifier():
        facts.fail(f"kernel name must be an identifier, got {kernel.name!r}")
    named = [("buffer", buffer.name) for buffer in kernel.buffers]
    named += [("axis", axis.name) for axis in kernel.axes]
    for kind, name in named:
        if not name.isidentifier():
            facts.fail(f"{kind} name must be an identifier, got {name!r}")
        if name in seen:
            facts.fail(f"names of buffers and axes must be unique, {name!r} is not")
        seen.add(name)
    for axis in kernel.axes:
        if axis.extent < 0:
            facts.fail(f"extent of axis {axis.name!r} must be >= 0, got {axis.extent}")
    for buffer in kernel.buffers:
        if buffer.size < 0:
            facts.fail(f"size of buffer {buffer.name!r} must be >= 0, got {buffer.size}")
        if buffer.dtype not in dtypes.SUPPORTED:
            facts.fail(f"buffer {buffer.name!r} has dtype {buffer.dtype}, not a supported one")


def _check_operands(facts: Facts, instruction: Instruction) -> None:
    for operand in operands(instruction):
        if not 0 <= operand < facts.at:
            facts.fail(f"operands must come earlier in the body, %{operand} does not")
        if operand not in facts.types:
            facts.fail(f"operands must be values, %{operand} is an effect")
