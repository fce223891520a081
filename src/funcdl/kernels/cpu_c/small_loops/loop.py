"""A loop over small kernels as a C function, and which loops of a program are such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from funcdl.core.records import record
from funcdl.kernels.cpu_c.function import Function
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kernels.cpu_c.small_loops.choice import has_few_calls, storage
from funcdl.kernels.cpu_c.small_loops.render import Renderer
from funcdl.kernels.cpu_c.small_loops.uses import IrregularError
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.program import (
    Address,
    KernelProgram,
    ScanCall,
    WhileCall,
    all_kernels,
    bodies,
)


@record
class SmallLoop:
    """A loop as a C function.

    Its pointers have `types` and `pointers` for names, and are to be `addresses` of the program
    around it; `body` is the part in braces, and calls `kernels`. `inside` are the names of all
    kernels of the loop: copies to where an array is already are never called.
    """

    types: tuple[str, ...]
    pointers: tuple[str, ...]
    addresses: tuple[Address, ...]
    numbers: tuple[Number, ...]
    body: str
    kernels: tuple[Function, ...]
    inside: frozenset[str]

    def declared(self, name: str) -> str:
        """The function by a name."""
        writer = Writer()
        parameters = [f"{a}{b}" for a, b in zip(self.types, self.pointers, strict=True)]
        parameters += [number.declaration for number in self.numbers]
        writer.call(f"static void {name}", parameters, end=" {")
        return writer.text() + self.body


def small_loops(program: KernelProgram, functions: Mapping[str, Function]) -> dict[str, SmallLoop]:
    """The outermost loops over small kernels, by their names.

    Args:
        functions: those of all kernels, by their names.
    """
    found: dict[str, SmallLoop] = {}
    for call in program.calls:
        if isinstance(call, ScanCall | WhileCall):
            loop = small_loop(call, functions)
            if loop is not None:
                found[call.name] = loop
                continue
        for body in bodies(call):
            found |= small_loops(body.program, functions)
    return found


def small_loop(call: ScanCall | WhileCall, functions: Mapping[str, Function]) -> SmallLoop | None:
    """The function of a loop, or None where not all that it calls is small."""
    if not has_few_calls(call):
        return None
    renderer = Renderer(functions)
    try:
        body, numbers = renderer.render(call)
    except IrregularError:
        return None
    found = renderer.parameters.found
    return SmallLoop(
        tuple(kind for _, kind, _ in found),
        tuple(name for _, _, name in found),
        tuple(address for address, _, _ in found),
        numbers,
        body,
        tuple(renderer.called.values()),
        frozenset(k.name for each in bodies(call) for k, _ in all_kernels(each.program)),
    )


def kernel_texts(
    functions: Iterable[Function], loops: Mapping[str, SmallLoop], otherwise: str
) -> list[str]:
    """The texts of the kernels that small loops call, and of others, declared otherwise."""
    inside = frozenset[str]().union(*(loop.inside for loop in loops.values()))
    called = {function.kernel.name for loop in loops.values() for function in loop.kernels}
    return [
        function.declared(storage(function) if name in called else otherwise)
        for function in functions
        if (name := function.kernel.name) in called or name not in inside
    ]
