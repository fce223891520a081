"""Toolchain, caches, memory and loading of compiled code. The runtime knows no IR."""
