"""Episode figures do not depend on where chunks are cut, and resets belong to no episode."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.episodes import begin, tally
from marlstone.core.types import Metric
from tests.batches import quick, rollout

DECLARED = {"score": Metric("up", "sum"), "level": Metric("down", "mean"), "end": Metric("up", "last")}


@functools.cache
def rows():
    """Rows of `pair` that answered an action, `[b t]`, with three metrics, and their truth from the rows themselves."""
    step, _, _ = rollout("proving:pair", 4, 40)
    score = np.asarray(step.metrics["score"])
    step = dataclasses.replace(step, metrics={"score": score, "level": score * 2, "end": score + 10})
    return jax.tree.map(lambda x: x[:, 1:], step)


@functools.cache
def _tally():
    return quick(functools.partial(tally, declared=DECLARED))


@pytest.mark.parametrize("cuts", [(40,), (8,) * 5, (5,) * 8], ids=str)
def test_figures_do_not_depend_on_where_chunks_are_cut(cuts: tuple[int, ...]) -> None:
    step, at = rows(), 0
    running, sums = begin(4, DECLARED), []
    for length in cuts:
        running, finished = _tally()(running, jax.tree.map(lambda x: x[:, at : at + length], step))  # noqa: B023
        sums.append(finished)
        at += length
    total = jax.tree.map(lambda *x: float(sum(x)), *sums)
    returns, lengths, score, level, end = [], [], [], [], []
    for b in range(4):
        start = 0
        for t in np.flatnonzero(step.last[b]):
            mine = [i for i in range(start, t + 1) if not step.first[b, i]]
            returns.append(step.team_reward[b, mine].sum())
            lengths.append(len(mine))
            score.append(step.metrics["score"][b, mine].sum())
            level.append(step.metrics["level"][b, mine].mean())
            end.append(step.metrics["end"][b, t])
            start = t + 1
    assert total.episodes == len(returns) > 20 and set(lengths) == {5}
    np.testing.assert_allclose([total.team_return, total.length], [sum(returns), sum(lengths)], rtol=1e-5)
    for name, figures in (("score", score), ("level", level), ("end", end)):
        np.testing.assert_allclose(total.metrics[name], sum(figures), rtol=1e-5)


def test_an_episode_broken_off_is_not_counted() -> None:
    """A reset without an end before it (a worker was lost): what had been gathered is forgotten."""
    step = jax.tree.map(lambda x: jnp.asarray(x[:, :10]), rows())
    step = dataclasses.replace(step, last=jnp.zeros_like(step.last).at[:, 7].set(True), first=jnp.zeros_like(step.first).at[:, 5].set(True))
    _, finished = _tally()(begin(4, DECLARED), step)
    assert float(finished.episodes) == 4 and float(finished.length) == 4 * 2
    np.testing.assert_allclose(finished.team_return, np.asarray(step.team_reward)[:, 5:8].sum(), rtol=1e-5)
