"""The C headers: clean under warnings, vectorised, and exact where exactness is promised."""

from __future__ import annotations

import itertools
import subprocess

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernels.c_harness import (
    CASTS,
    COMPILER,
    DTYPES,
    EXACT,
    HEADERS,
    HOST,
    INT_BINARY,
    INT_UNARY,
    INTS,
    MARKS,
    OWN,
    OWN_F32,
    NDArray,
    apply,
    every_float,
    every_isa,
    loop,
    run,
    samples,
)

from funcdl.kernels.cpu_c.isa import (
    ISAS,
    choose_isa,
    compile_flags,
    include_dir,
)
from funcdl.kernels.cpu_c.program.objects import LINKED

pytestmark = MARKS


# Included by other headers, several times.
FRAGMENTS = {
    "fd_gemm_typed.h",
    "fd_dots_typed.h",
    "fd_conv_typed.h",
    "fd_conv_tile.h",
    "fd_conv_dots.h",
    "fd_attention_typed.h",
    "fd_matrices_typed.h",
    "fd_winograd_typed.h",
    "fd_lapack_types.h",
    "fd_lapack_routines.h",
    "fd_lapack_factors.h",
    "fd_lapack_spectra.h",
    "fd_fft_typed.h",
    "fd_fft_panel.h",
    "fd_fft_rows.h",
}
HEADER_NAMES = sorted({path.name for path in include_dir().glob("*.h")} - FRAGMENTS)


@every_isa
@pytest.mark.parametrize("header", ["all", "linked", *HEADER_NAMES])
def test_headers_compile_without_a_warning(isa: str, header: str) -> None:
    assert COMPILER is not None
    names = HEADER_NAMES if header in ("all", "linked") else [header]
    text = LINKED * (header == "linked") + "".join(f'#include "{name}"\n' for name in names)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    strict += ["-Wno-unknown-pragmas"]  # those of OpenMP
    command = [*COMPILER.command, *ISAS[isa].flags, *strict, f"-I{include_dir()}"]
    result = subprocess.run(
        [*command, "-fsyntax-only", "-x", "c", "-"], input=text, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


@every_isa
def test_all_flags_are_known_to_the_compiler(isa: str) -> None:
    assert COMPILER is not None
    assert COMPILER.accepts([*compile_flags(isa, openmp=False), "-Werror", "-Wall"])


def test_the_widest_usable_isa_is_chosen() -> None:
    full = ISAS["avx512"].cpu_flags
    assert choose_isa(full | {"sse2"}).name == "avx512"
    assert choose_isa(full - {"avx512vl"} | {"sse2"}).name == "avx2"
    assert choose_isa({"sse2", "avx2"}).name == "x86-64"
    assert choose_isa([]).name == "native-generic"
    assert "-fopenmp" in compile_flags()
    assert "-fopenmp-simd" in compile_flags(openmp=False)
    with pytest.raises(ValueError, match=r"isa='sparc' cannot run on this machine; use one of \["):
        compile_flags("sparc")


def test_own_functions_are_vectorised() -> None:
    assert COMPILER is not None
    if "gcc" not in COMPILER.version.lower() or HOST.name not in ("avx2", "avx512"):
        pytest.skip("reads gcc's reports for AVX2")
    names = [f"fd_{name}_f32" for name in (*OWN, *OWN_F32, "erf_inv", "max", "min", *EXACT)]
    names += [f"fd_{name}_f64" for name in (*OWN, "max", "min", *EXACT)]
    ins = [2 if name.split("_")[1] in ("max", "min") else 1 for name in names]
    loops = [loop(n, n[-3:], *[n[-3:]] * i) for n, i in zip(names, ins, strict=True)]
    loops += [loop(f"fd_{a}_to_{b}", b, a) for a, b in CASTS if "64" not in a + b]
    lines = {}
    text = HEADERS
    for code in loops:
        text += code
        lines[text.count("\n") - 1] = code.split("(")[3]
    flags = [*compile_flags("avx2", openmp=False), "-fopt-info-vec-optimized", "-c"]
    command = [*COMPILER.command, *flags, f"-I{include_dir()}", "-x", "c", "-", "-o", "/dev/null"]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    report = result.stderr.splitlines()
    done = {int(line.split(":")[1]) for line in report if "loop vectorized" in line}
    assert [code for line, code in lines.items() if line not in done] == []


# Conversions


def as_bits(x: NDArray) -> NDArray:
    """Bit patterns, with all NaNs made one."""
    return np.where(np.isnan(x), -1, x.view(f"u{x.itemsize}").astype(np.int64))


def conversion_inputs(t: str) -> NDArray:
    """Samples, and all the halves with what lies just beside and midway between them."""
    halves = np.arange(1 << 16, dtype=np.uint16)
    exact = np.concatenate([halves.view(np.float16).astype(float), halves.view("u2")[:0]])
    brain = halves.view(ml_dtypes.bfloat16).astype(float)
    midway = [(v + np.roll(v, 1)) / 2 for v in (exact, brain)]
    x = np.concatenate([exact, brain, *midway]).astype(DTYPES[t])
    beside = [np.nextafter(x, DTYPES[t].type(s)) for s in (-np.inf, np.inf)]
    return np.concatenate([x, *beside, samples(t)])


@every_isa
@pytest.mark.parametrize(("source", "target"), CASTS[:4])
def test_halves_round_as_the_reference(isa: str, source: str, target: str) -> None:
    x = conversion_inputs(source)
    y = apply(isa, "cast", f"fd_{source}_to_{target}", target, x)
    np.testing.assert_array_equal(as_bits(y), as_bits(x.astype(DTYPES[target])))


@every_isa
@pytest.mark.parametrize(("source", "target"), CASTS[4:8])
def test_halves_widen_exactly(isa: str, source: str, target: str) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[source])
    y = apply(isa, "cast", f"fd_{source}_to_{target}", target, x)
    np.testing.assert_array_equal(as_bits(y), as_bits(x.astype(DTYPES[target])))


