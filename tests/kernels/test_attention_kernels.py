"""The attention kernels: NumPy in Triton's interpreter, cubins, text, estimates."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.golden import assert_golden
from tests.kernels.attention_cases import F32, QUICK, SLOW, problem
from tests.kernels.machine_code import row_of
from tests.kernels.resources import SHARED_LIMIT
from tests.process import answer

from funcdl.kernels.triton.compile import compile_cubin
from funcdl.kernels.triton.library import (
    attention_forward,
    attention_key_gradient,
    attention_query_gradient,
)
from funcdl.kernels.triton.library.attention_problem import MAX_BYTES, Attention

MODULES = {
    "forward": attention_forward,
    "query_gradient": attention_query_gradient,
    "key_gradient": attention_key_gradient,
}
GOLDEN = Path(__file__).parent / "golden_triton"
BF16 = np.dtype(ml_dtypes.bfloat16)
OPERANDS = ("query", "key", "value")


def differences(names: list[str]) -> dict[str, str]:
    found: dict[str, str] = answer("-m", "tests.kernels.attention_cases", *names, interpret=True)
    return found


@pytest.fixture(scope="module")
def quick() -> dict[str, str]:
    return differences(list(QUICK))


@pytest.mark.triton
@pytest.mark.parametrize("name", QUICK)
def test_kernels_compute_the_formula(name: str, quick: dict[str, str]) -> None:
    assert quick[name] == ""


# Triton's interpreter takes longer to start than to run one of them.
TOGETHER = 6


@cache
def some_differences(start: int) -> dict[str, str]:
    return differences(list(SLOW)[start : start + TOGETHER])


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize(("at", "name"), list(enumerate(SLOW)), ids=SLOW)
def test_kernels_compute_the_formula_for_more_shapes(at: int, name: str) -> None:
    assert some_differences(at - at % TOGETHER)[name] == ""


def check(given: Attention, module: Any, arch: int, tries: int = 1) -> None:
    """One of the first candidates fits: the one that is launched."""
    kernels = (module.kernel(given, tiles) for tiles in module.candidates(given)[:tries])
    reports = (compile_cubin(kernel, arch).metadata for kernel in kernels)
    report = next((each for each in reports if not each["spill_bytes"]), None)
    assert report is not None, "all of them spill"
    assert report["shared"] <= SHARED_LIMIT[arch]
    assert report["global_scratch_size"] == report["profile_scratch_size"] == 0


@pytest.mark.triton
@pytest.mark.parametrize("kind", MODULES)
def test_kernels_of_a_causal_half_model_compile(kind: str) -> None:
    given = problem(1024, 1024, batch=8, heads=12, groups=12, size=64, dtype=BF16, after=0)
    check(given, MODULES[kind], 90)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("kind", MODULES)
def test_parts_of_one_product_are_moved_as_widely_as_arrays_of_their_own(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    row = 3 * 12 * 64
    places = {name: (n * row // 3, 1024 * row, row, 64) for n, name in enumerate(OPERANDS)}
    places |= {f"{name}_gradient": place for name, place in places.items()}
    shape: dict[str, Any] = {"batch": 8, "heads": 12, "groups": 12, "size": 64, "dtype": BF16}
    rows = [
        row_of("", MODULES[kind].kernel(problem(1024, 1024, **shape, after=0, places=found)), 90)
        for found in ((), tuple(places.items()))
    ]
    assert rows[0] == rows[1]
    assert rows[0]["reads"] == rows[0]["writes"] == 16 and not rows[0]["stack"]


@pytest.mark.triton
def test_exponentials_take_fewer_instructions_without_subnormal_numbers() -> None:
    rendered = attention_forward.kernel(problem(64, 64, size=64, dtype=BF16, after=0))
    code, longer = (
        compile_cubin(replace(rendered, subnormal=kept), 90).data
        for kept in (rendered.subnormal, True)
    )
    assert len(code) < len(longer)


SIZES = (40, 64, 128, 256)
EXTRAS: dict[str, Any] = {"before": 256, "after": 0, "mask": True, "bias": True}


def places(size: int, extras: bool) -> list[Any]:
    """Each size with each option, on one architecture in turn; the other one is exhaustive."""
    one = (80, 90)[(SIZES.index(size) + extras) % 2]
    exhaustive = pytest.mark.exhaustive
    return [
        pytest.param(size, extras, arch, marks=() if arch == one else exhaustive)
        for arch in (80, 90)
    ]


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "extras", "arch"), [p for s in SIZES for e in (False, True) for p in places(s, e)]
)
@pytest.mark.parametrize("dtype", [BF16, F32])
@pytest.mark.parametrize("kind", MODULES)
def test_first_candidates_fit_without_spills(
    kind: str, dtype: np.dtype[Any], size: int, extras: bool, arch: int
) -> None:
    if size * dtype.itemsize > MAX_BYTES:
        pytest.skip("no kernel takes heads of this size")
    precision = "tf32" if dtype == F32 else "ieee"
    # Candidates are in the order that is best with Triton 3.9; with an older one some first ones
    # need more registers, and the next is launched.
    major, minor, *_ = version("triton").split(".")
    tries = 1 if (int(major), int(minor)) >= (3, 9) else 2
    shape: dict[str, Any] = {"batch": 4, "heads": 8, "groups": 2, "size": size, "dtype": dtype}
    options = EXTRAS if extras else {"after": 0}
    given = problem(2048, 2048, **shape, **options, precision=precision)
    check(given, MODULES[kind], arch, tries)


ODD: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"after": 0},
    "extras": EXTRAS,
    "dropout": {"dropout": 0.1},
    "dropout_causal": {"after": 0, "dropout": 0.1},
    "dropout_extras": {**EXTRAS, "dropout": 0.1},
    "lengths": {"query_lengths": True, "key_lengths": True},
}


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("options", ODD)
@pytest.mark.parametrize("dtype", [BF16, F32])
@pytest.mark.parametrize("kind", MODULES)
def test_a_candidate_spills_nothing_whatever_the_options(
    kind: str, dtype: np.dtype[Any], options: str, arch: int
) -> None:
    """The first that does not is the one that is launched."""
    precision = "tf32" if dtype == F32 else "ieee"
    for size in (40, 64, 128, 256):
        if size * dtype.itemsize <= MAX_BYTES:
            shape: dict[str, Any] = {"batch": 4, "heads": 8, "groups": 2, "size": size}
            given = problem(2047, 2047, **shape, dtype=dtype, **ODD[options], precision=precision)
            module = MODULES[kind]
            cubins = (
                compile_cubin(module.kernel(given, tiles), arch)
                for tiles in module.candidates(given)
            )
            fitting = (cubin for cubin in cubins if not cubin.metadata["spill_bytes"])
            chosen = next(fitting, None)
            assert chosen is not None, (kind, size)
            assert chosen.metadata["shared"] <= SHARED_LIMIT[arch]


@pytest.mark.parametrize("kind", MODULES)
def test_source_is_the_golden_text(kind: str) -> None:
    given = problem(100, 120, heads=4, groups=2, size=40, dtype=BF16, after=0, mask=True)
    assert_golden(GOLDEN / f"attention_{kind}.txt", MODULES[kind].kernel(given).source)


@pytest.mark.parametrize("kind", MODULES)
def test_what_a_kernel_does_not_read_it_does_not_take(kind: str) -> None:
    plain = set(MODULES[kind].kernel(problem(20, 20)).signature)
    every = problem(20, 20, mask=True, bias=True, query_lengths=True, key_lengths=True, dropout=0.1)
    extras = {"bias_ptr", "mask_ptr", "query_lengths_ptr", "key_lengths_ptr", "dropout_keys_ptr"}
    assert set(MODULES[kind].kernel(every).signature) - plain == extras


@pytest.mark.parametrize("kind", MODULES)
def test_estimates_count_what_is_seen(kind: str) -> None:
    module = MODULES[kind]
    whole, causal, window = (
        problem(512, 512, **options) for options in ({}, {"after": 0}, {"before": 15, "after": 0})
    )
    chosen = module.candidates(whole)[0]
    flops = [module.estimate(p, chosen).flops for p in (whole, causal, window)]
    assert flops[1] * 2 == flops[0] + flops[0] // 512
    assert flops[2] * 512 == pytest.approx(flops[0] * 16, rel=0.02)
    assert module.estimate(whole, chosen).bytes == module.estimate(causal, chosen).bytes > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 129}, "heads of 1 to 512 bytes of float32 or a half type, got 129 elements"),
        ({"dtype": np.dtype(np.float64)}, "float32 or a half type, got 8 elements of float64"),
        ({"batch": 0}, "no empty arrays"),
    ],
)
def test_problems_that_no_kernel_takes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(20, 20, **options)


PACKED = (0, 2**30, 4096, 64)


def test_only_the_positions_of_an_array_itself_count_in_its_place() -> None:
    """Few queries inside of a large array see many keys."""
    places = (("query", PACKED),)
    given = problem(2, 2**20, size=64, places=places)
    assert given.place("query") == PACKED
    assert given.place("key") == (0, 2**26, 64, 64)
    with pytest.raises(ValueError, match=r"sequences within fewer than 2\*\*31 elements"):
        problem(2**20, 2, size=64, places=places)
