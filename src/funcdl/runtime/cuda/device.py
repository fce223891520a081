"""A GPU with what its programs share."""

from __future__ import annotations

import threading

from funcdl.core.devices import Device
from funcdl.runtime.cuda.device_memory import DevicePool
from funcdl.runtime.cuda.driver import Driver
from funcdl.runtime.cuda.module_cache import ModuleCache
from funcdl.runtime.cuda.stream import Stream
from funcdl.runtime.cuda.transfer import Staging


class CudaDevice:
    """One GPU: its stream, memory, page-locked memory for copies, and loaded kernels.

    `lock` is held while a program's launches are issued, so that those of two threads do not mix.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver = driver
        self.stream = Stream(driver, ordinal)
        device = self.stream.device
        major = driver.attribute(device, "COMPUTE_CAPABILITY_MAJOR")
        self.capability = 10 * major + driver.attribute(device, "COMPUTE_CAPABILITY_MINOR")
        self.processors = driver.attribute(device, "MULTIPROCESSOR_COUNT")
        name = driver.call("cuDeviceGetName", 128, device).split(b"\0")[0].decode()
        self.device = Device("gpu", ordinal, name)
        self.pool = DevicePool(self.stream)
        self.staging = Staging(self.stream)
        self.modules = ModuleCache(self.stream, self.capability)
        self.lock = threading.RLock()
