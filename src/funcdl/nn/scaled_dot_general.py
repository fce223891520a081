"""Contractions of operands that are rounded to block-scaled formats first."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.nn.block_scaling import BlockScaleConfig, check_config, limit, quantize
from funcdl.nn.scaled_matmul import scaled_matmul
from funcdl.transforms import custom_vjp

_NAME = "scaled_dot_general"
_OUTPUTS = ("float32", "bfloat16", "float16")
Dims = tuple[int, ...]


def scaled_dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    preferred_element_type: Any = np.float32,
    configs: Sequence[BlockScaleConfig] | None = None,
    implementation: str | None = None,
) -> Any:
    """`lax.dot_general` of operands rounded to 8 or 4 bits (see `jax.nn.scaled_dot_general`).

    Operands are cut into blocks along the contracted dimensions, taken as one, in the order of
    those of `lhs`. Each block is divided by its scale and rounded to the format of its config; the
    rounded elements, times their scales, are multiplied and added up in float32. So values are
    those of hardware with such formats, but for the order of the sum, on every back end; speed and
    memory are those of float32. (JAX computes it on some GPUs only.) Scales are found in float32,
    whatever the operands' dtype.

    The derivative is the straight-through one: rounding counts as the identity. In mode mxfp8,
    cotangents and operands are rounded for the products of the pullback as well, along the
    dimensions which these contract, whose sizes must be multiples of the block size then. In mode
    nvfp4 nothing is rounded in the pullback, and elements beyond the range of the format get zero.
    Global scales count as constants. Forward mode is refused.

    Args:
      lhs, rhs: arrays of real numbers.
      dimension_numbers: ``((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch))``.
      preferred_element_type: the result's dtype: float32, bfloat16 or float16.
      configs: how to round `lhs`, `rhs` and cotangents: three, as
        `get_scaled_dot_general_config` makes them. None means no rounding at all.
      implementation: accepted for compatibility, with a DeprecationWarning as in JAX.

    Returns:
      An array of shape ``(batch..., lhs kept..., rhs kept...)``.

    Raises:
      ArgumentError, DtypeError: a config cannot be followed, or there are not three.
      ShapeError: the sizes that are contracted are not multiples of the block size, or the
        operands do not fit together.
    """
    if implementation is not None:
        warnings.warn(f"implementation of {_NAME} has no effect", DeprecationWarning, stacklevel=2)
    if configs is None:
        return lax.dot_general(
            lhs, rhs, dimension_numbers, preferred_element_type=preferred_element_type
        )
    out_dtype = dtypes.as_dtype(preferred_element_type)
    if out_dtype.name not in _OUTPUTS:
        raise DtypeError(
            f"{_NAME} requires preferred_element_type to be one of {', '.join(_OUTPUTS)}; "
            f"got {out_dtype.name}"
        )
    checked = _checked(configs)
    x, y = _operand("lhs", lhs), _operand("rhs", rhs)
    (x_contract, y_contract), (x_batch, y_batch) = _dimensions(x, y, dimension_numbers)
    flat_x, x_kept = _flat(x, x_batch, x_contract)
    flat_y, y_kept = _flat(y, y_batch, y_contract)
    batch = [x.shape[d] for d in x_batch]
    scales = [_global_scale(config) for config in checked[:2]]
    # Scales go as arguments, so that they may be traced.
    plain = tuple(replace(config, global_scale=None) for config in checked)
    out = _product(flat_x, flat_y, *scales, plain, out_dtype)
    return out.reshape(*batch, *x_kept, *y_kept)


def _checked(configs: Sequence[BlockScaleConfig]) -> tuple[BlockScaleConfig, ...]:
    if not isinstance(configs, list | tuple) or len(configs) != 3:
        raise ArgumentError(
            f"{_NAME} requires configs to be a list of three: for lhs, for rhs and for cotangents; "
            f"got {shortened(configs)}"
        )
    for number, config in enumerate(configs):
        check_config(f"configs[{number}] of {_NAME}", config)
    modes = [config.mode for config in configs]
    if len(set(modes)) > 1:
        raise ArgumentError(f"{_NAME} requires configs of one mode, got {', '.join(modes)}")
    return tuple(configs)


def _operand(name: str, x: Any) -> Any:
    x = fnp.asarray(x)
    if dtypes.is_complex(x.dtype):
        raise DtypeError(f"{_NAME} requires real operands, got {name} of type {x.aval}")
    return x if dtypes.is_inexact(x.dtype) else x.astype(np.float32)


def _dimensions(x: Any, y: Any, numbers: Any) -> tuple[tuple[Dims, Dims], tuple[Dims, Dims]]:
    """The dimension numbers, contracted pairs in the order of those of `x`."""
    try:
        pairs, batches = (tuple(tuple(map(int, dims)) for dims in part) for part in numbers)
        (x_contract, y_contract), (x_batch, y_batch) = pairs, batches
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{_NAME} requires dimension_numbers ((lhs_contracting, rhs_contracting), (lhs_batch, "
            f"rhs_batch)), each a sequence of ints; got {shortened(numbers)}"
        ) from None
    for a, b in ((x_contract, y_contract), (x_batch, y_batch)):
        fits = len(a) == len(b) and all(
            0 <= d < x.ndim and 0 <= e < y.ndim and x.shape[d] == y.shape[e]
            for d, e in zip(a, b, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{_NAME} requires dimensions {a} of lhs and {b} of rhs to have the same sizes; "
                f"got lhs {x.aval} and rhs {y.aval}"
            )
    for name, used in (("lhs", x_contract + x_batch), ("rhs", y_contract + y_batch)):
        if len(set(used)) < len(used):
            raise ArgumentError(
                f"{_NAME} requires each dimension of {name} once in dimension_numbers; "
                f"got {shortened(numbers)}"
            )
    order = sorted(range(len(x_contract)), key=x_contract.__getitem__)
    sorted_x = tuple(x_contract[i] for i in order)
    sorted_y = tuple(y_contract[i] for i in order)
    return (sorted_x, sorted_y), (x_batch, y_batch)


def _flat(x: Any, batch: Dims, contract: Dims) -> tuple[Any, list[int]]:
    """The operand as ``[B, M, K]``, and the sizes that make up M."""
    kept = [d for d in range(x.ndim) if d not in batch and d not in contract]
    groups = [[x.shape[d] for d in dims] for dims in (batch, kept, contract)]
    moved = fnp.transpose(x, (*batch, *kept, *contract))
    return moved.reshape(*map(math.prod, groups)), groups[1]


def _global_scale(config: BlockScaleConfig) -> Any:
    """A float32 scalar; 1 where the mode has none."""
    if config.global_scale is None:
        return fnp.ones((), np.float32)
    scale = fnp.asarray(config.global_scale)
    if scale.size != 1:
        raise ShapeError(f"{_NAME} requires a global_scale of one element, got {scale.aval}")
    return lax.stop_gradient(scale.reshape(()).astype(np.float32))


def _rounded_product(what: str, x: Any, y: Any, configs: Any, scales: Any, dtype: Any) -> Any:
    """``[B, M, K]`` and ``[B, N, K]`` rounded along K, and multiplied: ``[B, M, N]``."""
    (a, a_scales), (b, b_scales) = (
        quantize(what, operand, config, scale)
        for operand, config, scale in zip((x, y), configs, scales, strict=True)
    )
    product = scaled_matmul(a, b, a_scales, b_scales)
    return (product * (scales[0] * scales[1])).astype(dtype)


@functools.partial(custom_vjp, nondiff_argnums=(4, 5))
def _product(x: Any, y: Any, x_scale: Any, y_scale: Any, configs: Any, dtype: Any) -> Any:
    return _rounded_product(_NAME, x, y, configs[:2], (x_scale, y_scale), dtype)


def _forward(
    x: Any, y: Any, x_scale: Any, y_scale: Any, configs: Any, dtype: Any
) -> tuple[Any, Any]:
    return _product(x, y, x_scale, y_scale, configs, dtype), (x, y, x_scale, y_scale)


def _backward(configs: Any, dtype: Any, residuals: Any, ct: Any) -> tuple[Any, Any, None, None]:
    x, y, x_scale, y_scale = residuals
    by_x = _pullback("lhs", ct, fnp.swapaxes(y, 1, 2), configs[2], configs[1], dtype)
    turned_ct, turned_x = fnp.swapaxes(ct, 1, 2), fnp.swapaxes(x, 1, 2)
    by_y = _pullback("rhs", turned_ct, turned_x, configs[2], configs[0], dtype)
    return (
        _within_range(by_x, x, configs[0], x_scale),
        _within_range(by_y, y, configs[1], y_scale),
        None,
        None,
    )


def _pullback(
    name: str,
    ct: Any,
    other: Any,
    ct_config: BlockScaleConfig,
    other_config: BlockScaleConfig,
    dtype: Any,
) -> Any:
    """The cotangent of one operand: a product that contracts what the other one has kept."""
    if ct_config.mode == "nvfp4":
        return fnp.einsum("bmk,bnk->bmn", ct, other, preferred_element_type=np.float32)
    what = f"the derivative of {_NAME} by {name}"
    one = fnp.ones((), np.float32)
    return _rounded_product(what, ct, other, (ct_config, other_config), (one, one), dtype)


def _within_range(ct: Any, x: Any, config: BlockScaleConfig, scale: Any) -> Any:
    """The cotangent in the operand's dtype, zero where rounding has cut the operand off."""
    ct = ct.astype(x.dtype)
    if config.mode != "nvfp4":
        return ct
    inside = fnp.abs(x.astype(np.float32)) <= scale * limit(config)
    return fnp.where(inside, ct, fnp.zeros_like(ct))


_product.defvjp(_forward, _backward)
