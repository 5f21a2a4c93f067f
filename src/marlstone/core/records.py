"""Records: frozen dataclasses whose fields are arrays, known to JAX as pytrees."""

from dataclasses import dataclass, replace
from typing import TypeVar, dataclass_transform

import jax

__all__ = ["record", "replace"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=False)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree: every field is a child, so it passes through scan, vmap and checkpoints."""
    return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls))
