"""The stages of a jitted function that one can hold and look at (see `jax.stages`).

``jit(f).trace(...)`` gives a `Traced`, its ``lower()`` a `Lowered`, and that one's ``compile()`` a
`Compiled`, which is called with arrays.
"""

from __future__ import annotations

import re
from os import PathLike
from typing import TYPE_CHECKING, Any

from funcdl.config import config
from funcdl.core import backend, profiler, tree
from funcdl.core.array import Array, as_array
from funcdl.core.avals import ShapedArray, ShapeDtypeStruct
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.records import record
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError
from funcdl.transforms.jit_primitive import delete_donated

if TYPE_CHECKING:
    from pathlib import Path


@record
class Staged:
    """A function traced for one type of arguments."""

    program: ClosedJaxpr
    captured: tuple[Any, ...]
    out_tree: tree.TreeDef
    donated: tuple[bool, ...]

    @property
    def out_info(self) -> Any:
        """The output's structure, as `ShapeDtypeStruct`s."""
        return self.out_tree.unflatten(
            [
                ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)
                for aval in self.program.out_avals
            ]
        )


class _Stage:
    _staged: Staged

    @property
    def jaxpr(self) -> ClosedJaxpr:
        """The traced program."""
        return self._staged.program

    @property
    def out_info(self) -> Any:
        """The output's structure, as `ShapeDtypeStruct`s."""
        return self._staged.out_info


class Traced(_Stage):
    """A traced function (see `jax.stages.Traced`)."""

    def __init__(self, name: str, staged: Staged) -> None:
        self._staged = staged
        self.fun_name = name

    def lower(self) -> Lowered:
        """Hand the program to the back end that is configured now."""
        return Lowered(self.fun_name, self._staged)

    def __repr__(self) -> str:
        return f"<traced {self.fun_name}>"


