"""Example kernels with a convolution: forward with an epilogue, both gradients, depthwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from funcdl.kir.builder import KernelBuilder
from funcdl.kir.index import Index
from funcdl.kir.ir import Kernel, Slide

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]
BF16 = np.dtype(ml_dtypes.bfloat16)


def convolution_kernels() -> dict[str, Kernel]:
    made = [make() for make in (forward, strided, image, kernel, depthwise, depthwise_kernel, half)]
    return {kernel.name: kernel for kernel in made}


class _Conv:
    """The axes of a convolution over images of h by w with a window of kh by kw."""

    def __init__(
        self,
        name: str,
        n: int,
        o: int,
        c: int,
        size: tuple[int, int],
        window: tuple[int, int],
        counts: tuple[int, int],
        groups: int = 1,
        **moves: int,
    ) -> None:
        self.b = b = KernelBuilder(name)
        self.group = b.axis("b", groups) if groups > 1 else Index()
        self.n = b.axis("n", n)
        self.i, self.j = (b.axis(axis, count) for axis, count in zip("ij", counts, strict=True))
        self.o = b.axis("co", o)
        self.p, self.q = (b.axis(axis, extent) for axis, extent in zip("pq", size, strict=True))
        self.k, self.l = (b.axis(axis, extent) for axis, extent in zip("kl", window, strict=True))
        self.c = b.axis("ci", c)
        self.slides = (Slide("i", "p", "k", **moves), Slide("j", "q", "l", **moves))

    def load(self, name: str, dtype: DTypeLike, size: int, index: Index) -> int:
        return self.b.cast(
            self.b.load(self.b.buffer(name, dtype, size, "in"), index),
            np.float64 if dtype == np.float64 else np.float32,
        )

    def conv(self, lhs: int, rhs: int) -> int:
        return self.b.conv(lhs, rhs, "n", "co", "ci", self.slides)

    def store(self, size: int, index: Index, value: int, dtype: DTypeLike = np.float32) -> Kernel:
        self.b.buffer("out0", dtype, size, "out")
        self.b.store("out0", index, self.b.cast(value, dtype))
        return self.b.build()


def forward(
    name: str = "conv_bias_relu",
    n: int = 5,
    c: int = 3,
    o: int = 20,
    size: tuple[int, int] = (6, 7),
) -> Kernel:
    """max(conv(x, w) + bias, 0) on NHWC and HWIO, 3 by 3, padded by 1."""
    s = _Conv(name, n, o, c, size, (3, 3), size, low=1)
    row, places = size[1], size[0] * size[1]
    x = s.load("x", np.float32, n * places * c, ((s.n * places) + s.p * row + s.q) * c + s.c)
    w = s.load("w", np.float32, 9 * c * o, (s.k * 3 + s.l) * c * o + s.c * o + s.o)
    out = s.b.elementwise("add", s.conv(x, w), s.load("bias", np.float32, o, s.o))
    out = s.b.elementwise("max", out, s.b.const(0, np.float32))
    return s.store(n * places * o, (s.n * places + s.i * row + s.j) * o + s.o, out)


def strided() -> Kernel:
    """In float64, NCHW and OIHW, stride 2, dilation 2."""
    s = _Conv("conv_channels_first", 2, 5, 4, (9, 11), (3, 2), (4, 5), stride=2, low=1, dilation=2)
    x = s.load("x", np.float64, 8 * 99, s.n * 396 + s.c * 99 + s.p * 11 + s.q)
    w = s.load("w", np.float64, 20 * 6, s.o * 24 + s.c * 6 + s.k * 2 + s.l)
    return s.store(2 * 5 * 20, s.n * 100 + s.o * 20 + s.i * 5 + s.j, s.conv(x, w), np.float64)


def image() -> Kernel:
    """The gradient of a strided convolution for its image: the cotangent spread apart."""
    s = _Conv("conv_gradient_image", 2, 18, 6, (4, 4), (3, 3), (8, 8), low=1, spread=2)
    ct = s.load("ct", np.float32, 2 * 16 * 6, s.n * 96 + s.p * 24 + s.q * 6 + s.c)
    flipped = (s.k * -1 + 2) * 324 + (s.l * -1 + 2) * 108
    w = s.load("w", np.float32, 9 * 108, flipped + s.o * 6 + s.c)
    return s.store(2 * 64 * 18, s.n * 1152 + s.i * 144 + s.j * 18 + s.o, s.conv(ct, w))


def kernel(
    name: str = "conv_gradient_kernel",
    n: int = 3,
    c: int = 17,
    o: int = 20,
    size: tuple[int, int] = (6, 6),
) -> Kernel:
    """The gradient for the kernel: n are input features, the window is the output, c the images."""
    s = _Conv(name, c, o, n, size, size, (3, 3), low=1)
    row, places = size[1], size[0] * size[1]
    x = s.load("x", np.float32, n * places * c, (s.c * places + s.p * row + s.q) * c + s.n)
    ct = s.load("ct", np.float32, n * places * o, (s.c * places + s.k * row + s.l) * o + s.o)
    return s.store(9 * c * o, (s.i * 3 + s.j) * c * o + s.n * o + s.o, s.conv(x, ct))


def depthwise() -> Kernel:
    s = _Conv("conv_depthwise", 2, 1, 1, (6, 5), (3, 3), (6, 5), groups=19, low=1)
    x = s.load("x", np.float32, 60 * 19, s.n * 570 + s.p * 95 + s.q * 19 + s.group)
    w = s.load("w", np.float32, 9 * 19, s.k * 57 + s.l * 19 + s.group)
    return s.store(60 * 19, s.n * 570 + s.i * 95 + s.j * 19 + s.group, s.conv(x, w))


def depthwise_kernel() -> Kernel:
    s = _Conv("conv_depthwise_gradient", 1, 1, 3, (6, 5), (6, 5), (3, 3), groups=19, low=1)
    x = s.load("x", np.float32, 90 * 19, s.c * 570 + s.p * 95 + s.q * 19 + s.group)
    ct = s.load("ct", np.float32, 90 * 19, s.c * 570 + s.k * 95 + s.l * 19 + s.group)
    return s.store(9 * 19, s.i * 57 + s.j * 19 + s.group, s.conv(x, ct))


def half() -> Kernel:
    """bfloat16 in memory, with groups."""
    s = _Conv("conv_half", 2, 7, 4, (5, 5), (3, 3), (5, 5), groups=2, low=1)
    x = s.load("x", BF16, 50 * 8, s.n * 200 + s.p * 40 + s.q * 8 + s.group * 4 + s.c)
    w = s.load("w", BF16, 36 * 14, s.k * 168 + s.l * 56 + s.c * 14 + s.group * 7 + s.o)
    place = s.n * 350 + s.i * 70 + s.j * 14 + s.group * 7 + s.o
    return s.store(50 * 14, place, s.conv(x, w), BF16)


def convolved(
    x: Array,
    w: Array,
    counts: tuple[int, int],
    stride: int = 1,
    low: int = 0,
    spread: int = 1,
    dilation: int = 1,
) -> Array:
    """[n, i, j, o] from [n, h, w, c] and [kh, kw, c, o], element by element."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    out = np.zeros((x.shape[0], *counts, w.shape[3]))
    for i, j, k, m in np.ndindex(*counts, *w.shape[:2]):
        at = (i * stride + k * dilation - low, j * stride + m * dilation - low)
        y, z = at[0] // spread, at[1] // spread
        on = all(place % spread == 0 for place in at)
        if on and 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            out[:, i, j] += x[:, y, z] @ w[k, m]
    return out


