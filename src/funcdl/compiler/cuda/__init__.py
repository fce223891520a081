"""The back end "gpu": kernels in Triton, their schedules and knobs, launched through CUDA."""
