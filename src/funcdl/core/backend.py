"""What `jit` asks of a back end, and the table of those that exist.

`jit` never imports a compiler: back ends register themselves here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.reference import run_reference
from funcdl.errors import ArgumentError

NDArray = np.ndarray[Any, Any]


class Executable(Protocol):
    """A compiled program."""

    def __call__(self, args: Sequence[NDArray]) -> Sequence[NDArray]:
        """Run on flat inputs; outputs are fresh arrays that the caller owns."""
        ...


class LoweredProgram(Protocol):
    """A program on its way through the compiler."""

    def as_text(self, stage: str) -> str:
        """The program as one stage left it.

        Raises:
          ArgumentError: there is no such stage; the message lists those that exist.
        """
        ...

    def compile(self) -> Executable:
        """The executable; this is where native compilers run."""
        ...


class Backend(Protocol):
    """A way to compile programs for some device."""

    name: str

    def lower(self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]) -> LoweredProgram:
        """Take in a program; `donated` says which inputs' memory it may reuse."""
        ...


class ReferenceProgram:
    """Runs a program equation by equation with the primitives' NumPy implementations."""

    def __init__(self, program: ClosedJaxpr) -> None:
        self._program = program

    def as_text(self, stage: str) -> str:
        """The jaxpr; there are no other stages."""
        if stage == "jaxpr":
            return str(self._program)
        raise ArgumentError(
            f"the reference back end has no stage {stage!r}; it has: 'jaxpr'. "
            "The compiler's stages are those of funcdl.config.backend = 'cpu'."
        )

    def compile(self) -> ReferenceProgram:
        """Nothing to do."""
        return self

    def __call__(self, args: Sequence[NDArray]) -> list[NDArray]:
        outs = run_reference(self._program, args)
        for out in outs:
            # Results may be views of inputs, of constants or of each other: never to be donated.
            out.flags.writeable = False
        return outs


class ReferenceBackend:
    """The back end that is always there: no compiler, NumPy only."""

    name = "reference"

    def lower(
        self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]
    ) -> ReferenceProgram:
        """Take in a program."""
        return ReferenceProgram(program)


_factories: dict[str, Callable[[], Backend]] = {"reference": ReferenceBackend}
_instances: dict[str, Backend] = {}


def register(name: str, factory: Callable[[], Backend]) -> None:
    """Make a back end known; `factory` runs when it is first used."""
    _factories[name] = factory
    _instances.pop(name, None)


def get(name: str) -> Backend:
    """The back end of that name.

    Raises:
      ArgumentError: no back end has this name.
    """
    if name == "auto":
        name = "cpu" if "cpu" in _factories else "reference"
    backend = _instances.get(name)
    if backend is None:
        if name not in _factories:
            known = ", ".join(sorted(_factories))
            raise ArgumentError(f"no back end is called {name!r}; there are: auto, {known}")
        backend = _instances[name] = _factories[name]()
    return backend
