"""Programs as loaded functions and a table of their calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from funcdl.core.records import record
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.loop_parts import loop_parts
from funcdl.kernels.cpu_c.program.objects import shared_objects
from funcdl.kernels.cpu_c.program.standalone import (
    standalone,
    standalone_library_call,
    standalone_loop,
    unit_source,
)
from funcdl.kernels.cpu_c.program.table import Target, tabulate
from funcdl.kernels.cpu_c.render import render_function
from funcdl.kernels.cpu_c.small_loops.loop import small_loops
from funcdl.kir.program import KernelProgram, all_kernels, all_library_calls, all_scans
from funcdl.runtime import kernel_store
from funcdl.runtime.call_table import Words
from funcdl.runtime.toolchain import Compiler, Unit


@record
class StandaloneFunction:
    """A function that is compiled for itself, and the call's side of it but for the address."""

    text: str
    target: Target


def standalone_functions(program: KernelProgram) -> dict[str, StandaloneFunction]:
    """The functions of kernels, of loops over small ones, and of calls of libraries, by names."""
    kernels = {kernel.name: render_function(kernel, plan) for kernel, plan in all_kernels(program)}
    loops = small_loops(program, kernels)
    inside = frozenset[str]().union(*(loop.inside for loop in loops.values()))
    functions = {
        name: StandaloneFunction(
            standalone(function, kernel_store.NAME), Target(0, numbers=function.numbers)
        )
        for name, function in kernels.items()
        if name not in inside
    }
    for name, loop in loops.items():
        text = standalone_loop(loop, kernel_store.NAME)
        functions[name] = StandaloneFunction(text, Target(0, loop.numbers, loop.addresses))
    for call in all_library_calls(program):
        text, pointers, numbers = standalone_library_call(call, kernel_store.NAME)
        functions[call.name] = StandaloneFunction(text, Target(0, numbers, pointers))
    return functions


@record
class LoadedProgram:
    """A program's table of calls, and the functions that it calls.

    `places` are positions in the table that hold addresses, each with the number of the function.
    `names` are those that the table's labels number.
    """

    words: Words
    places: tuple[tuple[int, int], ...]
    functions: tuple[kernel_store.Loaded, ...]
    names: tuple[str, ...]

    @property
    def paths(self) -> frozenset[Path]:
        """The shared objects with the functions."""
        return frozenset(function.path for function in self.functions)


def load_program(compiler: Compiler, program: KernelProgram, name: str) -> LoadedProgram:
    """Load the functions of a program, and write its table of calls.

    Functions that are not to be found are compiled.

    Args:
        name: stem of the files that compiler messages mention.

    Raises:
        CompilerError: the compiler refused a unit.
    """
    functions = standalone_functions(program)
    flags = compile_flags(accepts=compiler.accepts)

    def unit(texts: Sequence[str]) -> Unit:
        objects = shared_objects(texts, flags)
        return Unit(unit_source(texts), flags, name, (include_dir(),), objects=objects)

    found = kernel_store.find(compiler, [each.text for each in functions.values()], unit)

    shares = {call.name: loop_parts(call) for call in all_scans(program)}

    def table(addresses: Iterable[int]) -> Words:
        targets = {
            name: Target(address, function.target.numbers, function.target.pointers, label)
            for label, ((name, function), address) in enumerate(
                zip(functions.items(), addresses, strict=True)
            )
        }
        return tabulate(program, targets, shares)

    # Only addresses differ between two tables.
    numbered, others = table(range(len(found))), table(range(1, len(found) + 1))
    places = tuple((i, a) for i, (a, b) in enumerate(zip(numbered, others, strict=True)) if a != b)
    words = table(loaded.address for loaded in found)
    return LoadedProgram(words, places, tuple(found), tuple(functions))
