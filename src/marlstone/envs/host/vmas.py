"""VMAS scenarios: `vmas:balance?n_agents=4`, one environment each, stepped by torch on the CPU.

Options are those of `vmas.make_env` (`continuous_actions`, `max_steps` ...) and of the scenario. `max_steps` is 100 unless given: VMAS
itself has no limit. An episode that reaches it is truncated; where the scenario is done it terminates.

VMAS steps a batch with one stream of random numbers for all of it, so an episode in a batch could not be repeated by its seed: each
environment is therefore a batch of one, and worker processes are what makes many. Rewards are by agent; a reward that a scenario shares
is given to each, so the team's is their sum. Numbers in agents' infos are read as true metrics where they are declared.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.envs.conformance import NonConforming
from marlstone.envs.host.dictionaries import agent_name
from marlstone.envs.host.old_spaces import modern
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.host.view import Five, ParallelView
from marlstone.envs.names import UnknownEnvironment

LIMIT = 100
"""Steps of an episode, unless `max_steps` is given: what BenchMARL takes for all scenarios."""


class VmasTeam(ParallelView):
    """A VMAS environment as a PettingZoo ParallelEnv. Raises `NonConforming` for one that steps more than one environment."""

    def __init__(self, env: Any, where: str) -> None:
        super().__init__(env)
        if env.num_envs != 1:
            raise NonConforming(f"{where}: num_envs is {env.num_envs}: make it with num_envs=1; worker processes are what makes many")
        self.possible_agents = [agent_name(agent.name) for agent in env.agents]
        self.horizon = int(env.max_steps) if env.max_steps else None
        seen, done = (self._spaces(space) for space in (env.observation_space, env.action_space))
        self._seen, self._done = (dict(zip(self.possible_agents, each, strict=True)) for each in (seen, done))

    def observation_space(self, agent: str) -> gs.Space:
        """Of an agent, by its name."""
        return self._seen[agent]

    def action_space(self, agent: str) -> gs.Space:
        """Of an agent, by its name."""
        return self._done[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A fresh episode."""
        seen = self.env.reset(seed=seed or 0)
        self.agents = list(self.possible_agents)
        return self._by_agent(seen), {}

    def step(self, actions: Mapping[str, Any]) -> Five:
        """One step of the batch of one."""
        import torch

        acts = [torch.as_tensor(np.asarray(actions[a], np.float32).reshape(1, -1)) for a in self.possible_agents]
        got = self.env.step(acts)
        seen, rewards, *ends, infos = got
        ended = bool(ends[0][0])
        late = bool(ends[1][0]) if len(ends) == 2 else ended and self.horizon is not None and int(self.env.steps[0]) >= self.horizon
        if len(ends) == 1:
            ended = ended and not late  # only whether it is over is said: where it reached its last step, time ran out
        self.agents = [] if ended or late else list(self.possible_agents)
        flags = dict.fromkeys(self.possible_agents, ended), dict.fromkeys(self.possible_agents, late and not ended)
        return self._by_agent(seen), self._by_agent(rewards), *flags, self._by_agent(infos)

    def close(self) -> None:
        """Nothing is open: VMAS holds a window only where it is rendered."""

    def _spaces(self, space: Any) -> list[gs.Space]:
        inner = space.spaces.values() if hasattr(space.spaces, "values") else space.spaces
        return [modern(x) for x in inner]

    def _by_agent(self, values: Any) -> dict[str, Any]:
        each = values.values() if isinstance(values, Mapping) else values
        return {a: _numpy(x) for a, x in zip(self.possible_agents, each, strict=True)}


def _numpy(value: Any) -> Any:
    """Of the one environment: an array, a number, or a dict of them."""
    if isinstance(value, Mapping):
        return {str(k): _numpy(x) for k, x in value.items()}
    x = np.asarray(value.detach().cpu().numpy())[0]
    return x if (x.ndim and x.size != 1) or x.ndim > 1 else x.reshape(-1)[0] if x.ndim == 0 else x


def make(name: str, options: Mapping[str, Any]) -> PettingZooEnv:
    """The scenario `name` with `options`. Raises `UnknownEnvironment` where there is no such scenario, or it takes no such option."""
    import torch
    import vmas

    where = f"vmas:{name}"
    if fixed := [k for k in ("num_envs", "device", "scenario") if k in options]:
        raise UnknownEnvironment(f"{where}: option {fixed[0]!r} is not yours to set: there is one environment on the CPU in each worker")
    torch.set_num_threads(1)  # worker processes share the cores
    apart = {"terminated_truncated": True} if "terminated_truncated" in inspect.signature(vmas.make_env).parameters else {}
    try:
        env = vmas.make_env(scenario=name, num_envs=1, device="cpu", **{"max_steps": LIMIT, "seed": 0, **apart, **options})
    except (AssertionError, FileNotFoundError, TypeError, ValueError) as error:
        raise UnknownEnvironment(f"{where} cannot be made with options {dict(options)}: {type(error).__name__}: {error}") from error
    return PettingZooEnv(VmasTeam(env, where), where)
