"""From Gymnasium spaces to leaves and actions: which numbers an agent sees, and how its choice becomes the environment's.

`perceive` cuts an observation space into `Part`s, one per leaf; `actuate` turns an action space into an `Actuator`. What
neither can express is refused by name, with the remedy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core import distributions as dist
from marlstone.core.types import Array, Leaf

MASK = "action_mask"  # PettingZoo's convention: legal actions inside a Dict observation, or in info
SMALLEST_IMAGE = 8  # pixels a side; smaller boards are flattened: a convolution has nothing to slide over


class UnsupportedSpace(ValueError):
    """A space that cannot become a leaf or an action; the message names agent, field, space and remedy."""

    def __init__(self, agent: str, field: str, space: Any, remedy: str) -> None:
        super().__init__(f"agent {agent!r}: {field} is {space}, which is not supported: {remedy}")


@dataclass(frozen=True)
class Part:
    """One leaf of one agent's observation.

    Fields: `name`; `path`, keys from the observation down to it; `leaf`, unpadded; `shape`, what the environment must
    return there; `real`, whether it may be fractional (else a float there is a wrong dtype); `encode`, from a checked
    array to the leaf's numbers (None: as they are).
    """

    name: str
    path: tuple[Any, ...]
    leaf: Leaf
    shape: tuple[int, ...]
    real: bool
    encode: Callable[[np.ndarray], np.ndarray] | None = None


def _one_hots(sizes: tuple[int, ...], starts: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Whole numbers to concatenated one-hot vectors; a number outside its range says nothing (zeros)."""
    tables = [np.arange(s, s + n) for n, s in zip(sizes, starts, strict=True)]

    def encode(x: np.ndarray) -> np.ndarray:
        return np.concatenate([(t == v) for t, v in zip(tables, x.reshape(-1), strict=True)])

    return encode


def _part(space: gs.Space, agent: str, path: tuple[Any, ...]) -> Part:
    name = "/".join(str(p) for p in path) or "obs"
    match space:
        case gs.Box():
            shape = tuple(int(s) for s in space.shape)
            real = np.issubdtype(space.dtype, np.floating)
            if len(shape) == 3 and min(shape[:2]) >= SMALLEST_IMAGE:
                kind = "uint8" if space.dtype == np.uint8 else "float32"
                return Part(name, path, Leaf("image", shape, kind), shape, real)
            flat = None if len(shape) == 1 else (lambda x: x.reshape(-1))
            return Part(name, path, Leaf("vector", (int(np.prod(shape)),)), shape, real, flat)
        case gs.Discrete():
            n, start = int(space.n), int(space.start)
            return Part(name, path, Leaf("vector", (n,)), (), False, _one_hots((n,), (start,)))
        case gs.MultiDiscrete():
            sizes = tuple(int(n) for n in space.nvec.reshape(-1))
            starts = tuple(int(s) for s in np.broadcast_to(space.start, space.nvec.shape).reshape(-1))
            return Part(name, path, Leaf("vector", (sum(sizes),)), space.nvec.shape, False, _one_hots(sizes, starts))
        case gs.MultiBinary():
            return Part(name, path, Leaf("vector", (int(np.prod(space.shape)),)), tuple(space.shape), False, lambda x: x.reshape(-1))
    remedy = "give numbers instead, as a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these"
    raise UnsupportedSpace(agent, f"observation {name!r}", space, remedy)


def perceive(space: gs.Space | None, agent: str) -> tuple[tuple[Part, ...], bool]:
    """The parts of an observation space, in a fixed order, and whether it holds an `action_mask` beside them.

    A Dict with an `action_mask` and one other entry called `observation` is that entry. Raises `UnsupportedSpace`.
    """
    if not isinstance(space, gs.Space):
        raise UnsupportedSpace(agent, "observation space", space, "declare a Gymnasium space for every agent")
    entries = set(space.spaces) if isinstance(space, gs.Dict) else set()
    masked = MASK in entries
    parts: list[Part] = []

    def walk(space: gs.Space, path: tuple[Any, ...], name: tuple[Any, ...]) -> None:
        if isinstance(space, gs.Dict):
            for key, inner in space.spaces.items():
                if not (key == MASK and not path):
                    walk(inner, (*path, key), (*name, key))
        elif isinstance(space, gs.Tuple):
            for i, inner in enumerate(space.spaces):
                walk(inner, (*path, i), (*name, i))
        else:
            part = _part(space, agent, name)
            if np.prod(part.leaf.shape) > 0:
                parts.append(Part(part.name, path, part.leaf, part.shape, part.real, part.encode))

    if isinstance(space, gs.Dict) and entries == {MASK, "observation"}:
        walk(space["observation"], ("observation",), ())
    else:
        walk(space, (), ())
    if not parts:
        raise UnsupportedSpace(agent, "observation space", space, "an agent needs at least one number to see")
    return tuple(parts), masked


