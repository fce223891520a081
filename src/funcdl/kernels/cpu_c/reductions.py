"""Accumulators: how a reduction starts, takes one value in, and ends, as C statements.

A reduction along a row has an accumulator for each of a number of lanes (row_lanes.py), or scalar
ones, which `omp simd reduction` spreads over the lanes of a vector. One down the columns has arrays
of accumulators, one for each lane of a tile.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kir.identity import identity
from funcdl.kir.ir import Reduce

ARG_OPS = ("argmax", "argmin")
_OPERATORS = {"sum": "+", "prod": "*", "and": "&", "or": "|"}


class Accumulator:
    """The C variables of one reduction: ``acc4``, and as needed ``sum4``, ``nan4`` and ``at4``.

    A maximum of floats along a row is taken without regard to NaN, which vectorises, while ``nan4``
    notes whether there was one. In lanes, they follow at the end from ``part4`` and ``size4``. The
    position of a row's maximum is found in a second pass over it.

    Args:
        id: of the `reduce` instruction.
        source: element type of what is reduced.
        lane: this lane's subscript, such as ``[j - j_tile]``; empty for scalar accumulators.
        lanes: the length of the arrays.
        spread: the number of lanes that a row is taken in by; 0 for scalar accumulators.
        blocked: float sums of blocks are added up in ``sum4``, for accuracy; of a row's maximum,
            ``block4`` notes in which block its first position is, so that only that is searched.
    """

    def __init__(
        self,
        id: int,
        reduce: Reduce,
        source: np.dtype,
        lane: str = "",
        lanes: int = 0,
        blocked: bool = False,
        spread: int = 0,
    ) -> None:
        self.id = id
        self.reduce = reduce
        self.is_array = bool(lane)
        self._is_arg = reduce.op in ARG_OPS
        self.notes_block = blocked and self._is_arg and not lane
        is_sum = reduce.op == "sum" and dtypes.is_inexact(source)
        self.blocked = self.notes_block or (blocked and is_sum)
        self._source = source
        self._spread = spread
        self._beyond = ""
        self._lane = lane
        self._lanes = lanes
        self._op: str = reduce.op
        if dtypes.is_bool(source) and reduce.op in ("max", "min"):
            self._op = "or" if reduce.op == "max" else "and"
        self._orders = self._op not in _OPERATORS
        self._flags_nan = self._orders and dtypes.is_float(source) and not lane

    def declare(self) -> list[str]:
        """Declarations, to stand before all loops; arrays are still without values."""
        if self._spread and not self.blocked:
            return self._open_lanes()
        lines = []
        adds_up = self.blocked and not self.notes_block
        if adds_up:
            lines.append(self._declaration(self._total_type, "sum", "0.0"))
        if self.notes_block:
            lines.append(self._declaration(text.POSITION, "block", "0"))
        if not adds_up or self.is_array:
            lines.append(self._declaration(self._work_type, "acc", self._identity))
        if self._flags_nan:
            lines.append(self._declaration("int", "nan", "0"))
        if self._is_arg and self.is_array:
            lines.append(self._declaration(self._at_type, "at", "0"))
        return lines

    def clear(self) -> list[str]:
        """Initial values of one lane."""
        lines = [f"{self._name('sum')} = 0.0;"] if self.blocked else []
        if not self.blocked:
            lines.append(f"{self._name('acc')} = {self._identity};")
        if self._is_arg:
            lines.append(f"{self._name('at')} = 0;")
        return lines

    def open_block(self) -> list[str]:
        """What stands before each block of a blocked sum (of one lane)."""
        if self.is_array:
            return [f"{self._name('acc')} = {self._identity};"]
        if self._spread:
            return self._open_lanes()
        if not self.notes_block:
            return [self._declaration(self._work_type, "acc", self._identity)]
        lines = [self._declaration(self._work_type, "part", self._identity)]
        return [*lines, self._declaration("int", "odd", "0")] if self._flags_nan else lines

    def close_block(self, begin: str) -> list[str]:
        """What stands after each block, which starts at position `begin` (of one lane)."""
        acc, part = self._name("acc"), self._name("part")
        if self._spread:
            return [f"{self._name('sum')} += {self._folded(self._op)};"]
        if not self.notes_block:
            return [f"{self._name('sum')} += {acc};"]
        better = f"{part} {'>' if self._op == 'argmax' else '<'} {acc}"
        sets = [f"{acc} = {part};", f"{self._name('block')} = {begin};"]
        if self._flags_nan:
            nan, odd = self._name("nan"), self._name("odd")
            better = f"!{nan} && ({odd} || {better})"
            sets.append(f"{nan} = {odd};")
        return [f"if ({better}) {{", *(f"  {line}" for line in sets), "}"]

    def close(self) -> list[str]:
        """What stands after the pass."""
        if not self._spread or self.blocked:
            return []
        lines = [f"const {self._work_type} {self._name('acc')} = {self._folded(self._op)};"]
        if self._flags_nan:
            lines.append(f"const int {self._name('nan')} = {self._folded('nan_in')};")
        return lines

    def _open_lanes(self) -> list[str]:
        part, size = self._name("part"), self._name("size")
        lines = [stack_array(self._work_type, part, self._spread)]
        sets = f"{part}[lane] = {self._identity};"
        if self._flags_nan:
            unsigned = f"uint{8 * self._source.itemsize}_t"
            lines.append(stack_array(unsigned, size, self._spread))
            sets = f"{sets[:-1]}, {size}[lane] = 0;"
        return [*lines, f"for (int lane = 0; lane < {self._spread}; ++lane) {sets}"]

    def _folded(self, what: str) -> str:
        """What the lanes come to."""
        lanes = self._name("size" if what == "nan_in" else "part")
        return f"fd_{what}_lanes_{text.short_name(self._source)}({lanes}, {self._spread})"

    def take(self, value: str, at: str) -> list[str]:
        """Take in `value`, found at position `at`."""
        if self._spread:
            return self._take_in_lane(value)
        acc, nan = self._taken_by
        if not self._orders:
            return [f"{acc} {_OPERATORS[self._op]}= {self._widen(value)};"]
        sign = ">" if self._op in ("max", "argmax") else "<"
        better = f"{value} {sign} {acc}"
        if self._flags_nan:
            return [f"{acc} = {better} ? {value} : {acc};", f"{nan} |= {value} != {value};"]
        if not self._is_arg:
            wins = f"{better} || {value} != {value}" if dtypes.is_float(self._source) else better
            return [f"{acc} = {wins} ? {value} : {acc};"]
        if not self.is_array:
            return [f"{acc} = {better} ? {value} : {acc};"]
        wins = better
        if dtypes.is_float(self._source):
            # Better than it, or a NaN beside what is none: two comparisons, and no branch.
            worse = f"{value} {'<=' if sign == '>' else '>='} {acc}"
            wins = f"!({worse}) & ({acc} == {acc})"
        take, position = f"take{self.id}", self._name("at")
        return [
            f"const int {take} = {wins};",
            f"{acc} = {take} ? {value} : {acc};",
            f"{position} = {take} ? ({self._at_type}){at} : {position};",
        ]

    def take_from(self, first: int) -> Callable[[str, str], list[str]]:
        """As `take`, where lanes before `first` have elements that are taken in by other lanes."""
        if first == 0 or self._orders:
            return self.take
        t = text.short_name(self._source)

        def take(value: str, at: str) -> list[str]:
            return self.take(f"fd_from_{t}(lane, {first}, {value}, {self._identity})", at)

        return take

    def _take_in_lane(self, value: str) -> list[str]:
        part, size = f"{self._name('part')}[lane]", f"{self._name('size')}[lane]"
        if not self._orders:
            return [f"{part} {_OPERATORS[self._op]}= {value};"]
        sign = ">" if self._op == "max" else "<"
        t, here = text.short_name(self._source), f"here{self.id}"
        return [
            f"{part} = {value} {sign} {part} ? {value} : {part};",
            f"const uint{8 * self._source.itemsize}_t {here} = fd_size_{t}({value});",
            f"{size} = {here} > {size} ? {here} : {size};",
        ]

    def clauses(self) -> list[str]:
        """For the `simd` loop that takes values into scalar accumulators."""
        if self._spread:
            return []
        operator = _OPERATORS.get(self._op) or ("max" if "max" in self._op else "min")
        acc, nan = self._taken_by
        clauses = [f"reduction({operator}:{acc})"]
        return [*clauses, f"reduction(|:{nan})"] if self._flags_nan else clauses

    def declare_search(self, extent: str) -> list[str]:
        """Before the second pass, which finds the first position of a row's maximum."""
        self._beyond = extent
        return [self._declaration(self._at_type, "at", extent)]

    def search(self, value: str, at: str) -> list[str]:
        """Compare `value`, at position `at`, with the maximum."""
        acc, nan, found = self._name("acc"), self._name("nan"), self._name("at")
        hit = f"{value} == {acc}"
        if self._flags_nan:
            hit = f"({nan} ? {value} != {value} : {hit})"
        position = f"here{self.id}"
        # One select for each of two conditions: gcc vectorises a conjunction far worse.
        return [
            f"const {self._at_type} {position} = {hit} ? ({self._at_type}){at} : {self._beyond};",
            f"{found} = {position} < {found} ? {position} : {found};",
        ]

    def search_clauses(self) -> list[str]:
        return [f"reduction(min:{self._name('at')})"]

    def result(self) -> str:
        """The reduced value as an expression."""
        kind = text.type_name(self.reduce.type.dtype)
        if self._is_arg:
            return self._name("at")
        acc = self._name("acc")
        if self.blocked:
            acc = self._name("sum")
            return acc if self._total_type == kind else f"({kind}){acc}"
        if self._flags_nan:
            nan = text.literal(np.nan, self._source)
            return f"{self._name('nan')} ? {nan} : {acc}"
        if dtypes.is_bool(self._source):
            return f"({acc} != 0)"
        return acc if self._work_type == kind else f"({kind}){acc}"

    @property
    def block(self) -> str:
        """The first position of the block that has a row's maximum."""
        return self._name("block")

    @property
    def _taken_by(self) -> tuple[str, str]:
        """The variables that take values in, and that note a NaN among them."""
        stems = ("part", "odd") if self.notes_block else ("acc", "nan")
        return self._name(stems[0]), self._name(stems[1])

    @property
    def _at_type(self) -> str:
        return text.type_name(self.reduce.type.dtype)

    @property
    def _identity(self) -> str:
        if self._work_type == "int":
            return str({"argmax": 0, "argmin": 1, "and": 1}.get(self._op, 0))
        if dtypes.is_integer(self._source) and not self._orders:
            wide = np.dtype(np.uint64 if self._work_type == "uint64_t" else np.uint32)
            return text.literal(identity(self._op, wide), wide)
        return text.literal(identity(self._op, self._source), self._source)

    @property
    def _work_type(self) -> str:
        """Wide enough for C's arithmetic, and unsigned where a signed overflow is undefined."""
        if dtypes.is_bool(self._source):
            return "int"
        if dtypes.is_integer(self._source) and not self._orders:
            return "uint64_t" if self._source.itemsize == 8 else "uint32_t"
        return text.type_name(self._source)

    @property
    def _total_type(self) -> str:
        return "double" if dtypes.is_float(self._source) else text.type_name(self._source)

    def _widen(self, value: str) -> str:
        kind = text.type_name(self._source)
        return value if self._work_type in (kind, "int") else f"({self._work_type}){value}"

    def _name(self, stem: str) -> str:
        return f"{stem}{self.id}{self._lane}"

    def _declaration(self, kind: str, stem: str, value: str) -> str:
        if self.is_array:
            return stack_array(kind, f"{stem}{self.id}", self._lanes)
        return f"{kind} {stem}{self.id} = {value};"
