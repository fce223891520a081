"""Writes a program as a C library: what `Lowered.write_library` is on the CPU.

It needs no C compiler.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from funcdl.compiler.cpu.executable import memory_of
from funcdl.compiler.fusion.fuse import fuse
from funcdl.compiler.pipeline import Pipeline, native_segments
from funcdl.compiler.program import FindLibrary
from funcdl.compiler.steps import HostStep
from funcdl.core.jaxpr import ClosedJaxpr, Eqn
from funcdl.errors import ArgumentError
from funcdl.kernels.cpu_c.library.files import library_files, write_files
from funcdl.kernels.cpu_c.library.interface import Leaf, Library
from funcdl.ops.lowering import Loop


def write_library(
    pipeline: Pipeline,
    find: FindLibrary,
    folder: Path,
    name: str,
    labels: tuple[Sequence[str], Sequence[str]],
) -> None:
    """Write the files of a library into a folder.

    Args:
        find: calls of libraries that the back end has for some equations.
        labels: the user's names of the arguments, and of the results.

    Raises:
        ArgumentError: part of the program runs on the host.
    """
    program = pipeline.program
    hosts = [step.eqn for step in program.segments if isinstance(step, HostStep)]
    if hosts:
        raise ArgumentError(_refusal(pipeline.name, hosts, find))
    closed = pipeline.simplified
    memory = memory_of(closed, program)
    first_out = program.num_inputs + program.num_consts
    donors = {
        first_out + at: donor
        for at, (_, _, donor) in enumerate(memory.outputs)
        if donor is not None
    }
    inputs, outputs = (
        tuple(Leaf(label, x.shape, x.dtype) for label, x in zip(names, avals, strict=True))
        for names, avals in zip(labels, (closed.in_avals, closed.out_avals), strict=True)
    )
    segments = native_segments(program)
    library = Library(
        name,
        segments[0] if segments else None,
        inputs,
        outputs,
        memory.consts,
        memory.results,
        donors,
        memory.arena_bytes,
    )
    write_files(folder, library_files(library))


def _refusal(name: str, hosts: Sequence[Eqn], find: FindLibrary) -> str:
    culprits = [found for eqn in hosts for found in (list(_on_host(eqn, find)) or [eqn])]
    lines = dict.fromkeys(f"  {eqn.primitive.name}, at {_place(eqn)}" for eqn in culprits)
    return (
        f"write_library: {name} cannot be a C library, since these run on the host (NumPy, SciPy "
        "or Python), which it would have to do without:\n"
        + "\n".join(lines)
        + "\nLeave them out of the function, and call them before or after the library"
    )


def _place(eqn: Eqn) -> str:
    return "an unknown line" if eqn.source is None else eqn.source.describe()


def _on_host(eqn: Eqn, find: FindLibrary) -> Iterator[Eqn]:
    """What of an equation on the host is to blame: of a loop, the equations in its bodies."""
    if not isinstance(eqn.primitive.lower, Loop):
        yield eqn
        return
    for value in eqn.params.values():
        for body in value if isinstance(value, tuple | list) else [value]:
            if isinstance(body, ClosedJaxpr):
                yield from _in_body(body, find)


def _in_body(body: ClosedJaxpr, find: FindLibrary) -> Iterator[Eqn]:
    for group in fuse(body.jaxpr).groups:
        eqn = group.members[0]
        if group.kind == "host" and find(eqn, "f") is None:
            yield from _on_host(eqn, find)
