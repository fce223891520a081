"""Programs to programs of the same meaning, simpler or quicker: the passes over jaxprs."""
