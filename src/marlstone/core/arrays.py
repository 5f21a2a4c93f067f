"""The one name for arrays of any back end."""

from typing import Any

Array = Any
"""A `jax.Array`, a tracer, or a `numpy.ndarray`: the same code serves devices and hosts, through the array namespace. Shapes and dtypes are
given by jaxtyping annotations, `Float[Array, "t n"]`, or in docstrings, `[t n]`."""
