"""A JaxMARL environment as an `Env`."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.jaxmarl.game import Game, Turn
from marlstone.envs.jaxmarl.grouping import Crew


@dataclass(frozen=True)
class JaxMarl:
    """A JaxMARL environment as an `Env`.

    Attributes:
      env: JaxMARL's object.
      game: what JaxMARL leaves to its reader.
      spec: groups, state, metrics and horizon.
      limit: whether time running out is a truncation; else every end is a termination.
      team: `[n]`, the agents whose rewards are the team's.
      masked: the method that gives legal actions ("": the game has none).
      crews: one per group of the spec.
      share: `[n]`, the part of its side's one reward that is an agent's own (None: rewards are agents' own already).
      kinds: types of the state's leaves, where JaxMARL's `reset` and `step_env` disagree about them (None: they agree).
    """

    env: Any = field(repr=False)
    game: Game
    spec: Spec
    limit: bool
    team: np.ndarray
    masked: str
    crews: tuple[Crew, ...]
    share: np.ndarray | None
    kinds: Any = field(repr=False)

    @property
    def constant(self) -> frozenset[str]:
        """What the game leaves as it is by default: everybody is there, decides, and has no end but the time limit."""
        kept = lambda name: getattr(type(self.game), name) is getattr(Game, name)
        there, endless = kept("gone"), self.limit and kept("terminated")
        declared = {"present": there, "deciding": kept("deciding"), "discount": there and endless, "team_discount": endless}
        return frozenset(name for name, yes in declared.items() if yes)

    def init(self, key: Array) -> tuple[Any, Step]:
        """A fresh episode of the game."""
        with quiet():
            observation, state = self.env.reset(key)
        state = self._typed(state)
        return state, self._make_step(observation, state, None)

    def step(self, state: Any, action: tuple[Array, ...], key: Array) -> tuple[Any, Step]:
        """One joint step by JaxMARL's `step_env`; actions of boxes are scaled to their bounds."""
        chosen: dict[Any, Array] = {}
        for crew, part in zip(self.crews, action, strict=True):
            chosen |= crew.action(part)
        chosen = {key: chosen[key] for key in self.env.agents}  # some games read them in order
        with quiet():
            observation, after, rewards, dones, info = self.env.step_env(key, state, self.game.joint_action(self.env, chosen))
        by_key = self.game.by_agent(self.env, rewards)
        reward = jnp.concatenate([jnp.asarray(by_key[k], jnp.float32)[None] for crew in self.crews for k in crew.keys])
        reward = reward if self.share is None else reward * self.share
        after = self._typed(after)
        return after, self._make_step(observation, after, Turn(state, chosen, after, reward, info, jnp.asarray(dones["__all__"], bool)))

    def _typed(self, state: Any) -> Any:
        return state if self.kinds is None else jax.tree.map(lambda x, t: jnp.asarray(x, t), state, self.kinds)

    def _make_step(self, observation: Any, state: Any, turn: Turn | None) -> Step:
        """Without a turn, an episode's first step. Who is gone is absent from here on, and its discount is 0."""
        game, env, n = self.game, self.env, self.spec.n
        available = getattr(env, self.masked)(state) if self.masked else None
        seen = game.by_agent(env, observation)
        observed = tuple(crew.observation(seen) for crew in self.crews)
        world = game.world_state(env, observation, state)
        if world is None:
            parts = [crew.world(seen, obs) for crew, obs in zip(self.crews, observed, strict=True)]
            world = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        gone, deciding = game.gone(env, state), game.deciding(env, state)
        everyone = jnp.ones(n, bool)
        if turn is None:
            reward, over, ended = jnp.zeros(n, jnp.float32), jnp.zeros((), bool), jnp.zeros((), bool)
            metrics = {k: jnp.zeros((), jnp.float32) for k in self.spec.metrics}
        else:
            reward, over = game.reward(env, turn), turn.over
            ended = over & game.terminated(env, turn) if self.limit else over
            metrics = game.measure(env, turn)
        discount = jnp.where(ended, 0.0, jnp.ones(n))
        return Step(
            obs=observed,
            state=jnp.asarray(world, jnp.float32),
            reward=reward,
            team_reward=jnp.sum(reward * self.team) if not self.team.all() else jnp.sum(reward),
            discount=discount if gone is None else jnp.where(gone, 0.0, discount),
            team_discount=jnp.where(ended, 0.0, 1.0),
            first=jnp.asarray(turn is None, bool),
            last=over,
            legal=tuple(crew.legal(available) for crew in self.crews),
            present=everyone if gone is None else ~gone,
            deciding=everyone if deciding is None else deciding,
            metrics=metrics,
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While JaxMARL is traced: what it prints goes to standard error; notes on types that it mixes, and on deprecations, are dropped."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="scatter inputs have incompatible types", category=FutureWarning)
        yield
