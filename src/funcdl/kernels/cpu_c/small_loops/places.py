"""Where arrays are in the text of a small loop: parameters, and variables of its steps."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from funcdl.core.records import record
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.small_loops.uses import Array, IrregularError
from funcdl.kir.program import Address, Body

LOCAL_BYTES = 256
"""Arrays up to this size that no one outside of the loop sees are variables."""


@record
class Place:
    """Where elements are: a pointer to the first one, or a variable that is the only one."""

    name: str
    single: bool = False

    @property
    def pointer(self) -> str:
        return f"&{self.name}" if self.single else self.name

    @property
    def value(self) -> str:
        """The first element."""
        return self.name if self.single else f"*{self.name}"

    def at(self, position: str) -> str:
        """The element at a position."""
        return f"(&{self.name})[{position}]" if self.single else f"{self.name}[{position}]"

    def declaration(self, array: Array) -> tuple[str, str]:
        """The type and the declarator of a variable."""
        size = "" if self.single else f"[{array.size}]"
        return text.type_name(array.dtype), f"{self.name}{size}"


class Names:
    """Numbers names that begin alike."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def new(self, *stems: str) -> list[str]:
        """Names with one number that none of these stems has had."""
        number = max(self._counts.get(stem, 0) for stem in stems)
        self._counts |= dict.fromkeys(stems, number + 1)
        return [f"{stem}{number}" for stem in stems]


class Outer(Protocol):
    """The text around a loop or a body."""

    def place(
        self, address: Address, array: Array, stem: str = "at", *, written: bool = False
    ) -> Place:
        """Where an array is; a new name for it begins with `stem`."""


class Parameters:
    """Around the whole function: every address is a parameter."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._places: dict[tuple[Address, np.dtype], Place] = {}
        self._written: set[tuple[Address, np.dtype]] = set()

    def place(
        self, address: Address, array: Array, stem: str = "at", *, written: bool = False
    ) -> Place:
        """The parameter for an address."""
        key = address, array.dtype
        if key not in self._places:
            (name,) = self._names.new(stem)
            self._places[key] = Place(name)
        if written:
            self._written.add(key)
        return self._places[key]

    @property
    def found(self) -> list[tuple[Address, str, str]]:
        """The address, the type and the name of each."""
        found = []
        for (address, dtype), place in self._places.items():
            const = "" if (address, dtype) in self._written else "const "
            found.append((address, f"{const}{text.type_name(dtype)} *", place.name))
        return found


class Scope:
    """Around the calls of a body: its slots are what a loop made of them, small temporaries
    variables, and large ones where the arena has them.

    Args:
        outer: what the addresses of the body's arena belong to.
    """

    def __init__(self, outer: Outer, body: Body, names: Names) -> None:
        self.program = body.program
        self.slots: dict[int, Place] = {}
        self.declared: list[tuple[str, str]] = []
        self._outer = outer
        self._arena = body.slots[-1].base
        self._names = names
        self._temporaries: dict[tuple[int, Array], Place] = {}

    def place(
        self, address: Address, array: Array, stem: str = "at", *, written: bool = False
    ) -> Place:
        """What stands for an address of the body.

        Raises:
            IrregularError: a slot that no one knows.
        """
        if address.slot == self.program.num_slots - 1:
            key = address.offset, array
            if key not in self._temporaries:
                self._temporaries[key] = self._temporary(address.offset, array)
            return self._temporaries[key]
        if address.slot not in self.slots:
            raise IrregularError
        return self.slots[address.slot]

    def variable(self, name: str, array: Array) -> Place:
        """A variable of each step."""
        place = Place(name, array.size == 1)
        self.declared.append(place.declaration(array))
        return place

    def declarations(self) -> list[str]:
        """The variables of a step, those of one type in one line."""
        by_type: dict[str, list[str]] = {}
        for kind, declarator in self.declared:
            by_type.setdefault(kind, []).append(declarator)
        return [f"{kind} {', '.join(found)};" for kind, found in by_type.items()]

    def _temporary(self, offset: int, array: Array) -> Place:
        if 0 < array.nbytes <= LOCAL_BYTES:
            (name,) = self._names.new("temp")
            return self.variable(name, array)
        address = Address(self._arena.slot, self._arena.offset + offset)
        return self._outer.place(address, array, "temp", written=True)
