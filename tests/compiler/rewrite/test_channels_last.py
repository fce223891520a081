"""Networks in NCHW: they compute in NHWC inside, in as many kernels as if they were written so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.compiler.run import interpret, kernels_of, pipeline_of
from tests.golden import assert_golden

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.pipeline import Pipeline

GOLDEN = Path(__file__).with_name("channels_last.simplified.txt")
N, C, H, W = 2, 5, 8, 6


class Layout:
    """A small residual network; `features` is the dimension of the features of its images."""

    def __init__(self, name: str) -> None:
        self.features = name.index("C")
        self.space = tuple(d for d in range(4) if d not in (0, self.features))
        self.numbers = (name, "OIHW" if name == "NCHW" else "HWIO", name)

    def conv(self, x: Any, k: Any, stride: int = 1, **options: Any) -> Any:
        strides, numbers = (stride, stride), self.numbers
        return lax.conv_general_dilated(x, k, strides, "SAME", dimension_numbers=numbers, **options)

    def norm(self, x: Any, scale: Any) -> Any:
        axes = (0, *self.space)
        x = x - x.mean(axes, keepdims=True)
        shape = tuple(-1 if d == self.features else 1 for d in range(4))
        return x * lax.rsqrt((x * x).mean(axes, keepdims=True) + 1e-5) * scale.reshape(shape)

    def pool(self, x: Any) -> Any:
        window = tuple(2 if d in self.space else 1 for d in range(4))
        return lax.reduce_window(x, -np.inf, lax.max, window, window, "VALID")

    def network(self, p: Any, x: Any) -> Any:
        y = self.pool(fnp.maximum(self.norm(self.conv(x, p["k1"]), p["scale"]), 0))
        y = fnp.tanh(self.conv(y, p["k2"]) + y)
        return y.mean(self.space) @ p["w"]

    def image(self, x: np.ndarray) -> np.ndarray:
        """An array given in NHWC."""
        return np.ascontiguousarray(np.moveaxis(x, 3, self.features))

    def kernel(self, k: np.ndarray) -> np.ndarray:
        """A kernel given in HWIO."""
        return np.ascontiguousarray(k.transpose(3, 2, 0, 1)) if self.features == 1 else k


def arguments(layout: Layout) -> tuple[dict[str, Any], Any]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32) / 2

    kernels = {name: layout.kernel(normal(3, 3, c, 4)) for name, c in (("k1", C), ("k2", 4))}
    p = kernels | {"scale": normal(4), "w": normal(4, 3)}
    return p, layout.image(normal(N, H, W, C))


def loss(layout: Layout) -> Callable[[Any, Any], Any]:
    return lambda p, x: (layout.network(p, x) ** 2).sum()


PROGRAMS: dict[str, Callable[[Layout], Callable[[Any, Any], Any]]] = {
    "forward": lambda layout: layout.network,
    "gradient": lambda layout: fd.value_and_grad(loss(layout)),
    "both gradients": lambda layout: fd.value_and_grad(loss(layout), (0, 1)),
    "checkpoint": lambda layout: fd.grad(fd.checkpoint(loss(layout))),
}


def compiled(name: str, layout: Layout) -> Pipeline:
    f = PROGRAMS[name](layout)
    return pipeline_of(fd.make_jaxpr(f)(*arguments(layout)))


def transposes(pipeline: Pipeline) -> int:
    return str(pipeline.simplified).count(" transpose[")


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_many_kernels_as_in_nhwc(name: str) -> None:
    first, last = (compiled(name, Layout(layout)) for layout in ("NCHW", "NHWC"))
    assert kernels_of(first) == kernels_of(last)
    assert transposes(first) == 1 and transposes(last) == 0  # the images


@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name: str) -> None:
    layout = Layout("NCHW")
    args = arguments(layout)
    f = PROGRAMS[name](layout)
    found = interpret(compiled(name, layout), [np.asarray(x) for x in fd.tree.leaves(args)])
    for x, wanted in zip(found, fd.tree.leaves(f(*args)), strict=True):
        np.testing.assert_allclose(x, np.asarray(wanted), 1e-4, 1e-4)


def test_golden() -> None:
    assert_golden(GOLDEN, f"{compiled('gradient', Layout('NCHW')).simplified}\n")


NCHW = Layout("NCHW")
X = np.random.default_rng(1).normal(size=(N, 4, H, W)).astype(np.float32)
K = np.random.default_rng(2).normal(size=(4, 4, 3, 3)).astype(np.float32)
BIAS = np.arange(4, dtype=np.float32)


def _pair(between: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Two convolutions with something between them."""
    return lambda x, k: NCHW.conv(between(NCHW.conv(x, k)), k)


def _grouped(y: Any) -> Any:
    parts = y.reshape(y.shape[0], 2, 2, *y.shape[2:])
    return (parts - parts.mean((2, 3, 4), keepdims=True)).reshape(y.shape)


def _select(x: Any, k: Any) -> Any:
    def f(x: Any) -> Any:
        y = lax.reduce_window(NCHW.conv(x, k), -np.inf, lax.max, (1, 2, 3, 2), (1, 1, 2, 2), "SAME")
        return (NCHW.conv(y, k) ** 2).sum()

    return fd.grad(f)(x)


