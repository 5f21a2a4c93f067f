"""From Gymnasium observation spaces to leaves: which numbers an agent sees, and where its mask stands.

`observation_parts` cuts an observation space into `ObservationPart`s, one per leaf. What it cannot express is refused by name, with the
remedy. Action spaces are in `envs.actuators`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core.types import Leaf

MASKS = ("action_mask", "legal_action_mask", "avail_actions", "available_actions", "legal_actions", "legal_moves")
"""Names under which environments give an agent's legal actions, in a Dict observation or in its info: first PettingZoo's and RLlib's.
The value has one 0 or 1 per action; `legal_actions` and `legal_moves` may also list the indices of the legal ones, as OpenSpiel does."""
LISTED = ("legal_actions", "legal_moves")
FAR = 10.0  # a number farther outside its Box than this many times the Box's width is a fault; declared bounds are often a little off
SMALLEST_IMAGE = 8  # pixels a side; smaller boards are flattened: a convolution has nothing to slide over


def masks_in(infos: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Legal actions that stand in infos by agent: the name under which, and the mask."""
    masks = {}
    for agent, info in infos.items():
        if info and isinstance(info, Mapping):
            for name in MASKS:
                if info.get(name) is not None:
                    masks[agent] = name, info[name]
                    break
    return masks


class UnsupportedSpace(ValueError):
    """A space that cannot become a leaf or an action; the message names agent, field, space and remedy."""

    def __init__(self, agent: str, field: str, space: Any, remedy: str) -> None:
        super().__init__(f"agent {agent!r}: {field} is {space}, which is not supported: {remedy}")


@dataclass(frozen=True)
class ObservationPart:
    """One leaf of one agent's observation, and how it is checked and written.

    Attributes:
      name: of the leaf.
      path: keys from the observation down to it.
      leaf: unpadded.
      shape: what the environment must return there.
      real: whether it may be fractional; if not, a float there is a wrong dtype.
      encode: from a checked array to the leaf's numbers (None: as they are).
      limits: the least and the greatest value that are no fault, and the bounds that others are clipped to (None: any number is fine).
    """

    name: str
    path: tuple[Any, ...]
    leaf: Leaf
    shape: tuple[int, ...]
    real: bool
    encode: Callable[[np.ndarray], np.ndarray] | None = None
    limits: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None


