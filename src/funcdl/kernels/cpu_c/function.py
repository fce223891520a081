"""A kernel's C function, and what it is declared as."""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.core.records import record
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.memory import PARAMETER, takes_memory
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.ir import Buffer, Kernel


@record
class Function:
    """A kernel as a C function.

    `comment` stands before it, `body` is the part in braces; `buffers` are the names of the
    pointers. One that takes memory says what it missed by a last parameter (fd_memory.h).
    """

    kernel: Kernel
    comment: str
    body: str
    buffers: tuple[str, ...]
    numbers: tuple[Number, ...]

    @property
    def takes_memory(self) -> bool:
        return takes_memory(self.body)

    @property
    def text(self) -> str:
        """``static void <kernel's name>(<a pointer for each buffer>, <numbers>)``."""
        return self.declared("static")

    def declared(self, storage: str) -> str:
        """The function, with these words before its type; all lines but the last stand alone."""
        writer = Writer()
        *lines, storage = storage.splitlines()
        writer.lines(lines)
        parameters = parameter_list(
            self.kernel.buffers, self.buffers, self.numbers, self.takes_memory
        )
        writer.call(f"{storage} void {self.kernel.name}", parameters, end=" {")
        return self.comment + writer.text() + self.body


def pointer_type(buffer: Buffer) -> str:
    """The C type of a kernel's parameter."""
    const = "const " if buffer.role == "in" else ""
    return f"{const}{text.type_name(buffer.dtype)} *"


def parameter_list(
    buffers: Sequence[Buffer],
    names: Sequence[str],
    numbers: Sequence[Number],
    takes_memory: bool,
) -> list[str]:
    """The declarations of a function's parameters."""
    pointers = [
        f"{pointer_type(buffer)}{'' if buffer.may_alias else 'restrict '}{name}"
        for buffer, name in zip(buffers, names, strict=True)
    ]
    parameters = [*pointers, *(number.declaration for number in numbers)]
    parameters += [PARAMETER] if takes_memory else []
    return parameters or ["void"]
