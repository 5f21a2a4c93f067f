"""Sensors whose gain drifts over an environment's life: slower than any episode, so that only long training meets it."""

from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.contract import Draws, Fault


@dataclass(frozen=True)
class Drift(Fault):
    """Every agent reads each feature times 1 + s, where s goes from 0 to `size` or -`size` over the first `rows` steps of an environment's
    life, episodes and resets included, and stays. Vector leaves of floats only; states, rewards and metrics stay true."""

    kind: ClassVar[str] = "drift"
    outlives: ClassVar[bool] = True
    size: float = 0.3
    rows: int = 10_000

    def __post_init__(self) -> None:
        if not 0 <= self.size < 1:
            raise UserError(f"drift: size is {self.size}: give a share of at least 0 and below 1")
        if self.rows < 1:
            raise UserError(f"drift: rows is {self.rows}: give at least 1")

    def _drifting(self, spec: Spec) -> list[list[str]]:
        return [[k for k, leaf in g.observation.items() if leaf.kind == "vector" and "float" in leaf.dtype] for g in spec.groups]

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Any:
        """An age of 0, and the direction in which each feature drifts."""
        signs = []
        for g, names in zip(step.obs, self._drifting(spec), strict=True):
            drawn = {k: draw.uniform(g[k].shape) for k in names}
            signs.append({k: u.__array_namespace__().where(u < 0.5, -1.0, 1.0).astype(g[k].dtype) for k, u in drawn.items()})
        return {"age": (step.reward * 0).sum(), "signs": tuple(signs)}

    def again(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> Any:
        """Age and directions stay: the copy goes on living."""
        return memory

    def step(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> tuple[Any, Step]:
        """Vector leaves of floats times the gain of this age."""
        xp = step.reward.__array_namespace__()
        part: Array = self.size * xp.minimum(memory["age"] / self.rows, 1)
        read = lambda x, sign: (x * (1 + part * sign)).astype(x.dtype)
        obs = tuple(
            {k: read(x, signs[k]) if k in signs else x for k, x in g.items()} for g, signs in zip(step.obs, memory["signs"], strict=True)
        )
        return {**memory, "age": memory["age"] + 1}, replace(step, obs=obs)
