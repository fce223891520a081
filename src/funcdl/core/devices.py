"""The devices there are: one, the CPU. Names and meanings follow `jax.devices` and its kin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from funcdl.errors import ArgumentError


@dataclass(frozen=True)
class Device:
    """Where arrays live.

    Attributes:
      platform: ``"cpu"``.
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
        return None if stats is None else stats()

    def __str__(self) -> str:
        return f"{self.platform}:{self.id}"

    def __repr__(self) -> str:
        return f"Device({str(self)!r})"


CPU = Device()

_memory_stats: dict[str, Callable[[], dict[str, int]]] = {}


def register_memory_stats(platform: str, stats: Callable[[], dict[str, int]]) -> None:
    """Say what `Device.memory_stats` returns for a platform."""
    _memory_stats[platform] = stats


def check_platform(name: str, platform: Any) -> None:
    """Raise `ArgumentError` unless a device or platform is the CPU, or None for the default."""
    if platform is None or platform == CPU:
        return
    if not isinstance(platform, str) or platform not in (CPU.platform, str(CPU)):
        raise ArgumentError(f"{name}: there is no device {platform!r}; devices are: 'cpu'")


def devices(backend: str | None = None) -> list[Device]:
    """All devices of a platform: one CPU, however many cores it has.

    Raises:
      ArgumentError: `backend` is no platform that there is.
    """
    check_platform("devices", backend)
    return [CPU]


def local_devices(
    process_index: int | None = None, backend: str | None = None, host_id: int | None = None
) -> list[Device]:
    """The devices of this process; arguments as for `jax.local_devices`.

    Raises:
      ArgumentError: there is no such process or platform.
    """
    for number in (process_index, host_id):
        if number not in (None, 0):
            raise ArgumentError(f"local_devices: there is no process {number}, only process 0")
    return devices(backend)


def device_count(backend: str | None = None) -> int:
    """How many devices there are."""
    return len(devices(backend))


def local_device_count(backend: str | None = None) -> int:
    """How many devices this process has."""
    return len(local_devices(backend=backend))


def default_backend() -> str:
    """The platform that arrays are made on."""
    return CPU.platform


def process_count(backend: str | None = None) -> int:
    """How many processes take part: this one alone."""
    check_platform("process_count", backend)
    return 1


def process_index(backend: str | None = None) -> int:
    """The number of this process."""
    check_platform("process_index", backend)
    return 0


def process_indices(backend: str | None = None) -> list[int]:
    """The numbers of all processes."""
    return list(range(process_count(backend)))
