"""The devices there are: one CPU, and the GPUs. Names follow `jax.devices` and its kin.

Platforms other than the CPU register themselves; their drivers load when they are first named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from funcdl.config import config
from funcdl.core.integers import integer
from funcdl.core.records import record
from funcdl.errors import ArgumentError


@record
class Device:
    """Where arrays live (see `jax.Device`).

    Attributes:
      platform: ``"cpu"`` or ``"gpu"``.
      id: its number.
      device_kind: what it is called.
      process_index: the number of the process that it belongs to.
    """

    platform: str = "cpu"
    id: int = 0
    device_kind: str = "cpu"
    process_index: int = 0

    def memory_stats(self) -> dict[str, int] | None:
        """The memory of programs that ran here (see `funcdl.memory_stats`); None if not counted."""
        stats = _memory_stats.get(self.platform)
        return None if stats is None else stats(self)

    def __str__(self) -> str:
        return f"{self.platform}:{self.id}"

    def __repr__(self) -> str:
        return f"Device({str(self)!r})"


CPU = Device()

_memory_stats: dict[str, Callable[[Device], dict[str, int]]] = {}


def register_memory_stats(platform: str, stats: Callable[[Device], dict[str, int]]) -> None:
    """Say what `Device.memory_stats` returns for a platform."""
    _memory_stats[platform] = stats


class Platform(Protocol):
    """The devices of one kind other than the CPU."""

    def devices(self) -> list[Device]:
        """All of them, in the order of their numbers."""
        ...

    def put(self, value: Any, device: Device) -> Any:
        """A copy of a NumPy array or `DeviceBuffer` as a `DeviceBuffer` on a device."""
        ...

    def adopt(self, external: Any, ordinal: int) -> Any:
        """The memory of another library's array (by DLPack) as a `DeviceBuffer`."""
        ...


_factories: dict[str, Callable[[], Platform]] = {}
_platforms: dict[str, Platform] = {}
_ALIASES = {"cuda": "gpu"}  # as in JAX


def register_platform(name: str, factory: Callable[[], Platform]) -> None:
    """Make devices known; `factory` runs when they are first asked for."""
    _factories[name] = factory
    _platforms.pop(name, None)


def platform_of(name: str) -> Platform:
    """A registered platform; raises what its driver raises where it cannot be used."""
    platform = _platforms.get(name)
    if platform is None:
        platform = _platforms[name] = _factories[name]()
    return platform


def find_device(name: str, device: Any) -> Device:
    """The device that is meant by one of `devices`, ``"cpu"``, ``"gpu"``, ``"gpu:1"`` or None.

    None is the default: the CPU, or the first GPU with ``config.backend = "gpu"``.

    Raises:
      ArgumentError: there is no such device; `name` is the function that was asked.
      DeviceError: its driver is missing.
    """
    if device is None:
        device = default_backend()
    if isinstance(device, str):
        kind, _, number = device.partition(":")
        kind = _ALIASES.get(kind, kind)
        if kind in ("cpu", *_factories) and (not number or number.isdecimal()):
            device = Device(kind, int(number or 0))
    if isinstance(device, Device):
        found = [CPU] if device.platform == "cpu" else []
        if device.platform in _factories:
            found = platform_of(device.platform).devices()
        for candidate in found:
            if candidate.id == device.id:
                return candidate
        if found:
            known = ", ".join(repr(str(x)) for x in found)
            raise ArgumentError(f"{name}: there is no device {str(device)!r}; devices are: {known}")
    known = ", ".join(map(repr, ("cpu", *_factories)))
    raise ArgumentError(f"{name}: there is no device {device!r}; devices are: {known}")


def check_platform(name: str, platform: Any) -> None:
    """Raise `ArgumentError` unless a device or platform is the CPU, or None for the default."""
    if platform is None or (isinstance(platform, Device) and platform == CPU):
        return
    if not isinstance(platform, str) or platform not in (CPU.platform, str(CPU)):
        raise ArgumentError(f"{name}: there is no device {platform!r}; devices are: 'cpu'")


def devices(backend: str | None = None) -> list[Device]:
    """All devices of a platform, by default of `default_backend` (see `jax.devices`).

    There is one CPU, however many cores it has.

    Raises:
      ArgumentError: `backend` is no platform that there is.
      DeviceError: its driver is missing.
    """
    platform = find_device("devices", backend).platform
    return [CPU] if platform == "cpu" else platform_of(platform).devices()


def local_devices(
    process_index: int | None = None, backend: str | None = None, host_id: int | None = None
) -> list[Device]:
    """The devices of this process; arguments as for `jax.local_devices`.

    Args:
      process_index, host_id: None or 0, the only process.
      backend: the platform; None: that of `default_backend`.

    Returns:
      A list of `Device`.

    Raises:
      ArgumentError: there is no such process or platform.
      DeviceError: its driver is missing.
    """
    for number in (process_index, host_id):
        if number is not None and integer("local_devices: process_index", number) != 0:
            raise ArgumentError(f"local_devices: there is no process {number}, only process 0")
    return devices(backend)


def device_count(backend: str | None = None) -> int:
    """How many devices there are (see `jax.device_count`).

    An int; `backend` and errors are those of `devices`.
    """
    return len(devices(backend))


def local_device_count(backend: str | None = None) -> int:
    """How many devices this process has (see `jax.local_device_count`).

    An int; `backend` and errors are those of `devices`.
    """
    return len(local_devices(backend=backend))


def default_backend() -> str:
    """The platform that jitted functions run on: the CPU unless ``config.backend`` is "gpu".

    See `jax.default_backend`.

    Returns:
      "cpu" or "gpu".
    """
    return config.backend if config.backend in _factories else CPU.platform


_processes = 0, 1


def set_processes(index: int, count: int) -> None:
    """Say which process this one is, and of how many."""
    global _processes
    _processes = index, count


def process_count(backend: str | None = None) -> int:
    """How many processes take part (see `jax.process_count`).

    1, unless `funcdl.distributed.initialize` made this one part of a group.

    An int. `backend` has no effect but to be checked.

    Raises:
      ArgumentError: there is no such platform.
    """
    check_platform("process_count", backend)
    return _processes[1]


def process_index(backend: str | None = None) -> int:
    """The number of this process (see `jax.process_index`).

    An int. `backend` has no effect but to be checked.

    Raises:
      ArgumentError: there is no such platform.
    """
    check_platform("process_index", backend)
    return _processes[0]


def process_indices(backend: str | None = None) -> list[int]:
    """The numbers of all processes (see `jax.process_indices`).

    A list of ints. `backend` has no effect but to be checked.

    Raises:
      ArgumentError: there is no such platform.
    """
    return list(range(process_count(backend)))
