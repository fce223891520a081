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
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.compiler.cpu.executable import CpuExecutable, Loaded, Memory, NativeStep
from funcdl.config import FLAGS, config
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Jaxpr, Literal, Var
from funcdl.core.primitive import Primitive
from funcdl.kernels.cpu_c.isa import compile_flags
from funcdl.ops import registry
from funcdl.ops.lowering import Loop
from funcdl.runtime import call_table, kernel_store
from funcdl.runtime.disk_cache import default_cache
from funcdl.runtime.toolchain import Compiler, Unit
from funcdl.transforms.jit_primitive import jit_call

if TYPE_CHECKING:
    from funcdl.kernels.cpu_c.program.native import LoadedProgram

NDArray = np.ndarray[Any, Any]

# Constants are read to find an entry, and written with it.
MOST_CONST_BYTES = 1 << 20
_SUFFIX = ".program"
# What a program does not depend on.
_OTHER_FLAGS = {"cache_dir", "compile_seconds", "dispatch", "keep_source", "num_threads"}
_OTHER_FLAGS |= {"traceback_filtering"}


class _NoKeyError(Exception):
    """Something in a program has no text of its own."""


def program_key(compiler: Compiler, closed: ClosedJaxpr, donated: Sequence[bool]) -> str | None:
    """What the program's entry is known by; None where it has none."""
    if config.check or config.dump:  # which look at every pass
        return None
    if sum(const.aval.nbytes for const in closed.consts) > MOST_CONST_BYTES:
        return None
    flags = tuple((name, getattr(config, name)) for name in FLAGS if name not in _OTHER_FLAGS)
    # Which of the flags the compiler refuses depends on its version, which the key has as well. The
    # headers are among the package's files.
    unit = Unit("", compile_flags())
    settings = sys.version, flags, tuple(donated), compiler.key(unit), package_digest()
    parts = [repr(settings)]
    try:
        _write_program(closed, parts)
    except _NoKeyError:
        return None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
            [(function.key, function.part_key) for function in program.functions],
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
        # An entry that was no use, since the disk lacked one of its functions, would stay.
        default_cache().remove(key, _SUFFIX)
        default_cache().put(key, _SUFFIX, data)


def find(key: str, compiler: Compiler, name: str) -> Loaded | None:
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
    return Loaded(CpuExecutable(memory, [step]), sum(path.stat().st_size for path in paths))


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


def _write_program(closed: ClosedJaxpr, parts: list[str]) -> None:
    _write_jaxpr(closed.jaxpr, parts)
    for const in closed.consts:
        parts.append(_array(const.value))


def _write_jaxpr(jaxpr: Jaxpr, parts: list[str]) -> None:
    # A training step has thousands of equations: what runs for each is written out here.
    numbers: dict[Var, int] = {}
    write = parts.append

    def bind(variables: Sequence[Var]) -> None:
        for var in variables:
            numbers[var] = len(numbers)
            write(_aval(var.aval))

    def read(atoms: Sequence[Atom]) -> None:
        for atom in atoms:
            if type(atom) is Literal:
                write(f"literal {_aval(atom.aval)} {_array(atom.value.value)}")
            else:
                write(str(numbers[atom]))

    write("program")
    bind(jaxpr.constvars)
    write("inputs")
    bind(jaxpr.invars)
    for eqn in jaxpr.eqns:
        if not _is_own(eqn.primitive):
            raise _NoKeyError
        write(eqn.primitive.name)
        read(eqn.invars)
        for name, value in eqn.params.items():
            write(name)
            _write_value(value, parts)
        write("to")
        bind(eqn.outvars)
    write("return")
    read(jaxpr.outvars)
    write("end")


@cache
def _is_own(primitive: Primitive) -> bool:
    """Whether the package defines it, so that `package_digest` covers its rules."""
    if registry.primitives().get(primitive.name) is primitive:
        return True
    return primitive is jit_call or isinstance(primitive.lower, Loop)


def _aval(aval: ShapedArray) -> str:
    return f"{_name(aval.dtype)}{'~' if aval.weak_type else ''}{aval.shape}"


_PLAIN = frozenset([type(None), bool, int, float, complex, str, bytes])
_INTS = {int}


def _write_value(value: Any, parts: list[str]) -> None:
    """A parameter of an equation, such that values of two types differ, as 1, 1.0 and True."""
    kind = type(value)
    if kind in _PLAIN or (kind is tuple and set(map(type, value)) == _INTS):
        parts.append(repr(value))
        return
    parts.append(kind.__qualname__)
    if isinstance(value, tuple | list):
        parts.append(str(len(value)))
        for item in value:
            _write_value(item, parts)
    elif kind is dict:
        parts.append(str(len(value)))
        for name, item in value.items():
            _write_value(name, parts)
            _write_value(item, parts)
    elif isinstance(value, np.dtype):
        parts.append(_name(value))
    elif isinstance(value, ClosedJaxpr):
        _write_program(value, parts)
    elif isinstance(value, Jaxpr):
        _write_jaxpr(value, parts)
    elif isinstance(value, Enum):
        parts.append(f"{kind.__module__} {value.name}")
    elif isinstance(value, np.generic) or kind is np.ndarray:
        parts.append(_array(np.asarray(value)))
    elif is_dataclass(kind) and kind.__module__.startswith("funcdl."):
        parts.append(kind.__module__)
        for field in fields(kind):
            _write_value(getattr(value, field.name), parts)
    else:
        raise _NoKeyError


def _array(value: NDArray) -> str:
    shape, name, data = _written(value)
    if len(data) > MOST_CONST_BYTES:
        raise _NoKeyError
    text = data.hex() if len(data) < 64 else hashlib.sha256(data).hexdigest()
    return f"{name}{shape}{text}"


def _written(value: NDArray) -> tuple[tuple[int, ...], str, bytes]:
    return value.shape, _name(value.dtype), value.tobytes()


def _read(written: tuple[tuple[int, ...], str, bytes]) -> NDArray:
    shape, name, data = written
    return np.ndarray(shape, np.dtype(name), data)


@cache
def _name(dtype: np.dtype[Any]) -> str:
    """A dtype's name, if it can be made of it again: not that of bytes, records or objects."""
    name = dtype.name
    with suppress(TypeError):
        if np.dtype(name) == dtype:
            return name
    raise _NoKeyError