@every_isa
@pytest.mark.parametrize(("source", "target"), CASTS[8:])
def test_floats_saturate_to_integers(isa: str, source: str, target: str) -> None:
    info = np.iinfo(DTYPES[target])
    ends = np.array([info.min, info.max, info.max + 1, info.min - 1], DTYPES[source])
    beside = [np.nextafter(ends, DTYPES[source].type(s)) for s in (-np.inf, np.inf)]
    x = np.concatenate([samples(source), ends, *beside, ends + 0.5, ends - 0.5])
    y = apply(isa, "cast", f"fd_{source}_to_{target}", target, x)
    clipped = (min(max(v, info.min), info.max) if v == v else 0 for v in x.tolist())
    np.testing.assert_array_equal(y, np.array([int(v) for v in clipped], DTYPES[target]))


# Integers


def wrapped(value: int, t: str) -> int:
    bits = int(t[1:])
    value &= (1 << bits) - 1
    return value - (1 << bits) if t[0] == "i" and value >> (bits - 1) else value


def truncated(x: int, y: int) -> int:
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def meaning(name: str, t: str, x: int, y: int = 0) -> int:
    """The result in Python's integers, before wrapping."""
    bits = int(t[1:])
    unsigned, amount = x % (1 << bits), y % (1 << bits)
    match name:
        case "div":
            return truncated(x, y) if y else -1
        case "rem":
            return x - truncated(x, y) * y if y else x
        case "pow" if y < 0:
            return x**-y if abs(x) == 1 else 0
        case "pow":
            return pow(unsigned, y, 1 << bits)
        case "shift_left":
            return unsigned << amount if amount < bits else 0
        case "shift_right_logical":
            return unsigned >> amount
        case "shift_right_arithmetic":
            return wrapped(x, f"i{bits}") >> amount
        case "population_count":
            return unsigned.bit_count()
        case "clz":
            return bits - unsigned.bit_length()
        case "sign":
            return (x > 0) - (x < 0)
        case "neg":
            return -x
    simple = {"add": x + y, "sub": x - y, "mul": x * y, "max": max(x, y), "min": min(x, y)}
    return {**simple, "abs": abs(x)}[name]