BETWEEN: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda y: y,
    "bias": lambda y: fnp.maximum(y + BIAS[:, None, None], 0),
    "pad": lambda y: lax.pad(y, np.float32(1), ((0, 0, 0), (0, 0, 0), (1, 2, 0), (0, 1, 1))),
    "parts": lambda y: fnp.concatenate([y[:, :2], -y[:, 2:, :]], 1),
    "flip": lambda y: fnp.flip(y, 3)[:, :, ::2],
    "cumulative": lambda y: fnp.cumsum(y, 2) - fnp.cumsum(y, 1),
    "group norm": _grouped,
    "mean": lambda y: y - y.mean((0, 1), keepdims=True) + y.mean(0),
    "half": lambda y: y.astype(np.float16).astype(np.float32),
    "where": lambda y: fnp.where(y > 0, y, fnp.clip(y, -1, 1)),
    "to features last and back": lambda y: fnp.tanh(y.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "average": lambda y: lax.reduce_window(
        y, np.float32(0), lax.add, (1, 1, 3, 2), (1, 1, 2, 1), "SAME"
    ),
}
OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "windows selected from": _select,
    "an input added": lambda x, k: NCHW.conv(NCHW.conv(x, k) + x, k),
    "mapped": fd.vmap(_pair(fnp.tanh), (1, None)),
    "result read twice": lambda x, k: (y := NCHW.conv(x, k), NCHW.conv(y, k)),
    "depthwise": lambda x, k: fd.grad(
        lambda x: (
            NCHW.conv(
                NCHW.conv(x, k[:, :1], feature_group_count=4), k[:, :1], feature_group_count=4
            )
            ** 2
        ).sum()
    )(x),
    "from features last": lambda x, k: NCHW.conv(
        x.reshape(N, H, W, 4).transpose(0, 3, 1, 2), k
    ).transpose(0, 2, 3, 1),
}


@pytest.mark.parametrize("name", [*BETWEEN, *OTHERS])
def test_between_convolutions(name: str) -> None:
    f = OTHERS[name] if name in OTHERS else _pair(BETWEEN[name])
    x = np.stack([X, X + 1], 1) if name == "mapped" else X
    pipeline = pipeline_of(fd.make_jaxpr(f)(x, K))
    assert "out_spec=(0, 3, 1, 2)" in str(pipeline.simplified)
    found = interpret(pipeline, [x, K])
    for got, wanted in zip(found, fd.tree.leaves(f(x, K)), strict=True):
        np.testing.assert_allclose(got, np.asarray(wanted), 1e-3, 1e-3)


@pytest.mark.parametrize("name", BETWEEN)
def test_only_what_enters_is_transposed(name: str) -> None:
    # The last convolution writes its result in the order that is asked for.
    assert transposes(pipeline_of(fd.make_jaxpr(_pair(BETWEEN[name]))(X, K))) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(list(BETWEEN)), min_size=1, max_size=4),
    st.lists(st.sampled_from(["NCHW", "NHWC", "CHWN", "CNWH"]), min_size=2, max_size=3),
    st.booleans(),
)
@example(["nothing", "pad", "mean"], ["NCHW", "NCHW"], True)
def test_random_networks(steps: list[str], layouts: list[str], gradient: bool) -> None:
    """In layouts that change from one convolution to the next."""

    def network(x: Any, k: Any) -> Any:
        for name in layouts:
            numbers = (name, "OIHW", layouts[0])
            there = tuple(map("NCHW".index, name))
            back = tuple(map(layouts[0].index, "NCHW"))
            x = lax.conv_general_dilated(
                x.transpose(there), k, (1, 1), "SAME", dimension_numbers=numbers
            ).transpose(back)
            for step in steps:
                x = fnp.tanh(BETWEEN[step](x))
        return x

    f = network
    if gradient:
        f = fd.grad(lambda x, k: (network(x, k) ** 2).sum(), (0, 1))
    pipeline = pipeline_of(fd.make_jaxpr(f)(X, K / 4))
    found = interpret(pipeline, [X, K / 4])
    for got, wanted in zip(found, fd.tree.leaves(f(X, K / 4)), strict=True):
        np.testing.assert_allclose(got, np.asarray(wanted), 2e-2 if "half" in steps else 1e-3, 2e-3)


ALONE: dict[str, Callable[[Any, Any], Any]] = {
    "one convolution": NCHW.conv,
    "one convolution and what follows": lambda x, k: fnp.tanh(NCHW.conv(x, k)) * x,
    "gradient of a kernel": lambda x, k: fd.grad(lambda k: (NCHW.conv(x, k) * x[::-1]).sum())(k),
    "reshaped between": _pair(lambda y: fnp.tanh(y.reshape(N, -1)[:, ::-1]).reshape(y.shape)),
}


@pytest.mark.parametrize("name", ALONE)
def test_left_alone_where_nothing_is_saved(name: str) -> None:
    text = str(pipeline_of(fd.make_jaxpr(ALONE[name])(X, K)).simplified)
    assert " transpose[" not in text and "out_spec=(0, 3, 1, 2)" not in text, text
