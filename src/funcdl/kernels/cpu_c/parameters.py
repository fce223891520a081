"""Numbers that a kernel's C function takes as arguments, so that more kernels are one function.

They are the number of positions along one axis, the *generic* one, where nothing but a loop's bound
depends on it; the chunks in which threads share that loop; and float constants (the 1/n of a mean
changes with n). See docs/shape_generic.md.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

import numpy as np

from funcdl.core.records import record
from funcdl.kernels.cpu_c import text
from funcdl.kir.index import DivAtom, Index, ModAtom
from funcdl.kir.ir import (
    AtomicUpdate,
    Const,
    Elementwise,
    IndexValue,
    Kernel,
    Load,
    Select,
    Store,
    operands,
)

# Operations that take a number from a register as fast as one that the compiler knows.
_PLAIN = frozenset({"add", "sub", "mul", "max", "min"})
# Numbers that a compiler can make something of.
_KNOWN = frozenset({0.0, 0.25, 0.5, 1.0, 2.0})


@record
class Number:
    """A parameter of a C function: its type, its name, and what a call passes."""

    dtype: np.dtype
    name: str
    value: int | float

    @property
    def declaration(self) -> str:
        return f"const {text.type_name(self.dtype)} {self.name}"

    @property
    def literal(self) -> str:
        """The argument in C."""
        if self.dtype == np.int64:
            return str(self.value)
        return text.literal(self.value, self.dtype)

    @property
    def word(self) -> int:
        """The argument as 64 bits: floats as those of a double."""
        if self.dtype == np.int64:
            return int(self.value)
        (bits,) = struct.unpack("q", struct.pack("d", self.value))
        return int(bits)

    def unpack(self, word: str) -> str:
        """The C expression of the argument, given that of its word."""
        if self.dtype == np.int64:
            return word
        double = f"fd_from_bits_f64((uint64_t){word})"
        return double if self.dtype == np.float64 else f"(float){double}"


class Parameters:
    """The numbers of one function, as far as its text so far has asked for them.

    Args:
        axis: the generic axis; '' where there is none, and all numbers are spelled out.
        constants: ids of the constants that are parameters.
    """

    def __init__(self, axis: str = "", constants: frozenset[int] = frozenset()) -> None:
        self.axis = axis
        self.constants = constants
        self._numbers: dict[str, Number] = {}

    @property
    def numbers(self) -> tuple[Number, ...]:
        return tuple(sorted(self._numbers.values(), key=lambda n: (n.dtype != np.int64, n.name)))

    def size(self, stem: str, axis: str, name: str, value: int) -> str:
        """A size of `axis` (`name` in C): a parameter if that is the generic one, else digits."""
        if axis != self.axis:
            return str(value)
        return self._add(np.dtype(np.int64), f"{stem}_{name}", value)

    def constant(self, id: int, instruction: Const) -> str:
        """The name of a constant that is a parameter, else its literal."""
        dtype = instruction.type.dtype
        if id not in self.constants:
            return text.literal(instruction.value, dtype)
        return self._add(dtype, f"const{id}", float(instruction.value))

    def _add(self, dtype: np.dtype, name: str, value: int | float) -> str:
        self._numbers[name] = Number(dtype, name, value)
        return name


def generic_parameters(kernel: Kernel, vector_axes: Collection[str]) -> Parameters:
    """The parameters of a kernel, none where no axis is generic.

    Args:
        vector_axes: of the innermost loops.
    """
    axis = generic_axis(kernel)
    return Parameters(axis, generic_constants(kernel, vector_axes)) if axis else Parameters()


def generic_axis(kernel: Kernel) -> str:
    """The first axis along which every index that reads it goes farthest; '' if there is none.

    No other stride then depends on its extent: it is what a batch is in dense arrays.
    """
    indices = [
        i.index for i in kernel.body if isinstance(i, IndexValue | Load | Store | AtomicUpdate)
    ]
    for axis in kernel.axes:
        found = [_leads(index, axis.name) for index in indices if axis.name in index.axes()]
        if axis.extent > 1 and found and all(found):
            return axis.name
    return ""


def _leads(index: Index, axis: str) -> bool:
    """Whether no term of the index goes farther than one that reads the axis."""
    reaches: dict[bool, int] = {False: 0, True: 0}
    for atom, coefficient in index.terms:
        alone = Index(((atom, 1),))
        if alone.axes():
            reads = axis in alone.axes()
            reaches[reads] = max(reaches[reads], abs(coefficient) * max(map(abs, alone.range())))
            inner = atom.index if isinstance(atom, DivAtom | ModAtom) else None
            if reads and inner is not None and not _leads(inner, axis):
                return False
    return reaches[True] >= reaches[False]


def generic_constants(kernel: Kernel, vector_axes: Collection[str]) -> frozenset[int]:
    """Float constants that cost nothing as parameters.

    A division by one of them stays as it is in the innermost loop, where a compiler makes some
    divisors factors.
    """
    found = {
        id
        for id, i in enumerate(kernel.body)
        if isinstance(i, Const)
        and i.type.dtype in (np.float32, np.float64)
        and np.isfinite(i.value)
        and abs(i.value) not in _KNOWN
    }
    for instruction in kernel.body:
        match instruction:
            case Elementwise(_, name, _) if name in _PLAIN:
                continue
            case Elementwise(type_, "div", _) if not set(type_.axes).intersection(vector_axes):
                continue
            case Select() | Store() | AtomicUpdate():
                continue
        found.difference_update(operands(instruction))
    return frozenset(found)
