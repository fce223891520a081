"""One generated C file as several, so that a compiler can work on each core.

The first part holds the entry point and declares the kernels of the others. A program's text, which
people read and caches know it by, stays one.
"""

from __future__ import annotations

import re

# Every part parses the headers (50 ms), which takes as long as one or two kernels.
KERNELS_PER_PART = 5

_KERNEL = re.compile(
    r"^/\* kernel .*?\*/\nstatic (?P<signature>void .*?\)) \{\n.*?^\}\n", re.MULTILINE | re.DOTALL
)
_FIRST, _OTHER = "#define FD_FIRST_PART\n", "#define FD_OTHER_PART\n"


def split_source(source: str, parts: int) -> tuple[str, ...]:
    """At most that many files that together are the program; none if one file is as quick."""
    kernels = list(_KERNEL.finditer(source))
    parts = min(parts, len(kernels) // KERNELS_PER_PART)
    if parts < 2:
        return ()
    prelude, tail = source[: kernels[0].start()], source[kernels[-1].end() :]
    if source != prelude + "\n".join(k[0] for k in kernels) + tail:
        return ()  # something stands between the kernels
    texts: list[list[str]] = [[] for _ in range(parts)]
    sizes = [0] * parts
    declared = []
    for kernel in sorted(kernels, key=lambda k: -len(k[0])):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(kernel[0])
        texts[smallest].append(kernel[0].replace("\nstatic void ", "\nvoid ", 1))
        declared.append(f"{kernel['signature']};\n")
    prototypes = "".join(declared)
    first = _FIRST + prelude + prototypes + "\n".join(texts[0]) + tail
    others = (_OTHER + prelude + prototypes + "\n".join(text) for text in texts[1:])
    return first, *others
