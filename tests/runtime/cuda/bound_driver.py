"""The stub driver behind NVIDIA's own bindings, which pack arguments as they do for a GPU.

`api` gives the real ``cuda.bindings.driver``, whose calls end in a `StubDriver`: what the bindings
refuse, or pass on wrongly, shows in the tests that run on it. The library that they load is put in
place for the whole process, so that only tests in a process of their own may use this.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from tests.runtime.cuda.stub_driver import CUDA_KERNEL_NODE_PARAMS, CUmemPoolProps, StubDriver

# How each function's arguments are read, one letter each: a signed or unsigned number (i u z q),
# a pointer (p), a stream (s), a handle (h), an array of handles (a), text (t), machine code (m), a
# number behind a pointer (v), structures (N P). Results are written through the first pointer: a
# capital letter (I Z Q F H, or text, T).
_FORMS = {
    "cuInit": "u",
    "cuDriverGetVersion": "I",
    "cuDeviceGetCount": "I",
    "cuDeviceGet": "Ii",
    "cuDeviceGetName": "Tii",
    "cuDeviceGetAttribute": "Iii",
    "cuDeviceTotalMem": "Zi",
    "cuDevicePrimaryCtxRetain": "Hi",
    "cuCtxSetCurrent": "h",
    "cuCtxGetCurrent": "H",
    "cuStreamCreate": "Hu",
    "cuStreamSynchronize": "s",
    "cuStreamQuery": "s",
    "cuStreamWaitEvent": "shu",
    "cuEventCreate": "Hu",
    "cuEventRecord": "hs",
    "cuEventSynchronize": "h",
    "cuEventQuery": "h",
    "cuEventElapsedTime": "Fhh",
    "cuEventDestroy": "h",
    "cuMemPoolCreate": "HP",
    "cuMemPoolSetAttribute": "hiv",
    "cuMemPoolTrimTo": "hz",
    "cuMemAllocFromPoolAsync": "Qzhs",
    "cuMemFreeAsync": "ps",
    "cuMemHostAlloc": "Qzu",
    "cuMemcpyHtoDAsync": "ppzs",
    "cuMemcpyDtoHAsync": "ppzs",
    "cuMemcpyDtoDAsync": "ppzs",
    "cuModuleLoadData": "Hm",
    "cuModuleGetFunction": "Hht",
    "cuFuncSetAttribute": "hii",
    "cuLaunchKernel": "huuuuuuuspp",
    "cuGraphCreate": "Hu",
    "cuGraphAddKernelNode": "HhazN",
    "cuGraphInstantiate": "Hhq",
    "cuGraphExecKernelNodeSetParams": "hhN",
    "cuGraphLaunch": "hs",
    "cuGraphExecDestroy": "h",
    "cuGraphDestroy": "h",
}

_C_TYPES: dict[str, Any] = {
    "i": ctypes.c_int,
    "u": ctypes.c_uint,
    "z": ctypes.c_size_t,
    "q": ctypes.c_ulonglong,
    "p": ctypes.c_uint64,
    "t": ctypes.c_char_p,
}
_RESULTS: dict[str, Any] = {
    "I": ctypes.c_int,
    "Z": ctypes.c_size_t,
    "Q": ctypes.c_uint64,
    "F": ctypes.c_float,
    "H": ctypes.c_uint64,
}


class _PoolProps(ctypes.Structure):
    """The beginning of ``CUmemPoolProps``."""

    _fields_ = (
        ("allocType", ctypes.c_int),
        ("handleTypes", ctypes.c_int),
        ("location_type", ctypes.c_int),
        ("location_id", ctypes.c_int),
        ("win32SecurityAttributes", ctypes.c_void_p),
        ("maxSize", ctypes.c_size_t),
        ("usage", ctypes.c_ushort),
    )


class _NodeParams(ctypes.Structure):
    """``CUDA_KERNEL_NODE_PARAMS`` since release 12."""

    _fields_ = (
        ("func", ctypes.c_uint64),
        *((f"{what}Dim{axis}", ctypes.c_uint) for what in ("grid", "block") for axis in "XYZ"),
        ("sharedMemBytes", ctypes.c_uint),
        ("kernelParams", ctypes.c_uint64),
        ("extra", ctypes.c_uint64),
        ("kern", ctypes.c_uint64),
        ("ctx", ctypes.c_uint64),
    )


class _Library:
    """The functions that the bindings find, which call the stub of the test that runs."""

    def __init__(self) -> None:
        self.calling = threading.local()  # its stub, and the error that it raised
        self._objects: dict[int, Any] = {}
        self._handles: dict[int, int] = {}
        self._numbers = itertools.count(1 << 20, 16)
        self._functions = {name: self._function(name, form) for name, form in _FORMS.items()}

    def lookup(self, name: bytes) -> int:
        # The bindings' own names, but for one that the library exports by another.
        text = name.decode().removesuffix("WithFlags")
        function = self._functions.get(text)
        return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0

    def _function(self, name: str, form: str) -> Any:
        types = [_C_TYPES.get(letter, ctypes.c_uint64) for letter in form]

        def call(*args: Any) -> int:
            try:
                return self._call(name, form, args)
            except BaseException as error:  # the bindings know no exceptions of the driver
                self.calling.error = error
                return 999

        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(call)

    def _call(self, name: str, form: str, args: tuple[Any, ...]) -> int:
        result = form[0] if form[0].isupper() and form[0] not in "NPT" else ""
        own = form[1:] if result or form[0] == "T" else form
        given = args[1:] if result or form[0] == "T" else args
        read = [self._read(letter, arg) for letter, arg in zip(own, given, strict=True)]
        if "a" in own:
            at = own.index("a")
            handles = (ctypes.c_uint64 * read[at + 1]).from_address(read[at] or 1)
            read[at] = [self._objects[handle] for handle in handles]
        code, *found = getattr(self.calling.stub, name)(*read)
        if code == 0 and form[0] == "T":
            ctypes.memmove(args[0], found[0], len(found[0]))
        elif code == 0 and result:
            value = self._handle(found[0]) if result == "H" else found[0]
            _RESULTS[result].from_address(args[0]).value = value
        return int(code)

    def _handle(self, found: Any) -> int:
        handle = self._handles.get(id(found))
        if handle is None:
            handle = self._handles[id(found)] = next(self._numbers)
            self._objects[handle] = found
        return handle

    def _read(self, letter: str, arg: Any) -> Any:
        match letter:
            case "h":
                return self._objects[arg] if arg else None
            case "s":  # the default streams have numbers that everybody knows
                return self._objects[arg] if arg > 2 else arg
            case "v":
                return ctypes.c_uint64.from_address(arg).value
            case "m":
                return self._image(arg)
            case "P":
                return self._pool_properties(_PoolProps.from_address(arg))
            case "N":
                return self._node(_NodeParams.from_address(arg))
        return arg

    def _image(self, address: int) -> bytes:
        for image in self.calling.stub.images:
            if ctypes.string_at(address, len(image)) == image:
                return image
        return b""

    def _pool_properties(self, given: _PoolProps) -> CUmemPoolProps:
        assert given.handleTypes == given.maxSize == given.usage == 0
        found = CUmemPoolProps(given.allocType)
        found.location.type, found.location.id = given.location_type, given.location_id
        return found

    def _node(self, given: _NodeParams) -> CUDA_KERNEL_NODE_PARAMS:
        assert given.extra == given.kern == given.ctx == 0
        fields = {n: getattr(given, n) for n in CUDA_KERNEL_NODE_PARAMS.__dataclass_fields__}
        return CUDA_KERNEL_NODE_PARAMS(**fields | {"func": self._objects[given.func]})


class BoundApi:
    """``cuda.bindings.driver``, with the exceptions of the stub behind it."""

    def __init__(self, stub: StubDriver) -> None:
        from cuda.bindings import driver

        self._library, self._driver = _install(), driver
        self._stub = stub

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        if not name.startswith("cu") or name == "cuuint64_t":
            return found

        def call(*args: Any) -> Any:
            calling = self._library.calling
            # Garbage may be collected in the middle of a call, and call another stub.
            outer = calling.__dict__.get("stub"), calling.__dict__.get("error")
            calling.stub, calling.error = self._stub, None
            try:
                out, error = found(*args), calling.error
            finally:
                calling.stub, calling.error = outer
            if error is not None:
                raise error
            return out

        return call


@cache
def _install() -> _Library:
    """Build and load the library in place of the driver's."""
    folder = tempfile.mkdtemp()
    path = Path(folder, "libcuda.so.1")
    source = Path(__file__).with_name("libcuda_stub.c")
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(path), str(source)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library = _Library()
    lookup = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(library.lookup)
    loaded.stub_set_lookup(lookup)
    _kept.append((loaded, lookup))
    return library


_kept: list[Any] = []
