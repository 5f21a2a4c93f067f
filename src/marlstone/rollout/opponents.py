"""Frozen policies that play the agents who are not to learn.

A frozen opponent is part of the environment: it acts inside `step`, on what its agents saw of the step before, and whoever learns meets an
environment without them. Evaluation, comparisons, fleets and artifacts therefore know nothing of it.

    environment:  wolf_0 wolf_1 sheep_0 sheep_1          Frozen:  wolf_0 wolf_1
    step(joint action)                                   step(wolves' action) = step of the environment by both, the policy's for sheep
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from marlstone.core.acting import Act, temperature
from marlstone.core.distributions import draw_group_noise
from marlstone.core.records import record, replace
from marlstone.core.types import Array, Group, Spec, Step
from marlstone.envs.agent_view import AgentView
from marlstone.envs.protocol import Env, HostEnv
from marlstone.policy.deployed import outer_draws
from marlstone.policy.dictionaries import blank_actions
from marlstone.policy.gate import held
from marlstone.policy.policy import Policy

if TYPE_CHECKING:
    from marlstone.rollout.sides import Sides

RANDOM, DEFAULT = "random", "default"
WORDS = {RANDOM: "uniform among legal actions", DEFAULT: "the declared default action"}
"""Who may play opponents beside policies."""
STREAM = 7411  # beside an episode's seed, on the host: what opponents draw from
Actions = tuple[Array, ...]


# ---- who plays whom
class Mind(Protocol):
    """What decides for some agents: pure array code of one environment, in NumPy or JAX."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """For whom noise is drawn: the agents' groups, managers too."""

    @property
    def heat(self) -> float:
        """The temperature of sampling; 0 for the mode."""

    def memory(self) -> Any:
        """Before an episode's first step, in NumPy."""

    def act(self, step: Step, memory: Any, noise: Actions) -> tuple[Actions, Any]:
        """Recorded actions per group of the environment's, and memory after. `noise`: times the temperature; then `link_draws`."""

    def link_draws(self, key: Any, shape: tuple[int, ...] = ()) -> Actions:
        """What links and tools draw in one step, by a JAX key or a NumPy generator (`policy.deployed.outer_draws`)."""


@dataclass(frozen=True)
class ByRule:
    """Acts by chance or does nothing: `random` or `default`."""

    groups: tuple[Group, ...]
    rule: str

    @property
    def heat(self) -> float:
        """Chance is a sample at temperature 1."""
        return float(self.rule == RANDOM)

    def memory(self) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def act(self, step: Step, memory: Any, noise: Actions) -> tuple[Actions, Any]:
        """A legal action drawn uniformly, or the default one where that is legal."""
        xp, parts = step.present.__array_namespace__(), list(zip(self.groups, step.legal, noise, strict=True))
        if self.rule == RANDOM:
            chosen = tuple(g.space.sample(xp.zeros((g.count, g.space.head), np.float32), ok, z) for g, ok, z in parts)
        else:
            chosen = held(Spec(self.groups, 0), tuple(xp.asarray(blank_actions(g)) for g in self.groups), step.legal)
        return chosen, memory

    def link_draws(self, key: Any, shape: tuple[int, ...] = ()) -> Actions:
        """Nothing: nobody talks."""
        return ()


@dataclass(frozen=True, eq=False)
class ByPolicy:
    """Acts by a policy artifact, as it is deployed: managers, gate and all. `acting`: another way than the deployed one."""

    policy: Policy
    acting: Act | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The policy's own, managers too."""
        return self.policy.deployed_spec.groups

    @property
    def heat(self) -> float:
        """Of its way of acting."""
        return temperature(self.acting or self.policy.acting)

    def memory(self) -> Any:
        """The policy's."""
        return self.policy.memory()

    def act(self, step: Step, memory: Any, noise: Actions) -> tuple[Actions, Any]:
        """The policy's decisions."""
        return self.policy.deployed.choose(step, memory, noise)

    def link_draws(self, key: Any, shape: tuple[int, ...] = ()) -> Actions:
        """Of its channel and its tools, if it has some."""
        return outer_draws(self.policy.deployed, key, shape)


@dataclass(frozen=True, eq=False)
class Seat:
    """One opponent at the table: who decides (`mind`), what it sees (`view`), and for which of these agents it acts."""

    mind: Mind
    view: AgentView
    acting: frozenset[str]

    def seen(self, step: Step) -> Step:
        """What is kept of a step until it acts on it: not the state, nor metrics, which policies never see."""
        xp = step.reward.__array_namespace__()
        return replace(self.view.step(step), state=xp.zeros((*step.reward.shape[:-1], 0), np.float32), metrics={})

    def act(self, joint: Actions, seen: Step, memory: Any, noise: Actions) -> tuple[Actions, Any]:
        """The joint action with these agents' in it, as the environment takes it, and memory after it."""
        action, memory = self.mind.act(seen, memory, noise)
        emitted = tuple(g.space.emit(a) for g, a in zip(self.view.groups, action, strict=True))
        return self.view.put(joint, emitted, self.acting), memory


