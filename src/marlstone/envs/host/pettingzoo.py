"""PettingZoo environments: any ParallelEnv, and AEC ones through PettingZoo's own conversion.

    pettingzoo:mpe2.simple_spread_v3?N=3        the module's parallel_env(N=3); beside or below `pettingzoo.`

Agents may die, appear late, come back or wait; all their names stand in `possible_agents`. Termination sets an agent's discount to 0,
from the step where it ended until it is back; truncation keeps 1 and the final observation, from which learners bootstrap. `mpe2`
environments stop after 25 steps unless `max_cycles` is given.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.conformance import NonConforming, by_agent, first_reset, five_values, located, refuse_structural, source_location
from marlstone.envs.default_actions import declared_defaults
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import Report, refuse
from marlstone.envs.host.host_step import as_flag, as_number, host_step
from marlstone.envs.host.own_state import EnvState
from marlstone.envs.host.pettingzoo_modules import find_module, needs_package
from marlstone.envs.host.snapshots import restore_snapshot, take_snapshot
from marlstone.envs.host.view import ParallelView
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.spaces import masks_in
from marlstone.envs.true_metrics import InfoMetrics, declared_metrics

HORIZONS = ("max_cycles", "max_episode_steps", "_max_episode_steps")
"""Attributes that hint at how long episodes are; what they count differs (`Spec.horizon`)."""


def parallel(env: Any, where: str) -> tuple[Any, bool]:
    """`env` as a ParallelEnv, and whether its agents take turns. AECs go through PettingZoo's own conversions."""
    from pettingzoo.utils import conversions

    if hasattr(env, "agent_iter"):
        if not env.metadata.get("is_parallelizable", False):
            return conversions.turn_based_aec_to_parallel(env), True
        env = conversions.aec_to_parallel(env)
    if isinstance(env, conversions.aec_to_parallel_wrapper):
        # The conversion asks every agent in turn what it sees, and drops the answer: a fifth of an mpe2 step.
        env.aec_env.last = lambda observe=True: (None, 0.0, False, False, {})
    missing = [f for f in ("possible_agents", "reset", "step", "observation_space", "action_space") if not hasattr(env, f)]
    if missing:
        raise NonConforming(
            f"{where}: {type(env).__name__} has no {', '.join(missing)}: give a PettingZoo ParallelEnv or AEC environment "
            "(https://pettingzoo.farama.org/api/parallel)"
        )
    return env, False