class Lowered(_Stage):
    """A traced function, ready to be compiled or looked at (see `jax.stages.Lowered`)."""

    def __init__(self, name: str, staged: Staged) -> None:
        self._name = name
        self._staged = staged
        self._lowered = backend.get(config.backend).lower(
            staged.program, name=name, donated=staged.donated
        )

    @property
    def out_tree(self) -> tree.TreeDef:
        """The structure of the output."""
        return self._staged.out_tree

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program after a stage of the compiler.

        Stages of the C back end: ``"jaxpr"``, ``"simplified"``, ``"groups"`` (fusion groups, and
        the reason for each cut), ``"kernels"`` (kernel IR), ``"schedule"``, ``"memory"``, ``"c"``.

        Raises:
          ArgumentError: there is no such stage.
        """
        return self._lowered.as_text(stage)

    def cost_analysis(self) -> dict[str, Any]:
        """What one run costs, counted from its kernels (see `jax.stages.Lowered.cost_analysis`).

        Returns ``"flops"``, ``"transcendentals"``, ``"bytes accessed"``, and ``"kernels"``: a list
        of the same for one call of each kernel, with its ``"name"``, the number of its ``"calls"``
        in one run, and its ``"source"`` line. `funcdl.kir.cost` says how it is counted. A while
        loop counts as one step, a `cond` as the costliest of its branches. Equations that run on
        the host count their bytes only.

        Raises:
          ArgumentError: the program was lowered for the reference back end.
        """
        return self._lowered.cost_analysis()

    def write_library(self, folder: str | PathLike[str], name: str | None = None) -> Path:
        """Write the program as a C library, to be built and called without Python.

        The folder holds readable C, the headers that it includes, a Makefile, and a program that
        calls the library; docs/deployment.md describes them. Arrays that the function closes over
        are part of the library. Its arguments are the leaves of the function's arguments, of the
        types that it was lowered for; `static_argnums` are fixed. Where the C compiler is given the
        flags of the Makefile, results have the bits of those here.

        Args:
          folder: where to write; made if missing. Files of the same names are replaced.
          name: begins the names of files and functions: letters, digits and underscores. None takes
            the function's.

        Returns:
          The folder.

        Raises:
          ArgumentError: a part of the program runs on the host (linear algebra of large matrices,
            callbacks, printing), which the message lists with their lines; the back end is none for
            the CPU; the function was lowered while a transform traced it, and closes over values of
            that trace; `name` is no name in C.
        """
        return _write_library(self._staged, self._lowered, folder, name, self._name)

    def compile(self) -> Compiled:
        """Compile for the types that were traced."""
        return Compiled(self._name, self._staged, self._lowered)


class Compiled:
    """A program compiled for fixed argument types; call it with the dynamic arguments."""

    def __init__(self, name: str, staged: Staged, lowered: backend.LoweredProgram) -> None:
        self._name = name
        self._staged = staged
        self._lowered = lowered
        self._executable = lowered.compile()
        self._profiled: backend.Executable | None = None

    def as_text(self, stage: str = "jaxpr") -> str:
        """The program after a stage of the compiler (see `Lowered.as_text`).

        Raises:
          ArgumentError: there is no such stage.
        """
        return self._lowered.as_text(stage)

    def cost_analysis(self) -> dict[str, Any]:
        """What one run costs (see `Lowered.cost_analysis`)."""
        return self._lowered.cost_analysis()

    def memory_analysis(self) -> backend.MemoryAnalysis:
        """The sizes of its memory (see `jax.stages.Compiled.memory_analysis`)."""
        return self._lowered.memory_analysis()

    def write_library(self, folder: str | PathLike[str], name: str | None = None) -> Path:
        """Write the program as a C library (see `Lowered.write_library`)."""
        return _write_library(self._staged, self._lowered, folder, name, self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = [as_array(x) for x in tree.leaves((args, kwargs) if kwargs else args)]
        if any(isinstance(x, Tracer) for x in leaves):
            raise ArgumentError(
                "a compiled program cannot be differentiated, mapped or traced; call the jitted "
                "function that it was lowered from"
            )
        self._check_types([x.aval for x in leaves])
        try:
            outs = self._chosen()([x.value for x in leaves])
        except BaseException as error:
            if backend.had_begun(error):
                delete_donated(leaves, self._staged.donated)
            raise
        delete_donated(leaves, self._staged.donated)
        avals = self._staged.program.out_avals
        return self._staged.out_tree.unflatten(
            [Array(x, aval.weak_type) for x, aval in zip(outs, avals, strict=True)]
        )

    def _chosen(self) -> backend.Executable:
        """The executable, or the one that tells times while a profile is taken."""
        if not profiler.active:
            return self._executable
        if self._profiled is None:
            self._profiled = self._lowered.compile(profiled=True)
        return self._profiled

    def _check_types(self, found: list[ShapedArray]) -> None:
        program = self._staged.program
        wanted, names = program.in_avals, program.jaxpr.names
        if len(found) != len(wanted):
            raise ArgumentError(
                f"this program was compiled for {len(wanted)} arrays, called with {len(found)}"
            )
        assert names is not None
        lines = [
            f"  {name}: found {have}, wanted {want}"
            for name, have, want in zip(names, found, wanted, strict=True)
            if not have.same_type(want)
        ]
        if lines:
            raise ArgumentError(
                "this program was compiled for other argument types:\n"
                + "\n".join(lines)
                + "\nCall the jitted function instead, which compiles for each type."
            )


def _write_library(
    staged: Staged,
    lowered: backend.LoweredProgram,
    folder: str | PathLike[str],
    name: str | None,
    function: str,
) -> Path:
    if name is None:
        # The name of a lambda has brackets.
        name = re.sub(r"\W+", "_", function, flags=re.ASCII).strip("_") or "program"
        name = f"f{name}" if name[0].isdigit() else name
    elif not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ArgumentError(
            f"write_library: name is {name!r}; names in C are made of letters, digits and "
            "underscores, and begin with a letter"
        )
    if staged.captured:
        raise ArgumentError(
            f"write_library: {function} was lowered inside of a transform and closes over "
            f"{len(staged.captured)} of its traced values, which a library cannot hold. Pass them "
            "as arguments, or lower the outermost function"
        )
    names = staged.program.jaxpr.names
    assert names is not None
    outputs = [f"out{tree.format_path(path)}" for path in tree.paths(staged.out_tree)]
    # Imported here, since few programs are written to files: with what it imports it takes 3 ms.
    from pathlib import Path

    target = Path(folder)
    lowered.write_library(target, name, (names, outputs))
    return target