def _one_hots(sizes: tuple[int, ...], starts: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Whole numbers to concatenated one-hot vectors; a number outside its range becomes zeros."""
    tables = [np.arange(s, s + n) for n, s in zip(sizes, starts, strict=True)]

    def encode(x: np.ndarray) -> np.ndarray:
        return np.concatenate([(t == v) for t, v in zip(tables, x.reshape(-1), strict=True)])

    return encode


def _far(space: gs.Box) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Limits `FAR` widths beyond a Box's finite bounds. None where no bound is finite, or the dtype holds nothing beyond them."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.any() or space.dtype in (np.uint8, np.int8, bool):
        return None
    width = np.where(finite, np.where(high > low, high - low, np.maximum(np.abs(high), 1.0)), np.inf)
    least, most = np.where(finite, low - FAR * width, -np.inf), np.where(finite, high + FAR * width, np.inf)
    return least, most, np.where(finite, low, -np.inf), np.where(finite, high, np.inf)


def _counts(sizes: Any, starts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Limits of whole numbers of which each has `sizes` values from `starts` on."""
    low = np.asarray(starts)
    high = low + np.asarray(sizes) - 1
    return low, high, low, high


def _part(space: gs.Space, agent: str, path: tuple[Any, ...]) -> ObservationPart:
    name = "/".join(str(p) for p in path) or "obs"
    match space:
        case gs.Box():
            shape = tuple(int(s) for s in space.shape)
            real = np.issubdtype(space.dtype, np.floating)
            if len(shape) == 3 and min(shape[:2]) >= SMALLEST_IMAGE:
                kind = "uint8" if space.dtype == np.uint8 else "float32"
                return ObservationPart(name, path, Leaf("image", shape, kind), shape, real, None, _far(space))
            flat = None if len(shape) == 1 else (lambda x: x.reshape(-1))
            return ObservationPart(name, path, Leaf("vector", (int(np.prod(shape)),)), shape, real, flat, _far(space))
        case gs.Discrete():
            n, start = int(space.n), int(space.start)
            return ObservationPart(name, path, Leaf("vector", (n,)), (), False, _one_hots((n,), (start,)), _counts(n, start))
        case gs.MultiDiscrete():
            sizes = tuple(int(n) for n in space.nvec.reshape(-1))
            starts = tuple(int(s) for s in np.broadcast_to(space.start, space.nvec.shape).reshape(-1))
            limits = _counts(space.nvec, space.start)
            return ObservationPart(name, path, Leaf("vector", (sum(sizes),)), space.nvec.shape, False, _one_hots(sizes, starts), limits)
        case gs.MultiBinary():
            leaf, shape = Leaf("vector", (int(np.prod(space.shape)),)), tuple(space.shape)
            return ObservationPart(name, path, leaf, shape, False, lambda x: x.reshape(-1), _counts(2, 0))
    remedy = "give numbers instead, as a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these"
    raise UnsupportedSpace(agent, f"observation {name!r}", space, remedy)


def _numbers(space: gs.Space) -> int | None:
    """How many numbers a space of fixed size holds, nested or not; None for others."""
    if isinstance(space, gs.Dict | gs.Tuple):
        inner = [_numbers(s) for s in (space.spaces.values() if isinstance(space, gs.Dict) else space.spaces)]
        known = [n for n in inner if n is not None]
        return sum(known) if len(known) == len(inner) else None
    return None if space.shape is None else int(np.prod(space.shape))


def observation_parts(space: gs.Space | None, agent: str, actions: int = 0) -> tuple[tuple[ObservationPart, ...], tuple[Any, ...] | None]:
    """The parts of an observation space, in a fixed order, and where in it the legal actions stand (None: not in it).

    `actions` is how many numbers a mask has. An entry of a Dict, however deep, is the mask if it is called `action_mask`, or by another
    name of `MASKS` and has that many numbers. A Dict with a mask and one other entry called `observation` is that entry. Raises
    `UnsupportedSpace`.
    """
    if not isinstance(space, gs.Space):
        raise UnsupportedSpace(agent, "observation space", space, "declare a Gymnasium space for every agent")
    parts: list[ObservationPart] = []
    masks: list[tuple[Any, ...]] = []

    def is_mask(key: Any, inner: gs.Space) -> bool:
        return key == MASKS[0] or (key in MASKS and _numbers(inner) == actions)

    def walk(space: gs.Space, path: tuple[Any, ...], name: tuple[Any, ...]) -> None:
        if isinstance(space, gs.Dict):
            for key, inner in space.spaces.items():
                if is_mask(key, inner):
                    masks.append((*path, key))
                else:
                    walk(inner, (*path, key), (*name, key))
        elif isinstance(space, gs.Tuple):
            for i, inner in enumerate(space.spaces):
                walk(inner, (*path, i), (*name, i))
        else:
            part = _part(space, agent, name)
            if np.prod(part.leaf.shape) > 0:
                parts.append(replace(part, path=path))

    entries = dict(space.spaces) if isinstance(space, gs.Dict) else {}
    others = [k for k, inner in entries.items() if not is_mask(k, inner)]
    if len(entries) > 1 and others == ["observation"]:
        masks += [(k,) for k in entries if k != "observation"]
        walk(entries["observation"], ("observation",), ())
    else:
        walk(space, (), ())
    if not parts:
        raise UnsupportedSpace(agent, "observation space", space, "an agent needs at least one number to see")
    return tuple(parts), min(masks, key=lambda path: (len(path), MASKS.index(path[-1])), default=None)
