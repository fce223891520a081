"""The kernel IR: data, builder, checker, printer, interpreter, and passes over single kernels."""
