"""Functions of the C headers that are compiled once for all kernels.

The micro-kernels of products take a compiler as long as all else in a unit, Fourier transforms even
longer, and they are the same in all. A unit that begins with `LINKED` only declares them (FD_SHARED
in fd_types.h), and is linked with objects that define them, which the disk cache keeps. Texts for
people to read are whole without that line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from funcdl.kernels.cpu_c.isa import include_dir
from funcdl.runtime.toolchain import Unit

LINKED = "#define FD_LINKED 1\n"
# By the names of the functions, but for the element type.
_OBJECTS = {
    "gemm": "gemm",
    "gemm_ahead": "gemm",
    "pack": "gemm",
    "dots": "dots",
    "fft": "fft",
    "fft_task": "fft",
}
_CALL = re.compile(rf"\bfd_({'|'.join(_OBJECTS)})_([fiu]\d+)\b")
# fd_attention.h multiplies as well.
_ATTENTION = re.compile(r"\bfd_attention\w*_(f\d+)\b")


def shared_objects(texts: Sequence[str], flags: Sequence[str]) -> tuple[Unit, ...]:
    """The objects with the functions that these texts call.

    Args:
        flags: those of the unit with the texts.
    """
    text = "".join(texts)
    found = {(_OBJECTS[name], short) for name, short in _CALL.findall(text)}
    found |= {("gemm", short) for short in _ATTENTION.findall(text)}
    return tuple(object_unit(name, short, flags) for name, short in sorted(found))


def object_unit(name: str, short: str, flags: Sequence[str]) -> Unit:
    """One of the objects: "gemm", "dots" or "fft", for an element type such as "f32"."""
    header = "fd_gemm.h" if short.startswith("f") else "fd_gemm_int.h"
    if name == "fft":
        header = "fd_fft_tasks.h"
    define = f"#define FD_OBJECT_{name.upper()}_{short.upper()} 1\n"
    source = f'{LINKED}{define}#include "{header}"\n'
    return Unit(source, tuple(flags), f"{name}_{short}", (include_dir(),))
