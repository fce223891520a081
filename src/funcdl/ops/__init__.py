"""Every primitive, once, with all of its rules."""
