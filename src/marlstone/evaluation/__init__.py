"""Questions asked of runs, a folder each: credit, robustness, paired comparisons, stability, and `select`, which asks them all."""