class PettingZooEnv:
    """One ParallelEnv as a `HostEnv`. `report` decides what a bad value in a step does (`guards.refuse` unless replaced).

    `notices` holds what was settled while building and a person should know. The environment's own `state()` is asked unless
    `without_state` is called before `spec` is first read; where it does not work, the state is all observations, concatenated.

    Construction resets once, to check names, spaces, shapes and dtypes. Raises `NonConforming` or `UnsupportedSpace`, naming agent and
    field.
    """

    def __init__(self, env: Any, where: str = "pettingzoo", horizon: int | None = None) -> None:
        self.report: Report = refuse_structural
        self.notices: list[str] = []
        self._where = where
        self._env, self._turns = parallel(env, where)
        if self._view is not None:
            self.notices += self._view.notices
            horizon = horizon or self._view.horizon
        names = list(self._env.possible_agents or ())
        if not names or not all(isinstance(a, str) for a in names):
            raise NonConforming(f"{where}: possible_agents is {names}: list at least one agent, by name (strings)")
        seen, infos = self._first(0)
        actions = {a: self._space("action", a) for a in names}
        defaults = declared_defaults(self._env, actions, where)
        self._arranged = arrange(names, {a: self._space("observation", a) for a in names}, actions, defaults=defaults)
        self.metrics = InfoMetrics(declared_metrics(self._env, where))
        self._index = {a: i for i, a in enumerate(self._arranged.agents)}
        self._live: set[str] = set()
        self._gone: set[str] = set()
        self._state: EnvState | None = None  # not asked while building
        unwrapped = getattr(self._env, "unwrapped", self._env)
        found = (getattr(unwrapped, name, None) for name in HORIZONS)
        rounds = next((h for h in found if isinstance(h, int) and h > 0), None)
        self._horizon = horizon or (rounds and rounds * (len(names) if self._turns else 1))
        with located(self._env, "reset"):
            self._opening(seen, infos)
        self.report = refuse
        if not type(unwrapped).__module__.startswith(
            "mpe2."
        ):  # its state is all observations again, computed anew: ours, for more (tested)
            self._state = EnvState()

    @cached_property
    def spec(self) -> Spec:
        """Groups by observation and action structure; the state is the environment's own `state()` where it works."""
        if self._state is not None and not self._state.found(self._env, self._where, self.notices):
            self._state = None
        state = self._arranged.state if self._state is None else self._state.last.size
        return Spec(self._arranged.groups, state, self._horizon, dict(self.metrics.declared))

    @property
    def _view(self) -> ParallelView | None:
        """The environment, where it is another library's."""
        return self._env if isinstance(self._env, ParallelView) else None

    @property
    def wiring(self) -> Mapping[str, Any]:
        """How its dictionaries become groups (`grouping.arrangement_from_json`)."""
        return self._arranged.wiring

    def without_state(self) -> None:
        """Never ask the environment's own `state()`: nobody reads it. To be called before `spec` is first read."""
        self._state = None

    def reset(self, seed: int) -> Step:
        """A fresh episode of this seed."""
        _ = self.spec  # whether there is a state of its own is settled first
        return self._opening(*self._first(seed))

    def step(self, action: tuple[Array, ...]) -> Step:
        """One joint step: actions go to the agents that are live; who ended, left or came is found from what is returned."""
        env, arranged = self._env, self._arranged
        asked = set(env.agents)
        chosen = {a: x for a, x in zip(arranged.agents, arranged.act(action), strict=True) if a in asked}
        got = five_values(env.step(chosen), env, "observations, rewards, terminations, truncations, infos")
        seen, rewards, terminations, truncations = (
            by_agent(x, env, "step", name) for x, name in zip(got, ("observations", "rewards", "terminations", "truncations"), strict=False)
        )
        infos = by_agent(got[4] or {}, env, "step", "infos")
        n = len(self._index)
        reward, discount = np.zeros(n, np.float32), np.ones(n, np.float32)
        discount[[self._index[a] for a in self._gone]] = 0.0  # nothing is to come while it is gone
        for agent, value in rewards.items():
            reward[self._place(agent, "step", "rewards")] = as_number(value, agent, "reward", self.report)
        team = None
        if (view := self._view) is not None and view.team_reward is not None:
            team = as_number(view.team_reward, "team", "reward", self.report)
            reward[:] = team / n
        ending: dict[str, bool] = {}  # agent -> terminated
        over = set()  # whoever is reported to have ended, in this step or before
        for agent in {**terminations, **truncations}:
            terminated = as_flag(terminations.get(agent, False), agent, "termination", self.report)
            if not (terminated or as_flag(truncations.get(agent, False), agent, "truncation", self.report)):
                continue
            over.add(agent)
            if agent in self._index and agent not in self._gone:
                ending[agent] = terminated
                if terminated:
                    discount[self._index[agent]] = 0.0
        left = {a for a in env.agents if a not in over}
        last = not left
        present = np.zeros(n, bool)
        for agent in left or (ending or self._live & set(seen)):
            present[self._place(agent, "step", "agents")] = True
        self._named(env.agents, "step", "agents")
        self._gone = (self._gone | set(ending)) - left
        self._live = left
        needed = left | {a for a, terminated in ending.items() if not terminated}  # a termination needs no last observation
        finished = last and bool(ending) and all(ending.values())
        return self._make_step(seen, infos, reward, discount, 0.0 if finished else 1.0, present, needed, team, first=False, last=last)

    def render(self) -> Any:
        """As the environment draws itself."""
        return self._env.render()

    def snapshot(self) -> Any:
        """A deep copy of the environment's state (`snapshots`)."""
        return take_snapshot(self, ("_env", "_live", "_gone", "_state"))

    def restore(self, state: Any) -> None:
        """Go back to a snapshot."""
        restore_snapshot(self, state)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _make_step(
        self,
        seen: Mapping[str, Any],
        infos: Mapping[str, Any],
        reward: np.ndarray,
        discount: np.ndarray,
        team_discount: float,
        present: np.ndarray,
        needed: set[str],
        team: float | None,
        *,
        first: bool,
        last: bool,
    ) -> Step:
        """`needed`: the agents whose observation somebody will use; `team`: the reward, where it is one number for the team."""
        arranged = self._arranged
        obs = arranged.blank()
        for agent, x in seen.items():
            if agent not in self._index:
                self._place(agent, "reset" if first else "step", "observations")
            if x is None and agent in needed:
                self.report("no_observation", agent, "observation", "None (expected what its observation space holds)")
        arranged.write(seen, obs, self.report)
        legal, waiting = arranged.legal(self._masks(seen, infos), self.report)
        deciding = present.copy()
        deciding[waiting] = False
        for agent in self._live:
            if agent not in seen and agent in self._index:
                deciding[self._index[agent]] = False  # there, but shown nothing: it waits
        for agent in view.waiting if (view := self._view) is not None else ():
            deciding[self._index[agent]] = False
        if self._turns and not last:
            turn = self._env.aec_env.agent_selection
            deciding &= np.arange(len(present)) == self._index[turn]
        state = arranged.default_state(obs) if self._state is None else self._state.read(self._env, last, self.report)
        return host_step(
            obs, state, legal, reward, discount=discount, team_discount=team_discount,
            first=first, last=last, present=present, deciding=deciding, team_reward=team,
            metrics=self.metrics.begin() if first else self.metrics.read(infos, last, self.report),
        )  # fmt: skip

    def _opening(self, seen: Mapping[str, Any], infos: Mapping[str, Any]) -> Step:
        self._live, self._gone = set(self._env.agents), set()
        n = len(self._index)
        present = np.zeros(n, bool)
        for agent in self._live:
            present[self._place(agent, "reset", "agents")] = True
        return self._make_step(
            seen, infos, np.zeros(n, np.float32), np.ones(n, np.float32), 1.0, present, self._live, None, first=True, last=False
        )

    def _first(self, seed: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        got, where = first_reset(self._env, seed), source_location(self._env, "reset")
        if not (isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], Mapping)):
            what = (
                f"{len(got)} values"
                if isinstance(got, tuple) and len(got) != 2
                else type(got[0] if isinstance(got, tuple) else got).__name__
            )
            raise NonConforming(f"{where}: reset() returned {what}: return (observations by agent, infos by agent)")
        if not self._env.agents:
            raise NonConforming(f"{where}: `agents` is empty after reset(): list the agents that are there")
        return got[0], by_agent(got[1] or {}, self._env, "reset", "infos")

    def _space(self, field: str, agent: str) -> Any:
        try:
            return getattr(self._env, f"{field}_space")(agent)
        except (KeyError, AttributeError, TypeError, NotImplementedError) as error:
            raise NonConforming(
                f"{self._where}: agent {agent!r} has no {field} space ({type(error).__name__}: {error}): "
                f"make {field}_space(agent) answer for every possible agent"
            ) from error

    def _place(self, agent: str, method: str, field: str) -> int:
        if agent not in self._index:
            self._named([agent], method, field)
        return self._index[agent]

    def _named(self, agents: Iterable[str], method: str, field: str) -> None:
        """Raises `NonConforming` for an agent whose name is not known: there is no place for what it sees, does and earns."""
        for agent in agents:
            if agent not in self._index:
                names = list(self._index)
                known = f"[{', '.join(map(repr, names[:6]))}{', ...' if len(names) > 6 else ''}]"
                raise NonConforming(
                    f"{source_location(self._env, method)}: {agent!r} (in {field}) is not in possible_agents {known}: "
                    "list every name there, or reuse names"
                )

    def _masks(self, seen: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """The environment's masks by agent, with the names they have: in the observation where the space holds one, else in info. Looked
        for in every step, since many environments give none at reset."""
        masks = masks_in(infos)
        self._arranged.read_masks(seen, masks, self.report)
        return masks


def make(name: str, options: Mapping[str, Any]) -> Any:
    """`mpe2.simple_spread_v3` or `classic.tictactoe_v3` (below `pettingzoo.`) with `options` as keyword arguments.

    Raises `UnknownEnvironment` where there is no such module, or the options are not its own, and `ModuleNotFoundError` for a package
    that it needs and is not installed.
    """
    from marlstone.envs.host.recognize import adapt

    module = find_module(name)
    factory = getattr(module, "parallel_env", None) or getattr(module, "env", None)
    where = f"pettingzoo:{name}"
    if factory is None:
        raise UnknownEnvironment(f"{where}: module {module.__name__} has neither parallel_env nor env: name an environment's module")
    try:
        env = factory(**options)
    except TypeError as error:
        raise UnknownEnvironment(f"{where} does not take these options {dict(options)}: {error}") from error
    except ImportError as error:
        raise needs_package(where, name.partition(".")[0], f"a package that is not installed ({error})", "") from error
    try:
        return adapt(env, where)
    except NonConforming:
        env.close()
        raise
