"""Arrays through files, buffers and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import funcdl.numpy as fnp
from funcdl.core import dtypes


@pytest.mark.parametrize("dtype", [d.name for d in dtypes.SUPPORTED])
def test_what_is_saved_is_loaded(dtype: str, tmp_path: Path) -> None:
    x = fnp.arange(6).reshape(2, 3).astype(dtype)
    fnp.save(tmp_path / "x.npy", x)
    found = fnp.load(tmp_path / "x.npy")
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    assert bool((found == x).all())


def test_several_arrays_in_one_file(tmp_path: Path) -> None:
    fnp.savez(tmp_path / "all.npz", fnp.arange(3), weights=fnp.ones(2))
    with fnp.load(tmp_path / "all.npz") as found:
        assert sorted(found) == ["arr_0", "weights"]
        np.testing.assert_array_equal(found["arr_0"], [0, 1, 2])


def test_numbers_from_elsewhere(tmp_path: Path) -> None:
    data = np.array([1.5, 2, 3])
    (tmp_path / "data").write_bytes(data.tobytes())
    for found in (
        fnp.frombuffer(data.tobytes()),
        fnp.fromfile(tmp_path / "data"),
        fnp.fromstring("1.5 2 3", sep=" "),
        fnp.fromiter(iter([1.5, 2, 3]), float),
    ):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, data)


def test_memory_of_others_is_copied() -> None:
    theirs = np.arange(3.0)
    ours = fnp.from_dlpack(theirs)
    theirs[0] = 7
    np.testing.assert_array_equal(ours, [0, 1, 2])


def test_printing() -> None:
    x = fnp.array([1.23456789, 1e-9])
    assert fnp.array_str(x, precision=2, suppress_small=True) == "[1.23 0.  ]"
    with fnp.printoptions(precision=1):
        assert fnp.array_str(x[:1]) == "[1.2]"
