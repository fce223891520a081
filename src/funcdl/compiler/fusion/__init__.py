"""Which equations become one kernel: fusion groups, and what is computed again in each."""
