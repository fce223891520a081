"""Convolution layers beside PyTorch's, and beside sums over windows where that is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn, random
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.test_util import check_grads

KEY = random.key(0)
RNG = np.random.default_rng(0)

# Sizes, kernel, options of the layer; torch's padding where it is another.
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1d": ((11,), (3,), {"padding": 1}),
    "2d": ((7, 9), (3, 3), {"padding": 1}),
    "3d": ((4, 5, 6), (2, 3, 1), {"padding": (0, 1, 0)}),
    "valid": ((7, 9), (3, 2), {"padding": "VALID"}),
    "strides": ((8, 11), (3, 3), {"padding": (1, 2), "strides": (2, 3)}),
    "dilation": ((9, 10), (3, 2), {"padding": 2, "dilation": (2, 3)}),
    "groups": ((6, 5), (3, 3), {"padding": 1, "groups": 2}),
    "depthwise": ((6, 5), (3, 3), {"padding": 1, "groups": 4, "strides": 2}),
    "one_by_one": ((6, 5), (1, 1), {"strides": 2, "padding": 0}),
}
LAYOUTS = {"channels_last": -1, "channels_first": 1}


def images(sizes: tuple[int, ...], channels: int, dtype: str = "float32") -> Any:
    """Channels last; a batch of 2."""
    return RNG.normal(size=(2, *sizes, channels)).astype(dtype)


def moved(x: Any, channel_axis: int) -> Any:
    return np.moveaxis(np.asarray(x), -1, channel_axis)


def torch_options(options: dict[str, Any], spatial: int) -> dict[str, Any]:
    padding = options.get("padding")
    return {
        "stride": options.get("strides", 1),
        "padding": 0 if padding == "VALID" else padding,
        "dilation": options.get("dilation", 1),
        "groups": options.get("groups", 1),
    }


@pytest.mark.parametrize("channel_axis", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_convolutions_are_those_of_pytorch(case: str, channel_axis: int) -> None:
    torch = pytest.importorskip("torch")
    sizes, window, options = CASES[case]
    params = nn.conv_init(
        KEY, 4, 8, window, groups=options.get("groups", 1), b_init=nn.initializers.normal(1.0)
    )
    x = images(sizes, 4)
    found = nn.conv_apply(params, moved(x, channel_axis), channel_axis=channel_axis, **options)
    convolve = getattr(torch.nn.functional, f"conv{len(sizes)}d")
    w = np.moveaxis(np.asarray(params["w"]), (-1, -2), (0, 1))
    expected = convolve(
        torch.tensor(moved(x, 1)),
        torch.tensor(w),
        torch.tensor(np.asarray(params["b"])),
        **torch_options(options, len(sizes)),
    ).numpy()
    expected = np.moveaxis(expected, 1, channel_axis)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channel_axis", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_transposed_convolutions_are_those_of_pytorch(case: str, channel_axis: int) -> None:
    torch = pytest.importorskip("torch")
    sizes, window, options = CASES[case]
    groups = options.get("groups", 1)
    params = nn.conv_transpose_init(
        KEY, 4, 8, window, groups=groups, b_init=nn.initializers.normal(1.0)
    )
    x = images(sizes, 4)
    if options["padding"] == "VALID":
        options = options | {"padding": 0}
    found = nn.conv_transpose_apply(
        params, moved(x, channel_axis), channel_axis=channel_axis, **options
    )
    # PyTorch flips the kernel, and has outputs of a group behind all inputs.
    spatial = tuple(range(len(window)))
    w = np.flip(np.asarray(params["w"]), spatial)
    parts = np.split(w, groups, axis=-1)
    w = np.concatenate([np.moveaxis(part, (-2, -1), (0, 1)) for part in parts], axis=0)
    convolve = getattr(torch.nn.functional, f"conv_transpose{len(sizes)}d")
    expected = convolve(
        torch.tensor(moved(x, 1)),
        torch.tensor(w.copy()),
        torch.tensor(np.asarray(params["b"])),
        **torch_options(options, len(sizes)),
    ).numpy()
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, channel_axis), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 9])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_transposes_are_those_of_convolutions(
    size: int, window: int, stride: int, padding: str
) -> None:
    """As a linear map with the kernel flipped, and inputs and outputs exchanged."""
    params = nn.conv_init(KEY, 2, 3, (window,), b_init=None)
    flipped = {"w": fnp.flip(params["w"], 0).swapaxes(1, 2)}
    y = images((size,), 3)
    found = nn.conv_transpose_apply(flipped, y, strides=stride, padding=padding)
    length = size * stride if padding == "SAME" else size * stride + max(window - stride, 0)
    assert found.shape == (2, length, 2)

    def forward(x: Any) -> Any:
        return nn.conv_apply(params, x, strides=stride, padding=padding)

    x = fnp.zeros((2, length, 2))
    assert forward(x).shape == y.shape
    np.testing.assert_allclose(found, fd.vjp(forward, x)[1](y)[0], rtol=1e-5, atol=1e-5)


def test_pairs_are_output_padding() -> None:
    torch = pytest.importorskip("torch")
    params = nn.conv_transpose_init(KEY, 2, 3, (3, 4))
    x = images((5, 6), 2)
    found = nn.conv_transpose_apply(params, x, strides=3, padding=((1, 0), (2, 0)))
    w = np.flip(np.asarray(params["w"]), (0, 1)).transpose(2, 3, 0, 1).copy()
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(moved(x, 1)),
        torch.tensor(w),
        stride=3,
        padding=(1, 2),
        output_padding=(1, 2),
    )
    np.testing.assert_allclose(moved(found, 1), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "dilation"), [(3, 1), (4, 1), (2, 3)])
def test_causal_convolutions_see_no_later_moment(window: int, dilation: int) -> None:
    params = nn.conv_init(KEY, 2, 3, (window,))
    x = images((8,), 2)
    found = nn.conv_apply(params, x, padding="causal", dilation=dilation)
    assert found.shape == (2, 8, 3)
    for moment in range(8):
        later = x.copy()
        later[:, moment + 1 :] = np.nan
        out = nn.conv_apply(params, later, padding="CAUSAL", dilation=dilation)
        np.testing.assert_allclose(out[:, : moment + 1], found[:, : moment + 1], rtol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("channel_axis", LAYOUTS.values(), ids=LAYOUTS)
def test_circular_convolutions_commute_with_rolling(window: int, channel_axis: int) -> None:
    params = nn.conv_init(KEY, 2, 3, (window, window))
    x = images((6, 7), 2)

    def convolve(x: Any) -> Any:
        return nn.conv_apply(
            params, moved(x, channel_axis), padding="CIRCULAR", channel_axis=channel_axis
        )

    rolled = np.roll(x, (2, 3), (1, 2))
    expected = np.roll(np.moveaxis(np.asarray(convolve(x)), channel_axis, -1), (2, 3), (1, 2))
    np.testing.assert_allclose(
        convolve(rolled), moved(expected, channel_axis), rtol=1e-4, atol=1e-5
    )
    middle = nn.conv_apply(params, x, padding="VALID")
    low = (window - 1) // 2
    found = np.moveaxis(np.asarray(convolve(x)), channel_axis, -1)
    inner = found[:, low : low + middle.shape[1], low : low + middle.shape[2]]
    np.testing.assert_allclose(inner, middle, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_and_single_images(dtype: str) -> None:
    params = nn.conv_init(KEY, 3, 4, (3, 3), dtype=dtype)
    assert {p.dtype.name for p in fd.tree.leaves(params)} == {dtype}
    x = fnp.asarray(images((5, 6), 3), dtype)
    out = nn.conv_apply(params, x)
    assert (out.dtype.name, out.shape) == (dtype, (2, 5, 6, 4))
    single = nn.conv_apply(params, x[0])
    np.testing.assert_allclose(single.astype("float32"), out[0].astype("float32"), rtol=1e-2)
    # Both are promoted.
    wide = nn.conv_apply(params, fnp.asarray(x, "float64"))
    assert wide.dtype.name == "float64"
    transposed = nn.conv_transpose_init(KEY, 3, 4, (2, 2), dtype=dtype)
    assert nn.conv_transpose_apply(transposed, x, strides=2).dtype.name == dtype


def test_nothing_at_all() -> None:
    params = nn.conv_init(KEY, 3, 4, (3, 3))
    for padding in ("SAME", "CIRCULAR"):
        out = nn.conv_apply(params, fnp.zeros((0, 5, 5, 3)), padding=padding, strides=2)
        assert out.shape == (0, 3, 3, 4)
    assert nn.conv_apply(params, fnp.zeros((2, 0, 5, 3))).shape == (2, 0, 5, 4)
    out = nn.conv_transpose_apply(params, fnp.zeros((0, 5, 5, 3)), strides=2)
    assert out.shape == (0, 10, 10, 4)
    gradient = fd.grad(lambda p: nn.conv_apply(p, fnp.zeros((0, 5, 5, 3))).sum())(params)
    assert not any(np.asarray(g).any() for g in fd.tree.leaves(gradient))


def test_derivatives_and_transforms() -> None:
    params = nn.conv_init(KEY, 4, 2, (3, 3), groups=2, dtype="float64")
    x = images((4, 5), 4, "float64")

    def loss(params: Any, x: Any) -> Any:
        y = nn.conv_apply(params, x, strides=2, groups=2)
        return (nn.conv_transpose_apply(turned, y, strides=2, groups=2) ** 2).sum()

    turned = nn.conv_transpose_init(KEY, 2, 4, (3, 2), groups=2, dtype="float64")
    check_grads(loss, (params, x), order=2)
    eager = fd.grad(loss)(params, x)
    jitted = fd.jit(fd.grad(fd.jit(loss)))(params, x)
    fd.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), eager, jitted)
    mapped = fd.vmap(lambda image: nn.conv_apply(params, image, groups=2))(x)
    np.testing.assert_allclose(mapped, nn.conv_apply(params, x, groups=2), rtol=1e-10)


def test_variances_are_kept() -> None:
    params = nn.conv_init(KEY, 32, 64, (3, 3))
    assert set(params) == {"w", "b"}
    assert set(nn.conv_init(KEY, 2, 2, (1,), b_init=None)) == {"w"}
    np.testing.assert_allclose(np.asarray(params["w"]).var(), 1 / (32 * 9), rtol=0.05)
    depthwise = nn.conv_init(KEY, 64, 64, (5, 5), groups=64)["w"]
    assert depthwise.shape == (5, 5, 1, 64)
    np.testing.assert_allclose(np.asarray(depthwise).var(), 1 / 25, rtol=0.1)


PARAMS = nn.conv_init(KEY, 4, 8, (3, 3))
X = np.zeros((2, 5, 5, 4), np.float32)
layers: Any = nn  # whose types do not matter here
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: layers.conv_apply({}, X),
        TreeError,
        "conv_apply: params must be a dict with 'w' and ",
    ),
    (
        lambda: layers.conv_apply(PARAMS, X[..., :3]),
        ShapeError,
        r"must have 4 channels along channel_",
    ),
    (lambda: layers.conv_apply(PARAMS, X, groups=2), ShapeError, "4 times groups=2 channels"),
    (lambda: layers.conv_apply(PARAMS, X, groups=3), ShapeError, "groups=3 must divide .* 8"),
    (lambda: layers.conv_apply(PARAMS, X, groups=0), ArgumentError, "at least 1, got 0"),
    (
        lambda: layers.conv_apply(PARAMS, X[0, 0]),
        ShapeError,
        r"got x f32\[5,4\] and w f32\[3,3,4,8\]",
    ),
    (
        lambda: layers.conv_apply(PARAMS, X, strides=(1,)),
        ArgumentError,
        r"strides .* 2 .*got \(1,\)",
    ),
    (
        lambda: layers.conv_apply(PARAMS, X, dilation=0),
        ArgumentError,
        "dilation must be a positive",
    ),
    (lambda: layers.conv_apply(PARAMS, X, padding="FULL"), ArgumentError, "one of SAME, .*'FULL'"),
    (
        lambda: layers.conv_apply(PARAMS, X, padding=(1, 2, 3)),
        ArgumentError,
        "2 spatial dimensions",
    ),
    (lambda: layers.conv_apply(PARAMS, X, padding=1.5), ArgumentError, "must be a sequence of int"),
    (
        lambda: layers.conv_apply(PARAMS, X, padding="CAUSAL"),
        ArgumentError,
        "one spatial dimension",
    ),
    (
        lambda: layers.conv_apply(PARAMS, X, channel_axis=0),
        ArgumentError,
        "1 for NCHW, -1 for NHWC",
    ),
    (lambda: layers.conv_apply(PARAMS, X, channel_axis=4), ArgumentError, "got 4 for 4 dimensions"),
    (
        lambda: layers.conv_transpose_apply(PARAMS, X, padding="CIRCULAR"),
        ArgumentError,
        "'CIRCULAR'",
    ),
    (
        lambda: layers.conv_init(KEY, 4, 8, 3),
        ArgumentError,
        "kernel_size must be a sequence of int",
    ),
    (lambda: layers.conv_init(KEY, 4, 8, (3, 0)), ArgumentError, r"such as \(3, 3\), got \(3, 0\)"),
    (lambda: layers.conv_init(KEY, 4, 8, (3,), groups=3), ShapeError, "must divide .* 4 and 8"),
    (lambda: layers.conv_init(KEY, 4, -8, (3,)), ShapeError, "no negative sizes"),
    (lambda: layers.conv_init(KEY, 4, 8, (3,), w_init=1), ArgumentError, "as w_init"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
