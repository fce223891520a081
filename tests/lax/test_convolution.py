"""Public convolutions and window reductions against JAX, and their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.lax as lax
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, ShapeError

NHWC = ("NHWC", "HWIO", "NHWC")

# Functions of the module, so that JAX's can be called alike, and shapes of their operands.
CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "conv same": (lambda m, x, w: m.conv(x, w, (2, 1), "SAME"), ((2, 3, 5, 4), (4, 3, 2, 3))),
    "conv valid": (lambda m, x, w: m.conv(x, w, (1,), "VALID"), ((1, 2, 5), (3, 2, 2))),
    "conv lower": (lambda m, x, w: m.conv(x, w, (1,), "SAME_LOWER"), ((1, 2, 5), (3, 2, 2))),
    "conv general padding": (
        lambda m, x, w: m.conv_with_general_padding(x, w, (1,), [(1, 2)], (2,), None),
        ((1, 2, 5), (3, 2, 2)),
    ),
    "conv dilated same": (
        lambda m, x, w: m.conv_general_dilated(
            x, w, (2, 2), "SAME", None, (1, 2), NHWC, feature_group_count=2
        ),
        ((2, 5, 6, 4), (2, 3, 2, 4)),
    ),
    "conv batch groups": (
        lambda m, x, w: m.conv_general_dilated(x, w, (1,), "VALID", batch_group_count=2),
        ((4, 2, 5), (2, 2, 2)),
    ),
    "max": (
        lambda m, x: m.reduce_window(x, -np.inf, m.max, (1, 2, 3), (1, 2, 1), "SAME"),
        ((2, 5, 4),),
    ),
    "sum": (
        lambda m, x: m.reduce_window(x, 0.0, m.add, (2, 2), None, ((1, 0), (0, 2)), (2, 1), (1, 2)),
        ((3, 4),),
    ),
}
for _padding in ("SAME", "VALID", [(1, 2), (0, 1)]):
    for _strides in ((2, 3), (4, 1)):
        for _flip in (False, True):
            # Transposing the kernel exchanges its features, so both counts are 3.
            CASES[f"conv_transpose {_padding} {_strides} {_flip}"] = (
                lambda m, x, w, p=_padding, s=_strides, f=_flip: m.conv_transpose(
                    x, w, s, p, rhs_dilation=(1, 2), transpose_kernel=f
                ),
                ((1, 4, 3, 3), (3, 2, 3, 3)),
            )
CASES["conv_transpose consistent"] = (
    lambda m, x, w: m.conv_transpose(
        x, w, (2,), ((1, 0),), use_consistent_padding=True, dimension_numbers=("NCH", "OIH", "NCH")
    ),
    ((1, 2, 4), (3, 2, 3)),
)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_conv_transpose_is_the_transpose_of_conv(padding: str, stride: int, window: int) -> None:
    rng = np.random.default_rng(0)
    # Sizes at which no window of the convolution leaves elements over.
    size = stride * 3 if padding == "SAME" else stride * 3 + max(window - stride, 0)
    x, w = fnp.asarray(rng.normal(size=(1, size, 2))), fnp.asarray(rng.normal(size=(window, 2, 4)))

    def forward(x: Any) -> Any:
        numbers = ("NHC", "HIO", "NHC")
        return lax.conv_general_dilated(x, w, (stride,), padding, dimension_numbers=numbers)

    out, pull = fd.vjp(forward, x)
    ct = fnp.asarray(rng.normal(size=out.shape))
    (wanted,) = pull(ct)
    found = lax.conv_transpose(ct, w, (stride,), padding, transpose_kernel=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_functions_run_under_jit_and_vmap() -> None:
    rng = np.random.default_rng(0)
    x, w = fnp.asarray(rng.normal(size=(3, 2, 6, 5))), fnp.asarray(rng.normal(size=(2, 5, 4)))

    def network(x: Any, w: Any) -> Any:
        numbers = ("NHC", "HIO", "NHC")
        y = lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=numbers)
        y = lax.reduce_window(fnp.tanh(y), -np.inf, lax.max, (1, 2, 1), (1, 2, 1))
        return fnp.sum(y * y)

    wanted = [network(one, w).item() for one in x]
    np.testing.assert_allclose(fd.jit(fd.vmap(network, (0, None)))(x, w), wanted, rtol=1e-12)
    single = fd.vmap(fd.grad(network, 1), (0, None))(x, w)
    np.testing.assert_allclose(
        fnp.sum(single, 0), fd.grad(lambda w: sum(network(one, w) for one in x))(w), rtol=1e-12
    )


def test_start_values_of_windows() -> None:
    x = fnp.asarray([3, 1, 2])
    assert lax.reduce_window(x, 2, lax.max, (1,)).tolist() == [3, 2, 2]
    assert lax.reduce_window(x, -(2**31), fnp.maximum, (2,), None, "SAME").tolist() == [3, 2, 2]
    assert lax.reduce_window(x, 0, lax.min, (2,), None, [(1, 1)]).tolist() == [0, 0, 0, 0]
    assert fd.jit(lambda s: lax.reduce_window(x, s, lax.min, (2,)))(1).tolist() == [1, 1]
    assert lax.reduce_window(x, 1, lax.add, (2,)).tolist() == [5, 4]


def test_errors() -> None:
    x = fnp.ones((1, 2, 3))
    with pytest.raises(ArgumentError, match="an entry for each dimension"):
        lax.reduce_window(x, 0, lax.add, (2,), None, "SAME")
    with pytest.raises(ArgumentError, match="one positive entry"):
        lax.conv(x, x, (0,), "SAME")
    with pytest.raises(ArgumentError, match="'SAME', 'SAME_LOWER', 'VALID' or"):
        lax.conv(x, x, (1,), "FULL")
    with pytest.raises(ArgumentError, match=r"has no meaning with lhs_dilation=\(2,\)"):
        lax.conv_general_dilated(x, x, (1,), "SAME", lhs_dilation=(2,))
    with pytest.raises(ShapeError, match="equally many dimensions"):
        lax.conv(x, x[0], (1,), "SAME")
    with pytest.raises(ArgumentError, match="must be 'SAME', 'VALID' or pairs"):
        lax.conv_transpose(x, x, (1,), "FULL")
    with pytest.raises(ArgumentError, match="must have 1 entries"):
        lax.conv_transpose(x, x, (1, 1), "SAME")
    with pytest.raises(ArgumentError, match="give dimension_numbers"):
        lax.conv_transpose(fnp.ones((1,) * 6), fnp.ones((1,) * 6), (1,) * 4, "SAME")
