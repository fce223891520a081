"""A CUDA driver without a GPU: its functions over host memory, strict about how they are called.

Device memory is arrays of bytes at invented addresses, filled with 0xFF (NaN) at first. Work on a
stream is put off until something waits for it, so that a runtime that forgets to wait, or changes
memory that a copy has yet to read, gets wrong numbers. Memory comes and goes in the order of its
stream, and an address that was freed is given out again at once, as by the driver's pools. Launches
run what the cubin's bytes stand for (`StubDriver.images`), after their arguments were compared with
its metadata. After a fault of a kernel every call fails.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class CUdevice_attribute(IntEnum):
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97


class CUmemAllocationType(IntEnum):
    CU_MEM_ALLOCATION_TYPE_PINNED = 1


class CUmemLocationType(IntEnum):
    CU_MEM_LOCATION_TYPE_DEVICE = 1


class CUmemPool_attribute(IntEnum):
    CU_MEMPOOL_ATTR_RELEASE_THRESHOLD = 4


class CUfunction_attribute(IntEnum):
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8


@dataclass
class _Location:
    type: int = 0
    id: int = 0


@dataclass
class CUmemPoolProps:
    allocType: int = 0
    location: _Location = field(default_factory=_Location)


@dataclass
class CUDA_KERNEL_NODE_PARAMS:
    func: Any = None
    gridDimX: int = 0
    gridDimY: int = 0
    gridDimZ: int = 0
    blockDimX: int = 0
    blockDimY: int = 0
    blockDimZ: int = 0
    sharedMemBytes: int = 0
    kernelParams: int = 0


SHARED_KIB = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227}
"""Shared memory that a block may have, by compute capability: CUDA's programming guide."""


class DriverMisuse(AssertionError):
    """A call that a real driver, or a real GPU, would punish."""


@dataclass
class Image:
    """What a cubin's bytes stand for."""

    kernel: Kernel
    programs: int
    metadata: dict[str, Any]
    run: Callable[[dict[str, np.ndarray]], None] | None = None


@dataclass
class _Module:
    image: Image
    context: int


@dataclass
class _Function:
    image: Image
    context: int
    shared_limit: int = 48 << 10


@dataclass
class _Event:
    context: int
    done: bool = True
    time: float = 0.0
    timed: bool = False
    stream: _Stream | None = None


@dataclass
class _Stream:
    context: int
    queue: list[Any] = field(default_factory=list)

    def __int__(self) -> int:
        return id(self)

    def drain(self, until: Any = None) -> None:
        while self.queue:
            work = self.queue.pop(0)
            work()
            if work is until:
                return


@dataclass
class _Launch:
    function: _Function
    pointers: list[int]


@dataclass
class _Graph:
    context: int
    nodes: list[_Node] = field(default_factory=list)


@dataclass
class _Executable:
    context: int
    launches: dict[int, _Launch]  # by the identity of the node
    nodes: list[_Node]


OK = (CUresult.CUDA_SUCCESS,)
_WITH_RESULT = {
    *("cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName"),
    *("cuDeviceGetAttribute", "cuDeviceTotalMem", "cuDevicePrimaryCtxRetain", "cuStreamCreate"),
    *("cuEventCreate", "cuEventElapsedTime", "cuMemPoolCreate", "cuMemAllocFromPoolAsync"),
    *("cuMemHostAlloc", "cuModuleLoadData", "cuModuleGetFunction", "cuGraphCreate"),
    *("cuGraphAddKernelNode", "cuGraphInstantiate"),
}


