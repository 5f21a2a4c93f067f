"""Environments written for other libraries, as their documentation shows them: recognized by what they have, played by the same laws as
all others."""

from pathlib import Path
from typing import ClassVar

import gymnasium.spaces as gs
import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.envs.conformance import NonConforming, probe
from marlstone.envs.host.old_spaces import modern
from marlstone.envs.host.recognize import KINDS, adapt
from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.user_file import load

HERE = Path(__file__).parent
FILE = HERE.parent / "cases" / "other_libraries.py"
CASES, HORIZON = load(str(FILE)), load(str(FILE.with_name("horizon.py")))
rows_of = load(str(HERE / "test_pettingzoo.py"))

KNOWN = {  # class: its kind, agents, how episodes end
    CASES.TurnBased: ("RLlib", ("player1", "player2"), "terminate"),
    CASES.Numbered: ("RLlib", ("agent_0", "agent_1", "agent_2"), None),
    CASES.DictSpaces: ("RLlib", ("car", "light"), "terminate"),
    CASES.Cells: ("RLlib", ("agent_1", "agent_2", "agent_3"), "truncate"),
    CASES.Rail: ("RLlib", ("agent_0", "agent_1"), "terminate"),
    CASES.City: ("sequences", ("agent_0", "agent_1"), "truncate"),
    CASES.Particles: ("sequences", ("agent_0", "agent_1"), "terminate"),
    CASES.Marines: ("PyMARL", ("agent_0", "agent_1", "agent_2"), "terminate"),
    CASES.Foragers: ("PyMARL", ("agent_0", "agent_1", "agent_2"), "terminate"),
}


@pytest.mark.parametrize("cls", KNOWN, ids=lambda c: c.__name__)
def test_it_is_recognized_and_plays_by_the_laws_of_every_environment(cls: type) -> None:
    kind, agents, end = KNOWN[cls]
    assert kind in next(k.name for k in KINDS if not k.lacks(cls()))
    env = adapt(cls(), "here")
    assert env.spec.agents == agents
    rows, again, other = (rows_of.play(env, seed) for seed in (3, 3, 4))
    rows_of.check_rows(env, rows)
    if end is not None:
        assert rows_of.ends_like(rows, end)
    for a, b in zip(rows, again, strict=True):  # a seed repeats an episode bit for bit
        assert (a.state == b.state).all() and (a.reward == b.reward).all() and (a.deciding == b.deciding).all()
    assert len(other) > 1
    probe(env, values=True)
    saved, step = env.snapshot(), env.reset(1)
    env.restore(saved)
    np.testing.assert_array_equal(env.reset(1).state, step.state)
    env.close()


def test_only_who_is_shown_something_acts_in_rllib() -> None:
    """The environment asserts that it is given the mover's action alone. Who waits is there, decides nothing, and may be rewarded."""
    env = adapt(CASES.make_turns(moves=5), "here")
    rows = rows_of.play(env, 1)
    assert len(rows) == 6 and all(r.present.all() for r in rows)
    movers = [int(np.flatnonzero(r.deciding)[0]) for r in rows[:-1]]
    assert all(r.deciding.sum() == 1 for r in rows[:-1]) and movers == [(movers[0] + k) % 2 for k in range(5)]
    assert [r.reward[m] for m, r in zip(movers, rows[1:-1])] == [0.5] * 4
    np.testing.assert_array_equal(rows[-1].reward[[movers[-1], 1 - movers[-1]]], [1, -1])
    first, again = ([int(env.reset(seed).deciding.argmax()) for seed in range(12)] for _ in range(2))
    assert first == again and set(first) == {0, 1}  # drawn from Python's own generator, whatever seed it is given


def test_where_time_runs_out_a_waiting_agent_is_judged_by_what_it_was_shown_last() -> None:
    rows = rows_of.play(adapt(CASES.make_turns(moves=4, late=True), "here"), 1)
    assert rows_of.ends_like(rows, "truncate")
    seen = rows[-1].obs[0]["obs"][:, 0]  # its step: 4 for who is shown the end, 3 for who moved last
    assert sorted(seen.tolist()) == [3, 4]


