"""What pairs are made of: whoever plays a round plays the same episodes, and no two rounds, or seeds, play one twice."""

from pathlib import Path

import jax
import numpy as np
import pytest

from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.evaluation.paired.players import BATCH, ROUND, Artifact, Evidence, Players, keys_of, rounds, together
from marlstone.policy.policy import Policy

ENV = "proving:dummy?rows=2&sigma=9"


def config(env: str = ENV, **more: str):
    return load(None, {"env": env, "seeds": "2", "architecture.body.hidden": "[4]", **more})


def test_whoever_plays_a_round_plays_the_same_episodes() -> None:
    with Players.of(config(), 2) as ours, Players.of(config(credit="team", seed="7"), 2) as theirs:
        policies = ours.runtime.start().train.policy
        first, again, next_ = (np.asarray(p.play(policies, 16, nth, "mode").team_return) for p, nth in ((ours, 0), (theirs, 0), (ours, 1)))
        chance = [np.asarray(ours.play(policies, 16, 0, act, chance=True).team_return) for act in ("mode", "sample")]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(*chance)
    assert (chance[0] != first).any(), "chance is nobody's policy, however that acts"
    everything = np.stack([*first, *next_])
    assert first.shape == (2, 16) and len(np.unique(everything, axis=0)) == 4, "each seed and round draws its own"


@pytest.mark.parametrize("act", ["mode", "sample"])
def test_an_artifact_plays_as_the_policies_it_was_frozen_from(act: str) -> None:
    """Episode by episode, on every training seed's episodes, whatever networks the other side has; another environment's is refused."""
    with Players.of(config(), 2) as ours:
        first = jax.tree.map(lambda x: np.asarray(x)[0], ours.runtime.start().train.policy)
        at = Artifact(Path("policy"), Policy.of(ours.runtime.algorithm, first, act), act)
        played = ours.play(jax.tree.map(lambda x: np.stack([x, x]), first), 8, 0, act)
    with Players.of(at.config(config()), 2, at=at) as theirs:
        again = theirs.play(theirs.policies(at.path), 8, 0, theirs.acting(config(), at.path, None))
    np.testing.assert_array_equal(played.team_return, again.team_return)
    assert len(np.unique(played.team_return)) > 2
    other = config("proving:match")
    with pytest.raises(UserError, match="other agents, observations or actions"), Players.of(at.config(other), 2, at=at) as strange:
        strange.play(strange.policies(at.path), 2, 0, act)


def test_no_two_rounds_share_a_key() -> None:
    keys = [k for nth in range(100) for k in keys_of(7, nth)]
    assert len(set(keys)) == 700 and max(keys) < 2**32


@pytest.mark.parametrize("episodes", [2, 3, 31, 32, 33, 97, 256])
def test_rounds_are_equal_and_never_more_than_asked(episodes: int) -> None:
    for side in (config(), config("pettingzoo:mpe2.simple_spread_v3", **{"rollout.envs": "8"})):
        count, each = rounds(episodes, side)
        assert count >= 2 and episodes - count < count * each <= episodes and each <= (ROUND if side.env == ENV else BATCH)


def test_bounds_nobody_declared_are_shown_by_a_round_that_is_no_evidence() -> None:
    shown, said = Evidence(0.05), Evidence(0.05, span=4.0)
    for e in (shown, said):
        for first, second in (([[0.0, 3.0]], [[1.0, 2.0]]), ([[9.0, 1.0]], [[0.0, 0.5]])):
            e.add(np.array(first), np.array(second))
    assert (shown.span, shown.all.tolist(), shown.clipped) == (3.0, [3.0, 0.5], 1)
    assert (said.all.tolist(), said.clipped) == ([-1.0, 1.0, 4.0, 0.5], 1)
    still = Evidence(0.05)
    still.add(np.full((1, 4), 7.0), np.full((1, 4), 7.0))
    assert still.span == 7.0 and still.ci == (-7.0, 7.0) and still.mean is None and not still.decided


def test_only_one_environment_is_compared() -> None:
    a, b = config("proving:dummy?sigma=1&rows=4", seeds="3"), config("proving:dummy?rows=4&sigma=1", **{"guards.reward_bounds": "[-1,1]"})
    first, second, seeds = together(a, b)
    assert seeds == 2 and second.guards == first.guards == a.guards
    for other, says in (("proving:dummy?rows=8&sigma=1", "rows=4 and with rows=8"), ("proving:additive?rows=4", "different environments")):
        with pytest.raises(UserError, match=says):
            together(a, config(other))
