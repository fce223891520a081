"""Convolutions by Winograd's algorithm: which ones, and numbers that transforms must not mix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.compiler.convolutions import TABLE, Case, same
from tests.compiler.cpu.test_convolutions import all_three, arguments, check, needs_compiler

import funcdl as fd
from funcdl import lax
from funcdl.compiler.cpu import program_cache, winograd
from funcdl.config import config
from funcdl.core.array import Array
from funcdl.transforms import jit

NDArray = np.ndarray[Any, Any]
TILES = [name for name in TABLE if name.startswith("tiles")]


def text_of(case: Case, stage: str) -> str:
    args = map(Array, arguments(case))
    with config.override(backend="cpu", x64="on"):
        text: str = jit(lambda *xs: all_three(case, *xs)).lower(*args).as_text(stage)
    return text


@needs_compiler
@pytest.mark.parametrize("name", TILES)
def test_forward_and_both_gradients_are_in_tiles(name: str) -> None:
    text = text_of(TABLE[name], "c")
    assert text.count("fd_winograd_windows_f") == 2, "the convolution, the image's gradient"
    if name == "tiles, strange layout":
        # Images lie together: the kernel's gradient is a convolution with few windows there.
        assert text.count("fd_conv_list") == 1
        return
    assert text.count("|| fd_winograd_gradient_f") == 1
    assert "fd_conv_list" not in text and "fd_conv_contributors" not in text


@needs_compiler
@pytest.mark.parametrize("name", ["3x3", "strided", "spread", "dilated", "depthwise", "1-D", "1x1"])
def test_others_are_summed_directly(name: str) -> None:
    assert "fd_winograd" not in text_of(TABLE[name], "c")


@needs_compiler
def test_few_images_do_not_pay_for_the_transform_of_a_large_kernel() -> None:
    one, many = (Case(n, 256, 256, (4, 4), (3, 3), padding=same((3, 3))) for n in (1, 64))
    texts = []
    for case in (one, many):
        shapes = [fd.ShapeDtypeStruct(x.shape, x.dtype) for x in arguments(case)[:2]]
        with config.override(backend="cpu"):
            texts.append(jit(case).lower(*shapes).as_text("c"))
    assert ["fd_winograd" in text for text in texts] == [False, True]


def layer(x: Any, w: Any, precision: Any = None) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=numbers, precision=precision
    )


@needs_compiler
@pytest.mark.parametrize(
    ("precision", "configured", "direct"),
    [
        (None, "default", False),
        ("default", "default", False),
        ("high", "default", False),
        ("highest", "default", True),
        (lax.Precision.HIGHEST, "fastest", True),
        (None, "highest", True),
        (None, "float32", True),
        ("high", "highest", False),
    ],
)
def test_the_highest_precision_sums_every_window(
    precision: Any, configured: str, direct: bool
) -> None:
    x, w, _ = map(Array, arguments(TABLE["tiles"]))
    with config.override(backend="cpu", default_matmul_precision=configured):
        lowered = jit(layer, static_argnums=2).lower(x, w, precision)
        text, kernels = lowered.as_text("c"), lowered.as_text("kernels")
    assert ("fd_winograd" in text) is not direct
    assert (" direct" in kernels) is direct


SPECIAL = [np.nan, np.inf, -np.inf, 3e38, -3e38]


@needs_compiler
@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("name", ["tiles", "tiles, odd", "tiles, far padding", "tiles in groups"])
@pytest.mark.parametrize("which", ["lhs", "ct"])
def test_special_values_stay_where_they_are_met(which: str, name: str, value: float) -> None:
    """Other results are as they would be without them, to the rounding of their own terms."""
    case = TABLE[name]
    lhs, rhs, ct = arguments(case)
    target = lhs if which == "lhs" else ct
    for place in ((0, 0, 0, 3), (1, 3, 4, 5), (2, -1, -1, 1), (3, 5, 0, -1)):
        target[place] = value
    args = tuple(map(Array, (lhs, rhs, ct)))
    with config.override(backend="cpu"):
        found = jit(lambda *xs: all_three(case, *xs))(*args)
        with config.override(default_matmul_precision="highest"):
            wanted = jit(lambda *xs: all_three(case, *xs))(*args)
    for x, y in zip(found, wanted, strict=True):
        x, y = np.asarray(x.value), np.asarray(y.value)
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        np.testing.assert_array_equal(np.isposinf(x), np.isposinf(y))
        np.testing.assert_array_equal(np.isneginf(x), np.isneginf(y))


@needs_compiler
def test_whole_numbers_are_exact() -> None:
    case = TABLE["tiles, odd"]
    rng = np.random.default_rng(0)
    args = [rng.integers(-9, 10, x.shape).astype(np.float32) for x in arguments(case)]
    with config.override(backend="cpu"):
        found = jit(lambda *xs: all_three(case, *xs))(*map(Array, args))
    with config.override(backend="reference"):
        wanted = all_three(case, *map(Array, args))
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(x.value, y.value)


@needs_compiler
def test_the_error_is_that_of_direct_sums() -> None:
    """Root of the mean square, over random images: sums are of fewer terms, and added in parts."""
    case = Case(8, 64, 64, (16, 16), (3, 3), padding=same((3, 3)))
    args = arguments(case)
    with config.override(x64="on"):
        exact = all_three(case, *(Array(x.astype(np.float64)) for x in args))
    errors = []
    for precision in ("default", "highest"):
        with config.override(backend="cpu", default_matmul_precision=precision):
            found = jit(lambda *xs: all_three(case, *xs))(*map(Array, args))
        errors.append(
            [np.sqrt(np.mean((x.value - y.value) ** 2)) for x, y in zip(found, exact, strict=True)]
        )
    for tiles, direct in zip(*errors, strict=True):
        assert tiles <= 1.5 * direct


@pytest.fixture(params=[1, 3])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has 3x3 places is in tiles, few at a time: odd ends in all directions."""
    monkeypatch.setattr(winograd, "FEWEST_FEATURES", 1)
    monkeypatch.setattr(winograd, "GAIN", float("inf"))
    monkeypatch.setattr(winograd, "SUM_BYTES", 1)
    for name in ("TILES", "GRADIENT_TILES", "MANY_BLOCKS"):
        monkeypatch.setattr(winograd, name, request.param)
    # On the disk may be a program with tiles of another size.
    monkeypatch.setattr(program_cache, "program_key", lambda *_: None)


