"""From Gymnasium spaces to leaves and actions: which numbers an agent sees, and how its choice becomes the environment's.

`observation_parts` cuts an observation space into `ObservationPart`s, one per leaf; `make_actuator` turns an action space into an
`Actuator`. What neither can express is refused by name, with the remedy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core import distributions as dist
from marlstone.core.types import Array, Leaf

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
        return key == MASKS[0] or (key in MASKS and inner.shape is not None and int(np.prod(inner.shape)) == actions)

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


@dataclass(frozen=True)
class Actuator:
    """One agent's action space, and how a choice becomes the environment's action.

    Attributes:
      kind: `Discrete`, `MultiDiscrete` or `Box`.
      sizes: options per choice, or numbers of a Box.
      act: from this agent's entry of the group's emitted action to what the environment takes: what the space's own `contains` accepts, of
        the type its `sample` gives.
    """

    kind: str
    sizes: tuple[int, ...]
    act: Callable[[Array], Any]

    @property
    def signature(self) -> tuple[Any, ...]:
        """What must agree within a group; the rest is padded."""
        return self.kind, len(self.sizes) if self.kind == "MultiDiscrete" else 1

    def legal(self, padded: tuple[int, ...], mask: Any = None, listed: bool = False) -> tuple[np.ndarray, bool]:
        """`[a]` booleans over the padded action space, and whether there is anything to choose; `mask` is the environment's, flat or one
        per choice. Where a choice has no legal option, its default, option 0, is the only one. `listed`: whole numbers may be the indices
        of what is legal.

        Raises ValueError when the mask has another length than the action space.
        """
        out = np.zeros(sum(padded), bool)
        if mask is not None:
            mask = (
                np.concatenate([np.asarray(m).reshape(-1) for m in mask]) if isinstance(mask, tuple | list) and mask else np.asarray(mask)
            )
            mask, total = mask.reshape(-1), sum(self.sizes)
            if listed and mask.dtype.kind in "iuf" and not (mask.size == total and np.isin(mask, (0, 1)).all()):
                indices, mask = mask, np.zeros(total, bool)
                if indices.size and not (indices.min() >= 0 and indices.max() < total):
                    raise ValueError(f"legal actions {indices.tolist()} of {total} actions")
                mask[indices.astype(int)] = True
            if mask.shape[0] != total or mask.dtype.kind not in "biuf":
                raise ValueError(f"action mask of {mask.shape[0]} entries, dtype {mask.dtype}, for {total} actions")
            mask = mask.astype(bool)
        at = read = free = 0
        for size, room in zip(self.sizes, padded, strict=True):
            allowed = np.ones(size, bool) if mask is None else mask[read : read + size]
            if allowed.any():
                out[at : at + size] = allowed
                free += 1
            else:
                out[at] = True
            at, read = at + room, read + size
        return out, free > 0


def make_actuator(space: gs.Space | None, agent: str) -> Actuator:
    """The actuator of an action space. Raises `UnsupportedSpace`, for Boxes without finite bounds too."""
    match space:
        case gs.Discrete():
            start = int(space.start)
            return Actuator("Discrete", (int(space.n),), (lambda a: int(a) + start) if start else int)
        case gs.MultiDiscrete():
            starts, shape, dtype = np.asarray(space.start), space.nvec.shape, space.dtype
            sizes = tuple(int(n) for n in space.nvec.reshape(-1))
            return Actuator("MultiDiscrete", sizes, lambda a: (np.asarray(a)[: len(sizes)].reshape(shape) + starts).astype(dtype))
        case gs.MultiBinary():
            shape, n = tuple(space.shape), int(np.prod(space.shape))
            return Actuator("MultiDiscrete", (2,) * n, lambda a: np.asarray(a, np.int8)[:n].reshape(shape))
        case gs.Box():
            if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
                raise UnsupportedSpace(agent, "action space", space, "give it finite bounds, since actions are scaled to them")
            if not np.issubdtype(space.dtype, np.floating):
                raise UnsupportedSpace(agent, "action space", space, "a Box of whole numbers is a MultiDiscrete: declare it so")
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            half = (high - low) / 2
            size, shape, dtype = int(np.prod(space.shape)), space.shape, space.dtype
            if size == 0:
                raise UnsupportedSpace(agent, "action space", space, "an action needs at least one number")

            def scale(a: Array) -> np.ndarray:
                return np.asarray(np.clip(low + (np.asarray(a)[:size].reshape(shape) + 1) * half, low, high), dtype)

            return Actuator("Box", (size,), scale)
        case gs.Tuple() | gs.Dict() if space.spaces:
            return _compound(space, agent)
    remedy = "give a Discrete, MultiDiscrete, MultiBinary or bounded Box, or a Tuple or Dict of choices or of Boxes"
    raise UnsupportedSpace(agent, "action space", space, remedy)


def _compound(space: gs.Tuple | gs.Dict, agent: str) -> Actuator:
    """A Tuple or Dict of choices as one MultiDiscrete, of Boxes as one Box. Raises `UnsupportedSpace` for a mixture."""
    keys = list(space.spaces) if isinstance(space, gs.Dict) else None
    spaces = list(space.spaces.values()) if isinstance(space, gs.Dict) else space.spaces
    inner = [make_actuator(s, agent) for s in spaces]
    boxes = [x.kind == "Box" for x in inner]
    if any(boxes) and not all(boxes):
        raise UnsupportedSpace(agent, "action space", space, "it mixes choices and numbers: give either choices alone, or Boxes alone")
    widths = [x.sizes[0] if x.kind == "Box" else len(x.sizes) for x in inner]
    ends = np.cumsum(widths)
    pieces = [(x.act, int(end) - width, int(end), x.kind == "Discrete") for x, width, end in zip(inner, widths, ends, strict=True)]

    def act(a: Array) -> Any:
        a = np.asarray(a)
        each = [f(a[low] if one else a[low:high]) for f, low, high, one in pieces]
        return tuple(each) if keys is None else dict(zip(keys, each, strict=True))

    if all(boxes):
        return Actuator("Box", (int(sum(widths)),), act)
    return Actuator("MultiDiscrete", tuple(n for x in inner for n in x.sizes), act)


def padded_space(kind: str, sizes: tuple[int, ...]) -> dist.ActionSpace:
    """The package's action space for a group whose largest sizes are `sizes`."""
    if kind == "Discrete":
        return dist.Discrete(sizes[0])
    return dist.MultiDiscrete(sizes) if kind == "MultiDiscrete" else dist.Box(sizes[0])
