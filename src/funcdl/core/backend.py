"""What `jit` asks of a back end, and the table of those that exist.

`jit` never imports a compiler: back ends register themselves here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from funcdl.core.array import Array
from funcdl.core.jaxpr import ClosedJaxpr, eval_jaxpr
from funcdl.core.trace import current_trace, eval_trace
from funcdl.errors import ArgumentError

NDArray = np.ndarray[Any, Any]


class Executable(Protocol):
    """A compiled program."""

    def __call__(self, args: Sequence[NDArray]) -> Sequence[NDArray]:
        """Run on flat inputs; outputs are fresh arrays that the caller owns."""
        ...

    def as_text(self, stage: str) -> str:
        """The program as one stage of the compiler left it.

        Raises:
          ArgumentError: there is no such stage; the message lists those that exist.
        """
        ...


class Backend(Protocol):
    """A way to compile programs for some device."""

    name: str

    def compile(self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]) -> Executable:
        """Compile a program; `donated` says which inputs' memory it may reuse."""
        ...


class ReferenceExecutable:
    """Runs a program equation by equation with the primitives' NumPy implementations."""

    def __init__(self, program: ClosedJaxpr) -> None:
        self._program = program

    def __call__(self, args: Sequence[NDArray]) -> list[NDArray]:
        arrays = [
            Array(x, aval.weak_type) for x, aval in zip(args, self._program.in_avals, strict=True)
        ]
        with current_trace(eval_trace):
            outs = eval_jaxpr(self._program.jaxpr, self._program.consts, arrays)
        return [out.value for out in outs]

    def as_text(self, stage: str) -> str:
        if stage == "jaxpr":
            return str(self._program)
        raise ArgumentError(
            f"the reference back end has no stage {stage!r}; it has: 'jaxpr'. "
            "The stages of the compiler need a C compiler on this machine."
        )


class ReferenceBackend:
    """The back end that is always there: no compiler, NumPy only."""

    name = "reference"

    def compile(
        self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]
    ) -> ReferenceExecutable:
        return ReferenceExecutable(program)


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
