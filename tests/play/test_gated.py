"""Gated policies: off, the gate is not there; outside, the fallback acts, lawfully, and every decision it takes is told."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Gru, Mlp
from marlstone.config import RunConfig
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.distributions import Discrete
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.play.action_selectors import Alone, Chance
from marlstone.play.gated import Gated, Guarded
from marlstone.policy.gate import Familiar, Gate, blank, features, off, outside, readings, score
from marlstone.training.fused import Fused
from marlstone.training.host import Hosted
from tests.batches import quick, rollout
from tests.standing import LEARNER, always, by_chance, runtime, standing
from tests.twin import Twin

LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
GRU = Decentralized(Gru(4, 4, ()))


def used_to(spec: Spec, seeds: int, threshold: float = 1.0, **changes: Any) -> Gate:
    """A gate whose every array is 1, but for `changes` of all groups; means, cores and values are 0."""
    zeros = dict.fromkeys(("mean", "core", "values"), 0.0) | changes
    full = lambda x, v: np.broadcast_to(np.asarray(v, np.float32), x.shape)
    made = blank(spec, seeds)
    groups = tuple(Familiar(**{k: full(x, zeros.get(k, 1.0)) for k, x in vars(g).items()}) for g in made.groups)
    return Gate(groups, np.full(seeds, threshold, np.float32))


@pytest.mark.usefixtures("compiled_once")
def test_a_gate_that_is_off_or_lets_everything_pass_changes_nothing() -> None:
    """To the bit, draws included; one that lets nothing pass leaves every decision of those who decide to the fallback."""
    it = runtime("proving:pair", 2, GRU)
    spec, state = it.algorithm.spec, standing(by_chance(it.algorithm, 0), by_chance(it.algorithm, 1))
    play = it.evaluator(6, "sample", decider=Gated(Alone(it.algorithm), "ask"))
    alone = replace(it.evaluate(state, 6, "sample"), told={})
    never, wide = used_to(spec, 2, 0.0, mean=np.nan), used_to(spec, 2, 1e9)
    for gate in (off(never), wide):
        played = play(Guarded(state.train.policy, gate))
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(replace(played, told={})), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not any(v.any() for v in played.told.values())
    closed = play(Guarded(state.train.policy, never))
    present = 5 + 3 + 5 + 3  # rows on which each of the four may decide
    assert (closed.told["outside"] == present).all() and (closed.told["asked"] == 4).all()


def test_what_is_held_is_lawful() -> None:
    """The default, 0, where it is legal, else the first legal action."""
    it, (step, _, _) = runtime("proving:pair", 1).algorithm, rollout("proving:pair", 4, 14)
    gated = Gated(Alone(it))
    guarded = Guarded(by_chance(it, 0).policy, jax.tree.map(lambda x: x[0], used_to(it.spec, 1, mean=np.nan)))
    decide = quick(lambda now, memory: gated.decide(guarded, now, memory, jax.random.key(0), 0.0))
    for t in range(3):
        now: Step = jax.tree.map(lambda x: x[:, t], step)  # noqa: B023
        (players, arm, late), _ = decide(now, gated.memory(4))
        wanted = np.where(now.legal[0][..., 0], 0, now.legal[0].argmax(-1))
        np.testing.assert_array_equal(np.asarray(players), wanted)
        assert (np.asarray(arm) == 0).all() and (t < 2 or (np.asarray(late) == 0).all())
    assert wanted.any()


def row(b: int, n: int, **changes: Any) -> Step:
    _, full = make("proving:match").init(jax.random.key(0))
    step = jax.tree.map(lambda x: jnp.broadcast_to(x, (b, *jnp.shape(x))), full)
    return replace(step, **changes)


def test_each_agent_is_judged_apart_and_only_where_it_decides() -> None:
    """One of two sees what nobody saw: its fallback acts and the other's policy does; a question is asked when it gets outside, again
    after it was back, and anew in every episode."""
    spec = make("proving:match").spec
    it = runtime("proving:match", 1).algorithm
    policy = always(it, [0.0, 5.0]).policy
    gated = Gated(Alone(it), "ask")
    gate = jax.tree.map(lambda x: x[0], used_to(spec, 1, threshold=2.0, still=100.0))
    decide = quick(lambda step, memory: gated.decide(Guarded(policy, gate), step, memory, jax.random.key(0), 0.0))
    memory, told = gated.memory(1), []
    for value, first, here in [
        (9, True, True),
        (9, False, True),
        (0, False, True),
        (np.nan, False, True),
        (9, True, True),
        (9, False, False),
    ]:
        obs = jnp.array([[[0.0, value], [1.0, 1.0]]])
        there = {"present": jnp.array([[here, True]]), "first": jnp.array([first])}
        (action,), memory = decide(row(1, 2, obs=({"symbol": obs},), **there), memory)
        told.append((int(action[0, 0]), int(action[0, 1]), *(int(memory.told[k][0]) for k in ("outside", "asked"))))
    assert told == [(0, 1, 1, 1), (0, 1, 1, 0), (1, 1, 0, 0), (0, 1, 1, 1), (0, 1, 1, 1), (1, 1, 0, 0)]


def test_what_does_not_move_is_strange_after_longer_than_ever() -> None:
    it = runtime("proving:match", 1).algorithm
    gated, policy = Gated(Alone(it)), always(it, [0.0, 5.0]).policy
    gate = jax.tree.map(lambda x: x[0], used_to(it.spec, 1, threshold=1.0, still=2.0, values=1.0, core=1.0))
    decide = quick(lambda step, memory: gated.decide(Guarded(policy, gate), step, memory, jax.random.key(0), 0.0))
    memory, away = gated.memory(1), []
    for t in range(8):
        obs = jnp.array([[[1.0, 1.0], [1.0 - 0.01 * t, 1.0]]])
        _, memory = decide(row(1, 2, obs=({"symbol": obs},), first=jnp.array([t == 5])), memory)
        away.append(memory.gate.away[0].tolist())
    assert away == [[t in (3, 4), False] for t in range(8)]


def test_a_baseline_acts_by_what_it_remembers_from_the_beginning() -> None:
    """A gate that lets nothing pass is the baseline alone, another architecture's, with memory."""
    it, other = (runtime("proving:pair", 1, *more).algorithm for more in ((), (GRU,)))
    gated = Gated(Alone(it), "baseline", Alone(other))
    gate = jax.tree.map(lambda x: x[0], used_to(it.spec, 1, mean=np.nan))
    guarded = Guarded(by_chance(it, 0).policy, gate, by_chance(other, 1).policy)
    decide, by = (quick(lambda p, *now, d=d: d.decide(p, *now, jax.random.key(0), 0.0)) for d in (gated, Alone(other)))
    memory, remembered, (step, _, _) = gated.memory(4), other.memory(4), rollout("proving:pair", 4, 14)
    for t in range(5):
        row: Step = jax.tree.map(lambda x: x[:, t], step)  # noqa: B023
        acted, memory = decide(guarded, row, memory)
        wanted, remembered = by(guarded.baseline, row, remembered)
        there = np.split(row.present, np.cumsum([g.count for g in it.spec.groups])[:-1], -1)
        for a, b, here in zip(acted, wanted, there, strict=True):
            np.testing.assert_array_equal(np.asarray(a)[here], np.asarray(b)[here])


