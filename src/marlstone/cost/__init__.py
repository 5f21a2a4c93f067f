"""What counted quantities cost, who may spend how much, and retries of calls: pure Python, NumPy and SciPy, no JAX."""
