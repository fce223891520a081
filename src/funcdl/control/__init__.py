"""Control flow as primitives whose bodies are programs."""

from __future__ import annotations

from funcdl.control import scan_reverse as scan_reverse  # registers its rules
from funcdl.control.associative_scan import associative_scan
from funcdl.control.cond import cond, switch
from funcdl.control.map import map
from funcdl.control.scan import scan
from funcdl.control.while_loop import fori_loop, while_loop

__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "switch", "while_loop"]
