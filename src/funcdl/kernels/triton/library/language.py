"""Names that kernels are written with, for readers and checkers; nothing of it is ever called.

A kernel's text goes to Triton, where `tl` is its language. Importing this imports no Triton.
"""

from __future__ import annotations

from typing import Any

Pointer = Any
"""A parameter that points to a buffer."""

Constant = Any
"""A parameter whose value becomes part of the kernel's text."""

tl: Any = None
