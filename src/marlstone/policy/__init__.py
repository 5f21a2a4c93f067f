"""The frozen policy: description and weights, its forward in NumPy, acting on what an environment gives, save and load. No JAX here."""