def test_agents_of_rllib_end_and_appear_alone() -> None:
    rows = rows_of.play(adapt(CASES.Numbered(), "here"), 2)
    assert [r.present.astype(int).tolist() for r in rows] == [[1, 1, 0]] * 2 + [[1, 1, 1]] + [[1, 0, 1]] * 3 or [
        r.present.astype(int).tolist() for r in rows
    ] == [[1, 1, 0]] * 2 + [[1, 0, 1]] * 4
    assert [r.discount[1] for r in rows] == [1, 1, 0, 0, 0, 0] and rows[-1].team_discount == 1 and rows[-1].last
    assert not rows[1].obs[0]["obs"][2].any() and rows[2].obs[0]["obs"][2].any()


def test_a_gym_environment_of_dict_spaces_takes_what_its_space_contains() -> None:
    env = adapt(CASES.DictSpaces(), "here")
    assert {g.name: type(g.space).__name__ for g in env.spec.groups} == {"car": "Box", "light": "Discrete"}
    np.testing.assert_array_equal(rows_of.play(env, 1)[-1].reward, [1, 2])


def test_flatlands_trains_wait_where_no_action_is_required_and_seeds_reach_random_seed() -> None:
    env = adapt(CASES.Rail(), "here")
    rows = rows_of.play(env, 1)
    assert [r.deciding.tolist() for r in rows] == [[True, True], [True, False], [True, True], [True, False], [True, True]]
    assert rows[0].obs[0]["obs"][0, 1] != env.reset(2).obs[0]["obs"][0, 1]
    assert "agent_0" in env.notices[0]


def test_lists_of_spaces_get_lists_and_old_ends_are_read() -> None:
    rows = rows_of.play(adapt(CASES.City(), "here"), 1)
    np.testing.assert_array_equal(rows[-1].reward, [-1, -2])
    assert [len(rows_of.play(adapt(cls(), "here"), 1)) for cls in (CASES.City, CASES.Particles)] == [4, 4]


def test_one_reward_for_a_pymarl_team_is_the_teams_and_the_state_and_masks_are_its_own() -> None:
    env = adapt(CASES.Marines(), "here")
    assert env.spec.horizon == 3 and env.spec.state == 5
    rows = rows_of.play(env, 1)
    assert all(r.team_reward == rows[1].team_reward and 2 <= r.team_reward < 3 for r in rows[1:])
    np.testing.assert_allclose(rows[1].reward, rows[1].team_reward / 3, rtol=1e-6)
    np.testing.assert_array_equal(rows[2].state, [2, 1, 7, 7, 7])
    np.testing.assert_array_equal(rows[2].legal[0], [[0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 0]])
    assert "no seed" in env.notices[0]


def test_pymarls_episode_limit_is_a_truncation_and_epymarls_values_are_read() -> None:
    assert rows_of.ends_like(rows_of.play(adapt(CASES.Marines(limit=True), "here"), 1), "truncate")
    assert rows_of.ends_like(rows_of.play(adapt(CASES.Foragers(limit=True), "here"), 1), "truncate")
    rows = rows_of.play(adapt(CASES.Foragers(), "here"), 1)
    np.testing.assert_array_equal(rows[-1].reward[:2], [1, 2])
    assert rows[-1].team_reward == pytest.approx(rows[-1].reward.sum())


def test_what_is_of_no_known_kind_is_refused_with_what_was_looked_for() -> None:
    with pytest.raises(NonConforming) as error:
        adapt(CASES.Nothing(), "here")
    for words in ("here gives Nothing", "possible_agents", "get_avail_actions()", "observation_space, a Tuple or list", "agents' names"):
        assert words in str(error.value)
    assert all(kind.name in str(error.value) for kind in KINDS)
    with pytest.raises(NonConforming, match="observation_spaces by agent, or one observation_space for all"):
        adapt(CASES.Shapeless(), "here")


