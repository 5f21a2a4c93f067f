"""Multi-agent Gymnasium packages with Tuple spaces: lbforaging, rware and their kin.

    gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3        the module is imported, the id made, other options passed on

Observations, actions and rewards are sequences, one entry per agent; termination and truncation are one for all. Agents
are called agent_0, agent_1, ... A single-agent environment (no Tuple) is a team of one.

One number as the reward of a step is the team's (EPyMARL, SMAC): `team_reward` is that number, and every agent's own reward an equal
share of it. Legal actions are read from the observations or from `info` in every step (`spaces.MASKS`): one mask per agent, in a list,
an array or a dict by agent, or one info per agent; else asked of `get_avail_actions()`, where there is one (SMAC).

Ends are what the environment reports. Only lbforaging and rware are corrected, which report "terminated" where they ran out of time:
there the step is a truncation, from which learners bootstrap.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium.spaces as gs
import numpy as np
from gymnasium import Env as Gymnasium

from marlstone.core.errors import suggest
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.conformance import NonConforming, first_reset, five_values, located, refuse_structural, source_location
from marlstone.envs.default_actions import declared_defaults
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import Report, refuse
from marlstone.envs.host.host_step import as_flag, as_number, host_step
from marlstone.envs.host.old_spaces import modern
from marlstone.envs.host.seeding import Begin, seeded_reset
from marlstone.envs.host.snapshots import restore_snapshot, take_snapshot
from marlstone.envs.host.time_limits import horizon, out_of_time
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.spaces import MASKS, UnsupportedSpace
from marlstone.envs.true_metrics import InfoMetrics, declared_metrics

_SEQUENCES = (tuple, list)
_FLAGS = (bool, np.bool_)
_FLOAT = np.dtype(np.float32)


def _many(values: Any) -> bool:
    """Whether `values` holds one entry per agent, rather than one for the team."""
    return isinstance(values, list | tuple | Mapping) or (isinstance(values, np.ndarray) and values.ndim > 0)


def spaces_in(space: Any) -> list[Any]:
    """The spaces of a Tuple, or of a list or tuple of spaces, one per agent; none for anything else."""
    space = modern(space)
    found = list(space.spaces) if isinstance(space, gs.Tuple) else [modern(x) for x in space] if isinstance(space, list | tuple) else []
    return found if all(isinstance(x, gs.Space) for x in found) else []


class GymnasiumEnv:
    """One environment with a sequence of spaces as a `HostEnv`. `report` decides what a bad value in a step does.

    `notices` holds what a person should know: how seeds are given, where `reset` takes none.

    Raises `UnsupportedSpace` or `NonConforming` at construction, naming agent and field.
    """

    def __init__(self, env: Any, where: str = "gymnasium") -> None:
        self.report: Report = refuse_structural
        self._env = env
        self.notices: list[str] = []
        observation, action = modern(env.observation_space), modern(env.action_space)
        self._listed = isinstance(action, list)  # lists of spaces are older than Gymnasium's interface, as is what `step` returns then
        self._begin: Begin | None = None
        if not isinstance(env, Gymnasium):
            self._begin, note = seeded_reset(env)
            self.notices += [] if note is None else [note]
        self._single = not (isinstance(action, gs.Tuple) or spaces_in(action))
        observations = [observation] if self._single else spaces_in(observation) or list(getattr(observation, "spaces", ()))
        actions = [action] if self._single else spaces_in(action)
        self._names = [f"agent_{i}" for i in range(len(actions))]
        if len(observations) != len(actions):
            remedy = (
                f"give a Tuple with one space for each of the {len(actions)} agents of the action space; where it is one agent's action of "
                "several parts, declare it as a Dict"
            )
            raise UnsupportedSpace("agent_0", f"observation space of {where}", observation, remedy)
        acts = dict(zip(self._names, actions, strict=True))
        defaults = declared_defaults(env, acts, where)
        self.arranged = arrange(self._names, dict(zip(self._names, observations, strict=True)), acts, defaults=defaults)
        self._order = [self._names.index(a) for a in self.arranged.agents]
        self._straight = self._order == list(range(len(self._order)))
        self._mask_keys = {*MASKS, *self._names, *range(len(self._names))}
        self.metrics = InfoMetrics(declared_metrics(env, where))
        self._horizon = horizon(env)
        # lbforaging places players around where they stood when the last episode ended, so that seeds would not decide alone.
        inner = getattr(env, "unwrapped", env)
        ours = type(inner).__module__.startswith("lbforaging.")
        self._players = list(inner.players) if ours else []
        ask = getattr(inner, "get_avail_actions", None)
        self._ask_masks = ask if callable(ask) and not self._single else None
        with located(env, "reset"):
            self.reset(0)
        self.report = refuse

    @cached_property
    def spec(self) -> Spec:
        """Groups by observation and action structure; the state is all observations, concatenated."""
        return Spec(self.arranged.groups, self.arranged.state, self._horizon, dict(self.metrics.declared))

    @property
    def wiring(self) -> Mapping[str, Any]:
        """How its dictionaries become groups (`grouping.arrangement_from_json`)."""
        return self.arranged.wiring

    def reset(self, seed: int) -> Step:
        """A fresh episode of this seed. Raises `NonConforming` for a result that is not (observation, info)."""
        for player in self._players:
            player.position = None
        got = first_reset(self._env, seed) if self._begin is None else self._begin(self._env, seed)
        if self._listed and not (isinstance(got, tuple) and len(got) == 2 and isinstance(got[1], Mapping)):
            got = got, {}
        if not (isinstance(got, tuple) and len(got) == 2):
            what = f"{len(got)} values" if isinstance(got, tuple) else type(got).__name__
            raise NonConforming(f"{source_location(self._env, 'reset')}: returned {what}: return (observation, info)")
        return self._make_step(got[0], got[1], np.zeros(len(self._names), np.float32), None, False, False, first=True)

    def step(self, action: tuple[Array, ...]) -> Step:
        """One joint step. Terminations that only mean that time ran out become truncations (`time_limits`)."""
        acts = self.arranged.act(action)
        if not self._straight:
            placed = [None] * len(acts)
            for place_, x in zip(self._order, acts, strict=True):
                placed[place_] = x
            acts = placed
        return self._answer(self._env.step(acts[0] if self._single else acts if self._listed else tuple(acts)))

    @property
    def plain(self) -> bool:
        """Whether `step_plainly` may be called (`protocol.PlainEnv`)."""
        asked = self._single or self._listed or self._ask_masks is not None or bool(self.metrics.declared)
        return self._straight and not asked and self.arranged.plain

    def step_unread(self, choices: Sequence[Any]) -> Any:
        """One joint step, to be read by `read_plainly` (`protocol.PlainEnv`)."""
        return self._env.step(tuple(self.arranged.act_of(choices)))

    def read_plainly(self, got: Any, rows: Sequence[np.ndarray]) -> Step | tuple[list[float], bool, bool]:
        """What `step_unread` returned, with observations written into `rows`, one `[f]` per agent (`protocol.PlainEnv`)."""
        if type(got) is not tuple or len(got) != 5:
            return self._answer(got)
        seen, rewards, terminated, truncated, info = got
        n = len(rows)
        if not (
            type(seen) in _SEQUENCES and len(seen) == n and type(rewards) in _SEQUENCES and len(rewards) == n
            and type(terminated) in _FLAGS and type(truncated) in _FLAGS
            and (not info or (isinstance(info, Mapping) and self._mask_keys.isdisjoint(info)))
        ):  # fmt: skip
            return self._answer(got)
        for x, row in zip(seen, rows, strict=True):
            if type(x) is not np.ndarray or x.dtype is not _FLOAT or x.shape != row.shape:
                return self._answer(got)
            row[...] = x
        reward = [r if type(r) is float else as_number(r, a, "reward", self.report) for r, a in zip(rewards, self._names, strict=True)]
        if terminated and out_of_time(getattr(self._env, "unwrapped", self._env)):
            return reward, False, True
        return reward, bool(terminated), bool(truncated)

    def _answer(self, got: Any) -> Step:
        """What the environment's `step` returned, as a step."""
        if self._listed and isinstance(got, tuple | list) and len(got) == 4:
            got = (*got[:3], False, got[3])
        seen, rewards, terminated, truncated, info = five_values(got, self._env, "observation, reward, terminated, truncated, info")
        reward, team = self._rewards(rewards)
        ended, late = self._all(terminated, "terminated"), self._all(truncated, "truncated")
        if ended and out_of_time(getattr(self._env, "unwrapped", self._env)):
            ended, late = False, True
        return self._make_step(seen, info, reward, team, ended, late)

    def render(self) -> Any:
        """As the environment draws itself."""
        return self._env.render()

    def snapshot(self) -> Any:
        """A deep copy of the environment's state (`snapshots`)."""
        return take_snapshot(self, ("_env", "_players"))

    def restore(self, state: Any) -> None:
        """Go back to a snapshot."""
        restore_snapshot(self, state)

    def close(self) -> None:
        """Close the environment, where it can be closed."""
        if callable(close := getattr(self._env, "close", None)):
            close()

    def _each(self, values: Any, field: str) -> dict[str, Any]:
        """One value per agent; a wrong number of them is reported, and those missing count as 0 (unseen)."""
        if self._single:
            return {self._names[0]: values}
        if isinstance(values, Mapping):
            return {a: _entry(values, a, i) for i, a in enumerate(self._names)}
        if not _many(values) or len(values) != len(self._names):
            self.report("wrong_shape", "team", field, f"{values!s:.80} (expected {len(self._names)} entries, one per agent)")
            return dict.fromkeys(self._names, 0.0) if field == "reward" else {}
        return dict(zip(self._names, values, strict=True))

    def _rewards(self, rewards: Any) -> tuple[np.ndarray, float | None]:
        """Agents' rewards `[n]` in agent-axis order, and the team's where the environment gives one number for all of them."""
        n = len(self._names)
        if not self._single and not _many(rewards):
            team = as_number(rewards, "team", "reward", self.report)
            return np.full(n, team / n, np.float32), team
        each = self._each(rewards, "reward")
        reward = np.array([as_number(r, a, "reward", self.report) for a, r in each.items()], np.float32)
        return (reward if self._straight else reward[self._order]), None

    def _all(self, flags: Any, field: str) -> bool:
        """One flag for the team; packages that give one per agent mean that the episode ends when all are up."""
        if flags is True or flags is False:
            return flags
        if _many(flags):
            each = self._each(flags, field)
            return bool(each) and all(as_flag(x, a, field, self.report) for a, x in each.items())
        return as_flag(flags, "team", field, self.report)

    def _make_step(
        self, seen: Any, info: Any, reward: np.ndarray, team: float | None, terminated: bool, truncated: bool, first: bool = False
    ) -> Step:
        arranged = self.arranged
        each = self._each(seen, "observation")
        obs = arranged.blank()
        for agent, x in each.items():
            if x is None and not terminated:
                self.report("no_observation", agent, "observation", "None (expected what its observation space holds)")
        arranged.write(each, obs, self.report)
        masks = self._masks(each, info)
        if self._ask_masks is not None and not masks and not (terminated or truncated):
            masks = {a: ("get_avail_actions()", x) for a, x in self._by_agent(self._ask_masks(), "get_avail_actions()").items()}
        legal, waiting = arranged.legal(masks, self.report)
        deciding = None
        if waiting:
            deciding = np.ones(len(self._names), bool)
            deciding[waiting] = False
        discount = np.zeros(len(self._names), np.float32) if terminated else None
        return host_step(
            obs, arranged.default_state(obs), legal, reward, discount=discount, team_discount=0.0 if terminated else 1.0,
            first=first, last=terminated or truncated, deciding=deciding, team_reward=team,
            metrics=self.metrics.begin() if first else self.metrics.read(info, terminated or truncated, self.report),
        )  # fmt: skip

    def _masks(self, each: Mapping[str, Any], info: Any) -> dict[str, tuple[str, Any]]:
        """The environment's masks by agent, with the names they have: in the observations where the space holds them, else in `info`."""
        masks: dict[str, tuple[str, Any]] = {}
        if info:
            for name in MASKS:
                if isinstance(info, Mapping) and info.get(name) is not None:
                    masks = {a: (name, x) for a, x in self._by_agent(info[name], name).items() if x is not None}
                    break
            for i, agent in enumerate(self._names):  # or one info per agent
                own = _entry(info, agent, i)
                for name in MASKS if isinstance(own, Mapping) else ():
                    if own.get(name) is not None:
                        masks[agent] = name, own[name]
                        break
        self.arranged.read_masks(each, masks, self.report)
        return masks

    def _by_agent(self, masks: Any, name: str) -> dict[str, Any]:
        """A team's masks apart: a dict by agent (or by its number), one entry per agent, or all of them in one array."""
        if self._single:
            return {self._names[0]: masks}
        widths = [s.actuator.options for s in sorted(self.arranged.seats, key=lambda s: self._names.index(s.agent))]
        if isinstance(masks, np.ndarray) and masks.ndim == 1 and masks.dtype != object and len(masks) == sum(widths) != len(self._names):
            return dict(zip(self._names, np.split(masks, np.cumsum(widths)[:-1]), strict=True))
        return self._each(masks, name)


def _entry(by_agent: Any, agent: str, i: int) -> Any:
    """An agent's entry of a dict by agent or by its number, or of a sequence; None where there is none."""
    if isinstance(by_agent, Mapping):
        return by_agent.get(agent, by_agent.get(i))
    return by_agent[i] if isinstance(by_agent, list | tuple) and i < len(by_agent) else None


def make(name: str, options: Mapping[str, Any]) -> Any:
    """Import module `name`, make `options["id"]` with the other options. Raises `UnknownEnvironment` naming what does not exist.

    Gymnasium's order and conformance checkers are left out: this adapter checks steps itself, and they cost time each step. What is made
    may be of any kind (`recognize`): agents in sequences, in dictionaries, one agent.
    """
    import gymnasium as gym

    from marlstone.envs.host.recognize import adapt

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
        hint = suggest(str(chosen), sorted(own)) if chosen or len(own) < 20 else f"write {where}?id={own[0]}, for example"
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
        return adapt(env, where)
    except (UnsupportedSpace, NonConforming):
        env.close()
        raise
