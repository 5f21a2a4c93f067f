"""What pairs are made of: whoever plays a round plays the same episodes, and no two rounds, or seeds, play one twice."""

import numpy as np
import pytest

from marlstone.config import load
from marlstone.core.errors import UserError
from marlstone.evaluation.paired.players import BATCH, ROUND, Evidence, Players, keys_of, rounds, together

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
