"""Triton as a compiler: kernels become `triton.jit` source, and that becomes cubins.

Importing this package never imports Triton; the functions that need it do.
"""
