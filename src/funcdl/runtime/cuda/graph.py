"""One CUDA graph for a list of launches: replayed by one call, with other pointers each time.

The graph is built node by node, not captured from the stream. So the nodes are known, which makes
changing their pointers simple, and memory that is freed meanwhile cannot end up in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from funcdl.runtime.cuda.launch import Arguments, Kernel
from funcdl.runtime.cuda.module_cache import Function
from funcdl.runtime.cuda.stream import Stream

Pointers = tuple[int, ...]


@dataclass(slots=True)
class _Node:
    kernel: Kernel
    function: Function
    pointers: Pointers
    handle: Any


class LaunchGraph:
    """Launches that run one after the other.

    Args:
      stream: where the graph runs; the caller holds the device's lock in every call.
      launches: the kernels with their pointers for the first run.
    """

    def __init__(self, stream: Stream, launches: Sequence[tuple[Kernel, Pointers]]) -> None:
        self._stream = stream
        self._driver = driver = stream.driver
        stream.activate()
        self._graph = driver.call("cuGraphCreate", 0)
        self._nodes: list[_Node] = []
        before: list[Any] = []
        for kernel, pointers in launches:
            function = kernel.function(pointers)
            parameters, keep = self._parameters(kernel, function, pointers)
            handle = driver.call(
                "cuGraphAddKernelNode", self._graph, before, len(before), parameters
            )
            del keep  # the driver has copied the pointers
            self._nodes.append(_Node(kernel, function, pointers, handle))
            before = [handle]
        self._executable = driver.call("cuGraphInstantiate", self._graph, 0)

    def set_pointers(self, number: int, pointers: Pointers) -> None:
        """Give a launch other pointers, from the next run on."""
        node = self._nodes[number]
        if pointers == node.pointers:
            return
        node.function = node.kernel.function(pointers)
        parameters, keep = self._parameters(node.kernel, node.function, pointers)
        self._driver.call(
            "cuGraphExecKernelNodeSetParams", self._executable, node.handle, parameters
        )
        del keep
        node.pointers = pointers

    def launch(self) -> None:
        """Start a run; returns at once."""
        self._driver.call("cuGraphLaunch", self._executable, self._stream.handle)

    def _parameters(
        self, kernel: Kernel, function: Function, pointers: Pointers
    ) -> tuple[Any, Arguments]:
        arguments = Arguments(kernel.num_pointers)
        arguments.fill(pointers)
        parameters = self._driver.api.CUDA_KERNEL_NODE_PARAMS()
        parameters.func = function.handle
        parameters.gridDimX, parameters.gridDimY, parameters.gridDimZ = kernel.programs, 1, 1
        parameters.blockDimX, parameters.blockDimY, parameters.blockDimZ = function.threads, 1, 1
        parameters.sharedMemBytes = function.shared_bytes
        parameters.kernelParams = arguments.address
        return parameters, arguments

    def __del__(self) -> None:
        # Destroying what still runs is allowed: the driver frees it when it is done.
        if hasattr(self, "_executable"):
            self._driver.api.cuGraphExecDestroy(self._executable)
        if hasattr(self, "_graph"):
            self._driver.api.cuGraphDestroy(self._graph)
