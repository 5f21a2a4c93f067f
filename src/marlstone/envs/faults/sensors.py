"""Sensor faults, of all agents and of managers too; what is legal stays what it is.

Each affects every leaf of an observation, or with `leaf` the one of that name alone. `state`, which only critics see in
training, is left as it is.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.by_agent import (
    LONGEST,
    change_leaves,
    check_choice,
    check_limits,
    groups_of,
    map_leaves,
    push,
    real_features,
    repeated,
    unknown_leaf,
    where_agents,
)
from marlstone.envs.faults.contract import Draws, Fault

Leaves = tuple[dict[str, Array], ...]
BYTE = 255.0


@dataclass(frozen=True)
class Noise(Fault):
    """Gaussian noise, fresh for every number and step:  x + scale u z,  z standard normal.

    `unit` says what u is. `full_scale`, as instruments are rated: the largest magnitude that this feature has shown this agent in the
    episode so far (of an image: any of its pixels), so that scale 0.1 is 10% of what the sensor reads at most; images of bytes: 255.
    `absolute`: 1, the observation's own unit (images of bytes: one of their 256 levels). Whole numbers are rounded and kept within their
    type; padding and whoever is not there stay as they are.
    """

    kind: ClassVar[str] = "noise"
    scale: float = 0.1
    unit: Literal["full_scale", "absolute"] = "full_scale"
    leaf: str = ""

    def __post_init__(self) -> None:
        check_limits(self, scale=(0, 1e6))
        check_choice(self, unit=("full_scale", "absolute"))

    def refuses(self, spec: Spec) -> str:
        """Why no observation leaf of that name can be affected; empty where it can."""
        return unknown_leaf(spec, self.leaf)

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Leaves:
        """The largest magnitude seen so far, 0."""
        return map_leaves(step, self.leaf, lambda x: 0 * _magnitude(x))

    def step(self, spec: Spec, memory: Leaves, step: Step, draw: Draws) -> tuple[Leaves, Step]:
        """Observations with noise scaled to the unit."""
        if self.scale == 0:
            return memory, step
        xp, present = step.reward.__array_namespace__(), groups_of(spec, step.present)
        most: Leaves = tuple({k: xp.maximum(m, _magnitude(step.obs[g][k])) for k, m in seen.items()} for g, seen in enumerate(memory))

        def noisy(g: int, k: str, x: Array) -> Array:
            there = real_features(spec.groups[g], k, xp)
            there = there & present[g].reshape(-1, *(1,) * (there.ndim - 1))
            unit = most[g][k] if self.unit == "full_scale" else xp.ones_like(most[g][k])
            unit = unit.reshape(*unit.shape, *(1,) * (x.ndim - unit.ndim))
            moved = x + (self.scale * unit * draw.normal(x.shape)).astype(np.float32)
            return where_agents(there, moved if _is_float(x) else _rounded(moved, x), x)

        return most, change_leaves(step, self.leaf, noisy)


def _is_float(x: Array) -> bool:
    return np.issubdtype(np.dtype(x.dtype), np.floating)


def _rounded(moved: Array, like: Array) -> Array:
    xp, kind = like.__array_namespace__(), np.iinfo(np.dtype(like.dtype))
    return xp.clip(xp.round(moved), kind.min, kind.max).astype(like.dtype)


def _magnitude(x: Array) -> Array:
    """Of vectors `[n_g f]` each feature's, of images `[n_g h w c]` the brightest pixel's `[n_g]`; bytes: all there is."""
    xp = x.__array_namespace__()
    if np.dtype(x.dtype) == np.uint8:
        return xp.full(x.shape[:1], BYTE, np.float32)
    size = xp.abs(x).astype(np.float32)
    size = xp.where(xp.isfinite(size), size, xp.zeros_like(size))
    return size if x.ndim == 2 else xp.max(size.reshape(size.shape[0], -1), axis=1)


@dataclass(frozen=True)
class Dropout(Fault):
    """With probability `rate` per agent and step its sensors read 0."""

    kind: ClassVar[str] = "dropout"
    rate: float = 0.1
    leaf: str = ""

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1))

    def refuses(self, spec: Spec) -> str:
        """Why no observation leaf of that name can be affected; empty where it can."""
        return unknown_leaf(spec, self.leaf)

    def step(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> tuple[Any, Step]:
        """Zeros for the agents whose sensors fail at this step."""
        lost = groups_of(spec, draw.uniform((spec.n,)) < self.rate)
        xp = step.reward.__array_namespace__()
        return memory, change_leaves(step, self.leaf, lambda g, _, x: where_agents(lost[g], xp.zeros_like(x), x))


@dataclass(frozen=True)
class Freeze(Fault):
    """With probability `rate` per agent and step its sensors stick, and repeat for `rows` steps what they showed last."""

    kind: ClassVar[str] = "freeze"
    rate: float = 0.05
    rows: int = 5
    leaf: str = ""

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1), rows=(1, LONGEST))

    def refuses(self, spec: Spec) -> str:
        """Why no observation leaf of that name can be affected; empty where it can."""
        return unknown_leaf(spec, self.leaf)

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Leaves, Array]:
        """What was shown last, and how many steps sensors still stick."""
        xp = step.reward.__array_namespace__()
        return map_leaves(step, self.leaf, lambda x: x), xp.zeros(spec.n, np.int32)

    def step(self, spec: Spec, memory: tuple[Leaves, Array], step: Step, draw: Draws) -> tuple[tuple[Leaves, Array], Step]:
        """What was shown last, where sensors stick."""
        held, left = memory
        xp = step.reward.__array_namespace__()
        sticks = (left == 0) & (draw.uniform((spec.n,)) < self.rate)
        frozen = groups_of(spec, sticks | (left > 0))
        left = xp.where(sticks, self.rows - 1, xp.maximum(left - 1, 0)).astype(np.int32)
        shown = change_leaves(step, self.leaf, lambda g, k, x: where_agents(frozen[g], held[g][k], x))
        return (map_leaves(shown, self.leaf, lambda x: x), left), shown


@dataclass(frozen=True)
class Delay(Fault):
    """Observations come `rows` steps late: step t shows what was seen at t - rows, and until then the first."""

    kind: ClassVar[str] = "delay"
    rows: int = 1
    leaf: str = ""

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, LONGEST))

    def refuses(self, spec: Spec) -> str:
        """Why no observation leaf of that name can be affected; empty where it can."""
        return unknown_leaf(spec, self.leaf)

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Leaves:
        """A queue filled with the first observation."""
        return map_leaves(step, self.leaf, lambda x: repeated(x, self.rows + 1))

    def step(self, spec: Spec, memory: Leaves, step: Step, draw: Draws) -> tuple[Leaves, Step]:
        """The observation of `rows` steps ago."""
        seen: Leaves = tuple({k: push(q, step.obs[g][k]) for k, q in queues.items()} for g, queues in enumerate(memory))
        return seen, change_leaves(step, self.leaf, lambda g, k, _: seen[g][k][0])


@dataclass(frozen=True)
class Skew(Fault):
    """Clocks that disagree: each agent runs behind by a number of steps of its own, drawn evenly from 0 to `rows` when an episode
    begins."""

    kind: ClassVar[str] = "skew"
    rows: int = 3
    leaf: str = ""

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, LONGEST))

    def refuses(self, spec: Spec) -> str:
        """Why no observation leaf of that name can be affected; empty where it can."""
        return unknown_leaf(spec, self.leaf)

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Leaves, Array]:
        """A queue filled with the first observation, and each agent's lag."""
        xp = step.reward.__array_namespace__()
        behind = xp.floor(draw.uniform((spec.n,)) * (self.rows + 1)).astype(np.int32)
        return map_leaves(step, self.leaf, lambda x: repeated(x, self.rows + 1)), xp.minimum(behind, self.rows)

    def step(self, spec: Spec, memory: tuple[Leaves, Array], step: Step, draw: Draws) -> tuple[tuple[Leaves, Array], Step]:
        """What each agent observed its own lag ago."""
        queues, behind = memory
        seen: Leaves = tuple({k: push(q, step.obs[g][k]) for k, q in q_g.items()} for g, q_g in enumerate(queues))
        lag = groups_of(spec, behind)
        return (seen, behind), change_leaves(step, self.leaf, lambda g, k, _: lagged_read(seen[g][k], lag[g]))


def lagged_read(queue: Array, lag: Array) -> Array:
    """`[k n_g ...]` -> `[n_g ...]`: what each agent saw `lag` `[n_g]` steps ago; the last entry is now."""
    k, count = queue.shape[:2]
    return queue[k - 1 - lag, np.arange(count)]
