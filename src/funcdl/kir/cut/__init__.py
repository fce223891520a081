"""Kernels cut into several: products with long sums, and long rows, in parts side by side."""
