"""Kernels without their program: texts that depend on nothing else, by which they are found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from funcdl.kernels.cpu_c.function import Function, parameter_list, pointer_type
from funcdl.kernels.cpu_c.memory import PARAMETER
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kernels.cpu_c.program.calls import render_library_call
from funcdl.kernels.cpu_c.program.objects import LINKED
from funcdl.kernels.cpu_c.render import includes
from funcdl.kernels.cpu_c.small_loops.choice import storage
from funcdl.kernels.cpu_c.small_loops.loop import SmallLoop
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.program import Address, LibraryCall


def standalone(function: Function, name: str) -> str:
    """The C function of a kernel, and one that calls it, with the same parameters for all kernels:
    ``void <name>(void *const *pointers, const int64_t *numbers, fd_missing *missing)``.

    Without the comment, and with other names for the buffers, so that equal work has equal texts.
    """
    buffers = function.kernel.buffers
    writer = Writer()
    with _exported(name, writer):
        arguments = [f"({pointer_type(buffer)})pointers[{at}]" for at, buffer in enumerate(buffers)]
        arguments += [n.unpack(f"numbers[{at}]") for at, n in enumerate(function.numbers)]
        arguments += ["missing"] if function.takes_memory else []
        writer.call(f"{name}_kernel", arguments)
    return f"{_anonymous(function, f'{name}_kernel', 'static')}\n{writer.text()}"


def standalone_loop(loop: SmallLoop, name: str) -> str:
    """The function of a loop over small kernels, with those, and one that calls it likewise."""
    names = {function.kernel.name: f"{name}_{at}" for at, function in enumerate(loop.kernels)}
    texts = [_anonymous(f, names[f.kernel.name], storage(f)) for f in loop.kernels]
    text = loop.declared(f"{name}_loop")
    texts.append(re.sub(r"\w+", lambda match: names.get(match[0], match[0]), text))
    writer = Writer()
    with _exported(name, writer):
        arguments = [f"({kind})pointers[{at}]" for at, kind in enumerate(loop.types)]
        arguments += [n.unpack(f"numbers[{at}]") for at, n in enumerate(loop.numbers)]
        writer.call(f"{name}_loop", arguments)
    return "\n".join([*texts, writer.text()])


def _anonymous(function: Function, name: str, storage: str) -> str:
    """A kernel's function without the comment, and with other names for the buffers."""
    renamed = {old: f"fd_p{at}" for at, old in enumerate(function.buffers)}
    pattern = re.compile(rf"\b(?:{'|'.join(renamed)})\b") if renamed else None

    def rename(line: str) -> str:
        # Directives have words of their own, and name no buffer.
        if pattern is None or line.lstrip().startswith("#"):
            return line
        return pattern.sub(lambda match: renamed[match[0]], line)

    writer = Writer()
    parameters = parameter_list(
        function.kernel.buffers, list(renamed.values()), function.numbers, function.takes_memory
    )
    writer.call(f"{storage} void {name}", parameters, end=" {")
    return writer.text() + "".join(map(rename, function.body.splitlines(keepends=True)))


def standalone_library_call(
    call: LibraryCall, name: str
) -> tuple[str, list[Address], list[Number]]:
    """Calls of a library as such a function, and the addresses and numbers that it takes.

    All numbers are: one text serves all sizes.
    """
    places: dict[Address, int] = {}
    numbers: list[Number] = []

    def pointer(address: Address) -> str:
        return f"pointers[{places.setdefault(address, len(places))}]"

    def number(value: float) -> str:
        dtype = np.dtype(np.int64 if isinstance(value, int) else np.float64)
        numbers.append(Number(dtype, f"number{len(numbers)}", value))
        return numbers[-1].unpack(f"numbers[{len(numbers) - 1}]")

    writer = Writer()
    writer.line(f'#include "{call.header}"')
    with _exported(name, writer):
        render_library_call(call, writer, pointer, number)
    return writer.text(), list(places), numbers


@contextmanager
def _exported(name: str, writer: Writer) -> Iterator[None]:
    """The braces of a function that other shared objects see."""
    signature = f"void {name}(void *const *pointers, const int64_t *numbers, {PARAMETER})"
    writer.line(f'__attribute__((visibility("default"))) {signature};')
    with writer.block(signature):
        writer.line("(void)pointers;")
        writer.line("(void)numbers;")
        writer.line("(void)missing;")
        yield


def unit_source(texts: Sequence[str]) -> str:
    """A C file with these functions, to be linked with `shared_objects`."""
    return "\n".join([LINKED + includes(texts), *texts])
