"""Files written here, byte by byte, and damaged ones."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from funcdl import data
from funcdl.errors import ArgumentError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def idx(array: np.ndarray[Any, Any], code: int) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers") / "file"


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("dtype", "code"), CODES.items(), ids=list(CODES))
@given(draw=st.data())
def test_idx_files(path: Path, dtype: str, code: int, compressed: bool, draw: Any) -> None:
    array = draw.draw(arrays.arrays(dtype, SHAPES))
    content = idx(array, code)
    path.write_bytes(gzip.compress(content) if compressed else content)
    found = data.read_idx(path)
    assert found.dtype == np.dtype(dtype) and found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable and found.flags.c_contiguous


GOOD = idx(np.arange(6, dtype=np.int16).reshape(2, 3), CODES["i2"])
NO_IDX = (
    "read_idx: FILE is no IDX file: it begins with {!r}, rather than with 00 00, a byte for the "
    "dtype (08, 09, 0b, 0c, 0d, 0e) and the number of dimensions, 32 at most"
)
OTHER_LENGTH = "read_idx: FILE has {} bytes, and 2 dimensions, of sizes {}, of int16 take {}"
DAMAGED = {
    "empty": (b"", NO_IDX.format("")),
    "text": (b"PK\x03\x04rest", NO_IDX.format("50 4b 03 04")),
    "dtype": (b"\0\0\x0a\x01", NO_IDX.format("00 00 0a 01")),
    "dimensions": (b"\0\0\x08\x21" + b"\0\0\0\1" * 33 + b"\0", NO_IDX.format("00 00 08 21")),
    "header": (GOOD[:10], OTHER_LENGTH.format(10, "(2,)", 16)),
    "cut off": (GOOD[:-1], OTHER_LENGTH.format(23, "(2, 3)", 24)),
    "too long": (GOOD + b"\0", OTHER_LENGTH.format(25, "(2, 3)", 24)),
    "huge": (
        GOOD[:4] + b"\xff" * 8,
        OTHER_LENGTH.format(12, "(4294967295, 4294967295)", 12 + 2 * (2**32 - 1) ** 2),
    ),
    "gzip": (
        gzip.compress(GOOD)[:-9],
        "read_idx: FILE cannot be decompressed: Compressed file ended before the end-of-stream "
        "marker was reached",
    ),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=list(DAMAGED))
def test_damaged_idx_files(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ArgumentError) as caught:
        data.read_idx(str(path))
    assert str(caught.value).replace(str(path), "FILE") == message


@given(position=st.integers(0, len(gzip.compress(GOOD)) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_an_error_or_read(path: Path, position: int, byte: int) -> None:
    content = bytearray(gzip.compress(GOOD))
    content[position] = byte
    path.write_bytes(content)
    try:
        found = data.read_idx(path)
    except ArgumentError:
        return
    assert found.shape == (2, 3)  # a field of gzip's header that means nothing for the content


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_cifar10_files(path: Path, rows: int, compressed: bool) -> None:
    rng = np.random.default_rng(rows)
    images = rng.integers(0, 256, (rows, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, rows, np.uint8)
    content = b"".join(
        bytes([label]) + b"".join(image[:, :, c].tobytes() for c in range(3))
        for label, image in zip(labels, images, strict=True)
    )
    path.write_bytes(gzip.compress(content) if compressed else content)
    found, found_labels = data.read_cifar10(path)
    assert (found.dtype, found_labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(found_labels, labels)
    assert found.flags.writeable and found.flags.c_contiguous


def test_damaged_cifar10_files(path: Path) -> None:
    row = bytes(3073)
    for content, message in {
        row[1:]: "read_cifar10: FILE has 3072 bytes, no multiple of the 3073 of a label and an "
        "image; the binary version is needed, of 10 classes",
        row + b"\x0a" + row[1:]: "read_cifar10: FILE has label 10 in row 1; labels are from 0 to 9",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ArgumentError) as caught:
            data.read_cifar10(path)
        assert str(caught.value).replace(str(path), "FILE") == message


@pytest.mark.parametrize("read", [data.read_idx, data.read_cifar10])
def test_files_that_are_not_there(read: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
