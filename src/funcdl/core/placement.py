"""Where arrays live: moving them to a device, and waiting for them."""

from __future__ import annotations

from typing import Any

from funcdl.core import tree
from funcdl.core.array import as_array
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, LeafTypeError


def device_put(x: Any, device: str | None = None) -> Any:
    """The leaves of a pytree as arrays on a device (see `jax.device_put`).

    Args:
      x: a pytree of arrays, NumPy arrays and scalars.
      device: ``"cpu"``, or None for the default, which is the CPU.

    Raises:
      ArgumentError: there is no such device.
      LeafTypeError: a leaf is no array and no scalar.
    """
    if device not in (None, "cpu"):
        raise ArgumentError(f"device_put: there is no device {device!r}; devices are: 'cpu'")

    def put(path: tuple[Any, ...], leaf: Any) -> Any:
        try:
            return as_array(leaf)
        except LeafTypeError as error:
            raise LeafTypeError(f"device_put: x{tree.format_path(path)}: {error}") from None

    return tree.map_with_path(put, x)


def device_get(x: Any) -> Any:
    """The leaves of a pytree as NumPy arrays, read-only and without a copy where possible."""
    return tree.map(lambda leaf: as_array(leaf).__array__(), x)


def block_until_ready(x: Any) -> Any:
    """Wait until every array in a pytree is computed; returns it (see `jax.block_until_ready`)."""

    def wait(leaf: Any) -> Any:
        ready = getattr(leaf, "block_until_ready", None)
        return leaf if ready is None or isinstance(leaf, Tracer) else ready()

    return tree.map(wait, x)
