"""The rules of the kernel IR, and the checker that applies them to a kernel."""
