"""Blocks of neighbouring elements with a common scale, as in the OCP Microscaling formats.

From "OCP Microscaling Formats (MX) Specification", version 1.0 (2023), and, for NVFP4, the modes of
`jax.nn.scaled_dot_general`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

import funcdl.numpy as fnp
from funcdl.core.array import shortened
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.nn.float_grids import FloatGrid, float_grid, power_of_two_above, round_to_grid

_MODES = ("nvfp4", "mxfp8")


@dataclass(slots=True)
class BlockScaleConfig:
    """How an operand of `scaled_dot_general` is rounded.

    * `mode` ``"mxfp8"``: the scale of a block is a power of two, the least that brings all of its
      elements into the range of `data_type`. ``"nvfp4"``: elements are divided by `global_scale`;
      the scale of a block is what brings the largest to the end of the range of `data_type`,
      rounded to `scale_type`.
    * `block_size`: the number of neighbours along the contracted dimension that share a scale.
    * `data_type`: the format of elements, of at most 8 bits, as a dtype of `ml_dtypes` or its name.
    * `scale_type`: that of scales: float8_e8m0fnu in mode mxfp8, float8_e4m3fn in mode nvfp4.
    * `global_scale`: one number in mode nvfp4, None in mode mxfp8.
    * `infer_only`: accepted for compatibility; it changes nothing.
    """

    mode: str
    block_size: int
    data_type: Any
    scale_type: Any
    global_scale: Any
    infer_only: bool


def get_scaled_dot_general_config(mode: str, global_scale: Any = None) -> BlockScaleConfig:
    """The usual setting of a mode (see `jax.nn.get_scaled_dot_general_config`).

    Args:
      mode: ``"mxfp8"``: float8_e4m3fn in blocks of 32, scales float8_e8m0fnu. ``"nvfp4"``:
        float4_e2m1fn in blocks of 16, scales float8_e4m3fn.
      global_scale: what operands are divided by in mode nvfp4, by default 1.

    Raises:
      ArgumentError: there is no such mode.
    """
    if mode == "nvfp4":
        scale = fnp.ones(1, np.float32) if global_scale is None else global_scale
        return BlockScaleConfig(
            mode, 16, ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e4m3fn, scale, infer_only=False
        )
    if mode == "mxfp8":
        return BlockScaleConfig(
            mode, 32, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu, None, infer_only=False
        )
    raise ArgumentError(_unknown_mode("get_scaled_dot_general_config", mode))


def _unknown_mode(what: str, mode: Any) -> str:
    return (
        f"{what} requires mode to be one of {', '.join(map(repr, _MODES))}; got {shortened(mode)}"
    )


def check_config(what: str, config: Any) -> None:
    """Raise where a setting cannot be followed.

    Raises:
      ArgumentError: it is no BlockScaleConfig, or its mode, block size or global scale is wrong.
      DtypeError: its data type is none that is known, or its scale type not that of the mode.
    """
    if not isinstance(config, BlockScaleConfig):
        raise ArgumentError(
            f"{what} requires a BlockScaleConfig, got {shortened(config)}; "
            "get_scaled_dot_general_config makes one"
        )
    if config.mode not in _MODES:
        raise ArgumentError(_unknown_mode(what, config.mode))
    size: Any = config.block_size
    if not isinstance(size, int | np.integer) or size < 1:
        raise ArgumentError(f"{what} requires block_size from 1 on, got {shortened(size)}")
    float_grid(f"data_type of {what}", config.data_type)
    wanted = "float8_e4m3fn" if config.mode == "nvfp4" else "float8_e8m0fnu"
    given = config.scale_type
    name = given if isinstance(given, str) else np.dtype(given).name
    if name != wanted:
        raise DtypeError(f"{what} requires scale_type {wanted} in mode {config.mode}; got {name}")
    if (config.global_scale is None) == (config.mode == "nvfp4"):
        fix = "a global_scale" if config.mode == "nvfp4" else "None as global_scale"
        raise ArgumentError(
            f"{what} requires {fix} in mode {config.mode}, got {shortened(config.global_scale)}"
        )


def limit(config: BlockScaleConfig) -> float:
    """The largest magnitude, before the global scale, that is not cut off in mode nvfp4."""
    scales = float_grid("scale_type", config.scale_type)
    return float_grid("data_type", config.data_type).largest * scales.largest


def quantize(what: str, x: Any, config: BlockScaleConfig, global_scale: Any) -> tuple[Any, Any]:
    """Elements and scales of `x`, both rounded, without the global scale.

    Args:
      what: what `x` is, for errors.
      x: ``[..., K]``.
      global_scale: a float32 scalar in mode nvfp4.

    Returns:
      Elements ``[..., K]`` and scales ``[..., K / block_size]``, float32. Blocks with NaN have
      NaN as their scale, in mode mxfp8 those with infinity too; mode nvfp4 cuts it off.

    Raises:
      ShapeError: K is not a multiple of the block size, or is zero.
    """
    size, length = config.block_size, x.shape[-1]
    if length == 0 or length % size:
        raise ShapeError(
            f"{what} requires the size that is contracted to be a multiple of the block size of "
            f"{size}, and not 0; got {length}. Pad it with zeros"
        )
    grid = float_grid("data_type", config.data_type)
    blocks = x.astype(np.float32).reshape(*x.shape[:-1], length // size, size)
    if config.mode == "mxfp8":
        scales = power_of_two_above(_reach(blocks, grid))
        elements = blocks / scales
    else:
        blocks = blocks / global_scale
        of_scales = float_grid("scale_type", config.scale_type)
        scales = round_to_grid(fnp.clip(_reach(blocks, grid), 0, of_scales.largest), of_scales)
        # Where all of a block is too small to have a scale, the quotient would be 0 / 0.
        elements = fnp.where(scales == 0, 0, blocks / fnp.where(scales == 0, 1, scales))
    rounded = round_to_grid(fnp.clip(elements, -grid.largest, grid.largest), grid)
    return rounded.reshape(x.shape), scales[..., 0]


def _reach(blocks: Any, grid: FloatGrid) -> Any:
    """The scale that brings the largest element of each block to the end of the range."""
    return fnp.max(fnp.abs(blocks), axis=-1, keepdims=True) / grid.largest
