"""The contract of a JaxMARL game: what JaxMARL leaves to its reader (real ends, turns, deaths, true metrics), with neutral defaults.

A game is a frozen dataclass. Its fields are options that JaxMARL's constructor does not have.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from marlstone.core.types import Array, Metric


class Turn(NamedTuple):
    """One `step_env` call: JaxMARL's state before and after, the actions by JaxMARL's agent keys, the rewards `[n]`, `info`, and whether
    the episode is over."""

    before: Any
    actions: dict[Any, Array]
    after: Any
    reward: Array
    info: dict[str, Any]
    over: Array


@dataclass(frozen=True)
class Game:
    """A game that ends by its time limit and by nothing else, in which everybody acts on every step until then."""

    names: ClassVar[tuple[str, ...]] = ()
    """Registered names that it answers for."""
    metrics: ClassVar[dict[str, Metric]] = {}
    """Declared true metrics."""
    shared: ClassVar[bool] = False
    """Whether JaxMARL gives every member of a side the side's one reward, of which each is then an equal share."""
    masks: ClassVar[bool] = True
    """Whether the methods that tell legal actions are to be trusted."""
    retyped: ClassVar[bool] = False
    """Whether JaxMARL's `reset` and `step_env` disagree about the types of the state."""

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """JaxMARL's object. Raises `UnknownEnvironment` for an option's value that cannot be had."""
        return registered(name, options)

    def idle(self, name: str) -> int:
        """The action that does nothing special, where actions are choices."""
        return 0

    def team(self, name: str) -> str:
        """The types of agents whose rewards are the team's, joined by `+`; or `all`."""
        return "all"

    def horizon(self, env: Any) -> int | None:
        """Joint steps until the time limit (None: unknown)."""
        limit = getattr(env, "max_steps", None)
        return None if limit is None else int(limit)

    def joint_action(self, env: Any, actions: dict[Any, Array]) -> Any:
        """What `step_env` takes, from actions by JaxMARL's agent keys in the order of `env.agents`."""
        return actions

    def by_agent(self, env: Any, values: Any) -> dict[Any, Any]:
        """Observations or rewards by JaxMARL's agent keys, however the game gives them."""
        return values

    def world_state(self, env: Any, observation: Any, state: Any) -> Array | None:
        """The game's own global state `[s]`; None: the observations, concatenated."""
        return None

    def reward(self, env: Any, turn: Turn) -> Array:
        """Each agent's own reward `[n]`, of which the team's is the sum."""
        return turn.reward

    def terminated(self, env: Any, turn: Turn) -> Array:
        """Whether an episode that is over has really ended; else its time was up."""
        return jnp.zeros((), bool)

    def gone(self, env: Any, state: Any) -> Array | None:
        """Who is out for good `[n]` (None: nobody ever is)."""
        return None

    def deciding(self, env: Any, state: Any) -> Array | None:
        """Whose action counts `[n]` (None: everybody's)."""
        return None

    def measure(self, env: Any, turn: Turn) -> dict[str, Array]:
        """The declared metrics of this step."""
        return {}


def registered(name: str, options: Mapping[str, Any]) -> Any:
    """`jaxmarl.make`, without the notes of games and of what they are built on about themselves: superseded, no longer maintained."""
    import jaxmarl

    with warnings.catch_warnings():
        for kind in (DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        return jaxmarl.make(name, **options)
