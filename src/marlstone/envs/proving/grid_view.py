"""What an agent on a grid sees of the cells around it, written without scatters: IC3Net's two games observe by it."""

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.types import Array


def windows(grid: np.ndarray, vision: int, outside: int) -> np.ndarray:
    """Classes of the k = (2 vision + 1)^2 cells around every cell, row by row.

    Shapes: `grid` `[size size]` -> `[size^2 k]`; cells beyond the grid have the class `outside`.
    """
    padded = np.pad(grid, vision, constant_values=outside)
    side = 2 * vision + 1
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, (side, side)).reshape(grid.size, side * side))


def counts(at: Array, others: Array, size: int, vision: int) -> Array:
    """How many of `others` are on each of the cells around every agent, in the order of `windows`.

    Shapes: `at` `[n]` and `others` `[m]` are cells of a grid of `size` a side, row by row -> `[n k]`.
    """
    around, side = np.arange(-vision, vision + 1), 2 * vision + 1
    y = (at // size)[:, None] + np.repeat(around, side)
    x = (at % size)[:, None] + np.tile(around, side)
    return jnp.sum((y[..., None] == others // size) & (x[..., None] == others % size), axis=-1, dtype=jnp.float32)


def within(at: Array, size: int, reach: int, there: Array) -> Array:
    """Who is within reach of whom: at most `reach` rows and columns apart, both there, nobody of itself; the leaf that a channel reads.

    Shapes: `at` and `there` `[n]` -> `[n n]`, 1 or 0.
    """
    rows, columns = at // size, at % size
    near = (jnp.abs(rows[:, None] - rows) <= reach) & (jnp.abs(columns[:, None] - columns) <= reach)
    return (near & there[:, None] & there & ~np.eye(at.shape[0], dtype=bool)).astype(jnp.float32)


def look(near: np.ndarray, at: Array, classes: int, counted: dict[int, Array]) -> Array:
    """One-hot classes of the cells around every agent, with a count added to some: what agents observe, flat.

    Args:
      near: `windows`, `[size^2 k]`.
      at: the agents' cells, `[n]`.
      classes: numbers that describe a cell.
      counted: by class, `counts`, `[n k]`.

    Returns:
      `[n k * classes]`.
    """
    seen = jax.nn.one_hot(jnp.asarray(near)[at], classes)
    for kind, many in counted.items():
        seen = seen + many[..., None] * (np.arange(classes) == kind)
    return seen.reshape(at.shape[0], -1)
