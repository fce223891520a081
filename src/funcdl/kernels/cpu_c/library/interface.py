"""What a C library is made from: a program, with its arguments and results as C knows them.

`library.render` writes the C, and `library.files` what else is needed to build it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.records import record
from funcdl.kir.program import KernelProgram

NDArray = np.ndarray[Any, Any]

# In C and C++ alike, without headers of our own: (the type of an element, what it holds).
_PUBLIC_TYPES = {
    "bool": ("uint8_t", "one byte each, 0 or 1"),
    "f16": ("uint16_t", "the bits of IEEE binary16"),
    "bf16": ("uint16_t", "the upper halves of floats"),
    "f32": ("float", ""),
    "f64": ("double", ""),
    "c64": ("float", "pairs of real and imaginary parts"),
    "c128": ("double", "pairs of real and imaginary parts"),
    "float0": ("void", "holds no data"),
    **{f"i{n}": (f"int{n}_t", "") for n in (8, 16, 32, 64)},
    **{f"u{n}": (f"uint{n}_t", "") for n in (8, 16, 32, 64)},
}
# What a member cannot be called in C or C++, or where the compiler has a macro of that name.
_WORDS = re.compile(
    r"alignas|alignof|and|and_eq|asm|auto|bitand|bitor|bool|break|case|catch|char|class|compl|const|"
    r"constexpr|continue|default|delete|do|double|else|enum|explicit|export|extern|false|float|for|"
    r"friend|goto|if|inline|int|linux|long|mutable|namespace|new|noexcept|not|not_eq|nullptr|"
    r"operator|or|or_eq|private|protected|public|register|restrict|return|short|signed|sizeof|"
    r"static|struct|switch|template|this|throw|true|try|typedef|typeid|typename|typeof|union|unix|"
    r"unsigned|using|virtual|void|volatile|wchar_t|while|xor|xor_eq|u?int\d+_t|NULL"
)


@record
class Leaf:
    """An argument or a result: the user's name for it (``params['w1']``), and its type."""

    label: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def c_type(self) -> str:
        """The type of an element in the public header."""
        return _PUBLIC_TYPES[dtypes.short_name(self.dtype)][0]

    def __str__(self) -> str:
        note = _PUBLIC_TYPES[dtypes.short_name(self.dtype)][1]
        text = f"{self.label}: {dtypes.short_name(self.dtype)}[{','.join(map(str, self.shape))}]"
        return f"{text}, {note}" if note else text


@record
class Library:
    """What a library's files are made from.

    Slots of the program are the inputs, the constants, the outputs and the arena, in this order.

    Attributes:
        name: begins the names of all files and functions.
        program: None where nothing is computed.
        results: for each of the outputs its slot, or the array that it always is.
        donors: of output slots, the inputs whose memory they may take.
        arena: how many bytes it has.
    """

    name: str
    program: KernelProgram | None
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    constants: tuple[NDArray, ...]
    results: tuple[int | NDArray, ...]
    donors: Mapping[int, int]
    arena: int

    @property
    def input_names(self) -> list[str]:
        """The members of the structure of arguments."""
        return _identifiers([leaf.label for leaf in self.inputs])

    @property
    def output_names(self) -> list[str]:
        """The members of the structure of results."""
        return _identifiers([leaf.label for leaf in self.outputs])

    @property
    def data(self) -> dict[str, NDArray]:
        """The arrays of the data section, by their names in C: constants, and constant results."""
        found = {self.constant(at): value for at, value in enumerate(self.constants)}
        for at, result in enumerate(self.results):
            if isinstance(result, np.ndarray):
                found[self.constant_result(at)] = result
        return found

    def constant(self, at: int) -> str:
        return f"{self.name}_constant{at}"

    def constant_result(self, at: int) -> str:
        return f"{self.name}_result{at}"


def _identifiers(labels: Sequence[str]) -> list[str]:
    """Distinct names of members, each as near to its label as C and C++ allow."""
    taken: set[str] = set()
    found = []
    for label in labels:
        name = re.sub(r"[^0-9A-Za-z]+", "_", label).strip("_") or "value"
        if name[0].isdigit():
            name = f"value{name}"
        if _WORDS.fullmatch(name):
            name += "_"
        tries = chain([name], (f"{name}_{i}" for i in count(2)))
        unique = next(each for each in tries if each not in taken)
        taken.add(unique)
        found.append(unique)
    return found