BROKEN = {
    "three values": (CASES.Numbered, lambda self, a: ({}, {}, {}), r"\(step\): returned 3 values: return \(observations, rewards"),
    "rewards": (CASES.Numbered, lambda self, a: ({}, [1.0], {}, {}, {}), r"rewards is \[1.0\] of type list: return a dict by agent"),
    "ends": (CASES.Numbered, lambda self, a: ({}, {}, [True], {}, {}), r"an end is \[True\]: return a dict by agent, or one for all"),
    "stranger": (CASES.Numbered, lambda self, a: ({7: np.zeros(2)}, {}, {}, {}, {}), r"'agent_7' \(in .*\) is not in possible_agents"),
    "PyMARL": (CASES.Marines, lambda self, a: (1.0, True), r"returned 2 values: return \(reward, terminated, info\)"),
    "team of two": (CASES.Marines, lambda self, a: ([1.0, 2.0], True, {}), r"reward is \[1.0, 2.0\]: return one number for the team, or 3"),
    "no number": (CASES.Marines, lambda self, a: ("lots", True, {}), r"agent 'team', reward: .*'lots'.*expected a number"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_interface_is_refused_with_line_and_remedy(what: str) -> None:
    cls, step, words = BROKEN[what]
    with pytest.raises(NonConforming, match=words):
        probe(adapt(type("Odd", (cls,), {"step": step})(), "here"), values=False)


def test_by_name_from_a_module_and_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that takes a config is given its options in a dictionary, as RLlib does; named by module or by file, it is the same."""
    monkeypatch.syspath_prepend(str(FILE.parent))
    by_module = make("rllib:other_libraries:TurnBased?moves=2")
    by_file = make(f"{FILE}:TurnBased?moves=2")
    assert len(rows_of.play(by_module, 1)) == len(rows_of.play(by_file, 1)) == 3
    assert make(f"{FILE}:numbered").spec.n == 3
    for name, says in (
        ("rllib:other_libraries:TurnBase", "did you mean 'TurnBased'"),
        ("rllib:other_libraries", "write rllib:other_libraries:Class"),
        ("rllib:no_such_games:Game", "no module 'no_such_games'"),
        ("rllib:other_libraries:Marines?speed=3", "does not take these options"),
    ):
        with pytest.raises(UnknownEnvironment, match=says):
            make(name)


def test_rllibs_own_examples_play() -> None:
    pytest.importorskip("ray.rllib.examples.envs.classes.multi_agent.tic_tac_toe", exc_type=ImportError)
    base = "rllib:ray.rllib.examples.envs.classes.multi_agent."
    for name in ("tic_tac_toe:TicTacToe", "rock_paper_scissors:RockPaperScissors", "two_step_game:TwoStepGame"):
        env = make(base + name)
        rows, again = rows_of.play(env, 5), rows_of.play(env, 5)
        rows_of.check_rows(env, rows)
        assert env.spec.n == 2 and len(rows) == len(again) and (rows[-1].reward == again[-1].reward).all()


def test_spaces_of_gym_are_read_as_gymnasiums() -> None:
    """As gym declares them: classes of the same names and fields, in a module `gym.spaces` that need not be there."""
    old = lambda name, **fields: type(name, (), {"__module__": f"gym.spaces.{name.lower()}", **fields})()
    box = old("Box", low=np.zeros(2, np.float32), high=np.ones(2, np.float32), dtype=np.dtype(np.float32))
    pair = old("Dict", spaces={"a": box, "b": old("Discrete", n=3)})
    assert modern(old("Tuple", spaces=[pair])) == gs.Tuple([gs.Dict({"a": gs.Box(0, 1, (2,), np.float32), "b": gs.Discrete(3)})])
    assert modern(box) == gs.Box(0, 1, (2,), np.float32) and modern(gs.Discrete(2)) == gs.Discrete(2) and modern(None) is None

    class Older(CASES.Particles):
        def __init__(self) -> None:
            self.observation_space, self.action_space = (
                [old("Box", low=np.full(2, -9.0), high=np.full(2, 9.0), dtype=float)] * 2,
                [old("Discrete", n=2)] * 2,
            )

    assert len(rows_of.play(adapt(Older(), "here"), 1)) == 4


def test_unitys_wrapper_is_refused_with_what_to_write_instead() -> None:
    class UnityParallelEnv(HORIZON.Phases):
        side_channel: ClassVar[dict] = {}

    with pytest.raises(NonConforming, match="write a PettingZoo ParallelEnv over UnityEnvironment"):
        adapt(UnityParallelEnv(), "here")


def test_two_agents_of_one_name_are_refused() -> None:
    class Twice(CASES.Numbered):
        _agent_ids = {1, "agent_1"}  # noqa: RUF012

    with pytest.raises(UserError, match="a name of its own"):
        adapt(Twice(), "here")
