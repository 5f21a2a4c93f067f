"""Which library an object is written for: what is looked for, in order, in this one place.

A kind of environment is recognized by what the object has, never by its class alone and without importing its library. The first kind of
`KINDS` that an object lacks nothing of adapts it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium.spaces as gs

from marlstone.core.types import Spec
from marlstone.envs.conformance import NonConforming
from marlstone.envs.host.dictionaries import AgentDictionaries, keyed_by_agent, listed_agents, space_of
from marlstone.envs.host.gymnasium import GymnasiumEnv, spaces_in
from marlstone.envs.host.old_spaces import modern
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.host.pymarl import METHODS, PyMarlTeam
from marlstone.envs.protocol import Env, HostEnv


@dataclass(frozen=True)
class Kind:
    """One kind of environment.

    Attributes:
      name: what messages and the documentation call it.
      lacks: what an object lacks to be one, each in a few words; nothing: it is one.
      adapt: brings it to a `HostEnv`, given its name for messages.
    """

    name: str
    lacks: Callable[[Any], list[str]]
    adapt: Callable[[Any, str], Env | HostEnv]


def _methods(env: Any, names: Sequence[str]) -> list[str]:
    """Which of these methods there are not, as they are written."""
    return [f"{name}()" for name in names if not callable(getattr(env, name, None))]


def _has_space(env: Any, field: str) -> bool:
    return isinstance(modern(getattr(env, field, None)), gs.Space)


def _own(env: Any) -> list[str]:
    lacking = [] if isinstance(getattr(env, "spec", None), Spec) else ["spec, a marlstone Spec"]
    return lacking + _methods(env, ["step"]) + ([] if hasattr(env, "init") or hasattr(env, "reset") else ["reset() or init()"])


def _pettingzoo(env: Any) -> list[str]:
    lacking = [] if getattr(env, "possible_agents", None) else ["possible_agents"]
    lacking += [f"{k}(agent)" for k in ("observation_space", "action_space") if not callable(getattr(env, k, None))]
    return lacking + _methods(env, ["reset", "step"])


def _vmas(env: Any) -> list[str]:
    return [k for k in ("scenario", "num_envs") if not hasattr(env, k)] + _methods(env, ["get_from_scenario", "reset", "step"])


def _dictionaries(env: Any) -> list[str]:
    """Agents by name, and a space for each: keyed by agent, or one for all where that is no Tuple or list of spaces."""
    if (lacking := _methods(env, ["reset", "step"])) or keyed_by_agent(env):
        return lacking
    if not any(callable(getattr(env, k, None)) for k in ("get_agent_ids", "get_agent_handles")) and not listed_agents(env):
        return ["agents' names, in possible_agents, get_agent_ids() or as keys of its spaces"]
    if not _ray(env) and not _sequences(env):
        return ["spaces by agent, or one for all (it has a Tuple or list of them)"]
    ids = listed_agents(env)
    for field in ("observation", "action"):
        if (ids and space_of(env, field, ids[0]) is None) or (not ids and not _has_space(env, f"{field}_space")):
            lacking.append(f"{field}_spaces by agent, or one {field}_space for all")
    return lacking


def _ray(env: Any) -> bool:
    """Whether it derives from RLlib's class, which settles what its spaces mean. Imports nothing of it."""
    return any(c.__name__ == "MultiAgentEnv" and c.__module__.startswith("ray.rllib.") for c in type(env).__mro__)


def _sequences(env: Any) -> list[str]:
    lacking = [
        f"{field}, a Tuple or list of spaces" for field in ("observation_space", "action_space") if not spaces_in(getattr(env, field, None))
    ]
    return lacking + _methods(env, ["reset", "step"])


def _single(env: Any) -> list[str]:
    return [k for k in ("observation_space", "action_space") if not _has_space(env, k)] + _methods(env, ["reset", "step"])


def _adapt_own(env: Any, where: str) -> Env | HostEnv:
    found: Env | HostEnv = env
    return found


def _adapt_pettingzoo(env: Any, where: str) -> HostEnv:
    """Agents whose names are no text are shown under names. Raises `NonConforming` for Unity's, which has none that last."""
    if hasattr(env, "side_channel"):  # Unity's; it is no PettingZoo environment but by its class
        raise NonConforming(
            f"{where}: {type(env).__name__} names its agents anew in every episode, takes no seed, and masks what is not available: write "
            "a PettingZoo ParallelEnv over UnityEnvironment (docs: Environments, Unity)"
        )
    named = hasattr(env, "agent_iter") or all(isinstance(a, str) for a in env.possible_agents)
    return PettingZooEnv(env if named else AgentDictionaries(env, where), where)


def _adapt_vmas(env: Any, where: str) -> HostEnv:
    from marlstone.envs.host.vmas import VmasTeam

    return PettingZooEnv(VmasTeam(env, where), where)


KINDS = (
    Kind("a marlstone Env or HostEnv", _own, _adapt_own),
    Kind("a PettingZoo ParallelEnv or AEC environment", _pettingzoo, _adapt_pettingzoo),
    Kind("a VMAS environment", _vmas, _adapt_vmas),
    Kind("a PyMARL team (SMAC, EPyMARL)", lambda env: _methods(env, [*METHODS, "reset", "step"]),
         lambda env, where: PettingZooEnv(PyMarlTeam(env, where), where)),
    Kind("agents in dictionaries (RLlib MultiAgentEnv, mobile-env, Flatland)", _dictionaries,
         lambda env, where: PettingZooEnv(AgentDictionaries(env, where), where)),
    Kind("agents in sequences (Gymnasium with Tuple spaces, CityLearn)", _sequences, GymnasiumEnv),
    Kind("a Gymnasium environment of one agent", _single, GymnasiumEnv),
)  # fmt: skip
"""What is looked for, in this order."""


def adapt(env: Any, where: str) -> Env | HostEnv:
    """Whatever a factory returned, as an `Env` or a `HostEnv`.

    Args: `where`: its name, for messages.
    Raises: `NonConforming` for an object of no known kind, with what was looked for and what it lacks of each; what the adapter raises.
    """
    lacking = []
    for kind in KINDS:
        if not (lacks := kind.lacks(env)):
            return kind.adapt(env, where)
        lacking.append(f"{kind.name}: it has no {', no '.join(lacks)}")
    raise NonConforming(
        f"{where} gives {type(env).__name__}, which is no environment of a known kind. Looked for, in this order: {'; '.join(lacking)}. "
        "Give it what one of these lacks (docs: Environments)"
    )
