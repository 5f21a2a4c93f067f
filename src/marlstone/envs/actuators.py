"""From Gymnasium action spaces to actions: how what a policy chooses becomes what the environment takes.

    Discrete                                       Discrete
    MultiDiscrete, MultiBinary                     MultiDiscrete
    Box, with finite bounds                        Box
    Dict or Tuple, nested in any way, of choices   MultiDiscrete
                                      of Boxes     Box
                                      of both      Composite, its parts named by their paths

What cannot be expressed is refused by name, with the remedy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core import distributions as dist
from marlstone.core.types import Array
from marlstone.envs.default_actions import Recorded
from marlstone.envs.masks import flat_mask, joined
from marlstone.envs.spaces import UnsupportedSpace

Act = Callable[[Array], Any]


@dataclass(frozen=True)
class Actuator:
    """One agent's action space, and how a choice becomes the environment's action.

    Attributes:
      kind: `Discrete`, `MultiDiscrete`, `Box` or `Composite`.
      sizes: options per choice, and numbers per Box.
      act: from this agent's entry of the group's emitted action to what the environment takes: what the space's own `contains` accepts, of
        the type its `sample` gives.
      default: the declared default as it is recorded (`default_actions`); None where none is declared.
      parts: of a Composite, the kind of each part and how many of `sizes` are its own.
      names: of a Composite, the parts' paths in the action space.
      flat: from a mask as the environment gives it to one vector over the options.
      fitted: of a Composite, `act` where its Boxes are padded to these sizes.
    """

    kind: str
    sizes: tuple[int, ...]
    act: Act
    default: Recorded | None = None
    parts: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()
    flat: Callable[[Any], Any] = joined
    fitted: Callable[[tuple[int, ...]], Act] | None = field(default=None, repr=False)

    @property
    def signature(self) -> tuple[Any, ...]:
        """What must agree within a group; the rest is padded."""
        return self.kind, len(self.sizes) if self.kind == "MultiDiscrete" else 1, self.parts, self.names

    @cached_property
    def numbers(self) -> tuple[bool, ...]:
        """Which of `sizes` are a Box's."""
        return tuple(kind == "Box" for kind, count in self.parts or ((self.kind, len(self.sizes)),) for _ in range(count))

    @property
    def options(self) -> int:
        """How many entries a mask has: one per option of every choice; of a Box, which has no choice, one per number."""
        return sum(self.sizes) if all(self.numbers) else sum(n for n, box in zip(self.sizes, self.numbers, strict=True) if not box)

    def space(self, room: tuple[int, ...]) -> dist.ActionSpace:
        """The package's action space for a group whose largest sizes are `room`."""
        if self.kind != "Composite":
            return _space(self.kind, room)
        left = iter(room)
        parts = [_space(kind, tuple(next(left) for _ in range(count))) for kind, count in self.parts]
        return dist.Composite(tuple(parts), self.names)

    def within(self, room: tuple[int, ...]) -> "Actuator":
        """This actuator in a group whose largest sizes are `room`."""
        return self if self.fitted is None else replace(self, act=self.fitted(room))

    def padded_default(self, room: tuple[int, ...]) -> Recorded:
        """The declared default with zeros where the group's largest sizes, `room`, have more."""
        left, out = iter(self.default or ()), []
        for size, most, box in zip(self.sizes, room, self.numbers, strict=True):
            zero = 0.0 if self.kind in ("Box", "Composite") else 0
            mine = [next(left, zero) for _ in range(size if box else 1)]
            out += mine + [zero] * (most - size if box else 0)
        return tuple(out)

    def legal(self, padded: tuple[int, ...], mask: Any = None, listed: bool = False) -> tuple[np.ndarray, bool]:
        """`[a]` booleans over the padded action space, and whether there is anything to choose; `mask` is the environment's, flat, one
        per choice, or nested as the space. Where a choice has no legal option, its default is the only one. `listed`: whole numbers may
        be the indices of what is legal.

        Raises ValueError when the mask has another length than the action space has options.
        """
        out = np.zeros(sum(padded), bool)
        allowed = None if mask is None else self._read(mask, listed)
        at = read = entry = free = 0
        for size, room, box in zip(self.sizes, padded, self.numbers, strict=True):
            mine = np.ones(size, bool) if box or allowed is None else allowed[read : read + size]
            if mine.any():
                out[at : at + size] = mine
                free += 1
            else:
                out[at + (0 if self.default is None else int(self.default[entry]))] = True
            at, read, entry = at + room, read + (0 if box else size), entry + (size if box else 1)
        return out, free > 0

    def _read(self, mask: Any, listed: bool) -> np.ndarray:
        mask, total = np.asarray(self.flat(mask)), self.options
        if listed and mask.dtype.kind in "iuf" and not (mask.size == total and np.isin(mask, (0, 1)).all()):
            indices, mask = mask, np.zeros(total, bool)
            if indices.size and not (indices.min() >= 0 and indices.max() < total):
                raise ValueError(f"legal actions {indices.tolist()} of {total} actions")
            mask[indices.astype(int)] = True
        if mask.shape[0] != total or mask.dtype.kind not in "biuf":
            raise ValueError(f"action mask of {mask.shape[0]} entries, dtype {mask.dtype}, for {total} actions")
        return mask.astype(bool)


