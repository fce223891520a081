"""Programs on disk: what a new process needs to run one whose passes another process ran.

An entry holds the table of calls, with keys of functions in place of their addresses, and the
memory of a call. Its key is all that the passes look at: the traced program with its constants,
which arguments are donated, the settings, the C compiler, and the package's own source files. A
program that holds what has no text of its own, such as a Python function, has no key and no entry.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from funcdl.compiler.cpu.executable import CpuExecutable, Memory, NativeStep
from funcdl.config import FLAGS, config
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Jaxpr, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.core.records import record
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.native import LoadedProgram
from funcdl.ops import registry
from funcdl.ops.lowering import Loop
from funcdl.runtime import call_table, kernel_store
from funcdl.runtime.disk_cache import default_cache
from funcdl.runtime.toolchain import Compiler, Unit
from funcdl.transforms.jit_primitive import jit_call

NDArray = np.ndarray[Any, Any]

# Constants are read to find an entry, and written with it.
MOST_CONST_BYTES = 1 << 20
_SUFFIX = ".program"
# What a program does not depend on.
_OTHER_FLAGS = {"cache_dir", "num_threads", "keep_source", "traceback_filtering", "dispatch"}


@record
class Found:
    """An executable from the disk, and the size of its shared objects."""

    executable: CpuExecutable
    code_bytes: int


class _NoKeyError(Exception):
    """Something in a program has no text of its own."""


def program_key(compiler: Compiler, closed: ClosedJaxpr, donated: Sequence[bool]) -> str | None:
    """What the program's entry is known by; None where it has none."""
    if config.check or config.dump:  # which look at every pass
        return None
    if sum(const.aval.nbytes for const in closed.consts) > MOST_CONST_BYTES:
        return None
    flags = tuple((name, getattr(config, name)) for name in FLAGS if name not in _OTHER_FLAGS)
    # Which of the flags the compiler refuses depends on its version, which the key has as well.
    unit = Unit("", compile_flags(), "", (include_dir(),))
    settings = sys.version, flags, tuple(donated), compiler.key(unit), package_digest()
    digest = hashlib.sha256(repr(settings).encode())
    try:
        for part in _program(closed):
            digest.update(part.encode() if isinstance(part, str) else part)
            digest.update(b"\0")
    except _NoKeyError:
        return None
    return digest.hexdigest()


def store(key: str, memory: Memory, program: LoadedProgram) -> None:
    """Keep a program of one table of calls, if all of it can be written."""
    if sum(const.nbytes for const in memory.consts) > MOST_CONST_BYTES:
        return
    words = list(program.words)
    for position, number in program.places:
        words[position] = number
    try:
        content = (
            words,
            program.places,
            [function.key for function in program.functions],
            program.names,
            memory.num_inputs,
            [_written(const) for const in memory.consts],
            [(shape, _name(dtype), donor) for shape, dtype, donor in memory.outputs],
            memory.arena_bytes,
            [r if isinstance(r, int) else _written(np.asarray(r)) for r in memory.results],
        )
        data = marshal.dumps(content)
    except (_NoKeyError, ValueError):
        return
    with suppress(OSError):
        default_cache().put(key, _SUFFIX, data)


def find(key: str, compiler: Compiler, name: str) -> Found | None:
    """Load a program; None where the disk does not have it, or lacks one of its functions.

    Args:
        name: of the program, for errors of its calls.

    Raises:
        CompilerError: the function that reads tables of calls cannot be built.
    """
    data = default_cache().get_bytes(key, _SUFFIX)
    if data is None:
        return None
    words, places, keys, names, num_inputs, consts, outputs, arena_bytes, results = marshal.loads(
        data
    )
    functions = kernel_store.load(keys)
    if functions is None:
        return None
    for position, number in places:
        words[position] = functions[number].address
    memory = Memory(
        num_inputs,
        tuple(_read(const) for const in consts),
        tuple((shape, np.dtype(dtype), donor) for shape, dtype, donor in outputs),
        arena_bytes,
        tuple(r if isinstance(r, int) else _read(r) for r in results),
    )
    paths = {function.path for function in functions}
    step = NativeStep(call_table.runner(compiler), words, names, name)
    return Found(CpuExecutable.loaded(memory, [step]), sum(path.stat().st_size for path in paths))


