"""PettingZoo environments: any ParallelEnv, and AEC ones through PettingZoo's own conversion.

    pettingzoo:mpe2.simple_spread_v3?N=3        the module's parallel_env(N=3); beside or below `pettingzoo.`

Agents may die, appear late or wait. Termination sets an agent's discount to 0, from the row where it ended until it is
back; truncation keeps 1 and the final observation, from which learners bootstrap. `mpe2` environments stop after 25 steps
unless told otherwise.
"""

import importlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import BadRow, refuse
from marlstone.envs.host_row import host_row, number
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.snapshots import brought_back, kept
from marlstone.envs.spaces import MASK

HORIZONS = ("max_cycles", "max_episode_steps")  # attributes in which environments keep the most steps of an episode


class NonConforming(ValueError):
    """An environment that breaks PettingZoo's interface; the message names agent, field, value and remedy."""


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
    """One ParallelEnv as a `HostEnv`. `report` decides what a bad value in a row does (`guards.refuse` unless replaced).

    Construction resets once, to check names, spaces, shapes and dtypes. Raises `NonConforming`, `UnsupportedSpace` or
    `BadRow`, naming agent and field.
    """

    def __init__(self, env: Any, where: str = "pettingzoo", horizon: int | None = None) -> None:
        self.report = refuse
        self._where = where
        self._env, self._turns = parallel(env, where)
        names = list(self._env.possible_agents or ())
        if not names or not all(isinstance(a, str) for a in names):
            raise NonConforming(f"{where}: possible_agents is {names}: list at least one agent, by name (strings)")
        seen, infos = self._first(0)
        self._arranged = arrange(
            names,
            {a: self._space("observation", a) for a in names},
            {a: self._space("action", a) for a in names},
            masked=any(isinstance(i, Mapping) and MASK in i for i in infos.values()),
        )
        self._index = {a: i for i, a in enumerate(self._arranged.agents)}
        self._masked = {s.agent: s.masked for s in self._arranged.seats}
        self._live: set[str] = set()
        self._gone: set[str] = set()
        self._own_state = self._find_state()
        size = self._arranged.state if self._own_state is None else self._own_state
        unwrapped = getattr(self._env, "unwrapped", self._env)
        found = (getattr(unwrapped, name, None) for name in HORIZONS)
        horizon = horizon or next((h for h in found if isinstance(h, int) and h > 0), None)
        self._spec = Spec(self._arranged.groups, size, horizon)
        self._opening(seen, infos)

    @property
    def spec(self) -> Spec:
        return self._spec

    def reset(self, seed: int) -> Step:
        return self._opening(*self._first(seed))

    def step(self, action: tuple[Array, ...]) -> Step:
        env, arranged = self._env, self._arranged
        asked = set(env.agents)
        chosen = {a: x for a, x in zip(arranged.agents, arranged.act(action), strict=True) if a in asked}
        seen, rewards, terminations, truncations, infos = env.step(chosen)
        n = len(self._index)
        reward, discount = np.zeros(n, np.float32), np.ones(n, np.float32)
        discount[[self._index[a] for a in self._gone]] = 0.0  # nothing is to come while it is gone
        for agent, value in rewards.items():
            place = self._place(agent, "reward")
            if place is not None:
                reward[place] = number(value, agent, "reward", self.report)
        ending: dict[str, bool] = {}  # agent -> terminated
        for agent in {**terminations, **truncations}:
            terminated = bool(terminations.get(agent, False))
            if (terminated or truncations.get(agent, False)) and agent in self._index and agent not in self._gone:
                ending[agent] = terminated
                if terminated:
                    discount[self._index[agent]] = 0.0
        left = {a for a in env.agents if a not in ending and not (a in self._gone and (terminations.get(a) or truncations.get(a)))}
        last = not left
        present = np.zeros(n, bool)
        for agent in left or (ending or self._live & set(seen)):
            place = self._place(agent, "agent")
            if place is not None:
                present[place] = True
        over = last and bool(ending) and all(ending.values())
        self._gone = (self._gone | set(ending)) - left
        self._live = left
        return self._row(seen, infos, reward, discount, 0.0 if over else 1.0, present, first=False, last=last)

    def snapshot(self) -> Any:
        return kept(self, ("_env", "_live", "_gone"))

    def restore(self, state: Any) -> None:
        brought_back(self, state)

    def close(self) -> None:
        self._env.close()

    def _row(
        self,
        seen: Mapping[str, Any],
        infos: Mapping[str, Any],
        reward: np.ndarray,
        discount: np.ndarray,
        team_discount: float,
        present: np.ndarray,
        *,
        first: bool,
        last: bool,
    ) -> Step:
        arranged = self._arranged
        obs = arranged.blank()
        arranged.write(seen, obs, self.report)
        legal, waiting = arranged.legal(self._masks(seen, infos) if any(arranged.maskable) else {}, self.report)
        deciding = present.copy()
        deciding[waiting] = False
        for agent in self._live:
            if agent not in seen and agent in self._index:
                deciding[self._index[agent]] = False  # there, but shown nothing: it waits
        if self._turns and not last:
            turn = self._env.aec_env.agent_selection
            deciding &= np.arange(len(present)) == self._index[turn]
        state = arranged.default_state(obs) if self._own_state is None else self._read_state()
        return host_row(
            obs, state, legal, reward, discount=discount, team_discount=team_discount,
            first=first, last=last, present=present, deciding=deciding,
        )  # fmt: skip

    def _opening(self, seen: Mapping[str, Any], infos: Mapping[str, Any]) -> Step:
        self._live, self._gone = set(self._env.agents), set()
        n = len(self._index)
        present = np.zeros(n, bool)
        for agent in self._live:
            place = self._place(agent, "agent")
            if place is not None:
                present[place] = True
        for agent in seen:
            self._place(agent, "observation")
        return self._row(seen, infos, np.zeros(n, np.float32), np.ones(n, np.float32), 1.0, present, first=True, last=False)

    def _first(self, seed: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        got = self._env.reset(seed=seed)
        if not (isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], Mapping)):
            raise NonConforming(f"{self._where}: reset() returned {type(got).__name__}: return (observations by agent, infos by agent)")
        if not self._env.agents:
            raise NonConforming(f"{self._where}: `agents` is empty after reset(): list the agents that are there")
        return got[0], got[1] or {}

    def _space(self, field: str, agent: str) -> Any:
        try:
            return getattr(self._env, f"{field}_space")(agent)
        except (KeyError, AttributeError, TypeError, NotImplementedError) as error:
            raise NonConforming(
                f"{self._where}: agent {agent!r} has no {field} space ({type(error).__name__}: {error}): "
                f"make {field}_space(agent) answer for every possible agent"
            ) from error

    def _place(self, agent: str, field: str) -> int | None:
        place = self._index.get(agent)
        if place is None:
            self.report("wrong_shape", str(agent), field, f"an agent that is not among possible_agents {sorted(self._index)}")
        return place

    def _masks(self, seen: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, Any]:
        """The environment's masks: in the observation where the space says so, else in info."""
        masks = {}
        for agent in seen:
            x = seen[agent] if self._masked.get(agent) else infos.get(agent)
            if isinstance(x, Mapping) and MASK in x:
                masks[agent] = x[MASK]
        return masks

    def _find_state(self) -> int | None:
        """Length of the environment's own state, or None where it has none.

        mpe2's is every agent's observation again, computed anew: the default state is the same for less (tested).
        """
        if type(getattr(self._env, "unwrapped", None)).__module__.startswith("mpe2."):
            return None
        try:
            return int(np.asarray(self._env.state()).size)
        except (NotImplementedError, AttributeError):
            return None

    def _read_state(self) -> np.ndarray:
        state = np.asarray(self._env.state(), np.float32).reshape(-1)
        if state.size != self._own_state:
            self.report("wrong_shape", "team", "state", f"{state.size} numbers (expected {self._own_state})")
            return np.zeros(self._spec.state, np.float32)
        return state


