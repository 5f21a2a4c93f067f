"""`make_train`: the pure function trains as a run of the same seed does, maps over keys, and refuses what it could only ignore."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import marlstone as ms
from marlstone.runs.checkpoint import newest, read
from marlstone.runs.directory import RunDirectory

pytestmark = pytest.mark.usefixtures("compiled_once")
TINY: dict[str, Any] = {"architecture": "ctde", "steps": 160, "rollout": {"envs": 4, "length": 8}, "architecture.body.hidden": [8]}


@pytest.mark.slow
def test_it_trains_what_a_run_of_the_same_seed_trains(tmp_path: Path) -> None:
    """Parameters up to rounding (programs are compiled apart), curves and draws exactly as many episodes and steps; another seed differs.
    What is frozen of it acts."""
    run = ms.train("proving:climbing", seeds=2, progress=False, out=tmp_path / "run", evaluate={"episodes": 2, "logged": 0}, **TINY)
    train = ms.make_train(env="proving:climbing", **TINY)
    assert run.result is not None
    out = jax.jit(jax.vmap(train))(np.array(run.result.seeds, np.uint32))
    stored = read(newest(run.path / "checkpoints").path)
    mine = jax.tree_util.tree_flatten_with_path(out.parameters)[0]
    assert len(mine) > 4
    for path, x in mine:
        name = "train.nets." + jax.tree_util.keystr(path, simple=True, separator=".")
        np.testing.assert_allclose(np.asarray(x), stored[name].array, rtol=1e-3, atol=1e-4, err_msg=name)
        assert not np.array_equal(x[0], x[1]) or not np.asarray(x).any()
    assert all(v.shape == (2, train.updates) for v in out.metrics.values()) and len(train.steps) == train.updates == 5
    assert train.steps[-1] == run.result.steps == 160
    assert out.metrics["steps"].sum(1).tolist() == [ledger["steps"] for ledger in run.result.record["ledger"]]
    assert out.metrics["episodes"].sum(1).tolist() == [ledger["episodes"] for ledger in run.result.record["ledger"]]
    with RunDirectory.open(run.path).store() as store:
        recorded = store.series("return")
    for i, points in enumerate(recorded):  # means since the contact with the host before
        since = int(np.searchsorted(train.steps, points.step[-2] if len(points.step) > 1 else 0, side="right"))
        episodes = out.metrics["episodes"][i, since:]
        assert np.nansum(out.metrics["return"][i, since:] * episodes) / episodes.sum() == pytest.approx(points.value[-1], abs=1e-4)
    policy = train.freeze(jax.tree.map(lambda x: x[1], out.policy), run.policy().acting)
    folder, theirs = policy.save(tmp_path / "policy"), run.policy(run.result.seeds[1])
    for a, b in zip(ms.Policy.load(folder).arrays, theirs.arrays, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_keys_are_seeds(tmp_path: Path) -> None:
    train = ms.make_train(env="proving:climbing", **{**TINY, "steps": 32})
    run = jax.jit(train)
    a, b = run(jax.random.key(7)), run(np.uint32(7))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    many = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 3))
    assert many.metrics["return"].shape == (3, 1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"env": "pettingzoo:mpe2.simple_spread_v3"}, "is stepped by Python"),
        ({"env": "proving:climbing", "seeds": 5}, "seeds belongs to runs"),
        ({"env": "proving:climbing", "evaluate": {"episodes": 5}}, "evaluate belongs to runs"),
        ({"env": "proving:climbing", "guards": {"on_bad": "refuse"}}, "guards.on_bad is 'refuse'"),
        ({"env": "proving:climbing", "rollout": {"shards": 2}}, "rollout.shards is 2"),
        ({"env": "proving:climbing", "credit": "teem"}, "credit"),
    ],
)
def test_what_it_could_only_ignore_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ms.UserError, match=words):
        ms.make_train(**how)


def test_a_configuration_is_taken_as_it_is() -> None:
    config = ms.make_train(env="proving:climbing", **TINY).config
    assert ms.make_train(config).config is config
    with pytest.raises(ms.UserError, match="credit and a whole configuration"):
        ms.make_train(config, credit="team")
