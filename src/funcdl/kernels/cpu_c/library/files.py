"""A library as a folder: C, the headers that it includes, its constants, a Makefile.

The Makefile (library.mk) repeats the flags of `isa`: the same C, compiled alike, has the same bits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.cpu_c.isa import COMMON_FLAGS, ISAS, host_isa, include_dir
from funcdl.kernels.cpu_c.library.interface import Library, NDArray
from funcdl.kernels.cpu_c.library.render import (
    render_example,
    render_header,
    render_source,
    render_threads,
)
from funcdl.runtime.thread_pool import SOURCE as THREAD_POOL

# What is exported, a list for the linker says.
_LEFT_OUT = ("-fvisibility=hidden", "-pipe")
_INCLUDE = re.compile(r'^#include "(\w+\.h)"', re.MULTILINE)


def library_files(library: Library) -> dict[str, str | bytes]:
    """The files of a library, by their paths in its folder."""
    name = library.name
    source = render_source(library)
    files: dict[str, str | bytes] = {
        f"{name}.h": render_header(library),
        f"{name}.c": source,
        f"{name}_threads.c": render_threads(library),
        f"{name}_main.c": render_example(library),
        "thread_pool.c": THREAD_POOL.read_text(),
        "Makefile": _makefile(library),
    }
    for header in _headers(source):
        files[f"include/{header}"] = (include_dir() / header).read_text()
    if library.data:
        arrays = {symbol: _npy(value) for symbol, value in library.data.items()}
        files |= {f"constants/{symbol}.npy": data for symbol, (data, _) in arrays.items()}
        offsets = {symbol: offset for symbol, (_, offset) in arrays.items()}
        files[f"{name}_constants.S"] = _assembly(library, offsets)
    return files


def write_files(folder: Path, files: dict[str, str | bytes]) -> None:
    """Write them, in place of what has their names.

    Raises:
        OSError: something cannot be written.
    """
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def _headers(source: str) -> list[str]:
    """The headers of the package that a text includes, and those that they include."""
    found: dict[str, None] = {}

    def visit(names: Iterable[str]) -> None:
        for name in names:
            path = include_dir() / name
            if name not in found and path.is_file():
                found[name] = None
                visit(_INCLUDE.findall(path.read_text()))

    visit(_INCLUDE.findall(source))
    return sorted(found)


def _npy(value: NDArray) -> tuple[bytes, int]:
    """An array as a file of NumPy's, and where in it the elements begin.

    That is a multiple of 64. Half precision is kept as its bits, for NumPy does not name bfloat16.
    """
    if value.dtype in dtypes.HALF:
        value = value.view(np.uint16)
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(value).reshape(value.shape), allow_pickle=False)
    return file.getvalue(), file.tell() - value.nbytes


def _assembly(library: Library, offsets: dict[str, int]) -> str:
    lines = [
        "/* The constants: the elements of NumPy's files, as they are, in the read-only data. */",
        '  .section .rodata, "a"',
    ]
    for symbol, value in library.data.items():
        shape = ",".join(map(str, value.shape))
        lines += [
            "",
            f"/* {dtypes.short_name(value.dtype)}[{shape}] */",
            "  .balign 64",
            f"  .globl {symbol}",
            f"  .hidden {symbol}",
            f"{symbol}:",
            f'  .incbin "constants/{symbol}.npy", {offsets[symbol]}',
        ]
        if value.nbytes == 0:
            lines[-1] = "  .byte 0"
    # Without it, linkers make the stack executable.
    return "\n".join([*lines, "", '  .section .note.GNU-stack, "", %progbits', ""])


def _makefile(library: Library) -> str:
    flags = "\n".join(f"FLAGS_{isa.name} = {' '.join(isa.flags)}".rstrip() for isa in ISAS.values())
    common = " ".join(flag for flag in COMMON_FLAGS if flag not in _LEFT_OUT)
    constants = f" {library.name}_constants.o" if library.data else ""
    values = {
        "name": library.name,
        "common": common,
        "isa": host_isa().name,
        "flags": flags,
        "constants": constants,
    }
    template = Path(__file__).with_name("library.mk").read_text()
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], template)
