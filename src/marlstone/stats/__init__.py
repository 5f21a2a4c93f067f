"""Statistics over recorded returns: intervals, families of comparisons, confidence sequences. NumPy and SciPy alone."""