class StubDriver:
    """The functions of `cuda.bindings.driver` that the runtime uses.

    Args:
      capabilities: the compute capability of each device.
      memory: bytes of each device.

    Attributes:
      images: what is run for a cubin, by its bytes.
      calls: how often each function was called.
      failures: codes that functions are to return, by name.
      clock: milliseconds of all launches so far, each as long as `duration` says, and `overhead`
        longer where it is not a graph's.
      refuses: whether launches of an image fail.
      faults: whether an image accesses memory that does not exist.
      graphs: graphs and executable graphs that were not destroyed.
    """

    CUresult = CUresult
    CUdevice_attribute = CUdevice_attribute
    CUmemAllocationType = CUmemAllocationType
    CUmemLocationType = CUmemLocationType
    CUmemPool_attribute = CUmemPool_attribute
    CUfunction_attribute = CUfunction_attribute
    CUmemPoolProps = CUmemPoolProps
    CUDA_KERNEL_NODE_PARAMS = CUDA_KERNEL_NODE_PARAMS
    cuuint64_t = int

    def __init__(
        self,
        capabilities: tuple[int, ...] = (90,),
        memory: int = 1 << 30,
        version: int = 12080,
    ) -> None:
        self.capabilities = capabilities
        self.memory = memory
        self.version = version
        self.images: dict[bytes, Image] = {}
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, CUresult] = {}
        self.blocks: dict[int, tuple[np.ndarray, int]] = {}  # live memory: bytes, device
        self.used: Counter[int] = Counter()
        self.clock = self.overhead = 0.0
        self.duration: Callable[[Image], float] = lambda image: 1.0
        self.refuses: Callable[[Image], bool] = lambda image: False
        self.faults: Callable[[Image], bool] = lambda image: False
        self.graphs = 0
        self.launches: list[str] = []
        self._pinned: dict[int, Any] = {}
        self._next_address = 0x7F00_0000_0000
        self._free: dict[tuple[int, int], list[int]] = {}  # by device and rounded size
        self._owned: dict[int, tuple[int, int]] = {}  # bytes and device, as of the calls so far
        self._defaults: dict[tuple[int, int], _Stream] = {}
        self._streams: dict[int, _Stream] = {}
        self._current = threading.local()
        self._faulty = False

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cu") or name == "cuuint64_t":
            return found
        self.calls[name] += 1
        failure = self.failures.get(name)
        if self._faulty and name != "cuCtxSetCurrent":
            failure = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
        if failure is None:
            return found
        return lambda *args: (failure, None) if name in _WITH_RESULT else (failure,)

    # Devices, contexts, streams, events

    def cuInit(self, flags: int) -> Any:
        return OK

    def cuDriverGetVersion(self) -> Any:
        return *OK, self.version

    def cuDeviceGetCount(self) -> Any:
        return *OK, len(self.capabilities)

    def cuDeviceGet(self, ordinal: int) -> Any:
        return *OK, ordinal

    def cuDeviceGetName(self, length: int, device: int) -> Any:
        return *OK, b"Stub GPU".ljust(length, b"\0")

    def cuDeviceGetAttribute(self, attribute: CUdevice_attribute, device: int) -> Any:
        capability = self.capabilities[device]
        major, minor = divmod(capability, 10)
        return *OK, {16: 4, 75: major, 76: minor, 97: SHARED_KIB[capability] << 10}[attribute]

    def cuDeviceTotalMem(self, device: int) -> Any:
        return *OK, self.memory

    def cuDevicePrimaryCtxRetain(self, device: int) -> Any:
        return *OK, device + 1

    def cuCtxSetCurrent(self, context: int) -> Any:
        self._current.context = context
        return OK

    def cuStreamCreate(self, flags: int) -> Any:
        if flags != 1:
            raise DriverMisuse("the stream would wait for the default stream")
        stream = _Stream(self._context())
        self._streams[int(stream)] = stream
        return *OK, stream

    def cuStreamSynchronize(self, stream: _Stream | int) -> Any:
        self._check(stream).drain()
        return self._after_work()

    def cuStreamQuery(self, stream: _Stream | int) -> Any:
        busy = self._check(stream).queue
        return (CUresult.CUDA_ERROR_NOT_READY if busy else CUresult.CUDA_SUCCESS,)

    def cuStreamWaitEvent(self, stream: _Stream | int, event: _Event, flags: int) -> Any:
        if flags != 0:
            return (CUresult.CUDA_ERROR_INVALID_VALUE,)
        self._check(stream).queue.append(lambda: self._wait(event))
        return OK

    def cuEventCreate(self, flags: int) -> Any:
        return *OK, _Event(self._context(), timed=not flags & 2)

    def cuEventRecord(self, event: _Event, stream: _Stream | int) -> Any:
        stream = self._check(stream)
        if event.context != stream.context:
            raise DriverMisuse("an event of another device")

        def happen() -> None:
            event.done, event.time = True, self.clock

        event.done, event.stream = False, stream
        stream.queue.append(happen)
        return OK

    def cuEventSynchronize(self, event: _Event) -> Any:
        self._wait(event)
        return self._after_work()

    def _wait(self, event: _Event) -> None:
        while not event.done:
            assert event.stream is not None
            event.stream.queue.pop(0)()

    def cuEventQuery(self, event: _Event) -> Any:
        return (CUresult.CUDA_SUCCESS if event.done else CUresult.CUDA_ERROR_NOT_READY,)

    def cuEventElapsedTime(self, start: _Event, end: _Event) -> Any:
        if not (start.timed and end.timed and start.done and end.done):
            raise DriverMisuse("time between events that take none, or have not happened")
        return *OK, end.time - start.time

    def cuEventDestroy(self, event: _Event) -> Any:
        return OK

    # Memory

    def cuMemPoolCreate(self, properties: CUmemPoolProps) -> Any:
        assert properties.allocType == 1 and properties.location.type == 1
        return *OK, ("pool", properties.location.id)

    def cuMemPoolSetAttribute(self, pool: Any, attribute: int, value: int) -> Any:
        assert attribute == 4 and value > 0
        return OK

    def cuMemPoolTrimTo(self, pool: Any, kept: int) -> Any:
        return OK

    def cuMemAllocFromPoolAsync(self, nbytes: int, pool: Any, stream: _Stream) -> Any:
        stream = self._check(stream)
        device = pool[1]
        if nbytes == 0:
            return CUresult.CUDA_ERROR_INVALID_VALUE, None
        if self.used[device] + nbytes > self.memory:
            return CUresult.CUDA_ERROR_OUT_OF_MEMORY, None
        space = (nbytes // 512 + 2) * 512
        free = self._free.get((device, space))
        if free:
            address = free.pop()
        else:
            address = self._next_address
            self._next_address += space
        self.used[device] += nbytes
        self._owned[address] = nbytes, device
        fresh = np.full(nbytes, 0xFF, np.uint8), device
        stream.queue.append(lambda: self.blocks.__setitem__(address, fresh))
        return *OK, address

    def cuMemFreeAsync(self, address: int, stream: _Stream) -> Any:
        stream = self._check(stream)
        if address not in self._owned:
            raise DriverMisuse(f"free of {address:#x}, which is not allocated")
        nbytes, device = self._owned.pop(address)
        self.used[device] -= nbytes
        self._free.setdefault((device, (nbytes // 512 + 2) * 512), []).append(address)
        stream.queue.append(lambda: self.blocks.pop(address))
        return OK

    def cuMemHostAlloc(self, nbytes: int, flags: int) -> Any:
        self._context()
        memory = (ctypes.c_uint8 * nbytes)()
        self._pinned[ctypes.addressof(memory)] = memory
        return *OK, ctypes.addressof(memory)

    def cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: _Stream) -> Any:
        stream = self._check(stream)
        host = self._host(source, nbytes)

        def copy() -> None:
            self._device_memory(target, nbytes)[:] = host

        stream.queue.append(copy)
        return OK

    def cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: _Stream) -> Any:
        stream = self._check(stream)
        host = self._host(target, nbytes)

        def copy() -> None:
            host[:] = self._device_memory(source, nbytes)

        stream.queue.append(copy)
        return OK

    def cuMemcpyDtoDAsync(self, target: int, source: int, nbytes: int, stream: _Stream) -> Any:
        stream = self._check(stream)

        def copy() -> None:
            self._device_memory(target, nbytes)[:] = self._device_memory(source, nbytes).copy()

        stream.queue.append(copy)
        return OK

    # Kernels

    def cuModuleLoadData(self, image: bytes) -> Any:
        context = self._context()
        if image not in self.images:
            return CUresult.CUDA_ERROR_INVALID_IMAGE, None
        return *OK, _Module(self.images[image], context)

    def cuModuleGetFunction(self, module: _Module, name: bytes) -> Any:
        assert name.decode() == module.image.metadata["name"]
        return *OK, _Function(module.image, module.context)

    def cuFuncSetAttribute(self, function: _Function, attribute: int, value: int) -> Any:
        assert attribute == 8
        function.shared_limit = value
        return OK

    def cuLaunchKernel(
        self,
        function: _Function,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared: int,
        stream: _Stream,
        parameters: int,
        extra: int,
    ) -> Any:
        stream = self._check(stream)
        if function.context != stream.context:
            raise DriverMisuse("a kernel that was loaded on another device")
        if extra != 0:
            raise DriverMisuse("parameters by two ways")
        if self.refuses(function.image):
            return (CUresult.CUDA_ERROR_INVALID_VALUE,)
        shape = (grid_x, grid_y, grid_z, block_x, block_y, block_z)
        launch = self._launch(function, shape, shared, parameters)
        stream.queue.append(lambda: self._run(launch, self.overhead))
        return OK

    def cuGraphCreate(self, flags: int) -> Any:
        self.graphs += 1
        return *OK, _Graph(self._context())

    def cuGraphAddKernelNode(
        self, graph: _Graph, before: list[Any], count: int, node: CUDA_KERNEL_NODE_PARAMS
    ) -> Any:
        if before != graph.nodes[-1:] or count != len(before):
            raise DriverMisuse("the node does not follow the one before it")
        graph.nodes.append(_Node(self._node(node, graph.context)))
        return *OK, graph.nodes[-1]

    def cuGraphInstantiate(self, graph: _Graph, flags: int) -> Any:
        self.graphs += 1
        launches = {id(node): node.launch for node in graph.nodes}
        return *OK, _Executable(graph.context, launches, list(graph.nodes))

    def cuGraphExecKernelNodeSetParams(
        self, executable: _Executable, node: Any, parameters: CUDA_KERNEL_NODE_PARAMS
    ) -> Any:
        if id(node) not in executable.launches:
            raise DriverMisuse("the node is another graph's")
        executable.launches[id(node)] = self._node(parameters, executable.context)
        return OK

    def cuGraphLaunch(self, executable: _Executable, stream: _Stream) -> Any:
        stream = self._check(stream)
        if executable.context != stream.context:
            raise DriverMisuse("a graph of another device")
        for launch in executable.launches.values():
            stream.queue.append(lambda launch=launch: self._run(launch))
        return OK

    def cuGraphExecDestroy(self, executable: Any) -> Any:
        self.graphs -= 1
        return OK

    def cuGraphDestroy(self, graph: Any) -> Any:
        self.graphs -= 1
        return OK

    # What the driver and the device check

    def _context(self) -> int:
        context = getattr(self._current, "context", None)
        if context is None:
            raise DriverMisuse("this thread has no current context")
        return int(context)

    def _check(self, stream: _Stream | int) -> _Stream:
        """A stream of the current device; 0 and 1 are its default one, 2 is the thread's own."""
        context = self._context()
        if isinstance(stream, int):
            if stream > 2:
                return self._check(self._streams[stream])
            stream = self._defaults.setdefault((context, max(stream, 1)), _Stream(context))
        if context != stream.context:
            raise DriverMisuse("another device's context is current")
        return stream

    def _after_work(self) -> tuple[CUresult]:
        return (CUresult.CUDA_ERROR_ILLEGAL_ADDRESS if self._faulty else CUresult.CUDA_SUCCESS,)

    def _node(self, node: CUDA_KERNEL_NODE_PARAMS, context: int) -> _Launch:
        if not context == node.func.context == self._context():
            raise DriverMisuse("a node of another device")
        grid = (node.gridDimX, node.gridDimY, node.gridDimZ)
        block = (node.blockDimX, node.blockDimY, node.blockDimZ)
        return self._launch(node.func, grid + block, node.sharedMemBytes, node.kernelParams)

    def _launch(
        self, function: _Function, shape: tuple[int, ...], shared: int, parameters: int
    ) -> _Launch:
        image = function.image
        metadata = image.metadata
        threads = 32 * metadata["num_warps"]
        if shape != (image.programs, 1, 1, threads, 1, 1) or image.programs == 0:
            raise DriverMisuse(f"{metadata['name']} was launched with grid and block {shape}")
        if shared != metadata["shared"] or shared > function.shared_limit:
            raise DriverMisuse(f"{metadata['name']} was launched with {shared} shared bytes")
        count = len(image.kernel.buffers) + 2
        table = (ctypes.c_uint64 * count).from_address(parameters)
        pointers = [ctypes.c_uint64.from_address(place).value for place in table]
        if pointers[-2:] != [0, 0]:
            raise DriverMisuse("the scratch pointers are not null")
        if any(pointer % metadata["alignment"] for pointer in pointers):
            raise DriverMisuse(f"{metadata['name']} got pointers that are not aligned")
        return _Launch(function, pointers[:-2])

    def _run(self, launch: _Launch, overhead: float = 0.0) -> None:
        image = launch.function.image
        if self.faults(image):
            self._faulty = True
        if self._faulty:
            return
        self.launches.append(image.metadata["name"])
        self.clock += self.duration(image) + overhead
        views: dict[str, np.ndarray] = {}
        spans = []
        for buffer, pointer in zip(image.kernel.buffers, launch.pointers, strict=True):
            nbytes = buffer.size * buffer.dtype.itemsize
            if pointer % buffer.dtype.alignment:
                raise DriverMisuse(f"{buffer.name} is not aligned to its elements")
            memory = self._device_memory(pointer, nbytes)
            views[buffer.name] = memory.view(buffer.dtype)
            spans.append((pointer, pointer + nbytes, buffer))
        for start, end, buffer in spans:
            for other_start, other_end, other in spans:
                overlap = start < other_end and other_start < end and other is not buffer
                if overlap and buffer.role != "in" and not (buffer.may_alias and other.may_alias):
                    raise DriverMisuse(f"{buffer.name} and {other.name} share memory")
        if image.run is None:
            interpret(image.kernel, views)
        else:
            image.run(views)

    def _device_memory(self, address: int, nbytes: int) -> np.ndarray:
        if nbytes == 0:
            return np.empty(0, np.uint8)
        for start, (memory, _) in self.blocks.items():
            if start <= address < start + memory.nbytes:
                if address + nbytes > start + memory.nbytes:
                    raise DriverMisuse(f"{nbytes} bytes at {address:#x} reach past their memory")
                return memory[address - start :][:nbytes]
        raise DriverMisuse(f"{address:#x} is no memory of the device, or was freed")

    def _host(self, address: int, nbytes: int) -> np.ndarray:
        for start, memory in self._pinned.items():
            if start <= address and address + nbytes <= start + len(memory):
                return np.ctypeslib.as_array(memory)[address - start :][:nbytes]
        raise DriverMisuse(f"{address:#x} is not page-locked memory of {nbytes} bytes")


@dataclass(eq=False)
class _Node:
    launch: _Launch
