"""PettingZoo's ways of ending, dying, appearing and waiting, on small environments and on real ones."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.core.types import Step
from marlstone.envs.conformance import NonConforming
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.user_file import load

HERE = Path(__file__).parent / "host_examples.py"
EXAMPLES = load(str(HERE))


def play(env, seed=0, limit=500):
    """Rows of one episode, acting at random among what is legal."""
    rng, rows = np.random.default_rng(seed), [env.reset(seed)]
    while not rows[-1].last and len(rows) <= limit:
        action = []
        for g, group in enumerate(env.spec.groups):
            if type(group.space).__name__ == "Box":
                action.append(rng.uniform(-1, 1, (group.count, group.space.size)).astype(np.float32))
                continue
            legal = rows[-1].legal[g]
            legal = np.ones((group.count, group.space.width), bool) if legal is None else legal
            action.append(np.array([rng.choice(np.flatnonzero(x)) for x in legal], np.int32))
        rows.append(env.step(tuple(action)))
    return rows


def check_rows(env, rows):
    """What holds for every row of every environment."""
    spec = env.spec
    for k, row in enumerate(rows):
        for group, leaves in zip(spec.groups, row.obs, strict=True):
            assert {n: (x.shape, str(x.dtype)) for n, x in leaves.items()} == {
                n: ((group.count, *leaf.shape), leaf.dtype) for n, leaf in group.observation.items()
            }
        assert row.state.shape == (spec.state,) and row.reward.shape == (spec.n,) and row.present.shape == (spec.n,)
        assert row.reward.dtype == row.discount.dtype == row.state.dtype == np.float32
        assert bool(row.first) == (k == 0) and bool(row.last) == (k == len(rows) - 1)
        assert row.team_reward == pytest.approx(row.reward.sum(), rel=1e-5)
        assert not (row.deciding & ~row.present).any()
    assert not rows[0].reward.any() and (rows[0].discount == 1).all() and rows[0].team_discount == 1


def ends_like(rows: list[Step], end: str) -> bool:
    """The law of endings: truncation keeps discounts of 1, termination sets them to 0; before the end all are 1."""
    wanted = {"terminate": 0.0, "truncate": 1.0, "vanish": 1.0}[end]
    final = rows[-1]
    before = all((r.discount == 1).all() and r.team_discount == 1 for r in rows[:-1])
    return bool(before and final.last and (final.discount == wanted).all() and final.team_discount == wanted)


@pytest.mark.parametrize("end", ["terminate", "truncate", "vanish"])
def test_truncation_bootstraps_and_termination_does_not(end):
    rows = play(PettingZooEnv(EXAMPLES.Toy(end=end)))
    check_rows(PettingZooEnv(EXAMPLES.Toy(end=end)), rows)
    assert len(rows) == 5 and ends_like(rows, end)
    np.testing.assert_array_equal(rows[-1].obs[0]["obs"][:, 0], 4)  # the final observation, to bootstrap from
    assert rows[-1].present.all() and rows[-1].team_reward == 8


def test_the_law_of_endings_catches_a_swap(monkeypatch):
    """The mutation check: an environment (or adapter) that swaps the two words fails the law above."""
    step = EXAMPLES.Toy.step

    def swapped(self, actions):
        seen, reward, terminated, truncated, infos = step(self, actions)
        return seen, reward, truncated, terminated, infos

    monkeypatch.setattr(EXAMPLES.Toy, "step", swapped)
    for end in ("terminate", "truncate"):
        assert not ends_like(play(PettingZooEnv(EXAMPLES.Toy(end=end))), end)


def test_one_truncated_agent_among_the_ending_keeps_the_team_discount():
    final = play(PettingZooEnv(EXAMPLES.Toy(end="mixed")))[-1]
    np.testing.assert_array_equal(final.discount, [0, 1])
    assert final.team_discount == 1 and final.last


def test_an_agent_that_dies_is_absent_afterwards():
    rows = play(PettingZooEnv(EXAMPLES.Toy(die=2)))
    np.testing.assert_array_equal([r.discount[0] for r in rows], [1, 1, 0, 0, 0])
    np.testing.assert_array_equal([r.present[0] for r in rows], [1, 1, 0, 0, 0])
    np.testing.assert_array_equal([r.reward[0] for r in rows], [0, 1, 2, 0, 0])
    assert rows[2].obs[0]["obs"][0].any() and not rows[3].obs[0]["obs"][0].any()
    assert rows[2].team_discount == 1 and not rows[2].last and rows[-1].team_discount == 0
    np.testing.assert_array_equal(rows[-1].discount, [0, 0])


def test_an_agent_that_is_truncated_alone_keeps_its_discount_there_and_nothing_is_to_come_afterwards():
    rows = play(PettingZooEnv(EXAMPLES.Toy(cut=2)))
    np.testing.assert_array_equal([r.discount[0] for r in rows], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal([r.present[0] for r in rows], [1, 1, 0, 0, 0])
    assert rows[2].obs[0]["obs"][0].any() and rows[-1].team_discount == 0


def test_an_agent_that_comes_late_is_absent_before():
    rows = play(PettingZooEnv(EXAMPLES.Toy(late=2)))
    np.testing.assert_array_equal([r.present[0] for r in rows], [0, 0, 1, 1, 1])
    assert not rows[1].obs[0]["obs"][0].any() and rows[2].obs[0]["obs"][0].any()
    assert (np.array([r.discount[0] for r in rows[:-1]]) == 1).all()


def test_an_episode_can_be_played_again():
    env = PettingZooEnv(EXAMPLES.Toy(die=2))
    for _ in range(3):
        rows = play(env)
        assert len(rows) == 5 and rows[0].present.all()


@pytest.mark.parametrize(
    "name",
    [
        "pettingzoo:mpe2.simple_spread_v3?N=3", "pettingzoo:mpe2.simple_speaker_listener_v4",
        "pettingzoo:mpe2.simple_tag_v3?continuous_actions=true",
        "pettingzoo:mpe2.simple_reference_v3?max_cycles=7",
    ],
)  # fmt: skip
def test_mpe_ends_by_truncation_at_its_horizon(name):
    env = make(name)
    rows = play(env)
    check_rows(env, rows)
    assert len(rows) - 1 == env.spec.horizon == (7 if "max_cycles" in name else 25)
    assert ends_like(rows, "truncate")
    again = play(env)
    np.testing.assert_array_equal(rows[-1].state, again[-1].state)  # the same seed, the same episode
    assert env.spec.state == rows[0].state.size
    fresh = env.reset(9)
    np.testing.assert_array_equal(fresh.state, env._env.state())  # their own state, without computing it twice
    env.close()


def test_the_conversion_says_the_same_with_and_without_its_dropped_questions():
    from mpe2 import simple_spread_v3

    env, plain = make("pettingzoo:mpe2.simple_spread_v3"), simple_spread_v3.parallel_env()
    row, (seen, _) = env.reset(5), plain.reset(seed=5)
    for k in range(25):
        np.testing.assert_array_equal(row.obs[0]["obs"], np.stack(list(seen.values())))
        action = np.array([k % 5, (k + 1) % 5, (k * 2) % 5], np.int32)
        row = env.step((action,))
        seen, rewards, terminated, truncated, _ = plain.step(dict(zip(plain.agents, action.tolist(), strict=True)))
        np.testing.assert_array_equal(row.reward, np.float32([rewards[a] for a in env.spec.agents]))
        assert bool(row.last) == all(truncated.values()) and not any(terminated.values())


def test_agents_that_take_turns_wait_for_theirs():
    env = make("pettingzoo:classic.tictactoe_v3")
    rows = play(env)
    check_rows(env, rows)
    assert all(r.deciding.sum() == 1 for r in rows[:-1])
    assert all((a.deciding != b.deciding).all() for a, b in pairwise(rows[:-1]))
    assert ends_like(rows, "terminate")
    legal = [r.legal[0][np.flatnonzero(r.deciding)[0]].sum() for r in rows[:-1]]
    assert legal == list(range(9, 9 - len(legal), -1))
    assert set(env.spec.groups[0].observation) == {"obs"}
    env.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pettingzoo:mpe2.simple_sprad_v3", ("simple_sprad_v3", "no module")),
        ("pettingzoo:mpe2.simple_spread_v3?M=3", ("options", "M")),
        ("pettingzoo:json", ("parallel_env",)),
        (f"{HERE}:toys", ("toys", "did you mean 'toy'")),
        (f"{HERE}:pictures?speed=3", ("options", "speed")),
        (f"{HERE.with_name('none.py')}:toy", ("there is no file",)),
    ],
)
def test_names_that_do_not_exist(name, words):
    with pytest.raises((UnknownEnvironment, UserError)) as error:
        make(name)
    for word in words:
        assert word in str(error.value)


def test_conformance_is_checked_at_construction():
    with pytest.raises(NonConforming, match=r"host_examples.py:\d+ \(reset\).*walker_0.*obs.*\(7,\).*\(3,\)"):
        make(f"{HERE}:unseeded")

    class Nameless(EXAMPLES.Toy):
        def __init__(self):
            super().__init__()
            self.possible_agents = []

    class Spaceless(EXAMPLES.Toy):
        def action_space(self, agent):
            raise KeyError(agent)

    class OldReset(EXAMPLES.Toy):
        def reset(self, seed=None, options=None):
            return super().reset(seed, options)[0]

    class Stranger(EXAMPLES.Toy):
        def reset(self, seed=None, options=None):
            seen, infos = super().reset(seed, options)
            return {**seen, "ghost": seen["walker_0"]}, infos

    for broken, words in ((Nameless, "possible_agents"), (Spaceless, "walker_0.*action space"), (OldReset, r"reset\(\) returned")):
        with pytest.raises(NonConforming, match=words):
            PettingZooEnv(broken())
    with pytest.raises(NonConforming, match=r"test_pettingzoo.py:\d+ \(reset\): 'ghost'.*possible_agents"):
        PettingZooEnv(Stranger())
    with pytest.raises(NonConforming, match="possible_agents"):
        PettingZooEnv(object())
