"""A replay is a ring of sequences, drawn as often as its priorities say, and weighed by the inverse."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.records import replace
from marlstone.core.types import Step, Trajectory
from marlstone.learners import Replay
from marlstone.learners.replay import Remembered


def rollout(tags: Any) -> Trajectory:
    """Sequences `[b 2 1]` that say who they are."""
    tags = jnp.asarray(tags, jnp.float32)
    x = jnp.broadcast_to(tags[:, None, None], (len(tags), 2, 1))
    step = Step(({"x": x[..., None]},), *[x] * 3, *[x[..., 0]] * 4, (None,), x > -1, x > -1, {})
    return Trajectory(step, (x.astype(jnp.int32),), x, None)


def filled(replay: Replay, adds: int, b: int = 2) -> Remembered:
    it = replay.empty(rollout(np.zeros(b)))
    for k in range(adds):
        it = replay.add(it, rollout(1 + k * b + np.arange(b)))
    return it


def tags(replay: Replay, it: Remembered) -> np.ndarray:
    """Of all sequences held; every leaf must agree."""
    trajectories = replay.at(it, jnp.arange(len(it.priority)))
    ids = [
        np.asarray(x).reshape(len(x), -1)
        for x in (trajectories.step.obs[0]["x"], trajectories.step.discount, trajectories.logp, trajectories.action[0])
    ]
    assert all((x == ids[0][:, :1]).all() for x in ids)
    return ids[0][:, 0].astype(int)


@pytest.mark.parametrize("capacity", [6, 7], ids=["even", "no multiple of the rollout"])
def test_the_ring_keeps_the_newest_each_in_its_place(capacity: int) -> None:
    """After every rollout of two: the newest six, oldest overwritten first, the others where they were."""
    replay = Replay(capacity)
    for adds in range(9):
        it = filled(replay, adds)
        held = tags(replay, it)
        assert len(held) == 6 and set(held) - {0} == set(range(max(1, 2 * adds - 5), 2 * adds + 1))
        assert all((tag - 1) % 6 == place for place, tag in enumerate(held) if tag)
        np.testing.assert_array_equal(np.asarray(it.priority) > 0, held > 0)
        assert int(it.added) == 2 * adds


@pytest.mark.parametrize("priority", [0.0, 1.0], ids=["uniform", "prioritized"])
@pytest.mark.parametrize("adds", [1, 2, 5])
def test_draws_cover_what_is_filled_and_nothing_else(priority: float, adds: int) -> None:
    """So many draws that rounding must meet the edges."""
    replay = Replay(6, 2**21, priority=priority)
    it = filled(replay, adds)
    for seed in range(3):
        which, weight = replay.draw(it, jax.random.key(seed))
        share = np.bincount(which, minlength=6) * min(2 * adds, 6) / 2**21
        np.testing.assert_allclose(share, np.asarray(it.priority) > 0, atol=0.01)
        assert ((np.asarray(share) > 0) == (np.asarray(it.priority) > 0)).all()
        np.testing.assert_allclose(weight, 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_surprise_is_preferred_and_weighed_back(alpha: float) -> None:
    """Shares are p^alpha / sum p^alpha, which weights undo: weighed, every sequence counts the same. Batches are stratified: none
    holds more than one draw more or less than its share."""
    replay, p = Replay(8, 4096, priority=alpha), np.array([1, 2, 3, 4, 8, 0.5], np.float32)
    it = replace(filled(replay, 3), priority=jnp.asarray([*p, 0, 0]))
    which, weight = (np.asarray(x) for x in replay.draw(it, jax.random.key(0)))
    expected, counts = 4096 * p**alpha / (p**alpha).sum(), np.bincount(which, minlength=8)
    assert (np.abs(counts[:6] - expected) <= 1 + 1e-3).all() and not counts[6:].any()
    np.testing.assert_allclose(weight, (p.min() / p[which]) ** alpha, rtol=1e-5)
    assert weight.max() == pytest.approx(1.0)
    few = replace(replay, batch=1)
    keys = jax.random.split(jax.random.key(1), 4096)
    alone = np.bincount(np.asarray(jax.jit(jax.vmap(lambda k: few.draw(it, k)[0]))(keys))[:, 0], minlength=8)[:6]
    assert ((alone - expected) ** 2 / expected).sum() < 15.1  # chi-square, 5 degrees: one in a hundred


def test_only_what_was_drawn_is_rated_anew() -> None:
    replay = Replay(8, 2, priority=0.7)
    it = filled(replay, 3)
    rated = replay.update_priorities(it, jnp.array([1, 4]), jnp.array([9.0, 0.0]))
    np.testing.assert_allclose(rated.priority, [1, 9, 1, 1, 0, 1, 0, 0], atol=2e-6)
    assert rated.priority[4] > 0, "a sequence without error may still be drawn"
    np.testing.assert_allclose(replay.add(rated, rollout([7, 8])).priority[6:], 9, atol=2e-6)
    plain = replace(replay, priority=0.0)
    assert plain.update_priorities(it, jnp.array([1, 4]), jnp.array([9.0, 0.0])) is it


def test_a_ring_smaller_than_a_rollout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"replay\.capacity is 3, less than the rollout's 4 sequences: give at least 4"):
        Replay(3).empty(rollout(np.zeros(4)))


@pytest.mark.parametrize(
    ("field", "bad", "remedy"),
    [("capacity", 0, "at least 1"), ("batch", 0, "at least 1"), ("updates", 0, "at least 1"), ("priority", 1.5, "from 0 .* to 1")],
)
def test_fields_out_of_range_are_refused(field: str, bad: float, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"Replay\.{field} is {bad}: give .*{remedy}"):
        Replay(**{field: bad})
