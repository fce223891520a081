"""Functional deep learning: composable transforms of pure functions over immutable arrays."""

from __future__ import annotations

__version__ = "0.1.0"
