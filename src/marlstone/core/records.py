"""Records: frozen dataclasses whose fields are arrays, known to JAX as pytrees.

Processes that only step a Python environment, or act in NumPy, never need a pytree, and importing JAX there would cost a second and a
hundred megabytes. So records become pytrees when JAX is imported: at once where it is there already, else as soon as somebody imports it.
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar, dataclass_transform

__all__ = ["record", "replace"]

T = TypeVar("T")
_waiting: list[type] = []


@dataclass_transform(frozen_default=True, kw_only_default=False)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree: every field is a child, so it passes through scan, vmap and checkpoints."""
    made = dataclass(frozen=True)(cls)
    _waiting.append(made)
    if "jax" in sys.modules:
        _register()
    return made


def _register() -> None:
    import jax

    while _waiting:
        jax.tree_util.register_dataclass(_waiting.pop())


class _WhenImported(MetaPathFinder):
    """Finds JAX as others do, and has records registered once it is loaded; found once, it is gone."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "jax":
            return None
        sys.meta_path.remove(self)
        if (spec := importlib.util.find_spec(name)) is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    """Another loader, after which waiting records are registered."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register()

    def __getattr__(self, name: str) -> Any:  # what tools ask of loaders: sources, resources
        return getattr(self.loader, name)


if "jax" not in sys.modules:
    sys.meta_path.insert(0, _WhenImported())
