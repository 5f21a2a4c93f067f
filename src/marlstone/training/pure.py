"""A whole training as one pure function, to jit and to vmap over seeds.

It is `training.fused`'s own beginning and cycles, without what surrounds them in a run: no host, no files, no evaluation.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Policy
from marlstone.algorithm.state import Nets
from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import UserError
from marlstone.core.records import record
from marlstone.envs.faults import Withheld
from marlstone.envs.make import is_jax
from marlstone.policy.policy import Policy as FrozenPolicy
from marlstone.rollout.state import Report
from marlstone.training.fused import Fused
from marlstone.training.loop import runtime_of

Array = Any


@record
class Trained:
    """What a training leaves.

    Fields: `parameters`, all networks, critics and credit's too; `policy`, what acts: the actor's networks and the moments that normalize
    observations; `metrics`: curves by name, `[updates]`: `return` and `length` (means over training episodes that ended in an update, NaN
    where none did), `episodes`, `steps` (joint environment steps), the learner's losses, and true metrics as `metric/NAME`; `faults`: of
    the environment, counted by name.
    """

    parameters: Nets
    policy: Policy
    metrics: dict[str, Array]
    faults: dict[str, Array]


@dataclass(frozen=True, eq=False)
class PureTraining:
    """`train(key) -> Trained`, pure: `jax.jit(jax.vmap(train))(keys)` trains as many seeds as there are keys.

    `config`: of what is trained; its seeds, directory, checkpoints, evaluation and fleet belong to runs and are left out.
    """

    config: RunConfig
    _fused: Fused = field(init=False, repr=False)

    def __post_init__(self) -> None:
        config = self.config
        if not is_jax(config.env):
            raise UserError(
                f"make_train: env {config.env} is stepped by Python, which JAX cannot compile: use train, or an environment written in JAX"
            )
        if config.fleet.kind != "none":
            raise UserError(f"make_train: fleet.kind is {config.fleet.kind!r}, and a pure function starts no processes: use train")
        if config.stages:
            raise UserError("make_train: stages are of runs, whose host changes from one to the next: use train")
        if config.rollout.shards > 1:
            raise UserError(f"make_train: rollout.shards is {config.rollout.shards}: leave it at 1, and shard the function itself")
        if config.guards.on_bad == "refuse":
            raise UserError("make_train: guards.on_bad is 'refuse', which a pure function cannot raise: leave it out, and look at `faults`")
        object.__setattr__(self, "_fused", runtime_of(config, (config.seed,)))

    @property
    def algorithm(self) -> Algorithm:
        """The networks, credit and learner that are trained."""
        return self._fused.algorithm

    @property
    def updates(self) -> int:
        """How many updates the budget makes: the length of every curve."""
        return self._fused.total

    @cached_property
    def steps(self) -> np.ndarray:
        """Joint environment steps after each update, `[updates]`: the x axis of curves, as runs have it."""
        return (1 + np.arange(self.updates)) * self.config.steps_per_update

    def __call__(self, key: Array) -> Trained:
        """Train one seed. `key`: a key of `jax.random.key(seed)`, or the seed itself, a whole number; a run of that seed draws the same."""
        state, reports = self._fused.advance(self._fused.begin(key), jnp.int32(self.updates), self.updates)
        return Trained(state.train.nets, state.train.policy, _curves(reports), state.acting.env.faults)

    def freeze(self, policy: Policy, acting: Act = "mode") -> FrozenPolicy:
        """One seed's `Trained.policy` as a policy artifact, which saves, loads and acts without JAX. `acting`: `mode`, `sample` or
        `temperature=T`."""
        source, withheld = {"env": self.config.env}, [f for f in self.config.faults if isinstance(f, Withheld)]
        return FrozenPolicy.of(
            self.algorithm, jax.device_get(policy), acting, None, source, channel=self.config.comms, tools=self.config.toolbox,
            withheld=withheld,
        )  # fmt: skip


def _curves(reports: Report) -> dict[str, Array]:
    ended = reports.finished
    mean = lambda total: jnp.where(ended.episodes > 0, total / jnp.maximum(ended.episodes, 1), jnp.nan)
    return {
        "return": mean(ended.team_return),
        "length": mean(ended.length),
        "episodes": ended.episodes,
        "steps": reports.steps,
        **reports.losses,
        **{f"metric/{k}": mean(v) for k, v in ended.metrics.items()},
    }
