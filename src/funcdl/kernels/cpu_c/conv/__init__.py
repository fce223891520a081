"""Kernels with a direct `Conv` as C: by windows, by groups of one feature, and their gradients."""
