"""Mixed teams: with itself a policy plays as alone; every agent is played by whom the split names, with that policy's own memory."""

import jax
import numpy as np
import pytest

from marlstone.architectures import Decentralized, Gru
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Step
from marlstone.envs.make import make
from marlstone.play.action_selectors import Alone
from marlstone.play.mixed_teams import Mixed, Two, splits
from tests.batches import quick, rollout
from tests.standing import by_chance, runtime, standing

GRU = Decentralized(Gru(4, 4, ()))


@pytest.mark.usefixtures("compiled_once")
def test_a_policy_mixed_with_itself_plays_as_alone() -> None:
    """To the bit, draws included: agents of every kind, with memory, dying and arriving."""
    it = runtime("proving:pair", 2, GRU)
    state = standing(by_chance(it.algorithm, 0), by_chance(it.algorithm, 1))
    mixed = Mixed(Alone(it.algorithm), splits(it.algorithm.spec))
    policy, play = state.train.policy, it.evaluator(6, "sample", decider=mixed)
    alone, twice = it.evaluate(state, 6, "sample"), play(Two(policy, policy))
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(twice), strict=True):
        np.testing.assert_array_equal(a, b)
    other = play(Two(policy, jax.tree.map(lambda x: x[::-1], policy)))
    assert not np.allclose(alone.team_return, other.team_return)


def test_each_agent_acts_by_the_policy_its_split_names() -> None:
    """Row after row, each policy remembering what it saw, not what the other one did."""
    it = runtime("proving:pair", 2, GRU).algorithm
    a, b = (by_chance(it, seed).policy for seed in (0, 1))
    ways = splits(it.spec)
    mixed, alone, (step, _, _) = Mixed(Alone(it), ways), Alone(it), rollout("proving:pair", 4, 14)
    m, ma, mb = mixed.memory(4), alone.memory(4), alone.memory(4)
    both, one = (quick(lambda p, row, m, k, d=d: d.decide(p, row, m, k, 0.0)) for d in (mixed, alone))
    for t in range(5):
        row: Step = jax.tree.map(lambda x: x[:, t], step)  # noqa: B023
        acted, m = both(Two(a, b), row, m, jax.random.key(t))
        by_a, ma = one(a, row, ma, jax.random.key(t))
        by_b, mb = one(b, row, mb, jax.random.key(t))
        for e in range(4):
            start = 0
            for g, *actions in zip(it.spec.groups, acted, by_a, by_b, strict=True):
                for k in range(g.count):
                    said, first, second = (np.asarray(x)[e, k] for x in actions)
                    np.testing.assert_array_equal(said, second if ways[e % len(ways)][start + k] else first)
                start += g.count


def test_splits_are_halves_of_the_team_all_different_and_none_the_others_complement() -> None:
    for n in (2, 3, 4, 8, 40):
        spec = make(f"proving:swarm?agents={n}").spec if n > 2 else make("proving:climbing").spec
        ways = splits(spec)
        assert 1 <= len(ways) <= 4 and all(sum(w) == n // 2 for w in ways)
        assert len({frozenset((w, tuple(not x for x in w))) for w in ways}) == len(ways)
    assert ways[0] == (False,) * 20 + (True,) * 20 and ways[1] == (False, True) * 20 and len(ways) == 4
    assert splits(make("proving:climbing").spec) == ((False, True),)


def test_opponents_stay_and_nobody_is_mixed_alone() -> None:
    spec = make("proving:pair").spec
    assert all(not w[2] and sum(w) == 1 for w in splits(replace(spec, opponents=("arm_0",))))
    with pytest.raises(UserError, match="a team of 1 cannot be mixed"):
        splits(replace(spec, opponents=("player_0", "player_1", "arm_0")))
    with pytest.raises(ValueError, match=r"Mixed\.ways is .*one entry for each of 4 agents"):
        Mixed(Alone(runtime("proving:pair", 1).algorithm), ((True, False),))