def integers(t: str) -> list[int]:
    info = np.iinfo(DTYPES[t])
    near = [v + d for v in (info.min, 0, info.max, info.max // 2) for d in range(-4, 5)]
    near += [7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, -7, -8, -64, 100, 1000, 46341]
    return sorted({v for v in near if info.min <= v <= info.max})


def check_integers(isa: str, t: str, name: str, xs: list[tuple[int, ...]]) -> None:
    columns = np.array(xs, object).T
    arrays = [np.array(list(column), DTYPES[t]) for column in columns]
    y = apply(isa, "int", f"fd_{name}_{t}", t, *arrays)
    expected = [wrapped(meaning(name, t, *x), t) for x in xs]
    wrong = [(x, int(a), b) for x, a, b in zip(xs, y, expected, strict=True) if a != b]
    assert wrong == []


@every_isa
@pytest.mark.parametrize("t", INTS)
@pytest.mark.parametrize("name", [*INT_UNARY, *INT_BINARY])
def test_integers_at_their_corners(isa: str, t: str, name: str) -> None:
    check_integers(isa, t, name, [*itertools.product(integers(t), repeat=1 + (name in INT_BINARY))])


@given(st.data(), st.sampled_from(INTS), st.sampled_from(INT_BINARY))
def test_integers_between(data: st.DataObject, t: str, name: str) -> None:
    info = np.iinfo(DTYPES[t])
    value = st.integers(int(info.min), int(info.max))
    pairs = data.draw(st.lists(st.tuples(value, value), min_size=1, max_size=40))
    check_integers(HOST.name, t, name, [*pairs])


# Matrix product, random bits


@every_isa
@every_float
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 1), (12, 32, 16), (13, 33, 17), (5, 100, 64), (50, 7, 129), (25, 65, 0), (7, 44, 600)],
)
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt", "strided", "in place"])
def test_matrix_product(isa: str, t: str, m: int, n: int, k: int, layout: str) -> None:
    dtype, rng = DTYPES[t], np.random.default_rng(m * n + k)

    def operand(rows: int, columns: int, kind: str) -> NDArray:
        if kind == "strided":
            return rng.normal(size=(2 * rows, 3 * columns)).astype(dtype)[::2, ::3]
        x = rng.normal(size=(columns, rows) if kind == "t" else (rows, columns)).astype(dtype)
        return x.T if kind == "t" else x

    in_place = layout == "in place"
    n = max(n, 64 // dtype.itemsize) if in_place else n
    kinds = {"strided": ("strided",) * 2, "in place": ("n", "n")}.get(layout, tuple(layout))
    a, b = operand(m, k, kinds[0]), operand(k, n, kinds[1])
    tile = np.zeros(2, np.int64)
    run(isa, t, f"tile_{t}", tile)
    lanes, width = map(int, tile)
    columns = n if in_place else -(-n // lanes) * lanes
    panels = np.full(-(-n // width) * width * k + 8, 99, dtype)
    c = np.full((m + 1, columns + 3), 5, dtype)
    for accumulate in (0,) if in_place else (0, 1):
        strides = [s // dtype.itemsize for s in (*a.strides, *b.strides)]
        sizes = np.array([m, n, k, *strides, columns + 3, accumulate, not in_place], np.int64)
        base_a, base_b = (x.base if x.base is not None else x for x in (a, b))
        run(isa, t, f"gemm_{t}", sizes, base_a, base_b, panels, c)
        expected = np.zeros((m, columns))
        expected[:, :n] = (1 + accumulate) * (a.astype(float) @ b.astype(float))
        tolerance = 1e-5 if t == "f32" else 1e-13
        np.testing.assert_allclose(c[:m, :columns], expected, tolerance, 10 * tolerance)
        assert np.all(c[m:] == 5)
        assert np.all(c[:, columns:] == 5)
    assert np.all(panels[-8:] == 99)


@every_isa
def test_threefry_known_answers(isa: str) -> None:
    # From the test vectors that its authors publish with Random123, 20 rounds.
    key_counter = [
        (0, 0, 0, 0),
        (0xFFFFFFFF,) * 4,
        (0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3),
    ]
    answers = [(0x6B200159, 0x99BA4EFE), (0x1CB996FC, 0xBB002BE7), (0xC4923A9C, 0x483DF7A0)]
    inputs = np.array(key_counter * 9, np.uint32).T.copy()
    out = np.zeros((2, 27), np.uint32)
    run(isa, "cast", "threefry", np.array(27, np.int64), out, inputs)
    np.testing.assert_array_equal(out.T, np.array(answers * 9, np.uint32))