def random_tiles(seed: int, *dtypes: str) -> list[Case]:
    """Convolutions with 3x3 places of any sizes, padding, groups and order of dimensions."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(6):
        sizes = tuple(map(int, rng.integers(1, 12, 2)))
        padding = []
        for size in sizes:
            low = int(rng.integers(-min(size - 1, 2), 4))
            padding.append((low, int(rng.integers(max(3 - size - low, -2), 5))))
        groups = [int(rng.choice([2, 3])), 1] if rng.random() < 0.5 else [1, 1]
        feature_groups, batch_groups = map(int, rng.permutation(groups))
        images, features = rng.integers(1, 5), rng.choice([1, 3, 8, 17, 65])
        outputs = rng.choice([1, 5, 16, 64, 67, 130])
        case = Case(int(images), int(features), int(outputs), sizes, (3, 3), padding=tuple(padding))
        cases.append(
            replace(
                case,
                feature_groups=feature_groups,
                batch_groups=batch_groups,
                layout=number,
                dtype=str(rng.choice(dtypes)),
            )
        )
    return cases


def run(cases: list[Case], operands: list[Any], precision: str = "default") -> list[Any]:
    """All three of each case, by one program."""

    def program(operands: Any) -> Any:
        return [all_three(case, *xs) for case, xs in zip(cases, operands, strict=True)]

    with config.override(backend="cpu", x64="on", default_matmul_precision=precision):
        f = jit(program)
        assert ("fd_winograd" in f.lower(operands).as_text("c")) is (precision == "default")
        results: list[Any] = f(operands)
    return results


@needs_compiler
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("seed", [0, 1])
def test_random_tiles(seed: int) -> None:
    cases = random_tiles(seed, "float32", "float32", "float64")
    args = [arguments(case, seed) for case in cases]
    found = run(cases, [tuple(map(Array, each)) for each in args])
    for case, each, results in zip(cases, args, found, strict=True):
        check(case, each, results)


# What an infinity makes of zeros that are padding differs between algorithms: results that it meets
# there as the other factor are not compared.
@needs_compiler
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("which", "padded", "others"), [(0, [0, 1, 2], []), (1, [2], [0]), (2, [0, 1], [2])]
)
def test_special_values_in_random_tiles(which: int, padded: list[int], others: list[int]) -> None:
    """In images, kernels and cotangents."""
    rng = np.random.default_rng(which)
    cases = random_tiles(2, "float32")
    operands = []
    for case in cases:
        xs = arguments(case)
        x = xs[which]
        x.flat[rng.integers(0, x.size, 2)] = rng.choice([np.nan, np.inf, -np.inf], 2)
        operands.append(tuple(map(Array, xs)))
    tiles, direct = (run(cases, operands, precision) for precision in ("default", "highest"))
    for case, found, wanted in zip(cases, tiles, direct, strict=True):
        without = all(amount <= 0 for pair in case.padding for amount in pair)
        for result in padded + others * without:
            x, y = (np.asarray(each[result].value) for each in (found, wanted))
            for kind in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(kind(x), kind(y))
            finite = np.isfinite(x)
            np.testing.assert_allclose(x[finite], y[finite], rtol=1e-3, atol=1e-3)