def _bias_relu(a: Arrays) -> dict[str, Array]:
    out = convolved(a["x"].reshape(5, 6, 7, 3), a["w"].reshape(3, 3, 3, 20), (6, 7), low=1)
    return {"out0": np.maximum(out + a["bias"], 0)}


def _channels_first(a: Arrays) -> dict[str, Array]:
    x = a["x"].reshape(2, 4, 9, 11).transpose(0, 2, 3, 1)
    w = a["w"].reshape(5, 4, 3, 2).transpose(2, 3, 1, 0)
    out = convolved(x, w, (4, 5), stride=2, low=1, dilation=2)
    return {"out0": out.transpose(0, 3, 1, 2)}


def _gradient_image(a: Arrays) -> dict[str, Array]:
    w = a["w"].reshape(3, 3, 18, 6)[::-1, ::-1].transpose(0, 1, 3, 2)
    return {"out0": convolved(a["ct"].reshape(2, 4, 4, 6), w, (8, 8), low=1, spread=2)}


def _gradient_kernel(a: Arrays) -> dict[str, Array]:
    x = a["x"].reshape(3, 6, 6, 17).transpose(3, 1, 2, 0)
    ct = a["ct"].reshape(3, 6, 6, 20).transpose(1, 2, 0, 3)
    return {"out0": convolved(x, ct, (3, 3), low=1).transpose(1, 2, 0, 3)}


def _depthwise(a: Arrays) -> dict[str, Array]:
    x, w = a["x"].reshape(2, 6, 5, 19), a["w"].reshape(3, 3, 19)
    outs = [convolved(x[..., [g]], w[..., g][..., None, None], (6, 5), low=1) for g in range(19)]
    return {"out0": np.concatenate(outs, axis=-1)}


def _depthwise_gradient(a: Arrays) -> dict[str, Array]:
    x, ct = (a[name].reshape(3, 6, 5, 19) for name in ("x", "ct"))
    outs = [
        convolved(
            x[None, ..., g].transpose(0, 2, 3, 1),
            ct[..., g].transpose(1, 2, 0)[..., None],
            (3, 3),
            low=1,
        )
        for g in range(19)
    ]
    return {"out0": np.concatenate(outs, axis=-1)}


def _half(a: Arrays) -> dict[str, Array]:
    x, w = a["x"].reshape(2, 5, 5, 2, 4), a["w"].reshape(3, 3, 4, 2, 7)
    outs = [convolved(x[..., g, :], w[..., g, :], (5, 5), low=1) for g in range(2)]
    return {"out0": np.concatenate(outs, axis=-1)}


CONVOLUTION_MEANINGS: dict[str, Callable[[Arrays], dict[str, Array]]] = {
    "conv_bias_relu": _bias_relu,
    "conv_channels_first": _channels_first,
    "conv_gradient_image": _gradient_image,
    "conv_gradient_kernel": _gradient_kernel,
    "conv_depthwise": _depthwise,
    "conv_depthwise_gradient": _depthwise_gradient,
    "conv_half": _half,
}