def make(name: str, options: Mapping[str, Any]) -> PettingZooEnv:
    """`mpe2.simple_spread_v3` or `classic.tictactoe_v3` (below `pettingzoo.`) with `options` as keyword arguments.

    Raises `UnknownEnvironment` where there is no such module, or the options are not its own.
    """
    module = _module(name)
    factory = getattr(module, "parallel_env", None) or getattr(module, "env", None)
    where = f"pettingzoo:{name}"
    if factory is None:
        raise UnknownEnvironment(f"{where}: module {module.__name__} has neither parallel_env nor env: name an environment's module")
    try:
        env = factory(**options)
    except TypeError as error:
        raise UnknownEnvironment(f"{where} does not take these options {dict(options)}: {error}") from error
    try:
        return PettingZooEnv(env, where)
    except (NonConforming, BadRow):
        env.close()
        raise


def _module(name: str) -> Any:
    tried = []
    for path in (name, f"pettingzoo.{name}"):
        try:
            with warnings.catch_warnings():  # PettingZoo 1.27 advises its registry, which knows only its own environments
                warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
                return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name and not path.startswith(error.name):
                raise ModuleNotFoundError(f"pettingzoo:{name} needs the package {error.name!r}: pip install {error.name}") from error
            tried.append(path)
    raise UnknownEnvironment(
        f"pettingzoo:{name}: no module {' or '.join(tried)}: install its package, or write the module's path, as in mpe2.simple_spread_v3"
    )
