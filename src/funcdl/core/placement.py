"""Where arrays live: moving them to a device, waiting for them, and finding them."""

from __future__ import annotations

import gc
from typing import Any

from funcdl.core import tree
from funcdl.core.array import Array, as_array
from funcdl.core.devices import find_device
from funcdl.core.trace import Tracer
from funcdl.errors import LeafTypeError


def device_put(
    x: Any,
    device: Any = None,
    *,
    src: Any = None,
    donate: bool = False,
    may_alias: bool | None = None,
) -> Any:
    """The leaves of a pytree as arrays on a device (see `jax.device_put`).

    Args:
      x: a pytree of arrays, NumPy arrays and scalars.
      device: one of `devices`, ``"cpu"``, ``"gpu"``, ``"gpu:1"``, or None: the default for what is
        no array yet, and for an array where it is.
      src: where they are; it has no effect.
      donate: whether `x` may be given up; NumPy arrays are copied in any case.
      may_alias: whether the result may share memory with `x`; arrays are immutable, so they do.

    Raises:
      ArgumentError: there is no such device.
      DeviceError: the device's driver is missing.
      DeviceMemoryError: the device has not enough memory.
      LeafTypeError: a leaf is no array and no scalar.
    """
    target = find_device("device_put", device)

    def put(path: tuple[Any, ...], leaf: Any) -> Any:
        try:
            array = as_array(leaf)
        except LeafTypeError as error:
            raise LeafTypeError(f"device_put: x{tree.format_path(path)}: {error.reason}") from None
        stays = isinstance(array, Tracer) or (array is leaf and device is None)
        return array if stays else array.to_device(target)

    return tree.map_with_path(put, x)


def device_get(x: Any) -> Any:
    """The leaves of a pytree as NumPy arrays, read-only and without a copy where possible.

    See `jax.device_get`.

    Raises:
      LeafTypeError: a leaf is no array or scalar.
      TracerArrayError: a leaf is traced.
    """
    return tree.map(lambda leaf: as_array(leaf).__array__(), x)


def block_until_ready(x: Any) -> Any:
    """Wait until every array in a pytree is computed; returns it (see `jax.block_until_ready`)."""
    if isinstance(x, Array):  # so often the case that it need not take the 2 µs of a pytree
        return x.block_until_ready()

    def wait(leaf: Any) -> Any:
        ready = getattr(leaf, "block_until_ready", None)
        return leaf if ready is None or isinstance(leaf, Tracer) else ready()

    return tree.map(wait, x)


def copy_to_host_async(x: Any) -> Any:
    """Start to copy every array of a pytree to the host, where all are; returns the pytree.

    Shapes and dtypes stay. See `jax.copy_to_host_async`.
    """
    return x


def live_arrays(platform: str | None = None) -> list[Array]:
    """All arrays that have not been deleted, found among the objects of the garbage collector.

    Constants of traced programs are among them.

    See `jax.live_arrays`.

    Args:
      platform: ``"cpu"``, ``"gpu"``, or None for arrays on any.

    Raises:
      ArgumentError: there is no such platform.
      DeviceError: its driver is missing.
    """
    wanted = None if platform is None else find_device("live_arrays", platform).platform
    return [
        x
        for x in gc.get_objects()
        if type(x) is Array and not x.is_deleted() and wanted in (None, x.platform)
    ]