def test_worker_processes_tell_what_a_compiled_environment_tells() -> None:
    """A gate on the point's place: the same decisions are outside in both runtimes, and cost the same."""
    config = RunConfig(LINE, Decentralized(Mlp((4,))), Individual(), LEARNER, Rollout(4, 3, 1), Evaluation(3), steps=24, seeds=2, seed=5)
    host = Hosted.of(config, 2, (5, 6))
    try:
        state = standing(*(by_chance(host.algorithm, s) for s in (0, 1)))
        real = np.array([1.0, 0.0, 0.0])  # the point alone; it begins at 0.5 and is pushed about
        gate = used_to(host.spec, 2, threshold=1.0, real=real, core=[0.5, 0, 0], values=[0.5, 0, 0], distance=0.15, reading=0.15, still=99)
        how = {"decider": Gated(Alone(host.algorithm), "ask"), "policies": Guarded(state.train.policy, gate)}
        hosted = host.evaluate(state, 3, **how)
    finally:
        host.close()
    twin = Fused(Vectorized(Twin(host.spec), 4), host.algorithm, 3, 2, (5, 6)).evaluate(state, 3, **how)
    for name in ("outside", "asked"):
        np.testing.assert_array_equal(hosted.told[name], twin.told[name])
    np.testing.assert_allclose(hosted.team_return, twin.team_return, rtol=1e-4)
    assert (
        (hosted.told["outside"] > hosted.told["asked"]).any() and (0 < hosted.told["outside"]).all() and (hosted.told["outside"] < 10).all()
    )


