"""The host runtime is the fused one with another scan: equal trajectories from equal play, equal learning from equal trajectories."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.architectures.body import Body
from marlstone.config import RunConfig, dump
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.records import replace
from marlstone.core.types import Trajectory, Views
from marlstone.credit import Individual, Team
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import Batch, PolicyGradient
from marlstone.play.action_selectors import Alone
from marlstone.play.evaluator import play
from marlstone.rollout.unroll import RolloutState, unroll
from marlstone.rollout.worker_pool import Workers
from marlstone.runs.checkpoint import load, newest, read, save
from marlstone.runs.directory import RunDirectory
from marlstone.runs.leaves import parameters_sha256
from marlstone.training.fused import Fused
from marlstone.training.host import Hosted
from marlstone.training.loop import train
from marlstone.training.trained import evaluate
from tests.batches import begun, quick
from tests.conserved import conserved
from tests.twin import LENGTH, NAMES, Twin

pytestmark = pytest.mark.usefixtures("compiled_once")
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
B, T = 4, 7
GRU = Gru(6, 5, (4,))


def config(body: Body = GRU, **changes: Any) -> RunConfig:
    fields: dict[str, Any] = {"steps": 4 * B * T, "seeds": 1, "seed": 0, "checkpoint_every": B * T} | changes
    learner = PolicyGradient(epochs=2, minibatches=2)
    return RunConfig(LINE, Ctde(body), Team(), learner, Rollout(B, T, 1), Evaluation(3), **fields)


@pytest.fixture(scope="module")
def host(compiled_once: None) -> Any:
    made = Hosted.of(config(), 4, (0,))
    yield made
    made.close()


@pytest.fixture(scope="module")
def played(host: Hosted) -> tuple[Any, Any, Trajectory]:
    """A seed's state, where its environments stand after one rollout, and what they sent."""
    state = jax.tree.map(lambda x: x[0], host.start())
    noise = jax.device_get(host._draw(state.act_key, state.train.version))
    acting = RolloutState(None, jax.device_get(state.acting.step), state.acting.memory)
    from marlstone.rollout.unroll import host_scan

    after, trajectories = unroll(
        host.pools[0], host.algorithm, state.train.policy, acting, noise, np.zeros((T, 1)), host_scan, host._act, host._trajectory
    )
    return state, after, trajectories


@pytest.fixture(scope="module")
def fused(host: Hosted, played: Any) -> tuple[Any, Trajectory, Trajectory]:
    """The same seed in JAX, fed the same noise; and the trajectory after it."""
    state, _, _ = played
    runtime = Fused(Vectorized(Twin(host.spec), B), host.algorithm, T, 4, (0,))

    def roll(state: Any, key: Any) -> Any:
        env, step = runtime.env.init(jax.random.split(key, B))
        noise = host._draw(state.act_key, state.train.version)
        keys = jax.random.split(key, (T, B))
        play = lambda acting: unroll(runtime.env, host.algorithm, state.train.policy, acting, noise, keys)
        after, trajectories = play(RolloutState(env, step, host.algorithm.memory(B)))
        going_on = RolloutState(after.env, after.step, host.algorithm.remember(state.train, trajectories, after.memory))
        return after, trajectories, play(going_on)[1]

    return quick(roll)(state, jax.random.key(0))


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(
            np.asarray(x, float), np.asarray(y, float), rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
        )


def test_both_scans_make_the_same_chunks(played: Any, fused: Any) -> None:
    """The NumPy game stepped by workers and its JAX twin stepped inside `lax.scan`, from the same noise: actions equal, numbers to 1e-5."""
    (_, after, host_chunks), (fused_after, fused_chunks, _) = played, fused
    for a, b in zip(host_chunks.action, fused_chunks.action, strict=True):
        np.testing.assert_array_equal(a, b)
    close(host_chunks, fused_chunks)
    close(after.step, fused_after.step)
    close(after.memory.actor, fused_after.memory.actor)
    assert np.asarray(host_chunks.step.first)[:, 1:].any() and len(np.unique(np.asarray(host_chunks.action[0]))) == 3


