"""Trees of arrays without JAX: records, dictionaries, tuples and lists, as parameters are kept."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any


def map_arrays(f: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `f(array)` in place of each array: what `jax.tree.map` does, in processes that never import JAX."""
    if tree is None:
        return None
    if is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(*(map_arrays(f, getattr(tree, x.name)) for x in fields(tree)))
    if isinstance(tree, dict):
        return {k: map_arrays(f, v) for k, v in tree.items()}
    return type(tree)(map_arrays(f, x) for x in tree) if isinstance(tree, tuple | list) else f(tree)
