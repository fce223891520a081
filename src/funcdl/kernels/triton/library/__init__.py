"""Hand-written Triton kernels: what fusion of single operations cannot make.

Each module holds one kernel as a Python function that Triton could take as it is, with a docstring
that explains it, and beside it functions that instantiate it for shapes and tiles. Products,
convolutions, softmax, norms' forward passes and optimizer steps are not here: the renderer writes
the same kernels for them (see docs/gpu_kernels.md).
"""
