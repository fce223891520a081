"""Programs of kernels as C or as a table of calls, and what loads and runs them."""
