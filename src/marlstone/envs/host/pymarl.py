"""Teams as PyMARL has them: SMAC, SMACv2, EPyMARL's environments.

    reset()    get_obs()    get_state()    get_avail_actions()    step(actions) -> reward, terminated, info    get_env_info()

EPyMARL's `step` returns five values, observations first. Agents are called agent_0, agent_1, ... The reward is one number for the team, of
which each agent is given an equal share, or a list with one per agent. `get_state()` is the global state. An episode that ends with
`info["episode_limit"]` ran out of time: a truncation.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.envs.conformance import NonConforming, source_location
from marlstone.envs.host.seeding import seeded_reset
from marlstone.envs.host.view import Five, ParallelView

METHODS = ("get_obs", "get_avail_actions", "get_env_info")
"""What such an environment is recognized by."""
SIZES = ("n_agents", "n_actions", "obs_shape")


class PyMarlTeam(ParallelView):
    """Such an environment as a PettingZoo ParallelEnv. Raises `NonConforming` where `get_env_info()` leaves a size out."""

    def __init__(self, env: Any, where: str) -> None:
        super().__init__(env)
        self._begin, note = seeded_reset(env)
        self.notices += [] if note is None else [note]
        info = env.get_env_info()
        if missing := [k for k in SIZES if not isinstance(info, Mapping) or k not in info]:
            raise NonConforming(f"{source_location(env, 'get_env_info')}: returned {info!r:.100}: give {', '.join(missing)} too")
        self.possible_agents = [f"agent_{i}" for i in range(int(info["n_agents"]))]
        shape = tuple(int(k) for k in np.atleast_1d(info["obs_shape"]))
        self._seen = gs.Box(-np.inf, np.inf, shape, np.float32)
        self._chosen: gs.Discrete = gs.Discrete(int(info["n_actions"]))
        limit = info.get("episode_limit")
        self.horizon = int(limit) if isinstance(limit, int | np.integer) and limit > 0 else None

    @property
    def state(self) -> Any:
        """Its `get_state`; None where it has none."""
        found = getattr(self.env, "get_state", None)
        return found if callable(found) else None

    def observation_space(self, agent: str) -> gs.Box:
        """The same for all: `obs_shape` numbers."""
        return self._seen

    def action_space(self, agent: str) -> gs.Discrete:
        """The same for all: `n_actions`, of which those are legal that `get_avail_actions()` allows."""
        return self._chosen

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A fresh episode."""
        self._begin(self.env, seed or 0)
        self.team_reward, self.agents = None, list(self.possible_agents)
        return self._look(), self._masks()

    def step(self, actions: Mapping[str, Any]) -> Five:
        """One step of the whole team. Raises `NonConforming` for a result that is neither three values nor five."""
        got = self.env.step([actions[a] for a in self.possible_agents])
        if not isinstance(got, tuple | list) or len(got) not in (3, 5):
            what = f"{len(got)} values" if isinstance(got, tuple | list) else type(got).__name__
            raise NonConforming(f"{source_location(self.env, 'step')}: returned {what}: return (reward, terminated, info)")
        reward, ended, late, info = (*got[:2], False, got[2]) if len(got) == 3 else (got[1], got[2], got[3], got[4])
        info = info if isinstance(info, Mapping) else {}
        ended, late = bool(np.all(ended)), bool(np.all(late))
        if ended and len(got) == 3 and info.get("episode_limit"):
            ended, late = False, True
        self.agents = [] if ended or late else list(self.possible_agents)
        facts = {str(k): x for k, x in info.items() if not isinstance(x, Mapping) and np.ndim(x) == 0}
        flags = (dict.fromkeys(self.possible_agents, ended), dict.fromkeys(self.possible_agents, late))
        return self._look(), self._rewards(reward), *flags, {**facts, **self._masks()}

    def _rewards(self, reward: Any) -> dict[str, Any]:
        self.team_reward = None
        if np.ndim(reward) == 0:
            self.team_reward = reward
            return {}
        each = list(reward)
        if len(each) != len(self.possible_agents):
            raise NonConforming(
                f"{source_location(self.env, 'step')}: reward is {reward!r:.80}: return one number for the team, or "
                f"{len(self.possible_agents)}, one per agent"
            )
        return dict(zip(self.possible_agents, each, strict=True))

    def _look(self) -> dict[str, Any]:
        return {a: np.asarray(x, np.float32) for a, x in zip(self.possible_agents, self.env.get_obs(), strict=True)}

    def _masks(self) -> dict[str, Any]:
        if not self.agents:
            return {}  # after an episode's last step nobody acts
        return {a: {"avail_actions": x} for a, x in zip(self.possible_agents, self.env.get_avail_actions(), strict=True)}
