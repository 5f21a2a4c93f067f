"""Managers over any environment: a last group of agents that sets the others' goals every `every` steps.

    step    t          t+1 ... t+every      t+every+1 ...
    goals   g          G       G            G'
    clock   0          1       0            1                managers decide where it is 0: G at t, G' at t + every

Orders reach workers one step later: a step shows everybody its observation before anybody acts in it. Between decisions
nobody needs a manager. The game itself is left as it was: its rewards, ends, metrics and agents are passed through.

A goal is a symbol out of `goals`, 0 meaning free. With `leaf`, symbol 2 f + 1 asks to lower feature f of the worker's own
observation leaf of that name, 2 f + 2 to raise it; else symbols mean what workers and managers make of them. The same code
runs on JAX's arrays and on NumPy's, in worker processes too.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.distributions import MultiDiscrete
from marlstone.core.errors import UserError, suggest
from marlstone.core.records import record, replace
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.protocol import Env, HostEnv

GOAL = "goal"  # the observation leaf in which a worker sees its goal, one-hot


@dataclass(frozen=True)
class Managers:
    """Who leads how many, and how.

    A manager sees its workers' vector observations and their goals, and how far the clock has run. Its reward at every step is the
    team's reward per worker, until the team's end. Its action gives each worker one goal (a MultiDiscrete; absent workers are left free).

    Attributes:
      every: steps between decisions, at least 2.
      span: the most workers one manager leads; managers share the team evenly, in the order of agents.
      leaf: the observation leaf whose features goals lower and raise; "" for goals without a fixed meaning.
      roles: how many such goals, where there is no leaf.

    Raises:
      UserError: a field below its least value.
    """

    every: int = 8
    span: int = 8
    leaf: str = ""
    roles: int = 4

    def __post_init__(self) -> None:
        for name, least in (("every", 2), ("span", 1), ("roles", 1)):
            if getattr(self, name) < least:
                raise UserError(f"managers: {name} is {getattr(self, name)}: give at least {least}")

    def over(self, env: Any) -> Any:
        """`env` with managers: an `Env` or a `HostEnv`, as it was. Raises UserError where it cannot have any."""
        layout = Layout(self, env.spec)
        if hasattr(env, "reset"):
            return ManagedHost(env, layout)
        return (ManagedPersistent if hasattr(env, "again") else Managed)(env, layout)


def _team(it: Managers, spec: Spec) -> tuple[int, int]:
    """How many vector features a manager sees of each worker, and how many goals there are. Raises UserError."""
    if spec.opponents:
        who = ", ".join(spec.opponents)
        raise UserError(f"managers lead one team, and {who} play against it: use architecture = 'decentralized'")
    if any(g.clock > 1 for g in spec.groups):
        raise UserError("managers cannot lead managers, and this environment has some: use architecture = 'ctde'")
    widths = []
    for g in spec.groups:
        vectors = [k for k, leaf in g.observation.items() if leaf.kind == "vector"]
        if not vectors:
            raise UserError(f"managers see vector observations, and group {g.name!r} has none: add one, or use architecture = 'ctde'")
        if GOAL in g.observation:
            raise UserError(f"group {g.name!r} has an observation leaf {GOAL!r}, which managers would overwrite: rename it")
        if it.leaf and it.leaf not in vectors:
            raise UserError(f"architecture.leaf is {it.leaf!r}, no vector observation of group {g.name!r}; {suggest(it.leaf, vectors)}")
        widths.append(sum(g.observation[k].shape[0] for k in vectors))
    if not it.leaf:
        return max(widths), 1 + it.roles
    features = {g.observation[it.leaf].shape[0] for g in spec.groups}
    if len(features) > 1:
        raise UserError(f"architecture.leaf is {it.leaf!r}, of {sorted(features)} features in different groups: choose one of equal size")
    return max(widths), 1 + 2 * features.pop()


@dataclass(frozen=True)
class Layout:
    """Which manager leads whom, and how steps with managers are made from steps without. `inner` is the environment's own spec."""

    managers: Managers
    inner: Spec

    def __post_init__(self) -> None:
        _ = self.sizes

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """How many features a manager sees of each worker, and how many goals there are. Raises `UserError` where managers cannot lead."""
        return _team(self.managers, self.inner)

    @property
    def goals(self) -> int:
        """How many goals a manager chooses from for each worker; 0 is free."""
        return self.sizes[1]

    @cached_property
    def table(self) -> np.ndarray:
        """`[m width]`: whom each manager leads; `n` stands for nobody."""
        n = self.inner.n
        m = -(-n // self.managers.span)
        counts = [n // m + (i < n % m) for i in range(m)]
        table, start = np.full((m, max(counts)), n), 0
        for i, k in enumerate(counts):
            table[i, :k] = np.arange(start, start + k)
            start += k
        return table

    @cached_property
    def slot(self) -> np.ndarray:
        """`[n]`: where each worker stands in the flat table."""
        flat = self.table.reshape(-1)
        return np.argsort(flat, kind="stable")[: self.inner.n]

    @cached_property
    def allowed(self) -> np.ndarray:
        """`[n goals]`: not those of features that a smaller agent lacks."""
        out = np.ones((self.inner.n, self.goals), bool)
        if self.managers.leaf:
            real = [k for g in self.inner.groups for k in g.features.get(self.managers.leaf, (self.goals,) * g.count)]
            out = np.arange(self.goals) <= 2 * np.array(real)[:, None]
        return out

    @cached_property
    def spec(self) -> Spec:
        """The environment's spec with the group of managers added, and the goal in every worker's observation."""
        inner, (width, goals), (m, k) = self.inner, self.sizes, self.table.shape
        led = tuple(int((row < inner.n).sum()) for row in self.table)
        group = Group(
            "managers",
            tuple(f"manager_{i}" for i in range(m)),
            {"workers": Leaf("vector", (k * width,)), "goals": Leaf("vector", (k * goals,)), "clock": Leaf("vector", (1,))},
            MultiDiscrete((goals,) * k),
            features={"workers": tuple(x * width for x in led), "goals": tuple(x * goals for x in led)},
            default=(0,) * k,
            clock=self.managers.every,
        )
        workers = tuple(replace(g, observation={**g.observation, GOAL: Leaf("vector", (goals,))}) for g in inner.groups)
        return replace(inner, groups=(*workers, group), state=inner.state and inner.state + inner.n * goals + 1)

    def begin(self, step: Step) -> tuple[Array, Array]:
        """Everybody's goal, `[n]`, and the clock at an episode's first step."""
        xp = step.reward.__array_namespace__()
        return xp.zeros(self.inner.n, np.int32), xp.asarray(0, dtype=np.int32)

    def after(self, goals: Array, clock: Array, action: Array) -> tuple[Array, Array]:
        """Goals and clock of the next step; `action` `[m width]`, heeded where managers decide."""
        xp = goals.__array_namespace__()
        return xp.where(clock == 0, xp.asarray(action).reshape(-1)[self.slot], goals).astype(np.int32), (clock + 1) % self.managers.every

    def row(self, step: Step, goals: Array, clock: Array) -> Step:
        """A step of the environment, with managers: their observations, rewards and masks, and everybody's goals."""
        xp, n, (m, k), (width, count) = step.reward.__array_namespace__(), self.inner.n, self.table.shape, self.sizes
        hot = (xp.arange(count) == goals[:, None]).astype(np.float32)
        ran = (xp.asarray(clock) / self.managers.every).astype(np.float32)

        def led(x: Array) -> Array:
            """`[n f] -> [m width f]`, zeros for nobody."""
            if m * k == n:
                return x.reshape(m, k, -1)
            return xp.concat([x, xp.zeros((1, x.shape[1]), x.dtype)])[self.table]

        obs, seen, start = [], [], 0
        for g, leaves in zip(self.inner.groups, step.obs, strict=True):
            vectors = [leaves[name].astype(np.float32) for name, leaf in g.observation.items() if leaf.kind == "vector"]
            short = width - sum(x.shape[-1] for x in vectors)
            seen.append(xp.concat([*vectors, xp.zeros((g.count, short), np.float32)], axis=-1))
            obs.append({**leaves, GOAL: hot[start : start + g.count]})
            start += g.count
        obs.append({
            "workers": led(xp.concat(seen)).reshape(m, -1),
            "goals": led(hot).reshape(m, -1),
            "clock": xp.broadcast_to(ran, (m, 1)),
        })  # fmt: skip
        free = np.arange(count) == 0
        legal = (led(self.allowed & step.present[:, None]) | free).reshape(m, -1)
        one, here = xp.ones(m, np.float32), xp.ones(m, bool)
        return replace(
            step,
            obs=tuple(obs),
            state=xp.concat([step.state, hot.reshape(-1), ran.reshape(1)]) if self.inner.state else step.state,
            reward=xp.concat([step.reward, one * step.team_reward / n]),
            discount=xp.concat([step.discount, one * step.team_discount]),
            legal=(*step.legal, legal),
            present=xp.concat([step.present, here]),
            deciding=xp.concat([step.deciding, here & (clock == 0)]),
        )


@record
class ManagedState:
    """State of an environment with managers: its own (`env`), everybody's goal (`goals [n]`), and the managers' `clock`."""

    env: Any
    goals: Array
    clock: Array


@dataclass(frozen=True)
class Managed:
    """A JAX environment with managers."""

    env: Env
    layout: Layout

    @property
    def spec(self) -> Spec:
        """The spec with managers."""
        return self.layout.spec

    def _first_step(self, env: Any, step: Step) -> tuple[ManagedState, Step]:
        goals, clock = self.layout.begin(step)
        return ManagedState(env, goals, clock), self.layout.row(step, goals, clock)

    def init(self, key: Array) -> tuple[ManagedState, Step]:
        """A fresh episode: everybody is free, and managers decide."""
        return self._first_step(*self.env.init(key))

    def step(self, state: ManagedState, action: tuple[Array, ...], key: Array) -> tuple[ManagedState, Step]:
        """One joint step; managers' actions become goals where they decide."""
        goals, clock = self.layout.after(state.goals, state.clock, action[-1])
        env, step = self.env.step(state.env, action[:-1], key)
        return ManagedState(env, goals, clock), self.layout.row(step, goals, clock)


@dataclass(frozen=True)
class ManagedPersistent(Managed):
    """One whose copies outlive their episodes (`protocol.PersistentEnv`)."""

    def again(self, state: ManagedState, key: Array) -> tuple[ManagedState, Step]:
        """A fresh episode of the same copy."""
        return self._first_step(*self.env.again(state.env, key))  # type: ignore[attr-defined]


class ManagedHost:
    """An environment that Python steps, with managers."""

    def __init__(self, env: HostEnv, layout: Layout) -> None:
        self.env, self.layout = env, layout
        self.goals, self.clock = np.zeros(layout.inner.n, np.int32), np.int32(0)

    @property
    def spec(self) -> Spec:
        """The spec with managers."""
        return self.layout.spec

    def reset(self, seed: int) -> Step:
        """A fresh episode: everybody is free, and managers decide."""
        step = self.env.reset(seed)
        self.goals, self.clock = self.layout.begin(step)
        return self.layout.row(step, self.goals, self.clock)

    def step(self, action: tuple[Array, ...]) -> Step:
        """One joint step; managers' actions become goals where they decide."""
        step = self.env.step(action[:-1])
        self.goals, self.clock = self.layout.after(self.goals, self.clock, action[-1])
        return self.layout.row(step, self.goals, self.clock)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
