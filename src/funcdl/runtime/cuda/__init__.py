"""CUDA devices through NVIDIA's driver interface: memory, copies, modules, launches and graphs."""
