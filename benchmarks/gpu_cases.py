"""The kernels that `benchmarks.gpu` measures: functions, their arrays and float64 references.

A function is written once for funcdl and JAX, whose names are alike, and once for PyTorch. Results
are compared at some rows only: float64 on a CPU would take longer than everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """One measurement.

    `general` takes the framework's names and the arrays, `torch` PyTorch and tensors. With
    `gradient` the last array is a cotangent of what they return, and the gradients by so many first
    arrays are measured, with the values. `sample` picks from the results what `reference` computes,
    lists of arrays. `nbytes` and `flops` are what must be moved and computed at least; one of them
    is the case's measure. `kind` says which products' rate is its peak, and `precision` what
    factors of float32 may be rounded to.
    """

    name: str
    arrays: Callable[[], Arrays]
    general: Callable[..., Any]
    torch: Callable[..., Any]
    reference: Callable[[Arrays], Sequence[Array]]
    sample: Callable[[Any], Sequence[Any]]
    tolerance: float
    nbytes: int = 0
    flops: int = 0
    gradient: int = 0
    kind: str = "float32"
    precision: str = "highest"


def kernel_cases(size: int) -> list[Case]:
    """All kernels; matrices have sides of `size`, which is best a multiple of 64."""
    return [
        *_elementwise(size),
        *_rows(size),
        _column_sums(size),
        _cross_entropy(size),
        _product("matmul float32", size // 2, FLOAT32, 3e-5),
        _product("matmul tf32", size // 2, FLOAT32, 2e-3, "tensorfloat32"),
        _product("matmul bfloat16", size // 2, BFLOAT16, 2e-2),
        _product("matmul bfloat16", size, BFLOAT16, 2e-2),
        *_attention(max(size // 4, 16)),
        *_convolution(max(size // 64, 2)),
    ]


def _random(*shape: int, dtype: np.dtype[Any] = FLOAT32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def _wide(x: Array) -> Array:
    return x.astype(np.float64)


def _elementwise(size: int) -> list[Case]:
    def arrays() -> Arrays:
        return {"x": _random(size, size), "y": _random(size, size, seed=1)}

    return [
        Case(
            "elementwise tanh(x) * y + x",
            arrays,
            lambda f, x, y: f.np.tanh(x) * y + x,
            lambda torch, x, y: torch.tanh(x) * y + x,
            lambda a: [np.tanh(_wide(a["x"][::64])) * a["y"][::64] + a["x"][::64]],
            lambda out: [out[::64]],
            1e-5,
            nbytes=3 * 4 * size * size,
        )
    ]


def _softmax(x: Array) -> Array:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _softmax_gradient(x: Array, ct: Array) -> Array:
    out = _softmax(x)
    return out * (ct - (out * ct).sum(-1, keepdims=True))


def _normalized(x: Array) -> tuple[Array, Array]:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation, deviation


def _norm_gradient(x: Array, ct: Array) -> Array:
    out, deviation = _normalized(x)
    means = ct.mean(-1, keepdims=True) + out * (ct * out).mean(-1, keepdims=True)
    return (ct - means) / deviation


def _layer_norm(f: Any, x: Any) -> Any:
    centred = x - f.np.mean(x, -1, keepdims=True)
    return centred / f.np.sqrt(f.np.mean(centred * centred, -1, keepdims=True) + 1e-5)


def _rows(size: int) -> list[Case]:
    kinds: dict[str, tuple[Any, Any, Any, Any]] = {
        "softmax": (
            lambda f, x: f.nn.softmax(x),
            lambda torch, x: torch.softmax(x, -1),
            _softmax,
            _softmax_gradient,
        ),
        "layer norm": (
            _layer_norm,
            lambda torch, x: torch.nn.functional.layer_norm(x, x.shape[-1:]),
            lambda x: _normalized(x)[0],
            _norm_gradient,
        ),
    }
    found = []
    for name, (general, torch, value, gradient) in kinds.items():
        found += [
            Case(
                name,
                lambda: {"x": _random(size, size)},
                general,
                torch,
                lambda a, value=value: [value(_wide(a["x"][::64]))],
                lambda out: [out[::64]],
                1e-4,
                nbytes=2 * 4 * size * size,
            ),
            Case(
                f"{name} gradient",
                lambda: {"x": _random(size, size), "ct": _random(size, size, seed=1)},
                general,
                torch,
                lambda a, g=gradient: [g(_wide(a["x"][::64]), _wide(a["ct"][::64]))],
                lambda out: [out[0][::64]],
                1e-4,
                nbytes=3 * 4 * size * size,
                gradient=1,
            ),
        ]
    return found


def _column_sums(size: int) -> Case:
    return Case(
        "column sums",
        lambda: {"x": _random(size, size)},
        lambda f, x: f.np.sum(x, 0),
        lambda torch, x: x.sum(0),
        lambda a: [_wide(a["x"]).sum(0)],
        lambda out: [out],
        1e-5,
        nbytes=4 * size * size,
    )


def _cross_entropy(size: int) -> Case:
    def arrays() -> Arrays:
        labels = np.random.default_rng(0).integers(0, size, size).astype(np.int32)
        return {"x": _random(size, size), "y": labels, "ct": np.ones((), np.float32)}

    def general(f: Any, x: Any, y: Any) -> Any:
        return -f.np.mean(f.np.take_along_axis(f.nn.log_softmax(x), y[:, None], axis=-1))

    def reference(a: Arrays) -> list[Array]:
        wanted = _softmax(_wide(a["x"][::64]))
        wanted[np.arange(len(wanted)), a["y"][::64]] -= 1
        return [wanted / size]

    return Case(
        "cross-entropy gradient",
        arrays,
        general,
        lambda torch, x, y: torch.nn.functional.cross_entropy(x, y.long()),
        reference,
        lambda out: [out[0][::64]],
        1e-4,
        nbytes=2 * 4 * size * size,
        gradient=1,
    )


def _product(
    name: str, side: int, dtype: np.dtype[Any], tolerance: float, precision: str = "highest"
) -> Case:
    return Case(
        f"{name} {side}",
        lambda: {k: _random(side, side, dtype=dtype, seed=i) for i, k in enumerate("ab")},
        lambda f, a, b: a @ b,
        lambda torch, a, b: a @ b,
        lambda a: [_wide(a["a"][::64]) @ _wide(a["b"])],
        lambda out: [out[::64]],
        tolerance,
        flops=2 * side**3,
        kind=name.split()[1],
        precision=precision,
    )


def _attention(length: int) -> list[Case]:
    """Causal, as in GPT-2: heads of 64."""
    batch, heads, size = 4, 12, 64

    def arrays() -> Arrays:
        shape = (batch, length, heads, size)
        names = ("q", "k", "v", "ct")
        return {n: _random(*shape, dtype=BFLOAT16, seed=i) for i, n in enumerate(names)}

    def torch_attention(torch: Any, *qkv: Any) -> Any:
        parts = (x.transpose(1, 2) for x in qkv)
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(*parts, is_causal=True).transpose(1, 2)

    def one_head(a: Arrays) -> tuple[Array, ...]:
        q, k, v, ct = (_wide(a[name][0, :, 0]) for name in ("q", "k", "v", "ct"))
        scores = np.where(np.tri(length, dtype=bool), q @ k.T / size**0.5, -np.inf)
        weights = _softmax(scores)
        scores_ct = weights * (ct @ v.T - ((ct @ v.T) * weights).sum(-1, keepdims=True))
        scores_ct /= size**0.5
        return weights @ v, scores_ct @ k, scores_ct.T @ q, weights.T @ ct

    # Half of the products of all pairs are needed, two of them forwards and five backwards.
    product = 2 * batch * heads * length * length * size // 2
    forward = Case(
        f"attention bfloat16 {length}",
        lambda: {n: x for n, x in arrays().items() if n != "ct"},
        lambda f, q, k, v: f.nn.dot_product_attention(q, k, v, is_causal=True),
        torch_attention,
        lambda a: [one_head({**a, "ct": a["q"]})[0]],
        lambda out: [out[0, :, 0]],
        2e-2,
        flops=2 * product,
        kind="bfloat16",
    )
    gradient = Case(
        f"attention gradient bfloat16 {length}",
        arrays,
        forward.general,
        torch_attention,
        lambda a: list(one_head(a)[1:]),
        lambda out: [x[0, :, 0] for x in out],
        4e-2,
        flops=7 * product,
        gradient=3,
        kind="bfloat16",
    )
    return [forward, gradient]


def _convolution(batch: int) -> list[Case]:
    """3 × 3, as in the first stage of a ResNet-50 on images of 224 × 224."""
    side, width = 56, 64

    def arrays() -> Arrays:
        x = _random(batch, side, side, width, dtype=BFLOAT16)
        w = _random(3, 3, width, width, dtype=BFLOAT16, seed=1)
        return {"x": x, "w": w, "ct": _random(*x.shape, dtype=BFLOAT16, seed=2)}

    def general(f: Any, x: Any, w: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return f.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)

    def torch_convolution(torch: Any, x: Any, w: Any) -> Any:
        # Views: the images are in memory as in the other frameworks, which is channels_last.
        out = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), padding=1)
        return out.permute(0, 2, 3, 1)

    def first_image(x: Array, w: Array) -> Array:
        padded = np.pad(_wide(x[0]), ((1, 1), (1, 1), (0, 0)))
        shifts = [(i, j) for i in range(3) for j in range(3)]
        return sum(padded[i : i + side, j : j + side] @ _wide(w[i, j]) for i, j in shifts)

    def image_gradient(ct: Array, w: Array) -> Array:
        return first_image(ct, w[::-1, ::-1].swapaxes(2, 3))

    def weight_gradient(x: Array, ct: Array) -> Array:
        """Of the weights in the middle."""
        return _wide(x).reshape(-1, width).T @ _wide(ct).reshape(-1, width)

    flops = 2 * batch * side * side * 9 * width * width
    return [
        Case(
            f"convolution bfloat16 {batch}",
            lambda: {n: x for n, x in arrays().items() if n != "ct"},
            general,
            torch_convolution,
            lambda a: [first_image(a["x"], a["w"])],
            lambda out: [out[0]],
            2e-2,
            flops=flops,
            kind="bfloat16",
        ),
        Case(
            f"convolution gradients bfloat16 {batch}",
            arrays,
            general,
            torch_convolution,
            lambda a: [image_gradient(a["ct"], a["w"]), weight_gradient(a["x"], a["ct"])],
            lambda out: [out[0][0], out[1][1, 1]],
            3e-2,
            flops=2 * flops,  # the forward pass is not needed
            gradient=2,
            kind="bfloat16",
        ),
    ]
