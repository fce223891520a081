"""Matrix products of operands that carry a scale for each block of elements."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.errors import ShapeError


def scaled_matmul(
    lhs: Any,
    rhs: Any,
    lhs_scales: Any,
    rhs_scales: Any,
    preferred_element_type: Any = np.float32,
) -> Any:
    """The product of block-scaled matrices (see `jax.nn.scaled_matmul`).

    Each operand is multiplied by its scales, one for each block of neighbours along K, and then by
    the other one's transpose; the products are summed in float32.

    Args:
      lhs: ``[B, M, K]``.
      rhs: ``[B, N, K]``.
      lhs_scales: ``[B, M, K_lhs]``, where `K_lhs` divides K; a block has ``K / K_lhs`` elements.
      rhs_scales: ``[B, N, K_rhs]``, likewise.
      preferred_element_type: the result's dtype.

    Returns:
      ``[B, M, N]``.

    Raises:
      ShapeError: the shapes are not these.
    """
    lhs, rhs = fnp.asarray(lhs), fnp.asarray(rhs)
    if lhs.ndim != 3 or rhs.ndim != 3 or lhs.shape[::2] != rhs.shape[::2]:
        raise ShapeError(
            "scaled_matmul requires lhs of shape (B, M, K) and rhs of shape (B, N, K), "
            f"got {lhs.shape} and {rhs.shape}"
        )
    scaled = [
        _scaled(name, x, fnp.asarray(scales))
        for name, x, scales in (("lhs", lhs, lhs_scales), ("rhs", rhs, rhs_scales))
    ]
    product = fnp.einsum("bmk,bnk->bmn", *scaled, preferred_element_type=np.float32)
    return product.astype(preferred_element_type)


def _scaled(name: str, x: Any, scales: Any) -> Any:
    """float32 elements, each times the scale of its block."""
    size = x.shape[-1]
    blocks = scales.shape[-1] if scales.ndim == 3 else 0
    if scales.shape[:-1] != x.shape[:-1] or blocks == 0 or size % blocks:
        raise ShapeError(
            f"scaled_matmul requires {name}_scales of shape {x.shape[:-1]} and a divisor of {size} "
            f"as last dimension, for {name} of shape {x.shape}; got {scales.shape}"
        )
    wide = x.astype(np.float32).reshape(*scales.shape, size // blocks)
    return (wide * scales.astype(np.float32)[..., None]).reshape(x.shape)
