"""Agents in dictionaries, as RLlib's `MultiAgentEnv` has them, and kin: mobile-env (spaces that are Dicts by agent), Flatland (handles,
four values from `step`, `done["__all__"]`), PettingZoo-like environments whose agents have no strings for names.

`AgentDictionaries` shows such an environment as a PettingZoo ParallelEnv, which `PettingZooEnv` brings to a `HostEnv`:

    who acts        the agents in the latest dictionary of observations; who is alive but not in it waits
    who is alive    the agents in `agents`, and whoever has been shown something, until it ends or leaves `agents`
    who ended       its own flag, or `"__all__"` of terminateds (a termination) or truncateds (time ran out); one flag alone is for all
    rewards         by agent, for agents that wait too; one number is the team's, of which each agent is given an equal share
    infos           by agent, by field and then by agent (Flatland), or the team's own (`"__common__"`, `"__all__"`)
"""

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.envs.conformance import NonConforming, source_location
from marlstone.envs.host.old_spaces import modern
from marlstone.envs.host.seeding import seeded_reset
from marlstone.envs.host.view import Five, ParallelView

ALL = "__all__"
TEAM = (ALL, "__common__")
"""Keys of dictionaries by agent that are no agents."""


def agent_name(agent: Any) -> str:
    """An agent's name: itself if it is text, `agent_3` for the number 3, else its text."""
    if isinstance(agent, str):
        return agent
    return f"agent_{int(agent)}" if isinstance(agent, int | np.integer) else str(agent)


def _by_key(space: Any) -> dict[Any, Any]:
    """A Dict space or a dict of spaces as a dict; empty for anything else."""
    space = modern(space)
    found = dict(space.spaces) if isinstance(space, gs.Dict) else {}
    if isinstance(space, Mapping) and not found:
        found = {k: modern(x) for k, x in space.items()}
    return found if all(isinstance(x, gs.Space) for x in found.values()) else {}


def keyed_by_agent(env: Any) -> list[Any]:
    """The agents, where the environment's spaces are dictionaries by agent: of `observation_spaces` and `action_spaces`, or of
    `observation_space` and `action_space`, with the same keys; else none."""
    for observation, action in (("observation_spaces", "action_spaces"), ("observation_space", "action_space")):
        seen, done = (_by_key(getattr(env, field, None)) for field in (observation, action))
        if seen and set(seen) == set(done):
            return list(seen)
    return []


def listed_agents(env: Any) -> list[Any]:
    """The agents as the environment lists them, in order: `possible_agents`, `get_agent_ids()`, `get_agent_handles()`, the keys of its
    spaces, or `agents`, whichever comes first and names any."""
    for field in ("possible_agents", "get_agent_ids", "get_agent_handles"):
        found = getattr(env, field, None)
        ids = _names(found() if callable(found) else found)
        if ids:
            return ids
    return keyed_by_agent(env) or _names(getattr(env, "agents", None))


def _names(found: Any) -> list[Any]:
    """`found` as agents in a fixed order, if it is a collection of names or numbers."""
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        return []
    ids = list(found)
    if not all(isinstance(a, str | int | np.integer | tuple) for a in ids):
        return []  # such as players' objects
    return sorted(ids, key=lambda a: (type(a).__name__, a)) if isinstance(found, set | frozenset) else ids


def space_of(env: Any, field: str, agent: Any) -> gs.Space | None:
    """An agent's own `observation` or `action` space, looked for in `observation_spaces`, in `observation_space` (a method, a Dict by
    agent, one space shared by all), and asked of `get_observation_space(agent)`; None where there is none."""
    if agent in (own := _by_key(getattr(env, f"{field}_spaces", None))):
        return own[agent]
    shared = modern(getattr(env, f"{field}_space", None))
    if callable(shared) and not isinstance(shared, gs.Space):
        shared = modern(shared(agent))
    if agent in (own := _by_key(shared)):
        return own[agent]
    if isinstance(shared, gs.Space):
        return shared
    ask = getattr(env, f"get_{field}_space", None)
    found = modern(ask(agent)) if callable(ask) else None
    return found if isinstance(found, gs.Space) else None


