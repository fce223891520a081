"""Data sets in local files: the formats of MNIST and of CIFAR-10."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from funcdl.errors import ArgumentError

# The third byte of an IDX file.
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 32  # of NumPy 1
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_ROW = 1 + math.prod(_CIFAR_SHAPE)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """The array in an IDX file, such as MNIST's, compressed by gzip or not.

    From Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits" (1998): two
    zeros, a byte for the dtype, one for the number of dimensions, their sizes, and the elements in
    row-major order, all big-endian. MNIST's images are ``u8[60000, 28, 28]`` (add a dimension of
    channels with ``[..., None]``), its labels ``u8[60000]``.

    Returns:
      A NumPy array of uint8, int8, int16, int32, float32 or float64, in the machine's byte order.

    Raises:
      ArgumentError: the file is not of this format, or of another length than it says.
      OSError: it cannot be read.
    """
    content = _content("read_idx", path)
    known = len(content) >= 4 and content[:2] == b"\0\0" and content[2] in _IDX_DTYPES
    if not known or content[3] > _MAX_DIMENSIONS:
        raise ArgumentError(
            f"read_idx: {os.fspath(path)} is no IDX file: it begins with {content[:4].hex(' ')!r}, "
            "rather than with 00 00, a byte for the dtype (08, 09, 0b, 0c, 0d, 0e) and the number "
            f"of dimensions, {_MAX_DIMENSIONS} at most"
        )
    dtype = np.dtype(_IDX_DTYPES[content[2]])
    begin = 4 + 4 * content[3]
    # Fewer than there are dimensions, where the file ends among them: it is too short anyway.
    shape = tuple(size for (size,) in struct.iter_unpack(">I", _whole_words(content[4:begin])))
    wanted = begin + math.prod(shape) * dtype.itemsize
    if len(content) < begin or len(content) != wanted:
        raise ArgumentError(
            f"read_idx: {os.fspath(path)} has {len(content)} bytes, and {content[3]} dimensions, "
            f"of sizes {shape}, of {dtype.name} take {max(begin, wanted)}"
        )
    elements = np.frombuffer(content, dtype, offset=begin)
    return elements.reshape(shape).astype(dtype.newbyteorder("="))


def _whole_words(content: bytes) -> bytes:
    return content[: len(content) // 4 * 4]


def read_cifar10(
    path: str | os.PathLike[str],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images and labels in one file of CIFAR-10's binary version, such as ``data_batch_1.bin``.

    From A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009): rows of a
    label and of 3072 bytes, channel by channel. The file may be compressed by gzip.

    Returns:
      NumPy arrays: images, uint8 of shape ``(rows, 32, 32, 3)``, and labels, int32 of shape
      ``(rows,)``.

    Raises:
      ArgumentError: the length is no multiple of 3073 bytes, or a label is beyond 9.
      OSError: the file cannot be read.
    """
    content = _content("read_cifar10", path)
    if len(content) % _CIFAR_ROW:
        raise ArgumentError(
            f"read_cifar10: {os.fspath(path)} has {len(content)} bytes, no multiple of the "
            f"{_CIFAR_ROW} of a label and an image; the binary version is needed, of 10 classes"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_ROW)
    labels = rows[:, 0].astype(np.int32)
    if (labels > 9).any():
        at = int((labels > 9).argmax())
        raise ArgumentError(
            f"read_cifar10: {os.fspath(path)} has label {labels[at]} in row {at}; labels are from "
            "0 to 9"
        )
    images = rows[:, 1:].reshape(-1, *_CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return images.copy(order="C"), labels


def _content(function: str, path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, decompressed where they begin as gzip's do."""
    content = Path(path).read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArgumentError(
            f"{function}: {os.fspath(path)} cannot be decompressed: {error}"
        ) from None
