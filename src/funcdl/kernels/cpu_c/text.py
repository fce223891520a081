"""Spellings of C: types, literals, casts, index expressions; and a writer of indented lines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.index_text import sum_text
from funcdl.kir.index import Atom, AxisAtom, DivAtom, Index, ModAtom, ValueAtom
from funcdl.kir.ir import Scalar

_TYPES: dict[str, str] = {
    "bool": "uint8_t",  # gcc 12 vectorises few loops over bool
    **{f"i{n}": f"int{n}_t" for n in (8, 16, 32, 64)},
    **{f"u{n}": f"uint{n}_t" for n in (8, 16, 32, 64)},
    "f16": "fd_f16",
    "bf16": "fd_bf16",
    "f32": "float",
    "f64": "double",
    "c64": "float _Complex",
    "c128": "double _Complex",
}

# What a buffer or an axis cannot be called in C.
RESERVED = re.compile(
    r"auto|bool|break|case|char|const|continue|default|do|double|else|enum|extern|false|float|for|"
    r"goto|if|inline|int|long|register|restrict|return|short|signed|sizeof|static|struct|switch|"
    r"true|typedef|union|unsigned|void|volatile|while|asm|typeof|"
    # Names that the renderer makes up: of values, parameters, accumulators, kept values and tiles.
    r"(n|chunk)_.*|(v|const|acc|part|size|sum|nan|at|here|take|keep|run|total|space|inverse|rows?|of)\d+|row_of|key\d+_\d+|.*_(tile|end|group|rest)\d*|lane|product|missing|(lhs|rhs|tile)_.*|"
    r"fd_.*|FD_.*"
)

# The longest line, where there is a choice.
WIDTH = 100

# Of loops and indices. Not int: under -fwrapv, which makes signed overflow defined, gcc could not
# tell that x[i * 8 + j] runs along memory.
POSITION = "int64_t"


class Writer:
    """Collects lines of C, indented by two spaces a block."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        """Add a line, indented as the code around it."""
        self._lines.append("  " * self._depth + text if text else "")

    def lines(self, texts: Iterable[str]) -> None:
        """Add some lines."""
        for each in texts:
            self.line(each)

    def beside(self) -> Writer:
        """A writer of lines for `add` at this place, before which others may still come."""
        writer = Writer()
        writer._depth = self._depth
        return writer

    def add(self, writer: Writer) -> None:
        """Add the lines of another writer as they are."""
        self._lines += writer._lines

    def comment(self, text: str) -> None:
        """Add a comment on a line of its own."""
        self.line(f"/* {text} */")

    def call(
        self, function: str, arguments: Sequence[str], end: str = ";", brackets: str = "()"
    ) -> None:
        """Add ``function(arguments)``, on several lines if one would be too long."""
        opening, closing = brackets[0], brackets[1]
        indent = " " * (len(function) + 1)
        line = f"{function}{opening}"
        for at, argument in enumerate(arguments):
            piece = argument + (", " if at < len(arguments) - 1 else f"{closing}{end}")
            if len(line) > len(indent) and 2 * self._depth + len(line + piece.rstrip()) > WIDTH:
                self.line(line.rstrip())
                line = indent
            line += piece
        self.line(line if arguments else f"{line}{closing}{end}")

    @contextmanager
    def block(self, head: str | None = "", end: str | None = "}") -> Iterator[None]:
        """``head { ... }`` around the lines that are added inside; None: what is there already, or
        to come."""
        if head is not None:
            self.line(f"{head} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        if end is not None:
            self.line(end)

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)


def short_name(dtype: np.dtype) -> str:
    """``f32`` and the like: the ending of the headers' function names."""
    return dtypes.short_name(dtype)


def type_name(dtype: np.dtype) -> str:
    """The C type of an element."""
    return _TYPES[short_name(dtype)]


def literal(value: Scalar, dtype: np.dtype) -> str:
    """`value` as a C expression of exactly its value in `dtype`."""
    if dtypes.is_bool(dtype):
        return "1" if value else "0"
    if dtypes.is_integer(dtype):
        return _integer_literal(int(value), dtype)
    if dtype.itemsize == 2:  # the bits, since half precision is storage only
        return f"{np.asarray(value, dtype).view(np.uint16).item():#06x}"
    single = dtype in (np.dtype(np.float32), np.dtype(np.complex64))
    number = float(value)
    suffix = "F32" if single else "F64"
    if math.isnan(number):
        return f"FD_NAN_{suffix}"
    if math.isinf(number):
        return f"FD_INF_{suffix}" if number > 0 else f"(-FD_INF_{suffix})"
    text = str(np.float32(number)) + "f" if single else repr(number)
    return f"({text})" if text.startswith("-") else text


