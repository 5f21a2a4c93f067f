"""Actors apart from the learner: in processes, and on machines, that hold no JAX."""
