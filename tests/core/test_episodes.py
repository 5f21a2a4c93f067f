"""Episode figures do not depend on where trajectories are cut, and resets belong to no episode."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.episodes import init_tally, tally, whole_episodes
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
    running, sums = init_tally(4, DECLARED), []
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
    _, finished = _tally()(init_tally(4, DECLARED), step)
    assert float(finished.episodes) == 4 and float(finished.length) == 4 * 2
    np.testing.assert_allclose(finished.team_return, np.asarray(step.team_reward)[:, 5:8].sum(), rtol=1e-5)


# ---- one by one
def test_whole_episodes_one_by_one_sum_to_what_is_tallied() -> None:
    """Returns, lengths, true metrics and what was said; a reset's row and the unfinished rest are nobody's."""
    step, _, _ = rollout("proving:pair", 4, 40)
    score = np.asarray(step.metrics["score"])
    pay = np.where(step.first, 99.0, step.team_reward)
    step = dataclasses.replace(step, metrics={"score": score, "level": score * 2, "end": score + 10}, team_reward=pay)
    whole = whole_episodes(step, np.stack([pay[:, 1:], np.ones_like(pay[:, 1:])], -1), DECLARED)
    _, finished = _tally()(init_tally(4, DECLARED), rows())
    assert len(whole.env) == finished.episodes == len(set(zip(whole.env.tolist(), whole.begin.tolist(), strict=True)))
    assert (whole.length == 5).all() and (whole.agent_sums[:, 1] == 5).all() and (np.diff(whole.env) >= 0).all()
    np.testing.assert_allclose(whole.agent_sums[:, 0], whole.team_return, rtol=1e-6)
    np.testing.assert_allclose(whole.team_return.sum(), finished.team_return, rtol=1e-5)
    for b, s, e, own in zip(whole.env, whole.begin, whole.end, whole.agent_return, strict=True):
        np.testing.assert_allclose(own, np.asarray(step.reward)[b, s + 1 : e + 1].sum(0), rtol=1e-5)
    for name, figures in whole.metrics.items():
        np.testing.assert_allclose(figures.sum(), finished.metrics[name], rtol=1e-5)


def test_what_began_before_or_broke_off_is_no_whole_episode() -> None:
    step = jax.tree.map(lambda x: np.array(x[:, :12]), rollout("proving:pair", 4, 40)[0])
    said, rows_of = np.ones((4, 11, 1)), lambda whole: list(zip(whole.env.tolist(), whole.begin.tolist(), whole.end.tolist(), strict=True))
    assert rows_of(whole_episodes(step, said, {})) == [(b, s, s + 5) for b in range(4) for s in (0, 6)]
    step.first[0, 0] = False  # the first rows of a trajectory that goes on with an episode
    step.first[1, 2] = True  # a worker was lost after one row
    step.last[2] = False
    assert rows_of(whole_episodes(step, said, {})) == [(0, 6, 11), (1, 2, 5), (1, 6, 11), (3, 0, 5), (3, 6, 11)]
    step.first[3, 5] = True  # broken off where it would have ended
    assert rows_of(whole_episodes(step, said, {})) == [(0, 6, 11), (1, 2, 5), (1, 6, 11), (3, 6, 11)]
    none = whole_episodes(jax.tree.map(lambda x: x[:, :4], step), said[:, :3], {})
    assert none.env.shape == none.team_return.shape == (0,) and none.agent_return.shape == (0, 4) and none.agent_sums.shape == (0, 1)
