"""Norms beside PyTorch's, and by their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn, random
from funcdl.errors import ArgumentError, AxisNameError, ShapeError, TreeError
from funcdl.test_util import check_grads

RNG = np.random.default_rng(0)
TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-5, "float64": 1e-12}


def drawn(params: dict[str, Any], dtype: str = "float32") -> dict[str, Any]:
    """Parameters that do something."""
    return {name: fnp.asarray(RNG.normal(size=p.shape), dtype) for name, p in params.items()}


def moments(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """By the formula, in float64."""
    x = np.asarray(x, np.float64)
    variance = x.var(axes, keepdims=True)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(variance + epsilon)


# Layer: shape of x, sizes, arguments of apply, the axes of the formula after grouping as given.
NORMS: dict[
    str, tuple[Callable[..., Any], Callable[..., Any], tuple[int, ...], Any, tuple[Any, ...]]
]
NORMS = {
    "layer": (nn.layer_norm_init, nn.layer_norm_apply, (3, 5, 7), 7, ()),
    "layer_of_two": (nn.layer_norm_init, nn.layer_norm_apply, (3, 5, 7), (5, 7), ()),
    "rms": (nn.rms_norm_init, nn.rms_norm_apply, (3, 5, 7), 7, ()),
    "group": (nn.group_norm_init, nn.group_norm_apply, (3, 5, 4, 6), 6, (3,)),
    "one_group": (nn.group_norm_init, nn.group_norm_apply, (3, 5, 6), 6, (1,)),
    "instance": (nn.instance_norm_init, nn.instance_norm_apply, (3, 5, 4, 6), 6, ()),
}


def formula(name: str, params: Any, x: Any) -> Any:
    x = np.asarray(x, np.float64)
    if name == "rms":
        out = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    elif name.startswith("layer"):
        out = moments(x, tuple(range(-params["scale"].ndim, 0)), 1e-5)
    elif name == "instance":
        out = moments(x, (1, 2), 1e-5)
    else:
        groups = 3 if name == "group" else 1
        parted = x.reshape((*x.shape[:-1], groups, -1))
        axes = (*range(1, x.ndim - 1), x.ndim)
        out = moments(parted, axes, 1e-5).reshape(x.shape)
    out = out * np.asarray(params["scale"], np.float64)
    return out + np.asarray(params["shift"], np.float64) if "shift" in params else out


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", NORMS)
def test_formulas(name: str, dtype: str) -> None:
    init, apply, shape, features, extra = NORMS[name]
    params = init(None, features, dtype=dtype)
    assert {p.dtype.name for p in params.values()} == {dtype}
    assert "shift" in params or name == "rms"
    assert (np.asarray(params["scale"], np.float32) == 1).all()
    params = drawn(params, dtype)
    x = fnp.asarray(RNG.normal(3, 2, shape), dtype)
    for f in (apply, fd.jit(apply, static_argnums=tuple(range(2, 2 + len(extra))))):
        out = f(params, x, *extra)
        assert (out.dtype.name, out.shape) == (dtype, shape)
        tolerance = TOLERANCES[dtype]
        np.testing.assert_allclose(
            np.asarray(out, np.float64), formula(name, params, x), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("name", NORMS)
def test_derivatives(name: str) -> None:
    init, apply, shape, features, extra = NORMS[name]
    params = drawn(init(None, features), "float64")
    x = RNG.normal(1, 2, shape)
    check_grads(lambda p, x: apply(p, x, *extra), (params, x), order=2)


def test_large_values_of_half_types_do_not_overflow() -> None:
    x = fnp.asarray(RNG.normal(0, 1000, (4, 64)), "float16")
    for init, apply in (
        (nn.layer_norm_init, nn.layer_norm_apply),
        (nn.rms_norm_init, nn.rms_norm_apply),
    ):
        out = np.asarray(apply(init(None, 64, dtype="float16"), x), np.float32)
        np.testing.assert_allclose((out**2).mean(-1), 1, rtol=0.1)


@pytest.mark.parametrize("channel_axis", [-1, 1, 2])
def test_norms_are_those_of_pytorch(channel_axis: int) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = RNG.normal(2, 3, (4, 5, 3, 6)).astype(np.float32)
    there = torch.tensor(np.moveaxis(x, channel_axis, 1))
    features = x.shape[channel_axis]
    params = drawn(nn.group_norm_init(None, features))
    affine = [torch.tensor(np.asarray(params[name])) for name in ("scale", "shift")]

    def check(found: Any, expected: Any) -> None:
        found = np.moveaxis(np.asarray(found), channel_axis, 1)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=2e-5)

    for groups in (1, features):
        found = nn.group_norm_apply(params, x, groups, channel_axis=channel_axis)
        check(found, functional.group_norm(there, groups, *affine))
    found = nn.instance_norm_apply(params, x, channel_axis=channel_axis, epsilon=1e-3)
    check(found, functional.instance_norm(there, weight=affine[0], bias=affine[1], eps=1e-3))
    params, state = nn.batch_norm_init(None, features)
    params = drawn(params)
    affine = [torch.tensor(np.asarray(params[name])) for name in ("scale", "shift")]
    kept = [torch.zeros(features), torch.ones(features)]
    for _ in range(3):
        found, state = nn.batch_norm_apply(params, state, x, train=True, channel_axis=channel_axis)
        check(found, functional.batch_norm(there, *kept, *affine, training=True))
        for name, average in zip(("mean", "variance"), kept, strict=True):
            np.testing.assert_allclose(state[name], average.numpy(), rtol=1e-4)
    found, same = nn.batch_norm_apply(params, state, x, train=False, channel_axis=channel_axis)
    check(found, functional.batch_norm(there, *kept, *affine))
    assert same is state


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_of_batch_norm(dtype: str) -> None:
    params, state = nn.batch_norm_init(None, 4, dtype=dtype)
    wide = "float64" if dtype == "float64" else "float32"
    x = fnp.asarray(RNG.normal(1, 300, (8, 4)), dtype)
    for train in (True, False):
        out, state = nn.batch_norm_apply(params, state, x, train=train)
        assert (out.dtype.name, out.shape) == (dtype, (8, 4))
        assert {s.dtype.name for s in state.values()} == {wide}
    expected = np.asarray(x, np.float64).var(0, ddof=1) * 0.1 + 0.9
    np.testing.assert_allclose(state["variance"], expected, rtol=1e-4)


def test_derivatives_of_batch_norm() -> None:
    params, state = nn.batch_norm_init(None, 3, dtype="float64")
    params, x = drawn(params, "float64"), RNG.normal(1, 2, (4, 5, 3))
    for train in (True, False):
        check_grads(
            lambda p, x, t=train: nn.batch_norm_apply(p, state, x, train=t)[0], (params, x), order=2
        )

    def through_state(x: Any, state: Any) -> Any:
        new = nn.batch_norm_apply(params, state, x, train=True)[1]
        return new["mean"].sum() + new["variance"].sum()

    for gradient in fd.tree.leaves(fd.grad(through_state, argnums=(0, 1))(x, state)):
        assert not np.asarray(gradient).any()


def test_statistics_of_a_named_axis_are_those_of_the_whole_batch() -> None:
    params, state = nn.batch_norm_init(None, 3)
    params = drawn(params)
    x = RNG.normal(1, 2, (6, 5, 3)).astype(np.float32)
    whole, after = nn.batch_norm_apply(params, state, x, train=True)

    def part(x: Any) -> Any:
        return nn.batch_norm_apply(params, state, x, train=True, axis_name="parts")

    for f in (fd.vmap(part, axis_name="parts"), fd.jit(fd.vmap(part, axis_name="parts"))):
        out, each = f(x.reshape(3, 2, 5, 3))
        np.testing.assert_allclose(np.asarray(out).reshape(x.shape), whole, rtol=1e-4, atol=1e-5)
        for name in state:
            expected = np.broadcast_to(after[name], (3, 3))
            np.testing.assert_allclose(each[name], expected, rtol=1e-5, atol=1e-6)
    # In inference the axis need not be there.
    alone = nn.batch_norm_apply(params, after, x, train=False, axis_name="parts")[0]
    expected = nn.batch_norm_apply(params, after, x, train=False)[0]
    np.testing.assert_array_equal(alone, expected)
    with pytest.raises(AxisNameError, match="no axis named 'parts'"):
        part(x[:0])


@pytest.mark.parametrize("bias", [False, True], ids=["no_bias", "bias"])
@pytest.mark.parametrize("shift", [False, True], ids=["no_shift", "shift"])
@pytest.mark.parametrize("layer", ["linear", "conv", "conv_transpose"])
def test_folding(layer: str, shift: bool, bias: bool) -> None:
    key = random.key(0)
    b_init = nn.initializers.normal(1.0) if bias else None
    if layer == "linear":
        before, apply = nn.linear_init(key, 3, 4, b_init=b_init), nn.linear_apply
    else:
        init = getattr(nn, f"{layer}_init")
        before, apply = init(key, 3, 4, (3, 3), b_init=b_init), getattr(nn, f"{layer}_apply")
    params, state = nn.batch_norm_init(None, 4, shift=shift)
    params = drawn(params)
    state = {"mean": drawn(params)["scale"], "variance": fnp.square(drawn(params)["scale"])}
    x = RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)
    expected, _ = nn.batch_norm_apply(params, state, apply(before, x), train=False)
    folded = fd.jit(nn.batch_norm_fold)(params, state, before)
    assert {name: p.shape for name, p in folded.items()} == {"w": before["w"].shape, "b": (4,)}
    np.testing.assert_allclose(apply(folded, x), expected, rtol=1e-3, atol=1e-4)


def test_empty_batches() -> None:
    params, state = nn.batch_norm_init(None, 3)
    out, after = fd.jit(nn.batch_norm_apply, static_argnames="train")(
        params, state, fnp.zeros((0, 2, 3)), train=True
    )
    assert out.shape == (0, 2, 3)
    fd.tree.map(np.testing.assert_array_equal, after, state)
    gradient = fd.grad(
        lambda p: nn.batch_norm_apply(p, state, fnp.zeros((0, 2, 3)), train=True)[0].sum()
    )(params)
    assert not any(np.asarray(g).any() for g in fd.tree.leaves(gradient)), "neither NaN"
    single, after = nn.batch_norm_apply(params, state, fnp.full((1, 3), 2.0), train=True)
    assert np.isfinite(np.asarray(single)).all()
    np.testing.assert_allclose(after["variance"], 0.9)
    for init, apply, shape, features, extra in NORMS.values():
        if features == shape[-1]:
            assert apply(init(None, features), fnp.zeros((0, *shape[1:])), *extra).size == 0


def test_a_batch_agrees_with_vmap() -> None:
    x = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    params = drawn(nn.layer_norm_init(None, 6))
    mapped = fd.vmap(nn.layer_norm_apply, in_axes=(None, 0))(params, x)
    np.testing.assert_allclose(mapped, nn.layer_norm_apply(params, x), rtol=1e-5, atol=1e-6)
    mapped = fd.vmap(lambda y: nn.group_norm_apply(params, y[None], 2)[0])(x)
    np.testing.assert_allclose(mapped, nn.group_norm_apply(params, x, 2), rtol=1e-5, atol=1e-6)


P4, S4 = nn.batch_norm_init(None, 4)
X = np.zeros((2, 5, 4), np.float32)
layers: Any = nn  # whose types do not matter here
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: layers.layer_norm_apply(None, X),
        TreeError,
        "with 'scale' and maybe 'shift', .* got None",
    ),
    (
        lambda: layers.layer_norm_apply(P4, X[..., :3]),
        ShapeError,
        r"the last dimensions of x .* f32\[4",
    ),
    (
        lambda: layers.layer_norm_apply(P4, X, epsilon="x"),
        ArgumentError,
        "epsilon must be a number",
    ),
    (
        lambda: layers.layer_norm_init(None, -1),
        ShapeError,
        "layer_norm_init: features must have no",
    ),
    (
        lambda: layers.rms_norm_init(None, "x"),
        ShapeError,
        "rms_norm_init: features must be an integer",
    ),
    (
        lambda: layers.rms_norm_apply(P4, X[..., :3]),
        ShapeError,
        "rms_norm_apply: the last dimensions",
    ),
    (lambda: layers.group_norm_apply(P4, X, 3), ShapeError, "groups=3 must divide .*, 4$"),
    (lambda: layers.group_norm_apply(P4, X, 0), ArgumentError, "groups must be at least 1"),
    (
        lambda: layers.group_norm_apply(P4, X, 2, channel_axis=1),
        ShapeError,
        "along channel_axis=1 as",
    ),
    (
        lambda: layers.instance_norm_apply(P4, X, channel_axis=3),
        ArgumentError,
        "got 3 for 3 dimension",
    ),
    (
        lambda: layers.batch_norm_apply(P4, {}, X, train=True),
        TreeError,
        "'mean' and 'variance', as",
    ),
    (
        lambda: layers.batch_norm_apply(P4, S4, X, train=[1]),
        ArgumentError,
        "train must be True or Fal",
    ),
    (
        lambda: layers.batch_norm_apply(P4, S4, X[..., :3], train=True),
        ShapeError,
        "as many channels",
    ),
    (
        lambda: layers.batch_norm_apply(P4, nn.batch_norm_init(None, 3)[1], X, train=True),
        ShapeError,
        r"state\['mean'\] must have shape \(4,\), one number for each channel, got f32\[3\]",
    ),
    (
        lambda: layers.batch_norm_fold(P4, S4, X),
        TreeError,
        "layer must be a dict with 'w' and maybe",
    ),
    (lambda: layers.batch_norm_fold(P4, S4, {"w": X.T}), ShapeError, r"f32\[4,5,2\] and f32\[4\]"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
