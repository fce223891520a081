"""Primitives that slide windows over an array: convolution, pooling and their derivatives."""