def _space(kind: str, sizes: tuple[int, ...]) -> Any:
    return dist.MultiDiscrete(sizes) if kind == "MultiDiscrete" else {"Discrete": dist.Discrete, "Box": dist.Box}[kind](sizes[0])


def actuator_of(space: dist.ActionSpace, default: Recorded | None = None) -> Actuator:
    """The actuator of an environment that takes actions as policies emit them."""
    parts = space.parts if isinstance(space, dist.Composite) else (space,)
    sizes = [p.sizes if isinstance(p, dist.MultiDiscrete) else (p.width,) for p in parts]
    kinds = tuple((type(p).__name__, len(s)) for p, s in zip(parts, sizes, strict=True))
    return Actuator(type(space).__name__, tuple(n for s in sizes for n in s), lambda a: a, default, kinds if len(parts) > 1 else ())


def make_actuator(space: gs.Space | None, agent: str) -> Actuator:
    """The actuator of an action space. Raises `UnsupportedSpace`, for Boxes without finite bounds too."""
    if isinstance(space, gs.Tuple | gs.Dict):
        return _compound(space, agent)
    return _leaf(space, agent, "action space")


def _leaf(space: gs.Space | None, agent: str, field: str) -> Actuator:
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
                raise UnsupportedSpace(agent, field, space, "give it finite bounds, since actions are scaled to them")
            if not np.issubdtype(space.dtype, np.floating):
                raise UnsupportedSpace(agent, field, space, "a Box of whole numbers is a MultiDiscrete: declare it so")
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            half = (high - low) / 2
            size, shape, dtype = int(np.prod(space.shape)), space.shape, space.dtype
            if size == 0:
                raise UnsupportedSpace(agent, field, space, "an action needs at least one number")

            def scale(a: Array) -> np.ndarray:
                return np.asarray(np.clip(low + (np.asarray(a)[:size].reshape(shape) + 1) * half, low, high), dtype)

            return Actuator("Box", (size,), scale)
    remedy = "give a Discrete, MultiDiscrete, MultiBinary or bounded Box, or a Tuple or Dict of these"
    raise UnsupportedSpace(agent, field, space, remedy)


# ---- Dict and Tuple
def _compound(space: gs.Tuple | gs.Dict, agent: str) -> Actuator:
    """A Tuple or Dict of choices as one MultiDiscrete, of Boxes as one Box, of both as a Composite of its leaves."""
    leaves = list(_leaves(space, agent, ()))
    sizes = tuple(n for _, x in leaves for n in x.sizes)
    boxes = [x.kind == "Box" for _, x in leaves]
    fitted = partial(_acting, space, tuple(x for _, x in leaves))
    flat = partial(flat_mask, space)
    if all(boxes):
        return Actuator("Box", (sum(sizes),), fitted(sizes), flat=flat)
    if not any(boxes):
        return Actuator("MultiDiscrete", sizes, fitted(sizes), flat=flat)
    parts, names = tuple((x.kind, len(x.sizes)) for _, x in leaves), tuple(name for name, _ in leaves)
    return Actuator("Composite", sizes, fitted(sizes), None, parts, names, flat, fitted)


def _leaves(space: gs.Space, agent: str, path: tuple[Any, ...]) -> Iterator[tuple[str, Actuator]]:
    """Name and actuator of everything that is no Dict or Tuple, in the space's order."""
    if not isinstance(space, gs.Tuple | gs.Dict):
        name = "/".join(map(str, path))
        yield name, _leaf(space, agent, f"action space {name!r}")
        return
    if not space.spaces:
        raise UnsupportedSpace(agent, "action space", space, "it is empty: leave it out")
    for key, inner in space.spaces.items() if isinstance(space, gs.Dict) else enumerate(space.spaces):
        yield from _leaves(inner, agent, (*path, key))


def _acting(space: gs.Tuple | gs.Dict, leaves: tuple[Actuator, ...], room: tuple[int, ...]) -> Act:
    """From one flat action, its Boxes padded to `room`, to what the space holds."""
    pieces, at, slot = [], 0, 0
    for x in leaves:
        mine = room[slot : slot + len(x.sizes)]
        width = mine[0] if x.kind == "Box" else len(mine)
        pieces.append((x.act, at if x.kind == "Discrete" else slice(at, at + width)))
        at, slot = at + width, slot + len(mine)
    build = _builder(space)

    def act(a: Array) -> Any:
        a = np.asarray(a)
        return build(iter([f(a[where]) for f, where in pieces]))

    return act


def _builder(space: gs.Space) -> Callable[[Iterator[Any]], Any]:
    """What puts the leaves' actions, in order, into the space's own nesting."""
    if isinstance(space, gs.Dict):
        inner = [(k, _builder(s)) for k, s in space.spaces.items()]
        return lambda left: {k: build(left) for k, build in inner}
    if isinstance(space, gs.Tuple):
        each = [_builder(s) for s in space.spaces]
        return lambda left: tuple(build(left) for build in each)
    return next
