"""Logged episodes are whole, one of each environment, and say of every agent what credit says; both runtimes play them alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.config import RunConfig
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.episodes import whole_episodes
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.credit import Individual, Team
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.play.episodes import how_many, joined, recorder
from marlstone.runs.store import Store
from marlstone.training.fused import Fused
from marlstone.training.host import Hosted
from tests.batches import trajectories_of
from tests.twin import LENGTH, Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
LEARNER = PolicyGradient(epochs=1, minibatches=1)


@dataclass(frozen=True)
class Paid(Team):
    """Says that an agent contributed what it was paid."""

    kind: ClassVar[str] = "paid"

    def contribution(self, p: Any, views: Any, trajectory: Any) -> Any:
        return trajectory.step.reward[1:]


def fused(name: str, length: int, seeds: tuple[int, ...] = (5, 6)) -> Fused:
    env = make(name)
    return Fused(Vectorized(env, 2), Algorithm(env.spec, Ctde(Gru(4, 4, ())), Paid(), LEARNER), length, 2, seeds)


# ---- pieces
@pytest.fixture(scope="module")
def pair() -> Trajectory:
    return trajectories_of(Algorithm(make("proving:pair").spec, Decentralized(Mlp((4,))), Individual(), LEARNER), "proving:pair", 4, 16)


def cut(trajectories: Trajectory, length: int) -> Any:
    def piece(k: int, carry: Any) -> tuple[Any, Trajectory]:
        at = k * length
        step = jax.tree.map(lambda x: x[:, at : at + length + 1], trajectories.step)
        action, logp = jax.tree.map(lambda x: x[:, at : at + length], (trajectories.action, trajectories.logp))
        return carry, Trajectory(step, action, logp, trajectories.memory)

    return piece


@pytest.mark.parametrize("length", [1, 2, 4, 8, 16])
def test_where_an_episode_is_cut_into_pieces_does_not_matter(pair: Trajectory, length: int) -> None:
    """Its rows are as they were, all others are nobody's; no piece is played once all have ended; pieces are 1, 2, 4 ..."""
    asked: list[int] = []
    piece = cut(pair, length)
    out = joined(lambda k, carry: (asked.append(k), piece(k, carry))[1], None, 16 // length, "sample")
    assert asked == list(range(-(-5 // length))) and out.logp.shape[:2] == (4, max(8, length))
    for a, b in zip(jax.tree.leaves((out.step.obs, out.step.reward)), jax.tree.leaves((pair.step.obs, pair.step.reward)), strict=True):
        np.testing.assert_array_equal(a[:, :6], b[:, :6])
    np.testing.assert_array_equal(out.logp[:, :5], pair.logp[:, :5])
    assert out.real[:, :5].all() and not out.real[:, 5:].any() and not out.step.last[:, 6:].any()
    whole = whole_episodes(out.step, np.zeros((*out.logp.shape[:2], 0)), {})
    assert whole.env.tolist() == [0, 1, 2, 3] and (whole.length == 5).all()


def test_an_episode_that_broke_off_gives_way_to_the_next(pair: Trajectory) -> None:
    first = np.array(pair.step.first)
    first[1, 3] = True
    broken = replace(pair, step=replace(pair.step, first=first))
    out = joined(cut(broken, 4), None, 4, "mode")
    assert not out.real[1, :3].any() and out.real[1, 3:5].all() and not out.real[1, 5:].any() and (out.logp == 0).all()


# ---- in both runtimes
def test_a_method_that_says_what_agents_are_paid_is_logged_with_their_returns(tmp_path: Path) -> None:
    """Every seed's, in the order of the agent axis; the same state plays the same episodes, another seed others."""
    runtime = fused("proving:dummy?rows=3", 2)
    spec, state = runtime.algorithm.spec, runtime.start()
    with Store(tmp_path / "m", "r") as store:
        record = recorder(runtime, 3)
        record(store, 1, state)
        once = store.episodes()
        record(store, 1, state)
        for a, b in zip(jax.tree.leaves(vars(once)), jax.tree.leaves(vars(store.episodes())), strict=True):
            np.testing.assert_array_equal(a, b)
    assert once.seed.tolist() == [5] * 3 + [6] * 3 and once.agents == tuple(sorted(spec.agents)) and (once.length == spec.horizon).all()
    np.testing.assert_allclose(once.contribution, once.own_return, rtol=1e-5)
    np.testing.assert_allclose(once.own_return.sum(1), once.team_return, rtol=1e-4)
    noise = np.abs(once.metrics["score"] - once.team_return)
    assert 0 < noise.max() <= 0.1 + 1e-6 and np.ptp(once.metrics["score"]) > 0
    assert np.isnan(once.success).all() and not np.allclose(once.team_return[:3], once.team_return[3:])


def test_host_and_fused_runtimes_play_the_same_episodes() -> None:
    """By mode, in a game that draws nothing; from their trajectories credit says the same."""
    parts = Ctde(Gru(4, 4, ())), Paid(), LEARNER
    config = RunConfig(LINE, *parts, Rollout(4, 3, 1), Evaluation(3), steps=24, seeds=2, seed=5)
    host = Hosted.of(config, 2, (5, 6))
    try:
        state, play = host.start(), host.player(2, "mode")
        hosted = play(state)
        np.testing.assert_array_equal(play(state)[0].step.reward, hosted[0].step.reward)
        workers = len(host.spare)
    finally:
        host.close()
    assert workers == 2 and all(not w._processes for w in host.spare)
    there = Fused(Vectorized(Twin(host.spec), 2), host.algorithm, 3, 2, (5, 6))
    twins = there.player(2, "mode")(replace(there.start(), train=state.train))
    assert len(hosted) == len(twins) == 2
    for a, b in zip(hosted, twins, strict=True):
        assert a.logp.shape == (2, 6, 2) and a.real[:, :LENGTH].all() and not a.real[:, LENGTH:].any()
        kept = lambda c: (c.step.obs, c.step.reward, c.step.last, c.action)
        for x, y in zip(jax.tree.leaves(kept(a)), jax.tree.leaves(kept(b)), strict=True):
            np.testing.assert_allclose(np.asarray(x, float)[:, :LENGTH], np.asarray(y, float)[:, :LENGTH], rtol=1e-4, atol=1e-5)


# ---- how many
@pytest.mark.parametrize(
    ("changes", "horizon", "count"),
    [
        ({}, 50, 16),
        ({}, 500, 4),
        ({}, None, 4),
        ({"steps": 1000}, 500, 1),
        ({"checkpoint_every": 1000}, 10, 2),
        ({"evaluate": Evaluation(logged=0)}, 50, 0),
        ({"evaluate": Evaluation(logged=99), "steps": 10}, 500, 99),
    ],
)
def test_logging_takes_a_fiftieth_of_the_steps_or_what_was_asked(changes: dict[str, Any], horizon: int | None, count: int) -> None:
    spec = replace(make("proving:dummy").spec, horizon=horizon)
    assert how_many(RunConfig("proving:dummy", **changes), spec) == count


def test_less_than_no_episode_cannot_be_logged() -> None:
    with pytest.raises(ValueError, match=r"evaluate\.logged is -1: give at least 0"):
        Evaluation(logged=-1)
