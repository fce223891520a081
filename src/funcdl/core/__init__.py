"""Arrays, types, traces and jaxprs: what everything else is built from."""
