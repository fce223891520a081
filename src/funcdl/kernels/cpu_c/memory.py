"""Memory that the threads of a kernel take while it runs (fd_memory.h)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from funcdl.kernels.cpu_c.text import Writer

# The last parameter of functions that take memory, and what the call's side passes to it.
PARAMETER = "fd_missing *missing"
ARGUMENT = "&missing"

# Arrays up to this size are on the stack, larger ones on the heap.
STACK_BYTES = 256 * 1024


def takes_memory(body: str) -> bool:
    """Whether a function with this body has the `PARAMETER`."""
    return "fd_take(" in body


def stack_array(kind: str, name: str, size: object) -> str:
    """The declaration of an array on the stack that loops over vectors read and write.

    It is aligned to the widest vector. Compilers are told so, since gcc 12 stores by aligned
    vectors to arrays of 16 bits that it leaves unaligned otherwise.

    Args:
        kind: the C type of its elements.
        size: how many there are, a number or a C expression.
    """
    return f"_Alignas(64) {kind} {name}[{size}];"


@contextmanager
def heap_array(writer: Writer, kind: str, name: str, size: str) -> Iterator[None]:
    """An array on the heap, in a block which does not run where there is no memory.

    Args:
        kind: the C type of its elements.
        size: how many there are, as a C expression.
    """
    writer.line(f"{kind} *const {name} = fd_take((int64_t)sizeof({kind}) * {size}, missing);")
    with writer.block(f"if ({name} != NULL)"):
        yield
        writer.line(f"free({name});")
