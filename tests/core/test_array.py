from __future__ import annotations

import copy
import enum
import pickle
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.core.toy import array

from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.array import Array, as_array, aval_of
from funcdl.core.avals import ShapedArray, ShapeDtypeStruct
from funcdl.errors import DeletedArrayError, ImmutableArrayError, LeafTypeError


@pytest.mark.parametrize(
    ("value", "weak", "text"),
    [
        (np.float32([1, 2.5]), False, "Array([1. , 2.5], dtype=float32)"),
        (np.float32([[1, 2], [3, 4]]), False, "Array([[1., 2.],\n       [3., 4.]], dtype=float32)"),
        (np.float32(1.5), True, "Array(1.5, dtype=float32, weak_type=True)"),
        (np.zeros((0, 3), np.int32), False, "Array([], shape=(0, 3), dtype=int32)"),
        (np.zeros(0, bool), False, "Array([], shape=(0,), dtype=bool)"),
        (np.zeros(5000, np.uint8), False, "Array([0, 0, 0, ..., 0, 0, 0], dtype=uint8)"),
        (np.ones(1, ml_dtypes.bfloat16), False, "Array([1], dtype=bfloat16)"),
        (np.complex64(1j), False, "Array(0.+1.j, dtype=complex64)"),
    ],
)
def test_repr(value: Any, weak: bool, text: str) -> None:
    assert repr(Array(np.asarray(value), weak)) == text


def test_str_is_numpys() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert str(Array(value)) == str(value)


def test_properties() -> None:
    x = Array(np.zeros((2, 3), np.float16), weak_type=True)
    assert (x.shape, x.ndim, x.size, x.nbytes, x.itemsize, len(x)) == ((2, 3), 2, 6, 12, 2, 2)
    assert x.dtype == np.float16
    assert x.device == "cpu"
    assert x.aval == ShapedArray((2, 3), np.dtype(np.float16), True)
    assert str(x.aval) == "~f16[2,3]"
    assert x.block_until_ready() is x
    assert x.tolist() == [[0.0] * 3] * 2
    assert Array(np.arange(4)).item(2) == 2
    assert weakref.ref(x)() is x


def test_scalars_of_numpy_become_arrays() -> None:
    x: Any = Array(np.float32(2))  # type: ignore[arg-type]
    assert type(x.value) is np.ndarray
    assert x.shape == ()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16, np.bool_])
@pytest.mark.parametrize("shape", [(), (3,), (64, 64), (1023, 5), (2, 0, 3)])
def test_copies_of_numpy_arrays_start_at_a_cache_line(shape: tuple[int, ...], dtype: Any) -> None:
    given = np.random.default_rng(0).integers(0, 2, shape).astype(dtype).T
    x = as_array(given)
    np.testing.assert_array_equal(x.value, given)
    assert x.value.flags.c_contiguous
    assert not np.shares_memory(x.value, given)
    if x.nbytes >= 4096:
        assert x.value.ctypes.data % 64 == 0


def test_immutable() -> None:
    with pytest.raises(ImmutableArrayError) as caught:
        array(1, 2)[0] = 3.0
    assert isinstance(caught.value, TypeError)
    assert str(caught.value) == (
        "arrays are immutable, so item assignment to f32[2] is not possible.\n"
        "Instead of   x[index] = value\n"
        "write        x = x.at[index].set(value)"
    )


def test_unhashable() -> None:
    with pytest.raises(TypeError) as caught:
        hash(array(1, 2))
    assert str(caught.value) == (
        "unhashable type: 'Array' (f32[2]); arrays compare elementwise. To use one as a static "
        "argument or dict key, pass a tuple or a Python scalar instead."
    )