@cache
def package_digest() -> str:
    """A hash of the names, sizes and times of the package's source files."""
    digest = hashlib.sha256()
    for path, size, time in sorted(_sources(os.fspath(Path(__file__).parents[2]))):
        digest.update(f"{path}\0{size}\0{time}\0".encode())
    return digest.hexdigest()


def _sources(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _sources(entry.path)
            elif entry.name.endswith((".py", ".c", ".h")):
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns


def _program(closed: ClosedJaxpr) -> Iterator[str | bytes]:
    yield from _jaxpr(closed.jaxpr)
    for const in closed.consts:
        yield from _array(const.value)


def _jaxpr(jaxpr: Jaxpr) -> Iterator[str | bytes]:
    numbers: dict[Var, int] = {}

    def binders(variables: Sequence[Var]) -> str:
        for var in variables:
            numbers[var] = len(numbers)
        return " ".join(map(_aval, variables))

    def reads(atoms: Sequence[Atom]) -> Iterator[str | bytes]:
        for atom in atoms:
            if isinstance(atom, Literal):
                yield "literal " + _aval(atom)
                yield from _array(atom.value.value)
            else:
                yield str(numbers[atom])

    yield f"program {binders(jaxpr.constvars)}; {binders(jaxpr.invars)}"
    for eqn in jaxpr.eqns:
        if not _is_own(eqn.primitive):
            raise _NoKeyError
        yield eqn.primitive.name
        yield from reads(eqn.invars)
        yield from _value(eqn.params)
        yield "to " + binders(eqn.outvars)
    yield "return"
    yield from reads(jaxpr.outvars)
    yield "end"


@cache
def _is_own(primitive: Primitive) -> bool:
    """Whether the package defines it, so that `package_digest` covers its rules."""
    if registry.primitives().get(primitive.name) is primitive:
        return True
    return primitive is jit_call or isinstance(primitive.lower, Loop)


def _aval(atom: Atom) -> str:
    aval = atom.aval
    return f"{_name(aval.dtype)}{'~' if aval.weak_type else ''}{aval.shape}"


def _value(value: Any) -> Iterator[str | bytes]:
    """A parameter of an equation, with its type: 1, 1.0 and True differ."""
    kind = type(value)
    yield kind.__qualname__
    if value is None or kind in (bool, int, float, complex, str, bytes):
        yield repr(value)
    elif isinstance(value, tuple | list):
        yield str(len(value))
        for item in value:
            yield from _value(item)
    elif kind is dict:
        yield str(len(value))
        for name, item in value.items():
            yield from _value(name)
            yield from _value(item)
    elif isinstance(value, np.dtype):
        yield _name(value)
    elif isinstance(value, ClosedJaxpr):
        yield from _program(value)
    elif isinstance(value, Jaxpr):
        yield from _jaxpr(value)
    elif isinstance(value, Enum):
        yield f"{kind.__module__} {value.name}"
    elif isinstance(value, np.generic) or kind is np.ndarray:
        yield from _array(np.asarray(value))
    elif is_dataclass(kind) and kind.__module__.startswith("funcdl."):
        yield kind.__module__
        for field in fields(kind):
            yield from _value(getattr(value, field.name))
    else:
        raise _NoKeyError


def _array(value: NDArray) -> Iterator[str | bytes]:
    shape, name, data = _written(value)
    if len(data) > MOST_CONST_BYTES:
        raise _NoKeyError
    yield f"{name}{shape}"
    yield hashlib.sha256(data).digest()


def _written(value: NDArray) -> tuple[tuple[int, ...], str, bytes]:
    return value.shape, _name(value.dtype), value.tobytes()


def _read(written: tuple[tuple[int, ...], str, bytes]) -> NDArray:
    shape, name, data = written
    return np.ndarray(shape, np.dtype(name), data)


def _name(dtype: np.dtype[Any]) -> str:
    """A dtype's name, if it can be made of it again: not that of bytes, records or objects."""
    if not _is_from_name(dtype):
        raise _NoKeyError
    return dtype.name


@cache
def _is_from_name(dtype: np.dtype[Any]) -> bool:
    try:
        return np.dtype(dtype.name) == dtype
    except TypeError:
        return False
