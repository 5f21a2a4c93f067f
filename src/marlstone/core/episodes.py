"""Episode statistics from steps: undiscounted team return, length and true metrics, summed over the episodes that end in a trajectory, or
one by one of those that lie in it completely."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.core.arrays import Array
from marlstone.core.records import record
from marlstone.core.types import Metric, Step


@record
class Tally:
    """Statistics of the episodes that are still running, `[b]` each (`metrics`: by name)."""

    team_return: Array
    length: Array
    metrics: dict[str, Array]


@record
class EpisodeSums:
    """Sums over the episodes that ended, and how many (`episodes`) there were."""

    episodes: Array
    team_return: Array
    length: Array
    metrics: dict[str, Array]


def init_tally(b: int, metrics: dict[str, Metric]) -> Tally:
    """The tally of `b` environments that have not begun."""
    return Tally(jnp.zeros(b), jnp.zeros(b), {k: jnp.zeros(b) for k in metrics})


def tally(running: Tally, step: Step, declared: dict[str, Metric]) -> tuple[Tally, EpisodeSums]:
    """Go through the steps that answered actions and sum up the episodes that ended in them.

    Args:
      running: the tally where the last steps ended.
      step: `[b t ...]`.
      declared: true metrics by name; `reduce` says how an episode's figure is made.
    """
    time = lambda x: jnp.moveaxis(x, 1, 0)
    steps = jax.tree.map(time, (step.team_reward, step.first, step.last, {k: step.metrics[k] for k in declared}))

    def tick(carry: Tally, now: tuple[Any, ...]) -> tuple[Tally, tuple[Any, ...]]:
        reward, first, last, metrics = now
        forget = lambda x: jnp.where(first, 0, x)
        total, length = forget(carry.team_return) + reward, forget(carry.length) + ~first
        summed = lambda k: forget(carry.metrics[k]) + jnp.where(first, 0, metrics[k])
        kept = {k: metrics[k] if declared[k].reduce == "last" else summed(k) for k in declared}
        done = lambda x: jnp.where(last, x, 0)
        figure = {k: done(v / jnp.maximum(length, 1) if declared[k].reduce == "mean" else v) for k, v in kept.items()}
        return Tally(total, length, kept), (last, done(total), done(length), figure)

    running, (last, total, length, metrics) = lax.scan(tick, running, steps, unroll=8)
    return running, EpisodeSums(last.sum(), total.sum(), length.sum(), {k: v.sum() for k, v in metrics.items()})


@dataclass(frozen=True)
class WholeEpisodes:
    """Complete episodes one by one, `[e]` each, ordered by environment, then time.

    Fields:
      env: index of the environment.
      begin, end: the episode's steps are those from index `begin` to before `end`.
      team_return: undiscounted.
      agent_return: `[e n]`, undiscounted.
      agent_sums: `[e m]`, sums over the episode of the values per agent given to `whole_episodes`.
      metrics: declared true metrics by name.
    """

    env: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    team_return: np.ndarray
    agent_return: np.ndarray
    agent_sums: np.ndarray
    metrics: dict[str, np.ndarray]

    @property
    def length(self) -> np.ndarray:
        """Joint steps."""
        return self.end - self.begin


def whole_episodes(step: Step, values: Array, declared: dict[str, Metric]) -> WholeEpisodes:
    """The episodes that began and ended within these steps, on the host. One that broke off (a reset before an end) is left out, and so is
    one that began before the first step.

    Args:
      step: `[b t+1 ...]`.
      values: `[b t m]`, any numbers per agent and action; their sums over each episode become `agent_sums`.
      declared: true metrics by name.
    """
    first, last = np.asarray(step.first), np.asarray(step.last)
    found = []
    for b, t in np.argwhere(last[:, 1:] & ~first[:, 1:]).tolist():
        begun = np.flatnonzero(first[b, : t + 1])
        if begun.size:
            found.append((b, int(begun[-1]), t + 1))
    env, begin, end = np.array(found, int).reshape(-1, 3).T
    per_episode = lambda x: [np.asarray(x, float)[b, s:e] for b, s, e in found]
    answers = lambda x: per_episode(np.asarray(x)[:, 1:])

    def total(parts: list[np.ndarray], like: Array) -> np.ndarray:
        return np.array([p.sum(0) for p in parts]).reshape(len(found), *np.shape(like)[2:])

    def figure(name: str) -> np.ndarray:
        last, mean = (declared[name].reduce == how for how in ("last", "mean"))
        return np.array([p[-1] if last else p.mean() if mean else p.sum() for p in answers(step.metrics[name])], float)

    return WholeEpisodes(
        env,
        begin,
        end,
        total(answers(step.team_reward), step.team_reward),
        total(answers(step.reward), step.reward),
        total(per_episode(values), values),
        {k: figure(k) for k in declared},
    )