# ---- features and scores
def test_scores_are_the_same_on_the_host_and_padding_counts_nowhere() -> None:
    group = Group(
        "g", ("a", "b"), {"x": Leaf("vector", (3,)), "eye": Leaf("image", (8, 6, 1), "uint8")}, Discrete(2), features={"x": (3, 2)}
    )
    random = np.random.default_rng(0)
    known = jax.tree.map(lambda x: random.normal(size=x.shape[1:]).astype(np.float32), blank(Spec((group,), 0), 1).groups[0])
    real = np.ones((2, 3 + 16), np.float32)
    real[1, 2] = 0
    known = replace(
        known,
        real=real,
        std=np.abs(known.std) + 0.1,
        **{k: np.float32(2.0) for k in ("distance", "still")},
        reading=np.ones(19, np.float32),
    )
    obs = {"eye": random.integers(0, 256, (5, 2, 8, 6, 1)).astype(np.uint8), "x": random.normal(size=(5, 2, 3)).astype(np.float32)}
    still = np.zeros((5, 2), np.float32)
    of = lambda obs: score(known, features(known, readings(group, obs)), still)
    said = of(obs)
    assert isinstance(said, np.ndarray) and said.shape == (5, 2)
    np.testing.assert_allclose(said, of(jax.tree.map(jnp.asarray, obs)), rtol=1e-4)
    padded = {**obs, "x": obs["x"].copy()}
    padded["x"][:, 1, 2] = np.nan
    np.testing.assert_array_equal(of(padded), said)
    cut = lambda x: np.delete(x, 2, -1)
    lesser = replace(known, **{k: cut(getattr(known, k)) for k in ("mean", "std", "real", "core", "values", "reading")})
    np.testing.assert_allclose(score(lesser, cut(features(known, readings(group, obs))), still)[:, 1], said[:, 1], rtol=1e-5)
    padded["x"][:, 1, 1] = np.nan
    assert outside(Gate((known,), np.float32(1e9)), of(padded))[:, 1].all()
    seen = readings(group, obs)[..., 3:]
    np.testing.assert_allclose(seen[0, 0, 0], obs["eye"][0, 0, :2, :2].mean() / 255, rtol=1e-5)
    np.testing.assert_allclose(seen.mean(), obs["eye"].mean() / 255, rtol=0.2)


def test_what_cannot_be_a_gated_policy_is_refused() -> None:
    it, other = (runtime(name, 1).algorithm for name in ("proving:pair", "proving:match"))
    for message, make_it in {
        r"fallback is 'basline': did you mean 'baseline'": lambda: Gated(Alone(it), "basline"),  # type: ignore[arg-type]
        r"fallback is 'baseline' with baseline = None": lambda: Gated(Alone(it), "baseline"),
        r"fallback is 'ask' with baseline": lambda: Gated(Alone(it), "ask", Chance(it)),
        r"sees or does other things": lambda: Gated(Alone(it), "baseline", Alone(other)),
    }.items():
        with pytest.raises(UserError, match=message):
            make_it()
