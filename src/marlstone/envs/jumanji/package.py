"""A task of the `jumanji` package (Bonnet et al. 2024) as an `Env`."""

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.core.types import Array, Group, Spec, Step
from marlstone.envs.jumanji.cleaner import Cleaner
from marlstone.envs.jumanji.connector import Connector
from marlstone.envs.jumanji.mmst import Mmst
from marlstone.envs.jumanji.multi_cvrp import MultiCvrp
from marlstone.envs.jumanji.search_and_rescue import SearchAndRescue
from marlstone.envs.jumanji.task import Task
from marlstone.envs.names import UnknownEnvironment, resolve_options

TASKS: dict[str, type[Task]] = {
    "Connector": Connector,
    "Cleaner": Cleaner,
    "MMST": Mmst,
    "SearchAndRescue": SearchAndRescue,
    "MultiCVRP": MultiCvrp,
}


@dataclass(frozen=True)
class Packaged:
    """A task played by the package's own `reset` and `step`.

    A reward that the package gives to the team is the team's, and agents have equal shares; one that it gives each agent is that agent's,
    and the team's is their sum. But for Connector, the package reports a termination where time is up: here it is a truncation.

    Attributes:
      env: Jumanji's object.
      task: what it leaves to its reader.
    """

    env: Any = field(repr=False)
    task: Task

    @cached_property
    def spec(self) -> Spec:
        """One group of agents that are alike."""
        task, key = self.task, jax.random.key(0)
        names = tuple(f"agent_{i}" for i in range(task.agents))
        group = Group("agents", names, task.leaves, task.space)
        length = jax.eval_shape(lambda k: self._world(*self.env.reset(_raw(k))), key).shape[0]
        return Spec((group,), state=length, horizon=task.horizon, metrics=dict(task.metrics))

    def _world(self, state: Any, timestep: Any) -> Array:
        return self.task.world_state(state, timestep.observation)

    def init(self, key: Array) -> tuple[Any, Step]:
        """A fresh instance of the problem."""
        state, timestep = self.env.reset(_raw(key))
        return state, self._make_step(None, state, timestep)

    def step(self, state: Any, action: tuple[Array, ...], key: Array) -> tuple[Any, Step]:
        """One joint step; the package's randomness, which its states carry, is drawn from `key`."""
        before = state.replace(key=_raw(key))
        after, timestep = self.env.step(before, action[0])
        return after, self._make_step(before, after, timestep)

    def _make_step(self, before: Any, state: Any, timestep: Any) -> Step:
        task, n = self.task, self.task.agents
        everyone, first = jnp.ones(n, bool), before is None
        given = jnp.asarray(timestep.reward, jnp.float32)
        reward = jnp.broadcast_to(given / n, (n,)) if given.ndim == 0 else given
        last = jnp.zeros((), bool) if first else timestep.last()
        ended = last & task.finished(state)
        deciding, legal = task.deciding(state), task.legal(timestep.observation)
        zeros = {k: jnp.zeros((), jnp.float32) for k in task.metrics}
        going = jnp.where(ended, 0.0, 1.0)
        return Step(
            obs=(task.views(state, timestep.observation),),
            state=self._world(state, timestep),
            reward=jnp.zeros(n, jnp.float32) if first else reward,
            team_reward=jnp.zeros((), jnp.float32) if first else jnp.sum(given),
            discount=jnp.broadcast_to(going, (n,)),
            team_discount=going,
            first=jnp.asarray(first, bool),
            last=last,
            legal=(None if legal is None else jnp.asarray(legal, bool),),
            present=everyone,
            deciding=everyone if deciding is None else deciding,
            metrics=zeros if first else task.measure(before, state),
        )


def _raw(key: Array) -> Array:
    """A key as the two numbers that the package's states hold."""
    return jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def packaged(name: str, options: Mapping[str, Any]) -> Packaged:
    """The task `jumanji:name`. Raises `UnknownEnvironment` for an option, or where the package is missing."""
    where = f"jumanji:{name}"
    if importlib.util.find_spec("jumanji") is None:
        raise UnknownEnvironment(f"{where} needs jumanji: pip install marlstone[jumanji]")
    kind = TASKS[name]
    task = kind(**resolve_options(where, options, {f.name: f.default for f in fields(kind)}))
    for option, value in asdict(task).items():
        least = 0 if next(f.default for f in fields(kind) if f.name == option) == 0 or isinstance(value, float) else 1
        if value < least:
            raise UnknownEnvironment(f"{where}: option {option!r} is {value}: give at least {least}")
    try:
        env = task.create()
        jax.eval_shape(env.reset, jax.random.PRNGKey(0))
    except (AssertionError, ValueError, TypeError, IndexError) as error:
        raise UnknownEnvironment(f"{where} refuses its options {asdict(task)}: {error}") from error
    return Packaged(env, task)