USES = {
    "value": lambda x: x.value,
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "numpy": np.asarray,
    "float": float,
    "bool": bool,
    "str": str,
    "format": lambda x: f"{x:.2f}",
    "pickle": pickle.dumps,
    "deepcopy": copy.deepcopy,
    "dlpack": np.from_dlpack,
    "wait": lambda x: x.block_until_ready(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("seen_before", [False, True])
def test_deleted(use: str, seen_before: bool) -> None:
    x = Array(np.ones((), np.float32))
    if seen_before:
        assert x.shape == ()
    assert not x.is_deleted()
    x.delete()
    x.delete()
    assert x.is_deleted()
    assert (x.shape, x.ndim, x.dtype, x.nbytes) == ((), 0, np.float32, 4)
    assert repr(x) == "Array(<deleted f32[]>)"
    with pytest.raises(DeletedArrayError) as caught:
        USES[use](x)
    assert str(caught.value) == (
        "this array (f32[]) has been deleted: its memory was donated to a jitted call "
        "(donate_argnums) or freed with delete(). Use the value which that call returned, or do "
        "not donate this argument."
    )


def test_numpy_gets_a_read_only_view() -> None:
    x = array(1, 2, 3)
    view = np.asarray(x)
    assert np.shares_memory(view, x.value)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5
    assert not x.value.flags.writeable  # memory that others see is never donated
    assert not np.asarray(x, np.float32).flags.writeable
    np.testing.assert_array_equal(np.add(x.value, view), [2, 4, 6])


def test_numpy_copies() -> None:
    x = array(1, 2, 3)
    for own in (np.array(x), np.asarray(x, np.int32), x.__array__(copy=True)):
        own[0] = 9
        assert own.tolist() == [9, 2, 3]
    assert x.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"converting f32\[3\] to float64 needs a copy"):
        x.__array__(np.float64, copy=False)
    assert np.shares_memory(x.__array__(np.float32, copy=False), x.value)


DLPACK = [d for d in dtypes.SUPPORTED if d != ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DLPACK, ids=str)
def test_dlpack_both_ways(dtype: np.dtype[Any]) -> None:
    x = Array(np.ones((2, 3), dtype))
    out = np.from_dlpack(x)  # type: ignore[arg-type]
    assert out.dtype == dtype
    assert np.shares_memory(out, x.value)
    back = as_array(out)
    assert back.tolist() == x.tolist()
    assert back.dtype == x.dtype
    assert x.__dlpack_device__() == (1, 0)


def test_dlpack_exports_are_read_only_where_the_consumer_understands() -> None:
    x = array(1, 2, 3)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        assert not np.from_dlpack(x).flags.writeable  # type: ignore[arg-type]
    assert x.__dlpack__() is not None
    assert not x.value.flags.writeable  # memory that others see is never donated


@pytest.mark.parametrize("dtype", dtypes.SUPPORTED, ids=str)
@pytest.mark.parametrize("weak", [False, True])
def test_pickle_and_copies(dtype: np.dtype[Any], weak: bool) -> None:
    x = Array(np.ones((2, 3), dtype)[:, ::-1], weak)
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert type(again) is Array
        assert again.aval == x.aval
        assert again.tolist() == x.tolist()
        assert not np.shares_memory(again.value, x.value)
    assert copy.copy(x) is x


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (1.5, ".3f", "1.500"),
        (ml_dtypes.bfloat16(1.5), ".3f", "1.500"),
        (np.float16(1.5), "", "1.5"),
        (np.int32(7), "04d", "0007"),
        (np.bool_(True), "", "True"),
        (np.complex64(1 + 2j), ".1f", "1.0+2.0j"),
        (np.float32([1, 2]), "", "[1. 2.]"),
        (np.float32([1, 2]), ">8", " [1. 2.]"),
    ],
)
def test_format(value: Any, spec: str, text: str) -> None:
    assert format(Array(np.asarray(value)), spec) == text


def test_conversion_to_python_scalars() -> None:
    assert (float(as_array(2)), int(as_array(2.5)), complex(as_array(1))) == (2.0, 2, 1 + 0j)
    assert bool(as_array(0)) is False
    assert [10, 20, 30][as_array(1)] == 20
    assert list(range(as_array(3))) == [0, 1, 2]
    for convert in (float, int, complex):
        with pytest.raises(TypeError):
            convert(array(1, 2))
    with pytest.raises(TypeError):
        range(as_array(1.0))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(array(1, 2))


