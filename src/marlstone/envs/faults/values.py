"""Values that no sensor should give: far out of range, infinite, or no number at all."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.by_agent import change_leaves, check_choice, check_limits, groups_of, real_features, unknown_leaf, where_agents
from marlstone.envs.faults.contract import Draws, Fault


@dataclass(frozen=True)
class Extreme(Fault):
    """With probability `rate` per number and step an observation reads `value`: `large`, `size` with either sign, in the observation's own
    unit (whole numbers: their type's least or most); `inf`, with either sign; or `nan`.

    Guards stand behind it: NaN and infinities are put to 0 and counted, or, under `guards.on_bad = "refuse"`, end the run. `inf` and
    `nan` leave whole numbers, such as images of bytes, as they are.
    """

    kind: ClassVar[str] = "extreme"
    rate: float = 0.01
    value: Literal["large", "inf", "nan"] = "large"
    size: float = 1e3
    leaf: str = ""

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1), size=(0, 1e30))
        check_choice(self, value=("large", "inf", "nan"))

    def refuses(self, spec: Spec) -> str:
        """Why no leaf of that name can read such values; empty where one can."""
        if reason := unknown_leaf(spec, self.leaf):
            return reason
        kinds = [leaf.dtype for g in spec.groups for k, leaf in g.observation.items() if self.leaf in ("", k)]
        if self.value != "large" and not any(np.issubdtype(np.dtype(kind), np.floating) for kind in kinds):
            return f"value is {self.value!r}, which whole numbers cannot be, and there are no others: use value = 'large'"
        return ""

    def step(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> tuple[Any, Step]:
        """Observations with bad values put in; padding and absent agents stay as they are."""
        xp, present = step.reward.__array_namespace__(), groups_of(spec, step.present)

        def broken(g: int, k: str, x: Array) -> Array:
            u, there = draw.uniform(x.shape), real_features(spec.groups[g], k, xp)
            if (bad := self._value(xp, x, draw.uniform(x.shape) < 0.5)) is None:
                return x
            there = there & present[g].reshape(-1, *(1,) * (there.ndim - 1))
            return where_agents(there, xp.where(u < self.rate, bad, x), x)

        return memory, change_leaves(step, self.leaf, broken)

    def _value(self, xp: Any, x: Array, up: Array) -> Array | None:
        """What is read in the place of `x`."""
        kind = np.dtype(x.dtype)
        if np.issubdtype(kind, np.floating):
            most = {"large": self.size, "inf": np.inf, "nan": np.nan}[self.value]
            return xp.where(up, most, -most).astype(kind)
        if self.value != "large":
            return None
        limits = np.iinfo(kind)
        return xp.where(up, limits.max, limits.min).astype(kind)
