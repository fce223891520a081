"""The C back end: kernels become C with OpenMP pragmas, for gcc or clang."""
