"""What counted quantities cost, and who may spend how much: pure Python, NumPy and SciPy, no JAX. Knows only `core` and `stats`."""
