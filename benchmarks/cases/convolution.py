"""Convolutions and pooling in NHWC, forward and both gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.frameworks import TORCH, Built, Case, Framework, Torch, normal

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolution(
    x_shape: tuple[int, int, int, int],
    channels: int,
    size: int,
    stride: int = 1,
    groups: int = 1,
    part: str = "forward",
) -> Case:
    """A square convolution with padding ``size // 2``; `part`: forward, input or weight."""
    pad = size // 2

    def build(name: str) -> Built:
        n, h, _, c = x_shape
        x, k = normal(*x_shape), normal(size, size, c // groups, channels, scale=0.1, seed=1)
        out = (h + 2 * pad - size) // stride + 1
        t = normal(n, out, out, channels, seed=2)
        if name in TORCH:
            return _torch(name, x, k, t, stride, groups, part)
        framework = Framework(name)
        fd, lax = framework.fd, framework.lax

        def conv(x: Any, k: Any) -> Any:
            return lax.conv_general_dilated(
                x,
                k,
                (stride, stride),
                [(pad, pad)] * 2,
                dimension_numbers=DIMENSIONS,
                feature_group_count=groups,
            )

        if part == "forward":
            return framework.caller(fd.jit(conv), x, k)
        # The gradient of a linear function: its value is not computed.
        by = 0 if part == "input" else 1
        grad = fd.jit(fd.grad(lambda x, k, t: (conv(x, k) * t).sum(), by))
        return framework.caller(grad, x, k, t)

    return build


def _torch(
    name: str, x: np.ndarray, k: np.ndarray, t: np.ndarray, stride: int, groups: int, part: str
) -> Built:
    """oneDNN at its best: channels last, no work for what is not asked."""
    torch = Torch(name)
    pad = k.shape[0] // 2

    def forward(x: Any, k: Any) -> Any:
        out = torch.functional.conv2d(
            x.permute(0, 3, 1, 2), k.permute(3, 2, 0, 1), None, stride, pad, 1, groups
        )
        return out.permute(0, 2, 3, 1)

    def gradient(x: Any, k: Any, t: Any) -> Any:
        mask = [part == "input", part == "weight", False]
        grads = torch.torch.ops.aten.convolution_backward(
            t.permute(0, 3, 1, 2),
            x.permute(0, 3, 1, 2),
            k.permute(3, 2, 0, 1),
            None,
            [stride] * 2,
            [pad] * 2,
            [1, 1],
            False,
            [0, 0],
            groups,
            mask,
        )
        return grads[0].permute(0, 2, 3, 1) if mask[0] else grads[1].permute(2, 3, 1, 0)

    return torch.caller(forward, x, k) if part == "forward" else torch.caller(gradient, x, k, t)


def max_pool_gradient(name: str) -> Built:
    """2×2 max pooling of [32, 64, 64, 64] and its gradient."""
    x, w = normal(32, 64, 64, 64), normal(32, 32, 32, 64, seed=1)
    if name in TORCH:
        torch = Torch(name)

        def loss(x: Any, w: Any) -> Any:
            y = torch.functional.max_pool2d(x.permute(0, 3, 1, 2), 2)
            return (y.permute(0, 2, 3, 1) * w).sum()

        return torch.gradients(loss, [x], (w,))
    framework = Framework(name)
    fd, lax = framework.fd, framework.lax

    def value(x: Any, w: Any) -> Any:
        window = (1, 2, 2, 1)
        y = lax.reduce_window(x, np.float32(-np.inf), lax.max, window, window, "VALID")
        return (y * w).sum()

    return framework.caller(fd.jit(fd.value_and_grad(value)), x, w)


CASES: dict[str, Case] = {
    f"conv {label} {part}": convolution(*shape, part=part)
    for label, shape in {
        "3x3 32²x64-64": ((32, 32, 32, 64), 64, 3),
        "3x3 16²x128-256": ((32, 16, 16, 128), 256, 3),
        "3x3 32²x3-64": ((32, 32, 32, 3), 64, 3),
        "3x3/2 32²x64-128": ((32, 32, 32, 64), 128, 3, 2),
        "1x1 16²x256-128": ((32, 16, 16, 256), 128, 1),
        "depthwise 32²x128": ((32, 32, 32, 128), 128, 3, 1, 128),
    }.items()
    for part in ("forward", "input", "weight")
} | {"max pool gradient": max_pool_gradient}
