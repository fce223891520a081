"""What is timed: each case builds one function for each framework, on the same data."""

from __future__ import annotations

from benchmarks.cases import convolution, kernels, training
from benchmarks.frameworks import Case

CASES: dict[str, Case] = kernels.CASES | convolution.CASES | training.CASES
