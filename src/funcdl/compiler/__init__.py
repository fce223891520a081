"""The compiler: from a jaxpr to a program of kernels, by named passes over immutable data."""
