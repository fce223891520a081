"""Control flow as primitives whose bodies are programs."""

from __future__ import annotations

from funcdl.control import attention as attention  # registers its rules
from funcdl.control import scan_reverse as scan_reverse  # registers its rules
from funcdl.control.associative_scan import associative_scan
from funcdl.control.composite import composite
from funcdl.control.cond import cond, switch
from funcdl.control.linear_solve import custom_linear_solve
from funcdl.control.map import map
from funcdl.control.root import custom_root
from funcdl.control.scan import scan
from funcdl.control.while_loop import fori_loop, while_loop

__all__ = [
    "associative_scan",
    "composite",
    "cond",
    "custom_linear_solve",
    "custom_root",
    "fori_loop",
    "map",
    "scan",
    "switch",
    "while_loop",
]
