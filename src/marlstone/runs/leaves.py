"""Trees as named arrays: what a checkpoint stores of a pytree, and how a tree is rebuilt in the likeness of another.

A leaf's name is its path (`params.actor.0.head.w`). Typed PRNG keys are stored as their data and come back typed;
Python and NumPy numbers are stored as arrays without axes and come back as what they were. Nothing else is a leaf:
structure comes from the code, never from the file, so no file can run anything.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from marlstone.core.errors import UserError


@dataclass(frozen=True)
class Leaf:
    """One leaf as stored: `array` in host memory, `dtype` as the tree has it (`key<fry>` for keys), the key's `impl` ("" for others)."""

    array: np.ndarray
    dtype: str
    impl: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The leaf's shape; a key's data has one axis more, which the tree does not see."""
        return self.array.shape[:-1] if self.impl else self.array.shape


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _leaf(name: str, value: Any) -> Leaf:
    if _is_key(value):
        return Leaf(np.asarray(jax.random.key_data(value)), str(value.dtype), str(jax.random.key_impl(value)))
    if isinstance(value, bool | int | float | np.generic | np.ndarray | jax.Array):
        array = np.array(value, order="C")
        if array.dtype != object:
            return Leaf(array, str(array.dtype))
    raise UserError(
        f"state leaf {name!r} is a {type(value).__name__}: a checkpoint holds arrays and numbers only; put the rest in its meta"
    )


def named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their names, in the tree's order."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in flat]


def leaves(tree: Any) -> dict[str, Leaf]:
    """Every leaf of `tree` by name. Raises `UserError` for a leaf that is no array, or two of one name."""
    found: dict[str, Leaf] = {}
    for name, value in named(tree):
        if name in found:
            raise UserError(f"state has two leaves named {name!r}: rename a field or a dictionary key")
        found[name] = _leaf(name, value)
    return found


def mismatch(stored: Mapping[str, Leaf], like: Any) -> str | None:
    """The first way in which `stored` is not the state of `like`, or None where it fits."""
    wanted = dict(named(like))
    for name in wanted:
        if name not in stored:
            return f"it lacks {name!r}"
    for name in stored:
        if name not in wanted:
            return f"it holds {name!r}, which this configuration has no place for"
    for name, value in wanted.items():
        if (why := _unlike(stored[name], value)) is not None:
            return f"{name!r} {why}"
    return None


def _unlike(leaf: Leaf, value: Any) -> str | None:
    """Why `leaf` cannot stand where `value` stands (an array, a number, or a `ShapeDtypeStruct`)."""
    shape = tuple(np.shape(value)) if not hasattr(value, "shape") else tuple(value.shape)
    if leaf.shape != shape:
        return f"has shape {leaf.shape}, this configuration needs {shape}"
    dtype = str(value.dtype) if hasattr(value, "dtype") else str(np.asarray(value).dtype)
    if leaf.dtype != dtype:
        return f"is of type {leaf.dtype}, this configuration needs {dtype}"
    return None


def _rebuilt(leaf: Leaf, like: Any) -> Any:
    """The leaf as `like` has it, on the devices that `like` was put on."""
    if isinstance(like, bool | int | float):
        return type(like)(leaf.array.item())
    if isinstance(like, np.generic):
        return leaf.array[()]
    if isinstance(like, np.ndarray):
        return leaf.array.copy()
    value = jax.numpy.asarray(leaf.array)
    if leaf.impl:
        value = jax.random.wrap_key_data(value, impl=leaf.impl)
    placed = like.sharding if getattr(like, "committed", not isinstance(like, jax.Array)) else None
    return value if placed is None else jax.device_put(value, placed)


def rebuild(stored: Mapping[str, Leaf], like: Any) -> Any:
    """A tree of `like`'s structure and kinds of leaves, with the stored values. Call `mismatch` first."""
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), [_rebuilt(stored[n], v) for n, v in named(like)])


def fit(stored: Mapping[str, Leaf], like: Any) -> tuple[Any, list[str], list[str]]:
    """`like` with every stored leaf that fits by name, shape and type: `(tree, names taken, names kept from like)`.

    For a new run that starts from another's parameters under another credit method or learner.
    """
    values: list[Any] = []
    taken: list[str] = []
    kept: list[str] = []
    for name, value in named(like):
        fits = name in stored and _unlike(stored[name], value) is None
        (taken if fits else kept).append(name)
        values.append(_rebuilt(stored[name], value) if fits else value)
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), values), taken, kept


def parameters_sha256(tree: Any) -> str:
    """The SHA-256 of a tree: names, types, shapes and bytes of its leaves, in order. Equal only for bit-identical parameters."""
    digest = hashlib.sha256()
    for name, leaf in leaves(tree).items():
        digest.update(f"{name}|{leaf.dtype}|{leaf.array.shape}\n".encode())
        digest.update(leaf.array.tobytes())
    return digest.hexdigest()
