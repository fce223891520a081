"""C expressions and statements for single instructions of a kernel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.masked_lanes import lane_name, lanes
from funcdl.kernels.cpu_c.parameters import Parameters
from funcdl.kir.elementwise import lookup
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Bitcast,
    Cast,
    Const,
    Elementwise,
    IndexValue,
    Kernel,
    Load,
    Running,
    Select,
    Store,
)


class Expressions:
    """Spells instructions, given which values have a name at this point of the C function."""

    def __init__(self, kernel: Kernel, parameters: Parameters | None = None) -> None:
        self.kernel = kernel
        self.parameters = Parameters() if parameters is None else parameters
        self.vector_axis = ""  # of the loop that is vectorised
        self.elements: dict[int, str] = {}  # values that were computed before, into arrays
        self.targets: dict[Store, str] = {}  # stores to arrays, which are copied later
        self.accumulators: dict[int, str] = {}  # of running values that are computed step by step
        self.divisors: frozenset[int] = frozenset()  # to be inverted where they are defined
        self._bound: dict[int, str] = {}
        self._inverses: dict[int, str] = {}
        self._names = _names(kernel)
        self._lanes = lanes(kernel)
        self._single = frozenset(axis.name for axis in kernel.axes if axis.extent == 1)

    def axis_name(self, axis: str) -> str:
        """The C variable that holds the position along `axis`."""
        return self._names["axis", axis]

    def buffer_name(self, buffer: str) -> str:
        """The C parameter of `buffer`."""
        return self._names["buffer", buffer]

    def extent(self, axis: str) -> str:
        """How many positions there are along `axis`."""
        return self._size("n", axis, self.kernel.axis(axis).extent)

    def chunk(self, axis: str, size: int) -> str:
        """The size of the chunks in which threads share `axis`."""
        return self._size("chunk", axis, size)

    def _size(self, stem: str, axis: str, value: int) -> str:
        return self.parameters.size(stem, axis, self.axis_name(axis), value)

    def is_bound(self, id: int) -> bool:
        """Whether the value has a name or is a literal."""
        return id in self._bound or isinstance(self.kernel.body[id], Const)

    def bind(self, id: int, name: str) -> None:
        """From here on, up to the end of the scope, the value is called `name`."""
        self._bound[id] = name

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Forget at the end what is bound inside."""
        saved = dict(self._bound), dict(self._inverses)
        yield
        self._bound, self._inverses = saved

    def value(self, id: int) -> str:
        """The value's name, or its literal."""
        instruction = self.kernel.body[id]
        if isinstance(instruction, Const):
            return self.parameters.constant(id, instruction)
        return self._bound[id]

    def define(self, id: int, name: str = "") -> str:
        """A declaration of the value, which is bound to `name` (by default ``v`` and its id)."""
        name = name or f"v{id}"
        kind = text.type_name(self.kernel.value_type(id).dtype)
        declaration = f"const {kind} {name} = {self.compute(id)};"
        self.bind(id, name)
        return declaration

    def invert(self, id: int) -> list[str]:
        """The declaration of the value's inverse, if many numbers are divided by the value."""
        if id not in self.divisors:
            return []
        t = text.short_name(self._dtype(id))
        self._inverses[id] = f"inverse{id}"
        return [f"const fd_inverse_{t} inverse{id} = fd_invert_{t}({self.value(id)});"]

    def compute(self, id: int) -> str:
        """The right-hand side of the value's definition."""
        if id in self.elements:
            return self.elements[id]
        instruction = self.kernel.body[id]
        match instruction:
            case IndexValue(type_, index):
                narrow = type_.dtype == np.int32 and text.span(index) < 2**31
                return self.index(index, narrow)
            case Load(type_, buffer, index, mask, other):
                pointer = self.buffer_name(buffer)
                if id in self._lanes:
                    pointer = lane_name(pointer, self._lanes[id])
                element = f"{pointer}[{self.index(index)}]"
                if mask is None:
                    return element
                return f"{self.value(mask)} ? {element} : {text.literal(other, type_.dtype)}"
            case Elementwise(type_, "div", (left, right)) if right in self._inverses:
                if self.vector_axis in type_.axes:
                    t = text.short_name(type_.dtype)
                    return f"fd_divide_{t}({self.value(left)}, {self._inverses[right]})"
                return self._elementwise("div", (left, right))
            case Elementwise(_, name, args):
                return self._elementwise(name, args)
            case Select(_, which, on_true, on_false):
                return f"{self.value(which)} ? {self.value(on_true)} : {self.value(on_false)}"
            case Cast(type_, arg):
                if self._is_comparison(arg) and dtypes.is_inexact(type_.dtype):
                    one, zero = (text.literal(value, type_.dtype) for value in (1, 0))
                    return f"{self.value(arg)} ? {one} : {zero}"
                return text.cast(self.value(arg), self._dtype(arg), type_.dtype)
            case Bitcast(type_, arg):
                return text.bitcast(self.value(arg), self._dtype(arg), type_.dtype)
            case Running(type_, op, arg):
                total = self.accumulators[id]
                return f"{total} = {accumulate(op, total, self.value(arg), type_.dtype)}"
        raise TypeError(f"%{id} of kernel {self.kernel.name} has no expression: {instruction}")

    def index(
        self, index: Index, narrow: bool | None = None, at: Mapping[str, str] | None = None
    ) -> str:
        """An index at the present position, computed in 32 bits if `narrow`.

        By default that is so if the elements are scattered in memory along a vectorised loop: gcc
        gathers by 32-bit positions only. Where they are contiguous it must not be, since for all
        that gcc knows a 32-bit sum could wrap around. `at`: other positions along some axes.
        """
        if narrow is None:
            narrow = self.is_scattered(index) and text.span(index) < 2**31
        kind = "int32_t" if narrow else text.POSITION

        def position(axis: str) -> str:
            if axis in self._single:
                return "0"
            if at is not None and axis in at:
                return at[axis]
            return f"(int32_t){self.axis_name(axis)}" if narrow else self.axis_name(axis)

        def computed(id: int) -> str:
            same = text.type_name(self._dtype(id)) == kind
            value = self.value(id) if same else f"({kind}){self.value(id)}"
            return f"({value} + fd_zero)" if self._may_be_lane_mask(id) else value

        return text.index_text(index, position, computed)

    def _is_comparison(self, id: int) -> bool:
        """Whether a truth value is computed here: as a lane's mask, for all that gcc knows.

        To convert masks to numbers of other sizes it has no vectors, and to choose by them it has.
        """
        is_bool = dtypes.is_bool(self._dtype(id))
        return is_bool and not isinstance(self.kernel.body[id], Load | Const)

    def _may_be_lane_mask(self, id: int) -> bool:
        """Whether gcc may find that a position along the vectorised loop is 0 or 1.

        If it is made from a comparison, gcc 12 gathers at the lanes of its mask: at -1 for 1.
        """
        instruction = self.kernel.body[id]
        while isinstance(instruction, Cast):
            instruction = self.kernel.body[instruction.arg]
        computed = not isinstance(instruction, Load | Const | IndexValue)
        return computed and self.vector_axis in self.kernel.value_type(id).axes

    def effect(self, effect: Store | AtomicUpdate) -> str:
        """A store or an update as one statement."""
        dtype = self.kernel.buffer(effect.buffer).dtype
        target = self.targets.get(effect, "") if isinstance(effect, Store) else ""
        target = target or f"{self.buffer_name(effect.buffer)}[{self.index(effect.index)}]"
        value = self.value(effect.value)
        if isinstance(effect, AtomicUpdate):
            value = update(effect.op, target, value, dtype)
        condition = "" if effect.mask is None else f"if ({self.value(effect.mask)}) "
        return f"{condition}{target} = {value};"

    def _elementwise(self, name: str, args: tuple[int, ...]) -> str:
        dtype = self._dtype(args[0])
        template = lookup(name).c
        if callable(template):
            template = template(dtype)
        if template is None:
            raise NotImplementedError(f"operation {name!r} has no C form for {dtype}")
        return template.format(*map(self.value, args), t=text.short_name(dtype))

    def _dtype(self, id: int) -> np.dtype:
        return self.kernel.value_type(id).dtype

    def is_scattered(self, index: Index) -> bool:
        """Whether an index does more along the vectorised axis than advance in equal steps."""
        for atom, _ in index.terms:
            one = Index(((atom, 1),))
            computed = any(self.vector_axis in self.kernel.value_type(v).axes for v in one.values())
            if computed or (self.vector_axis in one.axes() and not isinstance(atom, AxisAtom)):
                return True
        return False