def test_what_acted_is_what_learns(host: Hosted, played: Any, fused: Any) -> None:
    """The learner's pass over a trajectory, from the memory it began with, finds the log-probs that acting recorded, in the next trajectory
    too; and one pass over both trajectories finds the values of two passes. On-policy is the case rho = 1."""
    train, (_, one, two) = played[0].train, fused
    views = quick(lambda trajectories: host.algorithm.views(train.nets, train.seen, train.targets, trajectories))
    for trajectories in (played[2], one, two):
        close(views(trajectories).logp, trajectories.logp, 1e-4)
    assert np.abs(np.asarray(jax.tree.leaves(two.memory))).max() > 0.05
    step = jax.tree.map(lambda a, b: np.concatenate([a[:, :-1], b], 1), one.step, two.step)
    action = tuple(np.concatenate([a, b], 1) for a, b in zip(one.action, two.action, strict=True))
    both = Trajectory(step, action, np.concatenate([one.logp, two.logp], 1), one.memory)
    close(views(both).value[:, T:], views(two).value, 1e-4)


def test_equal_chunks_teach_the_same(host: Hosted, played: Any, fused: Any) -> None:
    """One update: the host's compiled learner and the fused cycle's, from identical trajectories, agree to 1e-5."""
    state, after, trajectories = played
    import dataclasses

    learned, _ = host._learn(dataclasses.replace(state, acting=dataclasses.replace(after, step=None)), after.step, trajectories)
    key = jax.random.fold_in(state.learn_key, state.train.version)
    train, _ = quick(host.algorithm.update)(state.train, fused[1], state.train.version / host.total, key)
    close(learned.train.nets, train.nets)
    close(learned.train.seen, train.seen)
    close(learned.train.targets, train.targets)
    assert int(learned.train.version) == 1


def test_identical_chunks_give_an_identical_learner(host: Hosted, played: Any, tmp_path: Path) -> None:
    """To the bit, also where the learner was saved and loaded in between."""
    state, after, trajectories = played
    import dataclasses

    learn = lambda s: host._learn(dataclasses.replace(s, acting=dataclasses.replace(after, step=None)), after.step, trajectories)[0]
    once, again = learn(learn(state)), learn(state)
    kept, _ = load(save(tmp_path, 1, again, {}), again)
    for twice in (learn(again), learn(kept)):
        assert parameters_sha256(jax.device_get(twice)) == parameters_sha256(jax.device_get(once))
    assert parameters_sha256(jax.device_get(again)) != parameters_sha256(jax.device_get(once))


def test_evaluation_says_the_same_as_the_fused_one(host: Hosted, played: Any) -> None:
    """The game draws nothing, so by mode every episode is the same, and the same in both runtimes."""
    state, _, _ = played
    stacked = jax.tree.map(lambda x: x[None], state)
    hosted = host.evaluate(stacked, 5)
    same = jax.device_get(
        play(Vectorized(Twin(host.spec), 2), 2, Alone(host.algorithm), state.train.policy, jax.random.key(1), np.float32(0))[0]
    )
    assert hosted.team_return.shape == (1, 5) and hosted.ended.all() and (hosted.length == LENGTH).all()
    np.testing.assert_allclose(hosted.team_return[0], np.repeat(same.team_return[:1], 5), rtol=1e-4)
    np.testing.assert_allclose(hosted.agent_return[0].sum(-1), hosted.team_return[0], rtol=1e-4)
    assert {"rows", "steps", "decisions"} <= set(same.used) and (same.used["decisions"] > 0).all()
    for name, used in same.used.items():  # what is played beyond what was asked for is used too
        np.testing.assert_array_equal(hosted.used[name][0], np.repeat(used[:1], len(hosted.used[name][0]), 0))


