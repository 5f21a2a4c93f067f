"""Multi-agent Gymnasium packages with Tuple spaces: lbforaging, rware and their kin.

    gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3        the module is imported, the id made, other options passed on

Observations, actions and rewards are sequences, one entry per agent; termination and truncation are one for all. Agents
are called agent_0, agent_1, ... A single-agent environment (no Tuple) is a team of one.

lbforaging and rware say "terminated" where they merely ran out of time. Learners must bootstrap there, so a termination
in the very row of the environment's own time limit is taken for a truncation.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import BadRow, refuse
from marlstone.envs.host_row import host_row, number
from marlstone.envs.names import UnknownEnvironment, suggestion
from marlstone.envs.snapshots import brought_back, kept
from marlstone.envs.spaces import UnsupportedSpace

_SEQUENCES = (list, tuple, np.ndarray)


class GymnasiumEnv:
    """One Gymnasium environment with Tuple spaces as a `HostEnv`. `report` decides what a bad value in a row does.

    Raises `UnsupportedSpace` or `BadRow` at construction, naming agent and field.
    """

    def __init__(self, env: Any, where: str = "gymnasium") -> None:
        import gymnasium.spaces as gs

        self.report = refuse
        self._env = env
        observation, action = env.observation_space, env.action_space
        self._single = not isinstance(action, gs.Tuple)
        observations = [observation] if self._single else list(getattr(observation, "spaces", ()))
        actions = [action] if self._single else list(action.spaces)
        self._names = [f"agent_{i}" for i in range(len(actions))]
        if len(observations) != len(actions):
            remedy = f"give a Tuple with one space for each of the {len(actions)} agents of the action space"
            raise UnsupportedSpace("agent_0", f"observation space of {where}", observation, remedy)
        self._arranged = arrange(self._names, dict(zip(self._names, observations)), dict(zip(self._names, actions)))
        self._masked = [s.agent for s in self._arranged.seats if s.masked]
        self._order = [self._names.index(a) for a in self._arranged.agents]
        self._straight = self._order == list(range(len(self._order)))
        self._spec = Spec(self._arranged.groups, self._arranged.state, _horizon(env))
        # lbforaging places players around where they stood when the last episode ended, so that seeds would not decide alone.
        ours = type(env.unwrapped).__module__.startswith("lbforaging.")
        self._players = list(env.unwrapped.players) if ours else []
        self._steps = 0
        self.reset(0)

    @property
    def spec(self) -> Spec:
        return self._spec

    def reset(self, seed: int) -> Step:
        for player in self._players:
            player.position = None
        seen, _ = self._env.reset(seed=seed)
        self._steps = 0
        return self._row(seen, np.zeros(len(self._names), np.float32), False, False, first=True)

    def step(self, action: tuple[Array, ...]) -> Step:
        acts = self._arranged.act(action)
        if not self._straight:
            placed = [None] * len(acts)
            for place, x in zip(self._order, acts, strict=True):
                placed[place] = x
            acts = placed
        seen, rewards, terminated, truncated, _ = self._env.step(acts[0] if self._single else acts)
        paid = self._each(rewards, "reward")
        reward = np.array([number(r, a, "reward", self.report) for a, r in paid.items()], np.float32)
        if not self._straight:
            reward = reward[self._order]
        self._steps += 1
        late = self._steps == self._spec.horizon
        over = _all(terminated)
        return self._row(seen, reward, over and not late, _all(truncated) or (over and late))

    def snapshot(self) -> Any:
        return kept(self, ("_env", "_players", "_steps"))

    def restore(self, state: Any) -> None:
        brought_back(self, state)

    def close(self) -> None:
        self._env.close()

    def _each(self, values: Any, field: str) -> dict[str, Any]:
        """One value per agent; a wrong number of them is reported, and those missing count as 0 (unseen)."""
        if self._single:
            return {self._names[0]: values}
        if not isinstance(values, _SEQUENCES) or len(values) != len(self._names):
            self.report("wrong_shape", "team", field, f"{values!s:.80} (expected {len(self._names)} entries, one per agent)")
            return dict.fromkeys(self._names, 0.0) if field == "reward" else {}
        return dict(zip(self._names, values, strict=True))

    def _row(self, seen: Any, reward: np.ndarray, terminated: bool, truncated: bool, first: bool = False) -> Step:
        arranged = self._arranged
        each = self._each(seen, "observation")
        obs = arranged.blank()
        arranged.write(each, obs, self.report)
        masks = {a: each[a]["action_mask"] for a in self._masked if a in each}
        legal, waiting = arranged.legal(masks, self.report)
        deciding = None
        if waiting:
            deciding = np.ones(len(self._names), bool)
            deciding[waiting] = False
        discount = np.zeros(len(self._names), np.float32) if terminated else None
        return host_row(
            obs, arranged.default_state(obs), legal, reward, discount=discount, team_discount=0.0 if terminated else 1.0,
            first=first, last=terminated or truncated, deciding=deciding,
        )  # fmt: skip


def _all(flags: Any) -> bool:
    """One flag for the team; packages that give one per agent mean that the episode ends when all are up."""
    return flags if flags is True or flags is False else bool(np.all(flags))


def _horizon(env: Any) -> int | None:
    """Most steps of an episode: from the registered spec, a TimeLimit, or the environment's own attribute."""
    unwrapped = getattr(env, "unwrapped", env)
    spec = getattr(env, "spec", None)
    names = ("_max_episode_steps", "max_episode_steps", "max_steps")
    found = [getattr(spec, "max_episode_steps", None), *(getattr(unwrapped, k, None) for k in names)]
    known = [int(h) for h in found if isinstance(h, int | np.integer) and h > 0]
    return min(known) if known else None


def make(name: str, options: Mapping[str, Any]) -> GymnasiumEnv:
    """Import module `name`, make `options["id"]` with the other options. Raises `UnknownEnvironment` naming what does not exist.

    Gymnasium's order and conformance checkers are left out: this adapter checks rows itself, and they cost time each step.
    """
    import gymnasium as gym

    where = f"gymnasium:{name}"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UnknownEnvironment(f"{where}: no module {error.name!r}: install the package that has it") from error
    options = dict(options)
    chosen = options.pop("id", None)
    if chosen not in gym.envs.registry:
        package = name.split(".")[0]
        own = [k for k, v in gym.envs.registry.items() if str(v.entry_point).startswith(package)] or list(gym.envs.registry)
        hint = suggestion(str(chosen), own) if chosen or len(own) < 20 else f"write {where}?id={own[0]}, for example"
        raise UnknownEnvironment(f"{where}: option id is {chosen!r}, which is not registered: {hint}")
    spec = gym.spec(chosen)
    limit = options.get("max_episode_steps", spec.max_episode_steps)
    try:
        env = gym.make(chosen, disable_env_checker=True, **options)
    except TypeError as error:
        raise UnknownEnvironment(f"{where}?id={chosen} does not take these options {options}: {error}") from error
    if limit is None:  # then every wrapper around it is a checker
        env = env.unwrapped
    try:
        return GymnasiumEnv(env, where)
    except (UnsupportedSpace, BadRow):
        env.close()
        raise