def update(op: str, old: str, value: str, dtype: np.dtype) -> str:
    """``op(old, value)`` for the combining operations of updates, on one dtype."""
    t = text.short_name(dtype)
    if op == "set":
        return value
    if dtypes.is_bool(dtype):
        return f"{old} {'|' if op == 'max' else '&'} {value}"
    if op in ("min", "max") or dtypes.is_integer(dtype):
        return f"fd_{op}_{t}({old}, {value})"
    return f"{old} {'+' if op == 'add' else '*'} {value}"


def accumulate(op: str, total: str, value: str, dtype: np.dtype) -> str:
    """The next running result."""
    if op == "logsumexp":
        return f"fd_running_pair_{text.short_name(dtype)}({total}, {value})"
    return update({"sum": "add", "prod": "mul"}.get(op, op), total, value, dtype)


def _names(kernel: Kernel) -> dict[tuple[str, str], str]:
    """C identifiers for buffers and axes: their own names where C and the generated code allow."""
    taken: set[str] = set()
    names: dict[tuple[str, str], str] = {}
    entries = [("buffer", b.name) for b in kernel.buffers] + [("axis", a.name) for a in kernel.axes]
    for kind, name in entries:
        # Some names are reserved by how they start, some by how they end.
        others = (f"x{'_' * count}{name}_" for count in itertools.count(1))
        candidates = itertools.chain([name, f"{name}_"], others)
        chosen = next(c for c in candidates if c not in taken and not text.RESERVED.fullmatch(c))
        taken.add(chosen)
        names[kind, name] = chosen
    return names