# ---- ends, through PettingZoo, worker processes and the learner
@pytest.mark.parametrize("credit", [Individual(), Team()], ids=["individual", "team"])
def test_truncation_bootstraps_and_termination_does_not(credit: Any) -> None:
    """With every value 100 and gamma = lam = 1, the row before an end is worth its pay, and 100 more where it was a truncation."""

    def worth(options: str) -> np.ndarray:
        with Workers(f"{LINE}?{options}", 2, num_workers=1) as env:
            rows = [env.init(range(2))[1]]
            for _ in range(LENGTH + 2):
                rows.append(env.step(None, (np.zeros((2, 2), np.int32),))[1])
            step = jax.tree.map(lambda *x: np.stack(x, 1), *rows)
            it = Algorithm(env.spec, Decentralized(Mlp((4,))), credit, PolicyGradient(gamma=1.0, lam=1.0))
        t = step.first.shape[1] - 1
        trajectories = Trajectory(step, (np.zeros((2, t, 2), np.int32),), np.zeros((2, t, 2), np.float32), it.memory(2))
        views = Views(trajectories.logp, trajectories.logp, np.full((2, t + 1, 2), 100.0, np.float32))
        asked = it.asked(begun(it).nets)
        fixed = it.learner.targets(Batch(trajectories, views, asked))
        assert step.last[:, LENGTH].all() and step.first[:, LENGTH + 1].all()
        return np.asarray(fixed.target - asked.reward(views, trajectories)[0])[:, LENGTH - 1]

    obeys = lambda swapped: bool(
        np.allclose(worth(f"end=truncate&swapped={swapped}"), 100, atol=1e-3)
        and np.allclose(worth(f"end=terminate&swapped={swapped}"), 0, atol=1e-3)
    )
    assert obeys("false") and not obeys("true")


# ---- whole runs
LED = Hierarchical(Mlp((4,)), every=2, span=1, roles=2, manager=Mlp((3,)))


@pytest.mark.slow
def test_a_resumed_run_has_the_learner_that_was_saved(tmp_path: Path) -> None:
    """Stopped and resumed, managers and all: it goes on from the update it had reached, to the budget; two seeds side by side."""
    two = replace(config(seeds=2), architecture=LED)
    run = RunDirectory.create(tmp_path / "run", dump(two))
    seen: list[Any] = []
    stopped = train(two, run, stop=lambda: bool(seen), progress=lambda p: seen.append(p) if p.step else None)
    assert stopped["stopped"] and stopped["steps"] == B * T
    kept = read(newest(run.checkpoints).path)
    resumed = train(two, run, resume=newest(run.checkpoints))
    assert resumed["resumed_from_step"] == B * T and resumed["steps"] == 4 * B * T and "stopped" not in resumed
    assert all(ledger["rows"] == 4 * B * T for ledger in resumed["ledger"]) and len(resumed["returns"]) == 2
    end = read(newest(run.checkpoints).path)
    assert (kept["train.version"].array == 1).all() and (end["train.version"].array == 4).all()
    assert any(not np.array_equal(kept[k].array, end[k].array) for k in kept if k.startswith("train.nets"))
    conserved(resumed, run)
    record = evaluate(two, newest(run.checkpoints), 3)
    assert record["returns"] == resumed["returns"]
    assert set(record["agent_returns"]) == set(NAMES) | {"manager_0", "manager_1"}


def test_workers_step_managed_environments_as_jax_does() -> None:
    """Over several episodes and processes: goals, clocks, masks and all, the rows of the twin in JAX."""
    managers, rng, keys = Managers(2, 2, roles=3), np.random.default_rng(0), jax.random.split(jax.random.key(0), 3)
    with Workers(LINE, 3, num_workers=2, managers=managers) as env:
        twin = Vectorized(managers.over(Twin(make(LINE).spec)), 3)
        assert env.spec == twin.spec
        step = quick(twin.step)
        (_, row), (state, same) = env.init(keys), twin.init(keys)
        for t in range(3 * LENGTH):
            close(row, same)
            assert row.deciding[:, -1].all() == (t % (LENGTH + 1) % 2 == 0)
            action = rng.integers(0, 3, (3, 2)).astype(np.int32), rng.integers(0, 4, (3, 1, 2)).astype(np.int32)
            (_, row), (state, same) = env.step(None, action), step(state, action, keys)


def test_environments_are_what_minibatches_are_made_of() -> None:
    odd = replace(config(), rollout=Rollout(3, T, 1))
    with pytest.raises(ValueError, match=r"rollout\.envs is 3, no.* multiple of learner\.minibatches = 2"):
        Hosted.of(odd, 4, (0,))
    assert make(LINE).spec.state == 2


def test_workers_mend_what_is_too_large_to_learn_from() -> None:
    toy = Path(__file__).parents[1] / "envs" / "host_examples.py"
    with Workers(f"{toy}:toy?scale=1e20", 2, num_workers=1) as env:
        env.init(range(2))
        _, row = env.step(None, (np.zeros((2, 2), np.int32),))
        assert env.counts["nan_reward"] == 4 and (row.reward == 0).all() and (row.team_reward == 0).all()
