"""A program as a C library for programs without Python."""
