"""Back ends: kernels become text in a language with a compiler of its own."""