def _integer_literal(value: int, dtype: np.dtype) -> str:
    info = np.iinfo(dtype)
    if value == info.min and info.min < 0:
        return f"INT{info.bits}_MIN"
    if info.bits == 64:
        text = f"{'U' if info.min == 0 else ''}INT64_C({abs(value)})"
    else:
        text = f"{abs(value)}{'u' if dtype == np.uint32 else ''}"
    return f"(-{text})" if value < 0 else text


def cast(argument: str, source: np.dtype, target: np.dtype) -> str:
    """A conversion with the meaning of `kir.conversion.convert`."""
    if source == target:
        return argument
    if dtypes.is_bool(target):
        if source in dtypes.HALF:
            return f"({argument} & 0x7fff) != 0"
        return f"{argument} != 0"
    if dtypes.is_complex(source) and not dtypes.is_complex(target):
        return cast(f"(__real__ {argument})", dtypes.real_dtype(source), target)
    if source in dtypes.HALF or target in dtypes.HALF:
        return _cast_half(argument, source, target)
    if dtypes.is_float(source) and dtypes.is_integer(target):
        return f"fd_{short_name(source)}_to_{short_name(target)}({argument})"
    return f"({type_name(target)}){argument}"


def _cast_half(argument: str, source: np.dtype, target: np.dtype) -> str:
    wide = np.dtype(np.float32)
    if source in dtypes.HALF:
        through = target if target == np.dtype(np.float64) else wide
        widened = f"fd_{short_name(source)}_to_{short_name(through)}({argument})"
        return cast(widened, through, target)
    through = source if source == np.dtype(np.float64) else wide
    return f"fd_{short_name(through)}_to_{short_name(target)}({cast(argument, source, through)})"


def bitcast(argument: str, source: np.dtype, target: np.dtype) -> str:
    """The bits of `argument` as another type of the same width."""
    if source == target:
        return argument
    floats = {np.dtype(np.float32), np.dtype(np.float64)}
    if source in floats:
        return f"({type_name(target)})fd_bits_{short_name(source)}({argument})"
    if target in floats:
        unsigned = f"uint{8 * target.itemsize}_t"
        return f"fd_from_bits_{short_name(target)}(({unsigned}){argument})"
    return f"({type_name(target)}){argument}"


def index_text(index: Index, axis: Callable[[str], str], value: Callable[[int], str]) -> str:
    """An index expression, given the text of an axis's position and of a computed value.

    C divides towards zero and an index rounds down: what can be negative is first shifted up by a
    multiple of the divisor.
    """
    return sum_text(index, lambda atom: _atom_text(atom, axis, value))


def _atom_text(atom: Atom, axis: Callable[[str], str], value: Callable[[int], str]) -> str:
    match atom:
        case AxisAtom(name):
            return axis(name)
        case ValueAtom(id):
            return value(id)
        case DivAtom(index, divisor) | ModAtom(index, divisor):
            low, _ = index.range()
            shift = -(low // divisor) if low < 0 else 0
            inner = index_text(index + shift * divisor, axis, value)
            if len(index.terms) > 1 or index.offset or shift:
                inner = f"({inner})"
            if isinstance(atom, ModAtom):
                return f"{inner} % {divisor}"
            return f"({inner} / {divisor} - {shift})" if shift else f"{inner} / {divisor}"


def difference(end: str, begin: str) -> str:
    """``end - begin``, or what is seen to be left of it."""
    if begin == "0":
        return end
    start = f"{begin} + "
    return end.removeprefix(start) if end.startswith(start) else f"{end} - {begin}"


def factor(expression: str) -> str:
    """An expression as an operand of a product."""
    return expression if expression.isidentifier() or expression.isdigit() else f"({expression})"


def span(index: Index) -> int:
    """A bound on the absolute value of everything that is computed on the way to an index."""
    total = abs(index.offset)
    for atom, coefficient in index.terms:
        match atom:
            case AxisAtom(_, extent):
                size = extent
            case ValueAtom(_, low, high):
                size = max(abs(low), abs(high))
            case DivAtom(inner, divisor) | ModAtom(inner, divisor):
                size = 2 * span(inner) + divisor
        total += abs(coefficient) * size
    return total
