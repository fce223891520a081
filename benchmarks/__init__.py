"""Benchmarks: side by side with peers, results checked before anything is timed."""
