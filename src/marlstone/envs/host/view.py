"""What every environment of another library is shown as: a PettingZoo ParallelEnv, and what `PettingZooEnv` asks of it besides."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

Five = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]


class ParallelView(ABC):
    """An environment `env` of another library, as agents by name in dictionaries.

    Attributes:
      env: the environment.
      possible_agents, agents: names; of whoever may ever appear, and of who is alive.
      waiting: names of who is alive and has nothing to decide, though it is shown something.
      team_reward: the latest reward, where it is one number for the team; then no agent has one of its own.
      horizon: about how many steps an episode has; None where it is not known.
      notices: what a person should know: how agents are called, how seeds are given.
    """

    metadata: Mapping[str, Any] = {}

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents: list[str] = []
        self.agents: list[str] = []
        self.waiting: set[str] = set()
        self.team_reward: Any = None
        self.horizon: int | None = None
        self.notices: list[str] = []

    @property
    def unwrapped(self) -> Any:
        """The environment itself, which declares metrics and defaults, and whose lines messages name."""
        return getattr(self.env, "unwrapped", self.env)

    @property
    def state(self) -> Any:
        """What gives the global state, without arguments; None where there is none."""
        return None

    @abstractmethod
    def observation_space(self, agent: str) -> Any:
        """Of an agent, by its name."""

    @abstractmethod
    def action_space(self, agent: str) -> Any:
        """Of an agent, by its name."""

    @abstractmethod
    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A fresh episode: observations and infos by name."""

    @abstractmethod
    def step(self, actions: Mapping[str, Any]) -> Five:
        """One step: observations, rewards, terminations, truncations, infos by name. What is of no agent stands in infos beside them."""

    def render(self) -> Any:
        """As it does."""
        return self.env.render()

    def close(self) -> None:
        """Close it, where it can be closed."""
        if callable(close := getattr(self.env, "close", None)):
            close()