@dataclass(frozen=True, eq=False)
class Table:
    """Everybody at an environment: those who learn, as a view of it, and the seats of those who do not."""

    inner: Spec
    learning: AgentView
    seats: tuple[Seat, ...]
    wiring: Mapping[str, Any] | None = None

    @cached_property
    def spec(self) -> Spec:
        """The environment as those who learn know it."""
        here = set(self.learning.played)
        return replace(self.inner, groups=self.learning.groups, opponents=tuple(a for a in self.inner.opponents if a in here))

    def begin(self, step: Step) -> tuple[Step, ...]:
        """What every seat saw of a step."""
        return tuple(seat.seen(step) for seat in self.seats)

    def joint(
        self, action: Actions, seen: tuple[Step, ...], memory: tuple[Any, ...], noise: Sequence[Actions]
    ) -> tuple[Actions, tuple[Any, ...]]:
        """The joint action of those who learn and of all seats, and the seats' memory after it."""
        xp = action[0].__array_namespace__()
        blank: Actions = tuple(xp.asarray(g.space.emit(blank_actions(g))) for g in self.inner.groups)
        joint, after = self.learning.put(blank, action, frozenset(self.learning.played)), []
        for seat, saw, m, z in zip(self.seats, seen, memory, noise, strict=True):
            joint, m = seat.act(joint, saw, m, z)
            after.append(m)
        return joint, tuple(after)


# ---- the environment without them
@record
class FrozenState:
    """The environment's state, and of every seat what it saw last and its memory."""

    env: Any
    seen: tuple[Step, ...]
    memory: tuple[Any, ...]


@dataclass(frozen=True)
class Frozen:
    """A JAX environment in which frozen policies play some of the agents."""

    env: Env
    table: Table
    sides: "Sides"

    @property
    def spec(self) -> Spec:
        """Of those who learn."""
        return self.table.spec

    def _begun(self, env: Any, step: Step) -> tuple[FrozenState, Step]:
        import jax

        memory = tuple(jax.tree.map(jax.numpy.asarray, seat.mind.memory()) for seat in self.table.seats)
        return FrozenState(env, self.table.begin(step), memory), self.table.learning.step(step)

    def init(self, key: Array) -> tuple[FrozenState, Step]:
        """A fresh episode, of the opponents too."""
        return self._begun(*self.env.init(key))

    def step(self, state: FrozenState, action: Actions, key: Array) -> tuple[FrozenState, Step]:
        """One joint step; everybody acts on the step before."""
        import jax

        own, *keys = jax.random.split(key, 1 + len(self.table.seats))
        noise = []
        for seat, k in zip(self.table.seats, keys, strict=True):
            groups = seat.mind.groups
            drawn = draw_group_noise([g.space for g in groups], [g.count for g in groups], k, ())
            noise.append((*(seat.mind.heat * z for z in drawn), *seat.mind.link_draws(k)))
        joint, memory = self.table.joint(action, state.seen, state.memory, noise)
        env, step = self.env.step(state.env, joint, own)
        return FrozenState(env, self.table.begin(step), memory), self.table.learning.step(step)


@dataclass(frozen=True)
class FrozenPersistent(Frozen):
    """One whose copies outlive their episodes (`protocol.PersistentEnv`)."""

    def again(self, state: FrozenState, key: Array) -> tuple[FrozenState, Step]:
        """A fresh episode of the same copy."""
        return self._begun(*self.env.again(state.env, key))  # type: ignore[attr-defined]


class FrozenHost:
    """An environment that Python steps, in which frozen policies play some of the agents, in NumPy."""

    def __init__(self, env: HostEnv, table: Table, sides: "Sides") -> None:
        self.env, self.table, self.sides = env, table, sides
        self._seen: tuple[Step, ...] = ()
        self._memory: tuple[Any, ...] = ()
        self._random = np.random.default_rng(0)

    @property
    def spec(self) -> Spec:
        """Of those who learn."""
        return self.table.spec

    @property
    def wiring(self) -> Mapping[str, Any] | None:
        """How dictionaries by agent become steps of those who learn; None: the environment gives steps itself."""
        return self.table.wiring

    def _shown(self, step: Step) -> Step:
        self._seen = self.table.begin(_copied(step))
        return self.table.learning.step(step)

    def reset(self, seed: int) -> Step:
        """A fresh episode; the opponents draw from a stream of the same seed."""
        self._random = np.random.default_rng([seed, STREAM])
        self._memory = tuple(seat.mind.memory() for seat in self.table.seats)
        return self._shown(self.env.reset(seed))

    def step(self, action: Actions) -> Step:
        """One joint step; everybody acts on the step before."""
        noise = [
            (
                *(np.float32(seat.mind.heat) * g.space.noise(self._random, (g.count,)) for g in seat.mind.groups),
                *seat.mind.link_draws(self._random),
            )
            for seat in self.table.seats
        ]
        joint, self._memory = self.table.joint(tuple(map(np.asarray, action)), self._seen, self._memory, noise)
        return self._shown(self.env.step(joint))

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _copied(step: Step) -> Step:
    """A step whose observations stay when the environment writes the next one into the same arrays."""
    obs = tuple({k: np.array(x) for k, x in leaves.items()} for leaves in step.obs)
    return replace(step, obs=obs, legal=tuple(None if x is None else np.array(x) for x in step.legal))
