"""The calls of a program in C: kernels in a row, and loops around programs of kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from funcdl.core.records import record
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.function import Function, pointer_type
from funcdl.kernels.cpu_c.memory import ARGUMENT, PARAMETER
from funcdl.kernels.cpu_c.small_loops.loop import SmallLoop, small_loops
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.program import (
    Address,
    AnyCall,
    Body,
    BranchCall,
    Call,
    Copy,
    KernelProgram,
    LibraryCall,
    Pointer,
    Record,
    ScanCall,
    Value,
    WhileCall,
    all_library_calls,
    bodies,
)


@record
class Callees:
    """What calls have to know: `more` is what kernels take beside pointers, by their names, and
    `loops` are those that are one function."""

    more: Mapping[str, Sequence[str]]
    loops: Mapping[str, SmallLoop]


def callees_of(program: KernelProgram, functions: Sequence[Function]) -> Callees:
    """The callees of a program, given those of all its kernels."""
    more = {
        f.kernel.name: [*(n.literal for n in f.numbers), *[ARGUMENT] * f.takes_memory]
        for f in functions
    }
    return Callees(more, small_loops(program, {f.kernel.name: f for f in functions}))


def render_bodies(call: AnyCall, callees: Callees, writer: Writer) -> None:
    """Functions for the programs that a call runs, innermost first, or for a call of a library or
    of a loop over small kernels."""
    if isinstance(call, ScanCall | WhileCall) and call.name in callees.loops:
        writer.lines(callees.loops[call.name].declared(call.name).splitlines())
        writer.line()
        return
    if isinstance(call, LibraryCall):
        # In parentheses, for the name may be a macro's (`program.profile`).
        with writer.block(f"static void ({call.name})(void **slots, {PARAMETER})"):
            render_library_call(call, writer, _pointer)
        writer.line()
    for body in bodies(call):
        for inner in body.program.calls:
            render_bodies(inner, callees, writer)
        render_entry(body.program, body.program.name, callees, writer, static=True)
        writer.line()


def render_entry(
    program: KernelProgram, name: str, callees: Callees, writer: Writer, *, static: bool = False
) -> None:
    """``int64_t name(void **slots)``, which makes the program's calls in order.

    It returns after the first one that misses memory, with how many bytes it asked for; else 0.
    """
    with writer.block(f"{'static ' if static else ''}int64_t {name}(void **slots)"):
        if not program.calls:
            writer.line("(void)slots;")
        if any(_takes_memory(program, call, callees) for call in program.calls):
            writer.line("fd_missing missing = 0;")
        for call in program.calls:
            match call:
                case Call():
                    _render_kernel_call(program, call, callees, writer)
                case ScanCall() | WhileCall() if call.name in callees.loops:
                    _render_small_loop(call.name, callees.loops[call.name], writer)
                case ScanCall():
                    _render_scan(call, writer)
                case WhileCall():
                    _render_while(call, writer)
                case BranchCall():
                    _render_branches(call, writer)
                case LibraryCall():
                    writer.line(f"{call.name}(slots, {ARGUMENT});")
            if _takes_memory(program, call, callees):
                writer.line("if (missing != 0) return missing;")
        writer.line("return 0;")


def _takes_memory(program: KernelProgram, call: AnyCall, callees: Callees) -> bool:
    """Whether a call is of a function that says by itself what memory it missed."""
    if isinstance(call, Call):
        return ARGUMENT in callees.more[program.kernels[call.kernel][0].name]
    return isinstance(call, LibraryCall)


def _render_kernel_call(
    program: KernelProgram, call: Call, callees: Callees, writer: Writer
) -> None:
    kernel, _ = program.kernels[call.kernel]
    arguments = [
        f"({pointer_type(buffer)})({_pointer(address)})"
        for buffer, address in zip(kernel.buffers, call.args, strict=True)
    ]
    writer.call(kernel.name, [*arguments, *callees.more[kernel.name]])


def _render_small_loop(name: str, loop: SmallLoop, writer: Writer) -> None:
    arguments = [
        f"({kind})({_pointer(address)})"
        for kind, address in zip(loop.types, loop.addresses, strict=True)
    ]
    writer.call(name, [*arguments, *(number.literal for number in loop.numbers)])


def library_headers(program: KernelProgram) -> list[str]:
    """The headers whose functions a program calls, and the programs that it calls."""
    return sorted({call.header for call in all_library_calls(program)})


def render_library_call(
    call: LibraryCall,
    writer: Writer,
    address: Callable[[Address], str],
    number: Callable[[int | float], str] = repr,
) -> None:
    """The calls of a library's functions, where `address` spells those of arrays, and `number`
    numbers. Each passes on the parameter `missing` of the function around them."""

    def argument(value: Value) -> str:
        if isinstance(value, Pointer):
            return f"({text.type_name(value.dtype)} *)({address(value.address)})"
        if isinstance(value, tuple):
            return "{" + ", ".join(map(number, value)) + "}"
        return number(value)

    for at, (function, values) in enumerate(call.functions):
        arguments = []
        for position, value in enumerate(values):
            if isinstance(value, Record):
                record = f"record{at}_{position}"
                with writer.block(f"const {value.type} {record} =", end="};"):
                    for field, entry in value.fields:
                        writer.line(f".{field} = {argument(entry)},")
                arguments.append(record)
            else:
                arguments.append(argument(value))
        writer.call(function, [*arguments, "missing"])


def _render_scan(call: ScanCall, writer: Writer) -> None:
    writer.comment(f"{call.name}: {call.length} steps" + (", last to first" * call.reverse))
    if call.length == 0:
        _render_copies(call.if_empty, writer)
        return
    with writer.block(f"for (int64_t step = 0; step < {call.length}; ++step)"):
        position = "step"
        if call.reverse:
            position = "position"
            writer.line(f"const int64_t position = {call.length - 1} - step;")
        _render_body_call(call.body, position, call.length, writer)


def _render_while(call: WhileCall, writer: Writer) -> None:
    writer.comment(call.name)
    with writer.block(""):
        writer.line("int64_t step = 0;")
        with writer.block("for (;; ++step)"):
            _render_body_call(call.condition, "step", None, writer)
            writer.line(f"if (!*(const uint8_t *)({_pointer(call.flag)})) break;")
            _render_body_call(call.body, "step", None, writer)
        for test, copies in zip(
            ("step == 0", "step % 2 == 1", "step != 0 && step % 2 == 0"), call.results, strict=True
        ):
            with writer.block(f"if ({test})"):
                _render_copies(copies, writer)


def _render_branches(call: BranchCall, writer: Writer) -> None:
    writer.comment(call.name)
    with writer.block(f"switch (*(const int32_t *)({_pointer(call.index)}))"):
        for number, body in enumerate(call.branches):
            last = number == len(call.branches) - 1
            with writer.block("default:" if last else f"case {number}:"):
                _render_body_call(body, "0", None, writer)
                writer.line("break;")


def _render_body_call(body: Body, position: str, length: int | None, writer: Writer) -> None:
    """Fill the body's slots for this step, and call it."""
    with writer.block(""):
        writer.line(f"void *inner[{max(len(body.slots), 1)}];")
        for number, binding in enumerate(body.slots):
            if binding.alternate is not None:
                even, odd = map(_pointer, binding.alternate)
                place = f"step % 2 ? {odd} : {even}"
            elif binding.stride:
                place = f"{_pointer(binding.base)} + {position} * {binding.stride}"
            else:
                place = _pointer(binding.base)
            if binding.first is not None:
                place = f"step == 0 ? {_pointer(binding.first)} : {place}"
            if binding.last is not None and length is not None:
                place = f"step == {length - 1} ? {_pointer(binding.last)} : {place}"
            writer.line(f"inner[{number}] = {place};")
        writer.line(f"const int64_t status = {body.program.name}(inner);")
        writer.line("if (status != 0) return status;")


def _render_copies(copies: Sequence[Copy], writer: Writer) -> None:
    for copy in copies:
        if copy.nbytes:
            target, source = _pointer(copy.target), _pointer(copy.source)
            writer.line(f"memmove({target}, {source}, {copy.nbytes});")


def _pointer(address: Address) -> str:
    return f"(char *)slots[{address.slot}] + {address.offset}"
