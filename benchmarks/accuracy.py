"""The largest errors of the elementary functions in C: ``python -m benchmarks.accuracy``.

float32 functions of one argument run over all 2^32 patterns, against the C library's double
precision; functions of two arguments and all of float64 over large samples (pairs of special
values and their neighbours, any bit patterns, and magnitudes in which something happens), against
long double, or 128 bits where that loses digits. Checked besides: NaN, infinities, signs of zeros,
that results stay within the function's range, and how often a rising function falls between
neighbouring floats. ``--write`` puts the table into docs/accuracy.md, or with ``--only`` the rows
of those functions. accuracy.h says what is measured and how.

The whole run takes half an hour on two cores; ``--stride 4099`` takes every 4099th pattern
and seconds. Instruction sets other than the widest here take every 61st pattern in a whole run,
and functions that round the result of their float64 version every 4099th; float64 takes 8 million
samples, or half a million where the reference has 128 bits. Where long double is no wider than
double, float64 cannot be measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from funcdl.kernels.cpu_c.isa import ISAS, compile_flags, host_isa, include_dir
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.shared_object import load
from funcdl.runtime.toolchain import Unit, find_compiler

PATTERNS = 1 << 32
SAMPLES = 1 << 23
SPARSE = 61  # every 61st pattern, where all of them would take too long
SPARSER = 4099  # where the reference is slow and float64 has the same function
CHUNK = 1 << 22
FOUND = ("ulp", "x", "y", "wrong", "wrong_x", "wrong_y", "back")
TABLE = Path(__file__).parent.parent / "docs" / "accuracy.md"
ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Function:
    """A function of one argument.

    `exact` is C for double `x`, in the C library's names; `wide` for long double: by default the
    same names with an l. A function without `exact` rounds the result of its float64 version; it
    is compared with `wide` on some float32 only. `low` and `high` are its range in C,
    rounded outwards. Beyond its range or domain a vector function is slow: `argument` is one with
    the same float32 result, or any at all where `outside` holds and the result is NaN.
    `mirror` is 1 for an even function, -1 for an odd one: float32 left of 0 is then compared with
    the right side, bit by bit.
    """

    exact: str
    low: str = "-INFINITY"
    high: str = "INFINITY"
    rises: bool = False
    wide: str = ""
    argument: str = "x"
    outside: str = "0"
    mirror: int = 0

    def double(self) -> str:
        """C for the exact result of a float32 x."""
        inside = self.exact.replace("(x)", f"({self.argument})")
        return f"{self.outside} ? NAN : {inside}" if self.exact else f"(double){self.wide}"

    def long_double(self) -> str:
        """C for the exact result of a float64 x."""
        return self.wide or self.exact.replace("(x)", "l(x)")


UNARY: dict[str, Function] = {
    "exp": Function("exp(x)", "0", rises=True, argument="within(x, 200)"),
    "exp2": Function("exp2(x)", "0", rises=True, argument="within(x, 300)"),
    "expm1": Function("expm1(x)", "-1", rises=True, argument="within(x, 200)"),
    "log": Function("log(x)", rises=True, argument="fabs(x)", outside="x < 0"),
    "log1p": Function("log1p(x)", rises=True, argument="above(x, -1)", outside="x < -1"),
    "sqrt": Function("sqrt(x)", rises=True),
    "rsqrt": Function("1 / sqrt(x)", wide="1 / sqrtl(x)"),
    "cbrt": Function("cbrt(x)", rises=True, mirror=-1),
    "sin": Function("sin(x)", "-1", "1", mirror=-1),
    "cos": Function("cos(x)", "-1", "1", mirror=1),
    "tan": Function("tan(x)", mirror=-1),
    "asin": Function(
        "asin(x)",
        "-0x1.921fb6p0",
        "0x1.921fb6p0",
        rises=True,
        argument="within(x, 1)",
        outside="fabs(x) > 1",
        mirror=-1,
    ),
    "acos": Function(
        "acos(x)", "0", "0x1.921fb6p1", argument="within(x, 1)", outside="fabs(x) > 1"
    ),
    "atan": Function("atan(x)", "-0x1.921fb6p0", "0x1.921fb6p0", rises=True, mirror=-1),
    "sinh": Function("sinh(x)", rises=True, argument="within(x, 200)", mirror=-1),
    "cosh": Function("cosh(x)", "1", argument="within(x, 200)", mirror=1),
    "tanh": Function("tanh(x)", "-1", "1", rises=True, mirror=-1),
    "asinh": Function("asinh(x)", rises=True, mirror=-1),
    "acosh": Function("acosh(x)", "0", rises=True, argument="above(x, 1)", outside="x < 1"),
    "atanh": Function(
        "atanh(x)", rises=True, argument="within(x, 1)", outside="fabs(x) > 1", mirror=-1
    ),
    "logistic": Function("1 / (1 + exp(-within(x, 200)))", "0", "1", True, "1 / (1 + expl(-x))"),
    "erf": Function("erf(x)", "-1", "1", rises=True, mirror=-1),
    "erfc": Function("erfc(x)", "0", "2", argument="within(x, 20)"),
    "erf_inv": Function("wide_erf_inv(x)", rises=True, wide="exact_erf_inv(x)", mirror=-1),
    "lgamma": Function("", wide="exact_lgamma(x)"),
    "digamma": Function("", wide="exact_digamma(x)"),
    "bessel_i0e": Function("", "0", "1", wide="exact_bessel(x, 0)", mirror=1),
    "bessel_i1e": Function("", "-1", "1", wide="exact_bessel(x, 1)", mirror=-1),
    "floor": Function("floor(x)", rises=True),
    "ceil": Function("ceil(x)", rises=True),
    "round_even": Function("rint(x)", rises=True),
    "round_away": Function("round(x)", rises=True),
    "sign": Function(
        "x > 0 ? 1 : x < 0 ? -1 : x", "-1", "1", True, "x > 0 ? 1 : x < 0 ? -1 : x", mirror=-1
    ),
    "abs": Function("fabs(x)", "0", mirror=1),
}
BINARY = {
    "pow": "powl(x, y)",
    "atan2": "atan2l(x, y)",
    "rem": "fmodl(x, y)",
    "nextafter": "",  # steps of its own type
    "max": "isnan(x) || isnan(y) ? NAN : x > y ? x : y",
    "min": "isnan(x) || isnan(y) ? NAN : x < y ? x : y",
}
ONLY = {"nextafter": {"f32": "nextafterf(x, y)", "f64": "nextafter((double)x, (double)y)"}}


@dataclass(frozen=True)
class Result:
    """The largest error and where: at `x` the result is `y`. `wrong` counts results that no
    tolerance excuses, of which the first is `wrong_y` at `wrong_x`. `back` counts neighbours in the
    order of arguments, whose results fall; of a function of two arguments it is the second one of
    the largest error."""

    ulp: float
    x: float
    y: float
    wrong: int
    wrong_x: float
    wrong_y: float
    back: float


def least_stride(name: str, t: str, isa: str) -> int:
    """How many patterns or samples apart a whole run measures, where all would take too long."""
    slow = name in UNARY and not UNARY[name].exact
    if t == "f64":
        return 16 if slow else 1
    return SPARSER if slow else SPARSE if name in UNARY and isa != host_isa().name else 1


def source(t: str, names: tuple[str, ...] = ()) -> str:
    """C with one entry point for each function of that type, or for some."""
    chosen = names or (*UNARY, *BINARY)
    lines = ['#include "accuracy.h"']
    for name, f in UNARY.items():
        if name not in chosen:
            continue
        exact = f.double() if t == "f32" else f.long_double()
        lines.append(f"UNARY_{t.upper()}({name}, {exact}, {f.low}, {f.high})")
    kinds = {"f32": "f32, float, double", "f64": "f64, double, long double"}
    for name, exact in BINARY.items():
        if name not in chosen:
            continue
        lines.append(f"BINARY({name}, ({exact or ONLY[name][t]}), {kinds[t]})")
    return "\n".join(lines) + "\n"


@cache
def library(t: str, isa: str, names: tuple[str, ...] = ()) -> str:
    """The compiled entry points, of some functions or all; compiling is what takes time."""
    compiler = find_compiler()
    if compiler is None:
        raise LookupError("measuring accuracy needs a C compiler")
    text = source(t, names)
    header = (ROOT / "accuracy.h").read_text()
    flags = compile_flags(isa, openmp=False)
    vector = (*flags, "-Wl,--no-as-needed", "-lmvec", "-DVECTOR_LIBRARY")
    if t == "f32" and platform.machine() == "x86_64" and compiler.accepts(vector):
        flags = vector
    unit = Unit(text, flags, f"accuracy_{t}", (include_dir(), ROOT), header)
    return str(compiler.build_all([unit])[0])


def measure(
    name: str, t: str, isa: str, stride: int = 1, threads: int = 1, names: tuple[str, ...] = ()
) -> Result:
    """Run one function: over every `stride`-th float32, or as many fewer samples.

    `names` are all functions that will be asked for, which are compiled together; all there are,
    where it is empty.

    Raises:
        LookupError: there is no C compiler.
    """
    whole = t == "f32" and name in UNARY
    mirror = UNARY[name].mirror if whole else 0
    patterns = PATTERNS // 2 if mirror else PATTERNS
    count = -(-(patterns if whole else SAMPLES) // stride)
    step = stride if whole else 1
    entry = load(library(t, isa, names), f"accuracy_{name}_{t}", 2)

    def part(first: int) -> np.ndarray[Any, Any]:
        # One more than its share: the step from each part to the next counts too.
        size = min(CHUNK + 1, count - first)
        span = np.array([first * step, size, step, mirror], np.int64)
        found = np.zeros(len(FOUND))
        entry([address(span), address(found)])
        return found

    with ThreadPoolExecutor(threads) as pool:
        parts = np.array(list(pool.map(part, range(0, count, CHUNK))))
    ulp, x, y, *_, second = parts[parts[:, 0].argmax()].tolist()
    wrong_x, wrong_y = parts[(parts[:, 3] > 0).argmax(), 4:6].tolist()
    back = parts[:, 6].sum() if name in UNARY else second
    return Result(ulp, x, y, int(parts[:, 3].sum()), wrong_x, wrong_y, float(back))


def row(name: str, t: str, results: dict[str, Result]) -> str:
    """One line of the table: an error for each instruction set, then the place of the largest."""
    cells = [f"{result.ulp:.3f}" for result in results.values()]
    worst = max(results.values(), key=lambda result: result.ulp)
    place = ""
    if worst.ulp > 0.5:
        values = [worst.x] if name in UNARY else [worst.x, worst.back]
        kind = np.float32 if t == "f32" else np.float64
        place = ", ".join(str(kind(value)) for value in values)
    wrong = sum(result.wrong for result in results.values())
    rises = name in UNARY and UNARY[name].rises and t == "f32"
    back = f"{max(result.back for result in results.values()):.0f}" if rises else ""
    return "| " + " | ".join([f"`{name}`", *cells, place, str(wrong), back]) + " |"


def table(t: str, isas: list[str], stride: int, threads: int, only: list[str]) -> list[str]:
    """The lines of the Markdown table, each printed as soon as it is known."""
    heads = ["function", *isas, "largest at", "wrong", "falls"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * len(isas) + "---|--:|--:|"]
    print(*lines, sep="\n", flush=True)
    for name in (*UNARY, *BINARY):
        if only and name not in only:
            continue
        results = {}
        for isa in isas:
            step = max(stride, least_stride(name, t, isa))
            results[isa] = measure(name, t, isa, step, threads, tuple(only))
        lines.append(row(name, t, results))
        print(lines[-1], flush=True)
        for isa, result in results.items():
            if result.wrong:
                print(f"wrong: {name} {t} {isa}: {result.wrong_x!r} gives {result.wrong_y!r}")
    return lines


def default_isas() -> list[str]:
    """The widest instruction set here, and the one without fused multiply-add."""
    return [host_isa().name, *(["x86-64"] if host_isa().name in ("avx512", "avx2") else [])]


def main() -> None:
    """Print the tables; write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="every n-th pattern or sample")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--isa", nargs="*", default=default_isas(), choices=list(ISAS))
    parser.add_argument("--types", nargs="*", default=["f32", "f64"], choices=["f32", "f64"])
    parser.add_argument("--only", nargs="*", default=[], help="names of functions")
    parser.add_argument("--write", action="store_true", help="replace the tables in the document")
    options = parser.parse_args()
    if options.write and options.stride != 1:
        sys.exit("--write needs a whole run: leave out --stride")
    for t in options.types:
        if t == "f64" and np.finfo(np.longdouble).nmant <= 52:
            print("float64 is left out: long double is no wider here")
            continue
        lines = table(t, options.isa, options.stride, options.threads, options.only)
        if options.write:
            replace_rows(t, lines)


def replace_rows(t: str, lines: list[str]) -> None:
    """Put these lines of a table into the document; of functions not among them it keeps its own.

    Raises:
        LookupError: the document's table has other columns, so that its rows cannot stay.
    """
    marker = f"<!-- table {t} -->\n"
    before, _, rest = TABLE.read_text().partition(marker)
    old, _, after = rest.partition("\n\n")
    rows = {line.split("|")[1]: line for line in lines[2:]}
    if len(rows) < len(UNARY) + len(BINARY):
        kept = old.splitlines()
        if kept[0] != lines[0]:
            raise LookupError(f"{TABLE} has the columns\n{kept[0]}\nmeasured are\n{lines[0]}")
        lines = kept[:2] + [rows.get(line.split("|")[1], line) for line in kept[2:]]
    TABLE.write_text(before + marker + "\n".join(lines) + "\n" + ("\n" + after if after else ""))


if __name__ == "__main__":
    main()