@dataclass(frozen=True)
class Actuator:
    """One agent's action space.

    Fields: `kind` and `sizes` (options per choice, or numbers of a Box); `act`, from this agent's row of the group's
    emitted action to what the environment takes.
    """

    kind: str
    sizes: tuple[int, ...]
    act: Callable[[Array], Any]

    @property
    def signature(self) -> tuple[Any, ...]:
        """What must agree within a group; the rest is padded."""
        return self.kind, len(self.sizes) if self.kind == "MultiDiscrete" else 1

    def legal(self, padded: tuple[int, ...], mask: Any = None) -> np.ndarray:
        """`[a]` booleans over the padded action space; `mask` is the environment's, flat or one per choice.

        Raises ValueError when the mask has another length than the action space.
        """
        out = np.zeros(sum(padded), bool)
        if mask is not None:
            mask = np.concatenate([np.asarray(m).reshape(-1) for m in mask]) if isinstance(mask, tuple | list) else np.asarray(mask)
            mask = mask.reshape(-1)
            if mask.shape[0] != sum(self.sizes):
                raise ValueError(f"action mask of {mask.shape[0]} entries for {sum(self.sizes)} actions")
            mask = mask.astype(bool)
        at = read = 0
        for size, room in zip(self.sizes, padded, strict=True):
            out[at : at + size] = True if mask is None else mask[read : read + size]
            at, read = at + room, read + size
        return out


def actuate(space: gs.Space | None, agent: str) -> Actuator:
    """The actuator of an action space. Raises `UnsupportedSpace`, for Boxes without finite bounds too."""
    match space:
        case gs.Discrete():
            start = int(space.start)
            return Actuator("Discrete", (int(space.n),), (lambda a: a + start) if start else (lambda a: a))
        case gs.MultiDiscrete():
            starts, shape, dtype = np.asarray(space.start), space.nvec.shape, space.dtype
            sizes = tuple(int(n) for n in space.nvec.reshape(-1))
            return Actuator("MultiDiscrete", sizes, lambda a: (np.asarray(a).reshape(shape) + starts).astype(dtype))
        case gs.MultiBinary():
            shape = tuple(space.shape)
            return Actuator("MultiDiscrete", (2,) * int(np.prod(shape)), lambda a: np.asarray(a, np.int8).reshape(shape))
        case gs.Box():
            if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
                raise UnsupportedSpace(agent, "action space", space, "give it finite bounds, since actions are scaled to them")
            if not np.issubdtype(space.dtype, np.floating):
                raise UnsupportedSpace(agent, "action space", space, "a Box of whole numbers is a MultiDiscrete: declare it so")
            low, half = space.low, (space.high.astype(np.float64) - space.low) / 2
            size, shape, dtype, high = int(np.prod(space.shape)), space.shape, space.dtype, space.high
            if size == 0:
                raise UnsupportedSpace(agent, "action space", space, "an action needs at least one number")

            def scale(a: Array) -> np.ndarray:
                return np.clip(low + (np.asarray(a)[:size].reshape(shape) + 1) * half, low, high).astype(dtype)

            return Actuator("Box", (size,), scale)
    remedy = "give a Discrete, MultiDiscrete, MultiBinary or bounded Box; a Tuple or Dict of choices is a MultiDiscrete"
    raise UnsupportedSpace(agent, "action space", space, remedy)


def padded_space(kind: str, sizes: tuple[int, ...]) -> dist.ActionSpace:
    """The package's action space for a group whose largest sizes are `sizes`."""
    if kind == "Discrete":
        return dist.Discrete(sizes[0])
    return dist.MultiDiscrete(sizes) if kind == "MultiDiscrete" else dist.Box(sizes[0])
