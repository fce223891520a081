"""Convolutions of generated layouts, strides, dilations and groups; their dtypes and errors."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.structural.bilinear import check_derivatives, check_vmap, operands
from tests.ops.structural.peer import wide_jax
from tests.ops.structural.test_samples import TOLERANCE

from funcdl.core import dtypes
from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.windows import convolution
from funcdl.ops.windows.convolution import conv_general_dilated
from funcdl.ops.windows.convolution_dimensions import (
    ConvDimensionNumbers,
    conv_dimension_numbers,
    conv_general_permutations,
)
from funcdl.ops.windows.sliding import dilated_size, padtype_to_pads
from funcdl.transforms.derivatives import vjp

NDArray = np.ndarray[Any, Any]
Params = dict[str, Any]
Case = tuple[tuple[int, ...], tuple[int, ...], Params]
BF16 = np.dtype(dtypes.bfloat16)


def params(numbers: Any, rank: int, **changes: Any) -> Params:
    ones = (1,) * rank
    defaults = {
        "window_strides": ones,
        "padding": ((0, 0),) * rank,
        "lhs_dilation": ones,
        "rhs_dilation": ones,
        "dimension_numbers": numbers,
        "feature_group_count": 1,
        "batch_group_count": 1,
        "precision": None,
        "preferred_element_type": None,
    }
    return defaults | changes


def plain(rank: int, **changes: Any) -> Params:
    return params(
        conv_dimension_numbers((0,) * (rank + 2), (0,) * (rank + 2), None), rank, **changes
    )


@st.composite
def cases(draw: st.DrawFn, most_spatial: int = 2) -> Case:
    """Shapes and parameters that fit each other."""
    rank = draw(st.integers(0, most_spatial))

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    sizes, window, strides = numbers(0, 5), numbers(1, 3), numbers(1, 3)
    lhs_dilation, rhs_dilation = numbers(1, 3), numbers(1, 2)
    low = numbers(-1, 2)
    # Padding must not remove more than there is.
    padding = tuple(
        (a, max(b, -(dilated_size(size, spread) + a)))
        for a, b, size, spread in zip(low, numbers(-1, 2), sizes, lhs_dilation, strict=True)
    )
    groups = draw(st.integers(1, 3))
    feature_groups, batch_groups = draw(st.sampled_from([(1, 1), (groups, 1), (1, groups)]))
    batch = draw(st.integers(0, 2)) * batch_groups
    features = draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 2)) * feature_groups * batch_groups
    roles = [
        (batch, features * feature_groups, *sizes),
        (outputs, features, *window),
    ]
    specs = [tuple(draw(st.permutations(range(rank + 2)))) for _ in range(3)]
    shapes = []
    for whole, spec in zip(roles, specs, strict=False):
        shape = [0] * len(whole)
        for size, d in zip(whole, spec, strict=True):
            shape[d] = size
        shapes.append(tuple(shape))
    found = params(
        ConvDimensionNumbers(*specs),
        rank,
        window_strides=strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        feature_group_count=feature_groups,
        batch_group_count=batch_groups,
    )
    return shapes[0], shapes[1], found


def slow_convolution(lhs: NDArray, rhs: NDArray, params: Params) -> NDArray:
    """The definition, element by element of output and window."""
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    x, w = lhs.transpose(lhs_spec), rhs.transpose(rhs_spec)
    by_feature, by_batch = params["feature_group_count"], params["batch_group_count"]
    groups = by_feature * by_batch
    sizes, window = x.shape[2:], w.shape[2:]
    counts = [
        max((dilated_size(n, a) + low + high - dilated_size(k, b)) // s + 1, 0)
        for n, k, s, (low, high), a, b in zip(
            sizes,
            window,
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            strict=True,
        )
    ]
    batch, features, outputs = x.shape[0] // by_batch, w.shape[1], w.shape[0] // groups
    out = np.zeros((batch, w.shape[0], *counts), np.result_type(lhs, rhs))
    for g, i, k in product(range(groups), np.ndindex(*counts), np.ndindex(*window)):
        place = []
        for d, (at, inner) in enumerate(zip(i, k, strict=True)):
            spread = at * params["window_strides"][d] + inner * params["rhs_dilation"][d]
            spread -= params["padding"][d][0]
            where, hole = divmod(spread, params["lhs_dilation"][d])
            if hole or not 0 <= where < sizes[d]:
                break
            place.append(where)
        else:
            n = slice(g * batch, (g + 1) * batch) if by_batch > 1 else slice(None)
            c = slice(g * features, (g + 1) * features) if by_feature > 1 else slice(None)
            o = slice(g * outputs, (g + 1) * outputs)
            out[(slice(None), o, *i)] += x[(n, c, *place)] @ w[(o, slice(None), *k)].T
    return out.transpose(np.argsort(out_spec))


@given(cases())
def test_values_are_those_of_the_definition(case: Case) -> None:
    x, w = operands(case[:2])
    wanted = slow_convolution(x, w, case[2])
    aval = conv_general_dilated.shape(*(ShapedArray(a.shape, a.dtype) for a in (x, w)), **case[2])
    assert aval == ShapedArray(wanted.shape, wanted.dtype)
    found = conv_general_dilated.impl(x, w, **case[2])
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(cases())
def test_derivatives(case: Case) -> None:
    def f(x: Any, w: Any) -> Any:
        return conv_general_dilated(x, w, **case[2])

    check_derivatives(f, lambda x, w: slow_convolution(x, w, case[2]), *operands(case[:2]))


@settings(max_examples=60)
@given(cases(), st.data())
def test_vmap(case: Case, data: st.DataObject) -> None:
    def f(x: Any, w: Any) -> Any:
        return conv_general_dilated(x, w, **case[2])

    check_vmap(f, lambda x, w: slow_convolution(x, w, case[2]), case[:2], data)


def fixed_cases(count: int) -> list[Case]:
    """Cases that are the same on every run, for one compilation by JAX."""
    found: list[Case] = []

    @settings(max_examples=count, derandomize=True, database=None)
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found[:count]


def in_jax(jax: Any, x: Any, w: Any, params: Params) -> Any:
    numbers = jax.lax.ConvDimensionNumbers(*params["dimension_numbers"])
    return jax.lax.conv_general_dilated(x, w, **params | {"dimension_numbers": numbers})


@pytest.mark.peers
def test_values_and_derivatives_agree_with_jax() -> None:
    chosen = [case for case in fixed_cases(60) if all(case[0]) and all(case[1])][:20]
    args = [operands(case[:2]) for case in chosen]
    with wide_jax() as jax:

        def run(args: Any) -> Any:
            results = []
            for (x, w), (_, _, found) in zip(args, chosen, strict=True):
                out, pull = jax.vjp(lambda x, w, found=found: in_jax(jax, x, w, found), x, w)
                results.append((out, *pull(jax.numpy.ones_like(out))))
            return results

        wanted = jax.jit(run)(args)
    for (x, w), (_, _, found), results in zip(args, chosen, wanted, strict=True):
        out, pull = vjp(
            lambda x, w, found=found: conv_general_dilated(x, w, **found), as_array(x), as_array(w)
        )
        cts = pull(as_array(np.ones(out.shape)))
        for mine, peer in zip((out, *cts), results, strict=True):
            np.testing.assert_allclose(mine.value, np.asarray(peer), rtol=1e-10, atol=1e-10)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["i8", "bf16", "c64"])
def test_samples_agree_with_jax(dtype: str) -> None:
    seed = np.random.default_rng(7)
    found = list(
        registry.ops()["conv_general_dilated"].samples(seed, dtypes.from_short_name(dtype))
    )
    with wide_jax() as jax:

        def run(args: Any) -> Any:
            return [
                jax.lax.conv_general_dilated(
                    *pair,
                    **s.params
                    | {
                        "dimension_numbers": jax.lax.ConvDimensionNumbers(
                            *s.params["dimension_numbers"]
                        )
                    },
                )
                for pair, s in zip(args, found, strict=True)
            ]

        wanted = [np.asarray(x) for x in jax.jit(run)([s.args for s in found])]
    for sample, peer in zip(found, wanted, strict=True):
        out = conv_general_dilated.impl(*sample.args, **sample.params)
        assert (out.shape, out.dtype) == (peer.shape, peer.dtype)
        tolerance = TOLERANCE.get(dtype, 0)
        np.testing.assert_allclose(
            out.astype(np.complex128), peer.astype(np.complex128), rtol=tolerance, atol=tolerance
        )


def test_large_batches_are_done_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(7, 4, 6)), rng.normal(size=(6, 2, 3))
    grouped = plain(1, feature_group_count=2)
    whole = conv_general_dilated.impl(x, w, **grouped)
    for block in (1, 100):
        monkeypatch.setattr(convolution, "_BLOCK", block)
        found = conv_general_dilated.impl(x, w, **grouped)
        np.testing.assert_allclose(found, whole, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_half_precision_accumulates_in_float32(dtype: Any) -> None:
    x = np.full((1, 1, 4097), 2.0**-12, dtype)
    x[0, 0, 0] = 1.0
    out = conv_general_dilated.impl(x, np.ones((1, 1, 4097), dtype), **plain(1))
    assert out.dtype == dtype
    assert out[0, 0, 0] == 2.0


def test_integers_wrap_around() -> None:
    x = np.full((1, 1, 2), 100, np.int8)
    out = conv_general_dilated.impl(x, x, **plain(1))
    assert out.item() == 20000 % 256
    wide = plain(1, preferred_element_type=np.dtype(np.int32))
    assert conv_general_dilated.impl(x, x, **wide).item() == 20000


@pytest.mark.parametrize(
    ("operand", "preferred"),
    [(BF16, "f4"), ("f2", BF16), ("f4", "f8"), ("f4", BF16), ("c8", "c16")],
)
def test_preferred_element_type_and_its_derivatives(operand: Any, preferred: Any) -> None:
    rng = np.random.default_rng(0)
    operand, preferred = np.dtype(operand), np.dtype(preferred)
    x, w = (rng.integers(-2, 3, shape).astype(operand) for shape in [(1, 2, 4), (3, 2, 2)])
    ct = rng.integers(-2, 3, (1, 3, 3)).astype(preferred)
    found = plain(1, preferred_element_type=preferred)

    def f(x: Any, w: Any) -> Any:
        return conv_general_dilated(x, w, **found)

    out, pull = vjp(f, as_array(x), as_array(w))
    cts = pull(as_array(ct))
    assert out.dtype == preferred
    assert [c.dtype for c in cts] == [operand, operand]
    wide = np.dtype(np.complex128 if operand.kind == "c" else np.float64)
    x, w, ct = (a.astype(wide) for a in (x, w, ct))
    np.testing.assert_array_equal(out.value.astype(wide), slow_convolution(x, w, plain(1)))
    wanted = vjp(lambda x, w: conv_general_dilated(x, w, **plain(1)), as_array(x), as_array(w))[1](
        as_array(ct)
    )
    for mine, exact in zip(cts, wanted, strict=True):
        np.testing.assert_array_equal(mine.value.astype(wide), exact.value)


@pytest.mark.parametrize(
    ("lhs", "rhs", "changes", "error", "message"),
    [
        ((1, 2, 3), (1, 2), {}, ShapeError, "equally many dimensions"),
        ((1, 4, 3), (2, 2, 3), {}, ShapeError, "feature_group_count=2 would fit"),
        ((1, 3, 3), (2, 2, 3), {}, ShapeError, "dimension 1 of lhs has 3 and dimension 1 of rhs"),
        ((1, 4, 3), (3, 2, 3), {"feature_group_count": 2}, ShapeError, "feature_group_count=2"),
        ((4, 2, 3), (3, 2, 3), {"batch_group_count": 2}, ShapeError, "batch_group_count=2"),
        ((3, 2, 3), (2, 2, 3), {"batch_group_count": 2}, ShapeError, "batch size 3"),
        (
            (1, 2, 3),
            (2, 2, 3),
            {"feature_group_count": 0},
            ArgumentError,
            "must be positive, got 0",
        ),
        (
            (2, 4, 3),
            (4, 2, 3),
            {"feature_group_count": 2, "batch_group_count": 2},
            ArgumentError,
            "must be 1, got 2 and 2",
        ),
        (
            (1, 2, 3),
            (2, 2, 3),
            {"window_strides": (1, 1)},
            ArgumentError,
            "window_strides must have",
        ),
        (
            (1, 2, 3),
            (2, 2, 3),
            {"rhs_dilation": (0,)},
            ArgumentError,
            "rhs_dilation must be positive",
        ),
        ((1, 2, 3), (2, 2, 3), {"padding": ((-2, -2),)}, ShapeError, "removes more than the 3"),
        (
            (1, 2, 3),
            (2, 2, 3),
            {"dimension_numbers": ConvDimensionNumbers((0, 1, 2), (0, 1, 1), (0, 1, 2))},
            ShapeError,
            "rhs_spec must name each of the 3 dimensions once",
        ),
    ],
)
def test_errors(lhs: Any, rhs: Any, changes: Params, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        conv_general_dilated.impl(np.zeros(lhs), np.zeros(rhs), **plain(1) | changes)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("lhs", "rhs", "preferred", "message"),
    [
        ("f4", "f8", None, "got float32 and float64"),
        ("?", "?", None, "does not accept bool"),
        ("i4", "i4", "i2", "no narrower"),
        ("i4", "i4", "u4", "of the same kind"),
        ("f4", "f4", "i4", "preferred_element_type=int32 does not fit"),
    ],
)
def test_dtype_errors(lhs: str, rhs: str, preferred: str | None, message: str) -> None:
    found = plain(1, preferred_element_type=None if preferred is None else np.dtype(preferred))
    with pytest.raises(DtypeError, match=message):
        conv_general_dilated.impl(np.zeros((1, 1, 2), lhs), np.zeros((1, 1, 2), rhs), **found)


def test_dimension_numbers() -> None:
    shape = (1, 2, 3, 4)
    plainly = conv_dimension_numbers(shape, shape, None)
    assert plainly == ConvDimensionNumbers(*((0, 1, 2, 3),) * 3)
    nhwc = conv_dimension_numbers(shape, shape, ("NHWC", "HWIO", "NCWH"))
    assert nhwc == ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 1, 3, 2))
    assert conv_dimension_numbers(shape, shape, nhwc) is nhwc
    assert conv_general_permutations(("NCH", "OIH", "NHC")) == ((0, 1, 2), (0, 1, 2), (0, 2, 1))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (("NHWC", "HWIO"), "three strings of 4 letters"),
        (("NHC", "HIO", "NHC"), "three strings of 4 letters"),
        (("NHWX", "HWIO", "NHWC"), "the string for lhs must have the letters N, C"),
        (("NHWC", "HHIO", "NHWC"), "for lhs"),
        (("NHWC", "HWIO", "NHVC"), "for the output"),
        (7, "got 7"),
    ],
)
def test_dimension_number_errors(numbers: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        conv_dimension_numbers((1, 2, 3, 4), (1, 2, 3, 4), numbers)
    with pytest.raises(ShapeError, match="equally many"):
        conv_dimension_numbers((1, 2, 3), (1, 2, 3, 4), None)


@pytest.mark.peers
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(1, 4)), max_size=3),
    st.sampled_from(["SAME", "VALID", "SAME_LOWER", "same"]),
)
def test_named_padding_agrees_with_jax(dims: list[tuple[int, int, int]], name: str) -> None:
    jax = pytest.importorskip("jax")
    sizes, window, strides = zip(*dims, strict=True) if dims else ((), (), ())
    wanted = jax.lax.padtype_to_pads(sizes, window, strides, name.upper())
    found = padtype_to_pads(sizes, window, strides, name)
    assert found == tuple((int(a), int(b)) for a, b in wanted)


def test_padding_errors() -> None:
    assert padtype_to_pads((3,), (2,), (1,), [(1, 2)]) == ((1, 2),)
    for padding in ("SOME", 3, [1, 2]):
        with pytest.raises(ArgumentError, match="'SAME', 'SAME_LOWER', 'VALID' or"):
            padtype_to_pads((3,), (2,), (1,), padding)  # type: ignore[arg-type]
