"""A device in use: its context, and the one stream on which all of its work is ordered."""

from __future__ import annotations

from typing import Any

from funcdl.runtime.cuda.driver import Driver

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no order with the default stream of other libraries
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING: such events are cheaper


class Stream:
    """The context and stream of one device.

    Work is done in the order in which it was issued, so that memory may be freed, and used again,
    as soon as the work that needs it has been issued.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver = driver
        self.ordinal = ordinal
        self.device = driver.call("cuDeviceGet", ordinal)
        self._context = driver.call("cuDevicePrimaryCtxRetain", self.device)
        self.activate()
        self.handle: Any = driver.call("cuStreamCreate", _NON_BLOCKING)

    def activate(self) -> None:
        """Make the device's context the calling thread's."""
        # Other libraries may have changed it since, so it is not enough to have done this once.
        self.driver.call("cuCtxSetCurrent", self._context)

    def synchronize(self) -> None:
        """Wait until all work issued so far is done."""
        self.activate()
        self.driver.call("cuStreamSynchronize", self.handle)

    def is_idle(self) -> bool:
        """Whether all work issued so far is done."""
        self.activate()
        (code,) = self.driver.api.cuStreamQuery(self.handle)
        if code == self.driver.api.CUresult.CUDA_ERROR_NOT_READY:
            return False
        self.driver.call("cuStreamQuery", self.handle)  # raises what went wrong
        return True

    def record(self) -> Event:
        """An event that happens when the work issued so far is done."""
        event = Event(self.driver)
        event.record(self)
        return event


class Event:
    """A mark in a stream."""

    def __init__(self, driver: Driver, timed: bool = False) -> None:
        self._driver = driver
        self.handle: Any = driver.call("cuEventCreate", 0 if timed else _NO_TIMING)

    def record(self, stream: Stream) -> None:
        """Put the mark behind all work issued so far."""
        self._driver.call("cuEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until the work before the mark is done."""
        self._driver.call("cuEventSynchronize", self.handle)

    def has_happened(self) -> bool:
        """Whether the work before the mark is done."""
        (code,) = self._driver.api.cuEventQuery(self.handle)
        return bool(code == 0)

    def milliseconds_since(self, start: Event) -> float:
        """The time between two marks that were reached; both must be timed."""
        return float(self._driver.call("cuEventElapsedTime", start.handle, self.handle))

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._driver.api.cuEventDestroy(self.handle)
