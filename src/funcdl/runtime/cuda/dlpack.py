"""Exchange of device arrays with other libraries without a copy (DLPack, in its first layout).

Both sides order their work by events: who takes an array waits, on its own stream, for what the
giver has issued; and memory is freed only behind the work of all who used it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from funcdl.errors import ArgumentError, DtypeError
from funcdl.runtime.cuda.buffer import CudaBuffer
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.stream import Event

CUDA = 2  # kDLCUDA
_NAME = b"dltensor"
_USED = b"used_dltensor"
# DLDataTypeCode by the kinds of NumPy.
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_BFLOAT16 = 4


class _Tensor(ctypes.Structure):
    """``DLTensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """``DLManagedTensor``."""

    _fields_ = (
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new_capsule: Callable[..., Any] = _api.PyCapsule_New
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", _api)
)
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_exported: dict[int, tuple[Any, ...]] = {}


def _release(address: int) -> None:
    """Called by whoever took the array, when it is done with it."""
    *_, buffer, consumer = _exported.pop(address)
    if consumer is not None:
        # Our stream goes on, and may free the memory, once the other one has come this far.
        stream = buffer.gpu.stream
        stream.activate()
        event = Event(stream.driver)
        stream.driver.api.cuEventRecord(event.handle, consumer)
        stream.driver.api.cuStreamWaitEvent(stream.handle, event.handle, 0)


def _destroy(capsule: int) -> None:
    """Called at the end of a capsule; nobody took the array if it has its first name still."""
    if _is_valid(capsule, _NAME):
        _release(_get_pointer(capsule, _NAME))


_deleter = _Deleter(_release)
_destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy)


def export(buffer: CudaBuffer, stream: int | None = None, **options: Any) -> Any:
    """A capsule of an array, for a consumer that works on `stream`.

    Args:
      stream: the consumer's stream as a number: 1 or None for the default stream, 2 for the
        thread's own, -1 where the consumer takes care of the order itself.

    Raises:
      BufferError: a copy, or another device, is asked for.
    """
    if options.get("copy"):
        raise BufferError("a device array is exported without a copy; copy it in the consumer")
    device = options.get("dl_device")
    if device is not None and tuple(map(int, device)) != (CUDA, buffer.device.id):
        raise BufferError(f"an array on {buffer.device} cannot be exported to device {device}")
    consumer = None
    if stream != -1:
        consumer = 1 if stream is None else stream
        own = buffer.gpu.stream
        own.activate()
        own.driver.call("cuStreamWaitEvent", consumer, own.record().handle, 0)
    shape = (ctypes.c_int64 * len(buffer.shape))(*buffer.shape)
    code, bits = _code(buffer.dtype)
    tensor = _Tensor(
        buffer.address, CUDA, buffer.device.id, len(shape), code, bits, 1, shape, None, 0
    )
    managed = _Managed(tensor, None, ctypes.cast(_deleter, ctypes.c_void_p))
    address = ctypes.addressof(managed)
    buffer.shared = True
    _exported[address] = managed, shape, buffer, consumer
    return _new_capsule(address, _NAME, ctypes.cast(_destructor, ctypes.c_void_p))


class _Borrowed:
    """Another library's memory, given back when our work on it is done."""

    def __init__(self, gpu: CudaDevice, managed: _Managed, address: int) -> None:
        self._gpu = gpu
        self._managed = managed
        self.address = address

    def __del__(self) -> None:
        # The other library orders its work by streams that we do not know.
        self._gpu.stream.synchronize()
        if self._managed.deleter:
            _Deleter(self._managed.deleter)(ctypes.addressof(self._managed))


def adopt(gpu: CudaDevice, external: Any) -> CudaBuffer:
    """Another library's array on a GPU; nobody may write to it as long as it is used.

    Raises:
      ArgumentError: it is not in row-major order, or begins within an element.
      DtypeError: its element type is not supported.
    """
    capsule = external.__dlpack__(stream=int(gpu.stream.handle))
    pointer = _get_pointer(id(capsule), _NAME)
    managed = _Managed.from_address(pointer)
    tensor = managed.tensor
    shape = tuple(tensor.shape[: tensor.ndim])
    dtype = _dtype(tensor.code, tensor.bits, tensor.lanes)
    if tensor.strides:
        strides = tuple(tensor.strides[: tensor.ndim])
        wanted = tuple(math.prod(shape[i + 1 :]) for i in range(tensor.ndim))
        along = [i for i in range(tensor.ndim) if shape[i] > 1]
        if math.prod(shape) and any(strides[i] != wanted[i] for i in along):
            raise ArgumentError(
                f"from_dlpack requires a GPU array in row-major order, got shape {shape} with "
                f"strides {strides} elements; make it contiguous first"
            )
    address = (tensor.data or 0) + tensor.byte_offset
    if address % dtype.alignment:  # which a GPU would answer with a fault that ends the process
        raise ArgumentError(
            f"from_dlpack requires a GPU array of {dtype} at a multiple of {dtype.alignment} "
            f"bytes, got address {address:#x}; copy it first"
        )
    _set_name(capsule, _USED)
    borrowed: Any = _Borrowed(gpu, managed, address)
    buffer = CudaBuffer(gpu, borrowed, shape, dtype)
    buffer.shared = True
    return buffer


def _code(dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype == ml_dtypes.bfloat16:
        return _BFLOAT16, 16
    if dtype.kind not in _CODES:
        raise BufferError(f"DLPack has no element type {dtype}")
    return _CODES[dtype.kind], 8 * dtype.itemsize


def _dtype(code: int, bits: int, lanes: int) -> np.dtype[Any]:
    kinds: dict[int, Any] = {number: kind for kind, number in _CODES.items()}
    name = ml_dtypes.bfloat16 if (code, bits) == (_BFLOAT16, 16) else None
    if code in kinds:
        name = f"{kinds[code]}{bits // 8}"
    if name is None or lanes != 1:
        raise DtypeError(
            f"from_dlpack: element type {code} of {bits} bits and {lanes} lanes is not supported"
        )
    found: np.dtype[Any] = np.dtype(name)
    return found
