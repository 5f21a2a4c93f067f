"""How parameters are made: the loop of a run, and its backends, fused for JAX environments and host for all others."""
