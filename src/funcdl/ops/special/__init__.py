"""Special functions: those of error, gamma, beta and Bessel."""
