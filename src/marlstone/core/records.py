"""Records: frozen dataclasses whose fields are arrays, known to JAX as pytrees.

Processes that only step a Python environment hold NumPy rows and never need a pytree; importing JAX there would cost a
second and a hundred megabytes each. They set `records.PYTREES = False` before they import anything else of the package.
"""

from dataclasses import dataclass, replace
from typing import TypeVar, dataclass_transform

__all__ = ["record", "replace"]

T = TypeVar("T")
PYTREES = True


@dataclass_transform(frozen_default=True, kw_only_default=False)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree: every field is a child, so it passes through scan, vmap and checkpoints."""
    made = dataclass(frozen=True)(cls)
    if not PYTREES:
        return made
    import jax

    return jax.tree_util.register_dataclass(made)