def test_scalars_have_no_length() -> None:
    with pytest.raises(TypeError, match="len\\(\\) of a 0-dimensional array"):
        len(as_array(1))
    with pytest.raises(TypeError, match="iteration over a 0-dimensional array"):
        iter(as_array(1))


class Shade(enum.IntEnum):
    DARK = 3


class ArrayLike:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.arange(2, dtype=np.int8)


class Wrapper:
    def __funcdl_array__(self) -> Array:
        return array(5)


LEAVES: list[tuple[Any, str]] = [
    (True, "bool[]"),
    (1, "~i32[]"),
    (1.5, "~f32[]"),
    (1j, "~c64[]"),
    (Shade.DARK, "~i32[]"),
    (np.float64(1), "f64[]"),
    (np.int8(1), "i8[]"),
    (np.bool_(True), "bool[]"),
    (np.zeros((2, 0), np.uint16), "u16[2,0]"),
    (np.zeros(2, np.longlong), "i64[2]"),
    (np.zeros(2, ml_dtypes.bfloat16), "bf16[2]"),
    (ArrayLike(), "i8[2]"),
    (Wrapper(), "f32[1]"),
    (array(1, 2), "f32[2]"),
]


@pytest.mark.parametrize(("leaf", "aval"), LEAVES, ids=range(len(LEAVES)))
def test_leaves_and_their_avals(leaf: Any, aval: str) -> None:
    x = as_array(leaf)
    assert str(x.aval) == str(aval_of(leaf)) == aval
    assert x.dtype in dtypes.SUPPORTED


def test_arrays_pass_through_and_numpy_arrays_are_copied() -> None:
    x = array(1)
    assert as_array(x) is x
    value = np.zeros((3, 2), np.float32).T
    x = as_array(value)
    assert x.value.flags.c_contiguous
    value[:] = 1
    assert x.tolist() == [[0.0] * 3] * 2
    assert as_array(1, np.dtype(np.float16)).aval == ShapedArray((), np.dtype(np.float16))


def test_64_bits_are_cut_where_the_flag_says_so() -> None:
    with config.override(x64="off"):
        assert str(as_array(np.zeros(2)).aval) == str(aval_of(np.zeros(2))) == "f32[2]"
        assert str(aval_of(1)) == "~i32[]"
    with config.override(x64="on"):
        assert str(as_array(np.zeros(2)).aval) == "f64[2]"
        assert str(as_array(1).aval) == str(aval_of(1)) == "~i64[]"


def test_aval_of_a_stand_in() -> None:
    struct = ShapeDtypeStruct((2,), "float16")
    assert aval_of(struct) == ShapedArray((2,), np.dtype(np.float16))


@pytest.mark.parametrize("leaf", ["text", [1, 2], {1: 2}, object, len])
def test_other_leaves_are_refused(leaf: Any) -> None:
    message = rf"expected an array or a scalar, got {type(leaf).__name__}: "
    for function in (as_array, aval_of):
        with pytest.raises(LeafTypeError, match=message):
            function(leaf)


def test_a_long_leaf_is_shortened_in_the_message() -> None:
    with pytest.raises(LeafTypeError) as caught:
        as_array("x" * 1000)
    assert str(caught.value) == (
        f"expected an array or a scalar, got str: '{'x' * 58}….\n"
        "Arrays, NumPy arrays, and Python or NumPy scalars are valid leaves; for other static "
        "data use static_argnums or close over it."
    )


def test_integers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError, match="Python int 4294967296 does not fit in int32"):
        as_array(2**32)


def test_numpy_arrays_with_unsupported_dtypes_are_refused() -> None:
    for value in (np.array(["a"]), np.array([object()]), np.zeros(2, ">f4")):
        with pytest.raises(TypeError, match="dtype"):
            as_array(value)
