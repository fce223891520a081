"""Augmentation: random changes of images, as pure functions of a key, and their normalisation.

Images have shape ``(..., height, width, channels)``, and each gets a draw of its own. There is no
loop over them: a crop is one gather, a flip and an erasure are selects, all compiled under `jit`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import random
from funcdl.core import dtypes
from funcdl.core.integers import integer, integers
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.promotion import array


def random_crop(key: Any, images: Any, padding: int | tuple[int, int], *, fill: Any = 0) -> Any:
    """Each image moved by up to `padding` pixels: padded on all sides, then cut to its size.

    From K. He and others, "Deep residual learning for image recognition" (2016), section 4.2, which
    pads images of 32×32 by 4. All offsets are as likely. The result has the shape and the dtype of
    `images`.

    Args:
      key: a random key, another one for each call.
      images: shape ``(..., height, width, channels)``, of any dtype.
      padding: an int, or one for the height and one for the width; static under `jit`.
      fill: what is around the images: a number, or one for each channel.

    Raises:
      ShapeError: fewer than three dimensions, or a `fill` that does not fit.
      ArgumentError: `padding` is no such number, or negative.
      DtypeError: the key is none.
    """
    x = _images("random_crop", images)
    pads = _pair("random_crop: padding", padding)
    around = _of_channels("random_crop: fill", x, fill)
    flat = x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
    draws = random.split(key, 2)
    if not x.size:
        return x
    # Where the rows and the columns of the result are, in each image.
    rows, columns = (
        random.randint(draw, (len(flat), 1), -pad, pad + 1) + np.arange(size, dtype=np.int32)
        for draw, pad, size in zip(draws, pads, x.shape[-3:-1], strict=True)
    )
    inside = _inside(rows, x.shape[-3])[:, :, None] & _inside(columns, x.shape[-2])[:, None, :]
    moved = flat[
        np.arange(len(flat))[:, None, None],
        fnp.clip(rows, 0, x.shape[-3] - 1)[:, :, None],
        fnp.clip(columns, 0, x.shape[-2] - 1)[:, None, :],
    ]
    return fnp.where(inside[..., None], moved, around).reshape(x.shape)


def random_flip(key: Any, images: Any) -> Any:
    """Each image as it is or with left and right exchanged, both as likely.

    As in K. He and others, "Deep residual learning for image recognition" (2016), section 4.2. The
    result has the shape and the dtype of `images`.

    Args:
      key: a random key, another one for each call.
      images: shape ``(..., height, width, channels)``, of any dtype.

    Raises:
      ShapeError: fewer than three dimensions.
      DtypeError: the key is none.
    """
    x = _images("random_flip", images)
    flipped = random.bernoulli(key, 0.5, (*x.shape[:-3], 1, 1, 1))
    return fnp.where(flipped, x[..., ::-1, :], x)


def random_erase(key: Any, images: Any, size: int | tuple[int, int], *, fill: Any = 0) -> Any:
    """Each image with a rectangle of one value, whose centre is at a random pixel.

    From T. DeVries and G. Taylor, "Improved regularization of convolutional neural networks with
    cutout" (2017). A part of the rectangle may lie outside of the image. The result has the shape
    and the dtype of `images`.

    Args:
      key: a random key, another one for each call.
      images: shape ``(..., height, width, channels)``, of any dtype.
      size: the side of a square as an int, or height and width; static under `jit`.
      fill: what is in the rectangle: a number, or one for each channel.

    Raises:
      ShapeError: fewer than three dimensions, or a `fill` that does not fit.
      ArgumentError: `size` is no such number, or negative.
      DtypeError: the key is none.
    """
    x = _images("random_erase", images)
    sides = _pair("random_erase: size", size)
    value = _of_channels("random_erase: fill", x, fill)
    draws = random.split(key, 2)
    if not x.size:
        return x
    rows, columns = (
        _inside(np.arange(length, dtype=np.int32) - centre + side // 2, side)
        for centre, side, length in (
            (random.randint(draw, (*x.shape[:-3], 1), 0, length), side, length)
            for draw, side, length in zip(draws, sides, x.shape[-3:-1], strict=True)
        )
    )
    return fnp.where((rows[..., :, None] & columns[..., None, :])[..., None], value, x)


def normalize(images: Any, mean: Any, std: Any) -> Any:
    """``(images - mean) / std`` for each channel, bytes read as numbers from 0 to 1.

    As in A. Krizhevsky and others, "ImageNet classification with deep convolutional neural
    networks" (2012), which takes the mean of the training images away. The result has the shape of
    `images`, and their dtype; uint8 becomes the default float, divided by 255, which is what
    published means and deviations are of.

    Args:
      images: shape ``(..., height, width, channels)``, uint8 or floats.
      mean, std: numbers, or arrays of shape ``(channels,)``.

    Raises:
      ShapeError: fewer than three dimensions; another shape of `mean` or `std`.
      DtypeError: images of another dtype, whose range is not known.
    """
    x = _images("normalize", images)
    if x.dtype != np.uint8 and not dtypes.is_float(x.dtype):
        raise DtypeError(
            f"normalize: images must be uint8, which is divided by 255, or floats, got {x.aval}; "
            "convert them, such as images.astype(float)"
        )
    if x.dtype == np.uint8:
        x = x.astype(dtypes.default_dtype("f")) / 255
    centre = _of_channels("normalize: mean", x, mean)
    deviation = _of_channels("normalize: std", x, std)
    return (x - centre) / deviation


def _images(function: str, images: Any) -> Any:
    x = array(function, images)
    if x.ndim < 3:
        raise ShapeError(
            f"{function}: images must have shape (..., height, width, channels), got {x.aval}"
        )
    return x


def _pair(argument: str, value: Any) -> tuple[int, int]:
    pair = integers(argument, value) if isinstance(value, tuple | list) else ()
    pair = pair or (integer(argument, value),) * 2
    if len(pair) != 2 or min(pair) < 0:
        raise ArgumentError(
            f"{argument} must be an integer, or one for the height and one for the width, and not "
            f"negative, got {value}"
        )
    return pair[0], pair[1]


def _of_channels(argument: str, x: Any, value: Any) -> Any:
    """A number, or one for each channel, in the dtype of the images."""
    found = fnp.asarray(value, x.dtype)
    if found.shape not in ((), x.shape[-1:]):
        raise ShapeError(
            f"{argument} must be a number, or one for each of the {x.shape[-1]} channels, got an "
            f"array of shape {found.shape}"
        )
    return found


def _inside(positions: Any, size: int) -> Any:
    return (positions >= 0) & (positions < size)
