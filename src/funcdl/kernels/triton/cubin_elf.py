"""What a cubin says of its kernel's registers and stack, read from its ELF sections.

Beside each kernel's code stands a section of attributes, of a format, a name, a size and a value
each (EIATTR, as `cuobjdump -elf` prints them).
"""

from __future__ import annotations

import struct

_FRAME_SIZE = 0x11
_REGISTERS = 0x2F
_VALUE_OF_ITS_OWN = 0x04  # the format of attributes with a size; others have two bytes of value


def resources(cubin: bytes) -> dict[str, int]:
    """``registers`` and ``stack_bytes`` of a thread, the largest of all functions in the file.

    Stack holds arrays that are indexed at run time, and registers that were spilled. Empty where
    the file has no such attributes.
    """
    if cubin[:5] != b"\x7fELF\x02":
        return {}
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + i * size) for i in range(count)]
    names = sections[names_at]
    found: dict[str, int] = {}
    for name_offset, _, _, _, offset, length in sections:
        start = names[4] + name_offset
        name = cubin[start : cubin.index(b"\0", start)]
        if name == b".nv.info":
            for key, value in _attributes(cubin[offset : offset + length]):
                found[key] = max(found.get(key, 0), value)
    return found


def _attributes(data: bytes) -> list[tuple[str, int]]:
    """The numbers that belong to functions: each value is a symbol and a number."""
    keys = {_FRAME_SIZE: "stack_bytes", _REGISTERS: "registers"}
    found = []
    at = 0
    while at + 4 <= len(data):
        form, kind, size = struct.unpack_from("<BBH", data, at)
        at += 4
        if form != _VALUE_OF_ITS_OWN:
            continue
        if kind in keys and size >= 8:
            found.append((keys[kind], struct.unpack_from("<II", data, at)[1]))
        at += size
    return found
