"""Launches: kernels with their grids, pointers packed as the driver wants them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from funcdl.runtime.cuda.module_cache import Function
from funcdl.runtime.cuda.stream import Stream

SCRATCH_POINTERS = 2
"""Triton's kernels have two more parameters, pointers to scratch memory; null where unused."""


class Arguments:
    """A kernel's parameters in memory: pointers, and the table of their addresses."""

    __slots__ = ("_table", "_values", "address")

    def __init__(self, count: int) -> None:
        total = count + SCRATCH_POINTERS
        self._values = (ctypes.c_uint64 * total)()
        base = ctypes.addressof(self._values)
        self._table = (ctypes.c_uint64 * total)(*(base + 8 * i for i in range(total)))
        self.address = ctypes.addressof(self._table)

    def fill(self, pointers: Sequence[int]) -> None:
        """Set the pointers."""
        self._values[: len(pointers)] = list(pointers)


class Kernel:
    """A kernel of a program on one device, in a variant for aligned pointers and one for others.

    Args:
      aligned: the function that wants aligned pointers.
      unaligned: loads the one that takes any, when it is first needed.
      programs: how many program instances run; 0 means that there is nothing to do.
      num_pointers: how many pointers it takes.
      copied: of a kernel that only copies, the numbers of the pointers from where and to where.
    """

    def __init__(
        self,
        aligned: Function,
        unaligned: Callable[[], Function],
        programs: int,
        num_pointers: int,
        copied: tuple[int, int] | None = None,
    ) -> None:
        self.programs = programs
        self.copied = copied
        self.num_pointers = num_pointers
        self._aligned = aligned
        self._load_unaligned = unaligned
        self._unaligned: Function | None = None
        self._arguments = Arguments(num_pointers)

    def is_idle(self, pointers: Sequence[int]) -> bool:
        """Whether there is nothing to do: what would be copied is there already."""
        return self.copied is not None and pointers[self.copied[0]] == pointers[self.copied[1]]

    def function(self, pointers: Sequence[int]) -> Function:
        """The variant for these pointers."""
        bits = 0
        for pointer in pointers:
            bits |= pointer
        if bits % self._aligned.alignment == 0:
            return self._aligned
        if self._unaligned is None:
            self._unaligned = self._load_unaligned()
        return self._unaligned

    def launch(self, stream: Stream, pointers: Sequence[int]) -> None:
        """Start the kernel; the caller has made the context current and holds the device's lock.

        Raises:
          ValueError: there are too few or too many pointers.
          CudaError: the driver refuses the launch.
        """
        if len(pointers) != self.num_pointers:
            raise ValueError(
                f"kernel {self._aligned.name} takes {self.num_pointers} pointers, got "
                f"{len(pointers)}"
            )
        if self.programs == 0 or self.is_idle(pointers):
            return
        function = self.function(pointers)
        self._arguments.fill(pointers)
        stream.driver.call(
            "cuLaunchKernel",
            function.handle,
            *(self.programs, 1, 1),
            *(function.threads, 1, 1),
            function.shared_bytes,
            stream.handle,
            self._arguments.address,
            0,
        )
