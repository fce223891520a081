"""Loops over small kernels as one C function each, so that a C compiler sees loop and kernels."""
