"""The back end "cpu": kernels in C with OpenMP and their schedules, compiled at run time."""
