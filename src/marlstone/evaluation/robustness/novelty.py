"""What no training showed: observations that a gate is tried on, whatever the environment. One agent of each group meets them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults import Draws, Fault


def _who(spec: Spec, draw: Draws) -> tuple[Array, ...]:
    """`[n_g]` per group: one agent, drawn for the episode."""
    out = []
    for g in spec.groups:
        u = draw.uniform()
        xp = u.__array_namespace__()
        out.append(xp.arange(g.count) == xp.floor(u * g.count).astype(np.int32))
    return tuple(out)


def _instead(which: Array, a: Array, x: Array) -> Array:
    """`a` of the agents in `which [n]`, else `x [n ...]`."""
    return x.__array_namespace__().where(which.reshape(-1, *(1,) * (x.ndim - 1)), a, x).astype(x.dtype)


@dataclass(frozen=True)
class Far(Fault):
    """All its readings are `times` as large, and `times` larger: a wrong unit, a broken converter."""

    kind: ClassVar[str] = "far"
    times: float = 100.0

    def begin(self, spec: Spec, row: Step, draw: Draws) -> Any:
        """Chooses whose sensors it strikes in this episode."""
        return _who(spec, draw)

    def row(self, spec: Spec, memory: Any, row: Step, draw: Draws) -> tuple[Any, Step]:
        """Numbers far outside what was ever met, pictures inverted."""
        far = lambda x: self.times * (x + 1.0) if "float" in str(x.dtype) else 255 - x
        obs = tuple({k: _instead(who, far(x), x) for k, x in seen.items()} for who, seen in zip(memory, row.obs, strict=True))
        return memory, replace(row, obs=obs)


@dataclass(frozen=True)
class Dark(Fault):
    """It reads 0 everywhere: a sensor without power."""

    kind: ClassVar[str] = "dark"

    def begin(self, spec: Spec, row: Step, draw: Draws) -> Any:
        """Chooses whose sensors it strikes in this episode."""
        return _who(spec, draw)

    def row(self, spec: Spec, memory: Any, row: Step, draw: Draws) -> tuple[Any, Step]:
        """Zeros in place of everything that is seen."""
        obs = tuple({k: _instead(who, 0 * x, x) for k, x in seen.items()} for who, seen in zip(memory, row.obs, strict=True))
        return memory, replace(row, obs=obs)


@dataclass(frozen=True)
class Stuck(Fault):
    """It sees what it saw on the first step: a frozen picture, a link that repeats the last message."""

    kind: ClassVar[str] = "stuck"

    def begin(self, spec: Spec, row: Step, draw: Draws) -> Any:
        """Chooses whose sensors it strikes, and remembers the episode's first observation."""
        return _who(spec, draw), row.obs

    def row(self, spec: Spec, memory: Any, row: Step, draw: Draws) -> tuple[Any, Step]:
        """The remembered observation, whatever happens."""
        who, then = memory
        pairs = zip(who, then, row.obs, strict=True)
        return memory, replace(row, obs=tuple({k: _instead(w, old[k], x) for k, x in seen.items()} for w, old, seen in pairs))


NOVELTIES: dict[str, tuple[Fault, ...]] = {"far": (Far(),), "dark": (Dark(),), "stuck": (Stuck(),)}
