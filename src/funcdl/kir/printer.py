"""Text of kernels, schedules and programs, for dumps and golden tests.

Different kernels have different texts (``0.0`` and ``-0.0`` too, which compare equal), and the text
of a kernel depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from funcdl.core import dtypes
from funcdl.kir.index import Atom, AxisAtom, DivAtom, Index, ModAtom, ValueAtom
from funcdl.kir.ir import (
    AtomicUpdate,
    Bitcast,
    Buffer,
    Cast,
    Const,
    Conv,
    Dot,
    Effect,
    Elementwise,
    IndexValue,
    Instruction,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Scalar,
    Select,
    Slide,
    Store,
    ValueType,
)
from funcdl.kir.program import Call, KernelProgram, bodies
from funcdl.kir.schedule import Schedule


def format_kernel(kernel: Kernel, schedule: Schedule | None = None) -> str:
    """The text of a kernel, one line an instruction, with its schedule where one is given."""
    buffers = ", ".join(_buffer(buffer) for buffer in kernel.buffers)
    axes = " ".join(f"{axis.name}:{axis.extent}" for axis in kernel.axes)
    lines = [f"kernel {kernel.name}({buffers})", f"  axes {axes}" if axes else "  axes none"]
    if schedule is not None:
        lines.append(f"  schedule {format_schedule(schedule)}")
    if kernel.library is not None:
        problem = " ".join(f"{name}={value}" for name, value in kernel.library.problem)
        lines.append(f"  library {kernel.library.function} {problem}")
    values = [i for i in kernel.body if not isinstance(i, Effect)]
    id_width = len(str(len(kernel.body) - 1)) + 1
    type_width = max((len(format_type(value.type)) for value in values), default=0)
    for id, instruction in enumerate(kernel.body):
        text = format_instruction(instruction)
        if not isinstance(instruction, Effect):
            name, type_ = f"%{id}", format_type(instruction.type)
            text = f"{name:{id_width}} : {type_:{type_width}} = {text}"
        lines.append(f"  {text}")
    return "\n".join(lines) + "\n"


def format_type(type_: ValueType) -> str:
    """``f32{i,j}``, or ``f32`` of a value that varies over no axis."""
    axes = f"{{{','.join(type_.axes)}}}" if type_.axes else ""
    return f"{dtypes.short_name(type_.dtype)}{axes}"


def format_instruction(instruction: Instruction) -> str:
    """The text of an instruction without its id and type."""
    match instruction:
        case Const(type_, value):
            return f"const {_scalar(value, type_.dtype)}"
        case IndexValue(_, index):
            return f"index {format_index(index)}"
        case Load(type_, buffer, index, mask, other):
            text = f"load {buffer}[{format_index(index)}]"
            return text if mask is None else f"{text} if %{mask} else {_scalar(other, type_.dtype)}"
        case Elementwise(_, name, args):
            return f"{name} {_ids(args)}"
        case Select(_, which, on_true, on_false):
            return f"select {_ids((which, on_true, on_false))}"
        case Cast(_, arg):
            return f"cast %{arg}"
        case Bitcast(_, arg):
            return f"bitcast %{arg}"
        case Reduce(_, op, arg, axes):
            return f"reduce {op} {','.join(axes)} %{arg}"
        case Running(_, op, arg, axis, reverse):
            return f"running {op} {axis} %{arg}" + (" reverse" if reverse else "")
        case Order(_, keys, axis, descending, first):
            ends = " descending" * descending + f" first {first}" * (first > 0)
            return f"order {axis} {_ids(keys)}{ends}"
        case Dot(_, lhs, rhs, m, n, k, precision):
            return f"dot {_ids((lhs, rhs))} m={m} n={n} k={k}{_precision(precision)}"
        case Conv(_, lhs, rhs, n, o, c, slides, precision, direct):
            moves = f" [{', '.join(map(_slide, slides))}]" if slides else ""
            how = _precision(precision) + " direct" * direct
            return f"conv {_ids((lhs, rhs))} n={n} o={o} c={c}{moves}{how}"
        case Store(buffer, index, value, mask):
            return f"store {buffer}[{format_index(index)}] = %{value}{_condition(mask)}"
        case AtomicUpdate(op, buffer, index, value, mask):
            return f"update {op} {buffer}[{format_index(index)}] %{value}{_condition(mask)}"


def format_index(index: Index) -> str:
    """``10*i + j - 3``; computed positions stand with their range, ``(%4 in 0..9)``."""
    parts = [(coefficient, _atom(atom)) for atom, coefficient in index.terms]
    text = ""
    for coefficient, atom in parts:
        size = abs(coefficient)
        term = atom if size == 1 else f"{size}*{atom}"
        text += _signed(term, coefficient < 0, first=not text)
    if index.offset or not parts:
        text += _signed(str(abs(index.offset)), index.offset < 0, first=not text)
    return text


def format_schedule(schedule: Schedule) -> str:
    """``i:parallel(4) j:loop j:vector``; a schedule with a grid says its launch width as well."""
    steps = [
        f"{step.axis}:{step.kind}" + (f"({step.size})" if step.size != 1 else "")
        for step in schedule.steps
    ]
    if any(step.kind == "grid" for step in schedule.steps):
        steps.append(f"warps={schedule.num_warps} stages={schedule.num_stages}")
        steps += [f"group={schedule.group}"] * (schedule.group != 1)
        steps += [f"programs={schedule.programs}"] * (schedule.programs != 0)
    return " ".join(steps) or "none"


def format_program(program: KernelProgram) -> str:
    """The launches of a program, then the text of each kernel."""
    kernels, calls = len(program.kernels), len(program.calls)
    lines = [f"program {program.name}: {program.num_slots} slots, {kernels} kernels, {calls} calls"]
    for call in program.calls:
        if not isinstance(call, Call):
            inner = ", ".join(body.program.name for body in bodies(call))
            lines.append(f"  {type(call).__name__} {call.name}: {inner}")
            continue
        kernel, _ = program.kernels[call.kernel]
        args = ", ".join(
            f"{buffer.name}=slot{address.slot}+{address.offset}"
            for buffer, address in zip(kernel.buffers, call.args, strict=True)
        )
        lines.append(f"  call {kernel.name}({args})")
    texts = [format_program(body.program) for call in program.calls for body in bodies(call)]
    texts += [format_kernel(kernel, schedule) for kernel, schedule in program.kernels]
    return "\n".join(["\n".join(lines) + "\n", *texts])


def _buffer(buffer: Buffer) -> str:
    alias = " alias" if buffer.may_alias else ""
    dtype = dtypes.short_name(buffer.dtype)
    return f"{buffer.name}: {dtype}[{buffer.size}] {buffer.role}{alias}"


def _scalar(value: Scalar, dtype: np.dtype) -> str:
    # NumPy prints the shortest digits that give the same float32 back.
    return str(np.float32(value)) if dtype == np.float32 else str(value)


def _ids(ids: Iterable[int]) -> str:
    return " ".join(f"%{id}" for id in ids)


def _precision(precision: str) -> str:
    return "" if precision == "ieee" else f" {precision}"


def _slide(slide: Slide) -> str:
    """``h = 2*y + u - 1``; the elements' axis with its spread, where that is not 1."""

    def term(factor: int, axis: str) -> str:
        return axis if factor == 1 else f"{factor}*{axis}"

    low = "" if not slide.low else f" {'-' if slide.low > 0 else '+'} {abs(slide.low)}"
    places = f"{term(slide.stride, slide.out)} + {term(slide.dilation, slide.rhs)}{low}"
    return f"{term(slide.spread, slide.lhs)} = {places}"


def _condition(mask: int | None) -> str:
    return "" if mask is None else f" if %{mask}"


def _signed(term: str, negative: bool, first: bool) -> str:
    if first:
        return f"-{term}" if negative else term
    return f" - {term}" if negative else f" + {term}"


def _atom(atom: Atom) -> str:
    match atom:
        case AxisAtom(name):
            return name
        case ValueAtom(id, low, high):
            return f"(%{id} in {low}..{high})"
        case DivAtom(index, divisor):
            return f"({_inner(index)} // {divisor})"
        case ModAtom(index, divisor):
            return f"({_inner(index)} mod {divisor})"


def _inner(index: Index) -> str:
    text = format_index(index)
    plain = len(index.terms) == 1 and index.offset == 0 and index.terms[0][1] == 1
    return text if plain else f"({text})"
