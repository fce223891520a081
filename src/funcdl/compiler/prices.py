"""What memory traffic is worth in operations, to passes that choose between the two."""

from __future__ import annotations

# Additions that take as long as moving one byte to or from memory, measured on two cores that share
# 20 GB/s: an exponential (about 12) costs less than storing and loading its float32 result.
ADDITIONS_PER_BYTE = 3
