"""Episode figures from rows: undiscounted team return, length and true metrics of every episode that ends in a chunk."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.records import record
from marlstone.core.types import Metric, Step

Array = Any


@record
class Tally:
    """Running figures of unfinished episodes, `[b]` each."""

    team_return: Array
    length: Array
    metrics: dict[str, Array]


@record
class Finished:
    """Sums over the episodes that ended, and how many there were."""

    episodes: Array
    team_return: Array
    length: Array
    metrics: dict[str, Array]


def begin(b: int, metrics: dict[str, Metric]) -> Tally:
    return Tally(jnp.zeros(b), jnp.zeros(b), {k: jnp.zeros(b) for k in metrics})


def tally(running: Tally, step: Step, declared: dict[str, Metric]) -> tuple[Tally, Finished]:
    """Go through rows `[b t ...]` (those that answered an action) and report the episodes that ended in them."""
    time = lambda x: jnp.moveaxis(x, 1, 0)
    rows = jax.tree.map(time, (step.team_reward, step.first, step.last, {k: step.metrics[k] for k in declared}))

    def tick(carry: Tally, row: tuple[Any, ...]) -> tuple[Tally, tuple[Any, ...]]:
        reward, first, last, metrics = row
        forget = lambda x: jnp.where(first, 0, x)
        total, length = forget(carry.team_return) + reward, forget(carry.length) + ~first
        summed = lambda k: forget(carry.metrics[k]) + jnp.where(first, 0, metrics[k])
        kept = {k: metrics[k] if declared[k].reduce == "last" else summed(k) for k in declared}
        done = lambda x: jnp.where(last, x, 0)
        figure = {k: done(v / jnp.maximum(length, 1) if declared[k].reduce == "mean" else v) for k, v in kept.items()}
        return Tally(total, length, kept), (last, done(total), done(length), figure)

    running, (last, total, length, metrics) = lax.scan(tick, running, rows, unroll=8)
    return running, Finished(last.sum(), total.sum(), length.sum(), {k: v.sum() for k, v in metrics.items()})