class AgentDictionaries(ParallelView):
    """Such an environment as a PettingZoo ParallelEnv. Construction may reset it, where agents are known only then.

    Raises: `NonConforming` where no agents are listed, two would have one name, or an agent has no space.
    """

    def __init__(self, env: Any, where: str) -> None:
        super().__init__(env)
        self._begin, note = seeded_reset(env)
        self.notices += [] if note is None else [note]
        ids = listed_agents(env)
        if not ids:
            self._begin(env, 0)  # some make their agents only now
            ids = listed_agents(env)
        if not ids:
            raise NonConforming(f"{where}: {type(env).__name__} lists no agents: give it possible_agents, the name of every agent")
        self._names: dict[Any, str] = {a: agent_name(a) for a in ids}
        self._ids = {name: a for a, name in self._names.items()}
        if len(self._ids) < len(ids):
            raise NonConforming(f"{where}: agents {ids} would have the names {list(self._names.values())}: give each one a name of its own")
        if renamed := [f"{a!r} is {name}" for a, name in self._names.items() if a != name]:
            more = f", and {len(renamed) - 3} more" if len(renamed) > 3 else ""
            self.notices.append(f"agents' names: {', '.join(renamed[:3])}{more}")
        self.possible_agents = list(self._ids)
        self._spaces = {field: {name: space_of(env, field, a) for name, a in self._ids.items()} for field in ("observation", "action")}
        for field, by_name in self._spaces.items():
            for name, space in by_name.items():
                if space is None:
                    raise NonConforming(
                        f"{where}: agent {name!r} has no {field} space: give {type(env).__name__} {field}_spaces, a dict by agent, or one "
                        f"{field}_space for all"
                    )
        self._asked: set[str] = set()
        self._seen: dict[str, Any] = {}
        self._listed: set[str] | None = None

    @property
    def state(self) -> Any:
        """Its own `state()`, where it has such a method; else None."""
        found = getattr(self.env, "state", None)
        return found if callable(found) else None

    @property
    def default_actions(self) -> Any:
        """What it declares, by names (`default_actions.declared_defaults`)."""
        given = getattr(self.unwrapped, "default_actions", None)
        if isinstance(given, Mapping) and all(a in self._names for a in given):
            return {self._names[a]: x for a, x in given.items()}
        return given

    def observation_space(self, agent: str) -> Any:
        """Of an agent, by its name."""
        return self._spaces["observation"][agent]

    def action_space(self, agent: str) -> Any:
        """Of an agent, by its name."""
        return self._spaces["action"][agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A fresh episode. Raises `NonConforming` for a result that is not observations by agent, with infos or without."""
        got = self._begin(self.env, seed or 0)
        seen, infos = got if isinstance(got, tuple) and len(got) == 2 else (got, {})
        if not isinstance(seen, Mapping) or not isinstance(infos, Mapping):
            what = f"{len(got)} values" if isinstance(got, tuple) and len(got) != 2 else type(seen).__name__
            raise NonConforming(f"{source_location(self.env, 'reset')}: reset() returned {what}: return (observations by agent, infos)")
        self._seen, self.team_reward = {}, None
        self._listed = self._alive()
        shown = self._shown(seen)
        alive = set(shown) | (self._listed or set())
        self.agents = [a for a in self.possible_agents if a in alive] + [a for a in shown if a not in self._ids]
        return shown, self._infos(infos)

    def step(self, actions: Mapping[str, Any]) -> Five:
        """One step of those who were shown something."""
        got = self.env.step({self._ids[a]: x for a, x in actions.items() if a in self._asked})
        if not isinstance(got, tuple | list) or len(got) not in (4, 5):
            what = f"{len(got)} values" if isinstance(got, tuple | list) else type(got).__name__
            raise NonConforming(
                f"{source_location(self.env, 'step')}: returned {what}: return (observations, rewards, terminateds, truncateds, infos)"
            )
        seen, rewards, terminated, *more = got
        truncated, infos = more if len(more) == 2 else ({}, more[0])
        if not isinstance(seen, Mapping):
            raise NonConforming(f"{source_location(self.env, 'step')}: observations is {seen!r:.80}: return a dict by agent")
        shown, listed = self._shown(seen), self._alive()
        left = set() if listed is None else (self._listed or set()) - listed - set(shown)
        self._listed = listed
        alive = [a for a in self.agents if a not in left]
        alive += [a for a in shown if a not in alive]
        ends, late = self._flags(terminated, alive), self._flags(truncated, alive)
        over = ends.pop(ALL, False), late.pop(ALL, False)
        if over[0] or over[1]:
            for a in alive:
                if over[0] and not late.get(a):
                    ends[a] = True
                elif not ends.get(a):
                    late[a] = True
            for a in alive:  # learners bootstrap from the last that an agent was shown
                if a not in shown and a in self._seen:
                    shown[a] = self._seen[a]
        self.agents = [] if over[0] or over[1] else [a for a in alive if not (ends.get(a) or late.get(a))]
        self._asked &= set(self.agents)
        return shown, self._rewards(rewards), ends, late, self._infos(infos)

    def _name(self, agent: Any) -> str:
        return self._names.get(agent) or agent_name(agent)

    def _shown(self, seen: Mapping[Any, Any]) -> dict[str, Any]:
        shown = {self._name(a): x for a, x in seen.items() if a not in TEAM}
        self._asked = set(shown)
        self._seen |= shown
        return shown

    def _alive(self) -> set[str] | None:
        """Names in `agents`; None where that is no list of known agents."""
        found = _names(getattr(self.env, "agents", None))
        return {self._names[a] for a in found} if found and all(a in self._names for a in found) else None

    def _flags(self, flags: Any, alive: list[str]) -> dict[str, Any]:
        """By name, and `__all__` if the episode is over for everybody."""
        if isinstance(flags, Mapping):
            found = {a if a == ALL else self._name(a): x for a, x in flags.items()}
            found[ALL] = bool(found.get(ALL, False))
            return found
        if np.ndim(flags) or isinstance(flags, str):
            raise NonConforming(f"{source_location(self.env, 'step')}: an end is {flags!r:.80}: return a dict by agent, or one for all")
        return {**dict.fromkeys(alive, flags), ALL: bool(flags)}

    def _rewards(self, rewards: Any) -> dict[str, Any]:
        self.team_reward = None
        if isinstance(rewards, Mapping):
            return {self._name(a): x for a, x in rewards.items() if a not in TEAM and x is not None}
        if np.ndim(rewards) == 0 and not isinstance(rewards, str):
            self.team_reward = rewards
            return {}
        raise NonConforming(
            f"{source_location(self.env, 'step')}: rewards is {rewards!r:.80} of type {type(rewards).__name__}: return a dict by agent, or "
            "one number for the team"
        )

    def _infos(self, infos: Any) -> dict[str, Any]:
        """By name; what is of no agent stands beside them."""
        out: dict[str, Any] = {}
        self.waiting = set()
        for key, value in infos.items() if isinstance(infos, Mapping) else ():
            if key in self._names:
                out[self._names[key]] = {**out.get(self._names[key], {}), **(value if isinstance(value, Mapping) else {})}
            elif not isinstance(value, Mapping):
                if np.ndim(value) == 0:
                    out[str(key)] = value
            elif key in TEAM:
                out |= {str(k): x for k, x in value.items() if np.ndim(x) == 0}
            elif value and all(a in self._names for a in value):
                if key == "action_required":
                    self.waiting = {self._names[a] for a, asked in value.items() if not asked}
                for a, x in value.items():
                    out.setdefault(self._names[a], {})[str(key)] = x
        return out
