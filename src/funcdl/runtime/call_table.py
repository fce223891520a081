"""Tables of calls: programs as 64-bit words, which one C function runs (call_table.c).

This side knows the layout of records; what they call is for the compiler to say.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from funcdl.runtime.shared_object import SharedObject
from funcdl.runtime.toolchain import Compiler, Unit

SOURCE = Path(__file__).with_name("call_table.c")
_FLAGS = ("-O2", "-std=gnu11", "-fvisibility=hidden")
Words = list[int]
Place = tuple[int, int]

_END, _KERNEL, _SCAN, _WHILE, _BRANCH = range(5)
_ABSENT = (-1, 0)  # no place: a slot that does not exist

Runner = Callable[[bytes, int], int | None]


def unit() -> Unit:
    """What the C compiler makes the function of."""
    return Unit(SOURCE.read_text(), _FLAGS, "call_table")


@cache
def runner(compiler: Compiler) -> Runner:
    """``const int64_t *fd_run_calls(void **slots, const int64_t *words)``, built when first asked
    for. It returns the address of what `read_failure` reads, or None.

    Raises:
        CompilerError: it cannot be built.
    """
    function = compiler.load(unit(), SharedObject).function("fd_run_calls")
    function.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    function.restype = ctypes.c_void_p
    run: Runner = function
    return run


def read_failure(address: int) -> tuple[int, int]:
    """How many bytes a kernel asked for in vain, and the label of its call.

    To be read by the thread that made the failing call, before its next one.
    """
    nbytes, label = (ctypes.c_int64 * 2).from_address(address)
    return nbytes, label


def kernel(
    function: int, pointers: Sequence[Place], numbers: Sequence[int], label: int = 0
) -> Words:
    """A call of the function at an address.

    It is a ``void f(void *const *pointers, const int64_t *numbers, _Atomic int64_t *missing)``,
    which writes to `missing` how many bytes of memory it asked for in vain, if any.
    """
    return [_KERNEL, function, len(pointers), len(numbers), label, *_flat(pointers), *numbers]


def binding(
    base: Place,
    stride: int = 0,
    first: Place | None = None,
    last: Place | None = None,
    alternate: tuple[Place, Place] | None = None,
) -> Words:
    """What a slot of a body points to; see `kir.program.Binding`."""
    even, odd = (_ABSENT, _ABSENT) if alternate is None else alternate
    return [stride, *_flat([base, first or _ABSENT, last or _ABSENT, even, odd])]


def body(bindings: Sequence[Words], calls: Sequence[Words]) -> Words:
    """A program that a loop runs."""
    return [len(bindings), *(word for b in bindings for word in b), *program(calls)]


def copies(moves: Sequence[tuple[Place, Place, int]]) -> Words:
    """From the first place to the second, so many bytes."""
    return [len(moves), *(word for a, b, nbytes in moves for word in (*a, *b, nbytes))]


def scan(
    length: int, reverse: bool, step: Words, if_empty: Words, shares: Sequence[Words] = ()
) -> Words:
    """A fixed number of steps.

    Args:
        shares: ways to run it in parts at the same time, by rising numbers of parts.
    """
    return _record(_SCAN, [length, int(reverse), len(shares)], [step, *shares], if_empty)


def share(parts: int, strides: Sequence[int], calls: Sequence[Words]) -> Words:
    """A scan in so many parts, which run these calls in place of the step's.

    Args:
        strides: for each slot of the step, the bytes from one part's memory to the next one's.
    """
    return [parts, *strides, *program(calls)]


def while_loop(flag: Place, condition: Words, step: Words, results: Sequence[Words]) -> Words:
    """Steps while a condition leaves a nonzero byte at `flag`.

    Args:
        results: copies after no step, after an odd, and after an even number of steps.
    """
    return _record(_WHILE, list(flag), [condition, step, *results])


def branch(index: Place, branches: Sequence[Words]) -> Words:
    """One of several bodies, by an int32; the last where it is none of their numbers."""
    return _record(_BRANCH, [*index, len(branches)], branches)


def program(calls: Sequence[Words]) -> Words:
    """Records one after the other."""
    return [*(word for call in calls for word in call), _END]


def _record(
    kind: int, head: Sequence[int], parts: Sequence[Words], inline: Sequence[int] = ()
) -> Words:
    """A record whose parts stand at its end; their positions come after `head`, then `inline`."""
    at = 2 + len(head) + len(parts) + len(inline)
    positions = []
    for part in parts:
        positions.append(at)
        at += len(part)
    return [kind, at, *head, *positions, *inline, *(word for part in parts for word in part)]


def _flat(places: Sequence[Place]) -> Words:
    return [word for place in places for word in place]
