"""What breaks an environment's interface is refused within its first step, by file and line, agent, field and remedy; what is only a bad
value is counted; a missing state, or a name nobody knows, never falsifies a return."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from marlstone.core.errors import UserError
from marlstone.envs.conformance import NonConforming, probe
from marlstone.envs.guards import Guards
from marlstone.envs.host.gymnasium import GymnasiumEnv
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.user_file import adapt, load
from marlstone.rollout.env_stepper import EnvStepper
from marlstone.rollout.worker_pool import Workers

CASES = Path(__file__).parents[1] / "cases"
API, HORIZON, RESPAWN = (load(str(CASES / f"{name}.py")) for name in ("api_habits", "horizon", "respawn"))
HERE = "test_conformance.py"


class Ring(ParallelEnv):
    """Three agents who see [step, who] and a dial 0..2, earn 1 a step, and are truncated after six."""

    def __init__(self):
        self.possible_agents = ["r_0", "r_1", "r_2"]

    def observation_space(self, agent):
        return spaces.Dict({"place": spaces.Box(0, 10, (2,), np.float32), "dial": spaces.Discrete(3)})

    def action_space(self, agent):
        return spaces.Discrete(2)

    def look(self):
        return {a: {"place": np.array([self.t, i], np.float32), "dial": i % 3} for i, a in enumerate(self.agents)}

    def reset(self, seed=None, options=None):
        self.agents, self.t = self.possible_agents[:], 0
        return self.look(), {a: {} for a in self.agents}

    def step(self, actions):
        self.t += 1
        seen, n, end = self.look(), self.agents, self.t >= 6
        self.agents = [] if end else n
        return seen, dict.fromkeys(n, 1.0), dict.fromkeys(n, False), dict.fromkeys(n, end), {a: {} for a in n}

    def close(self):
        pass


def steps(**changes):
    """A Ring whose `step` returns five values, some of them changed: name -> function of (env, value)."""

    class Changed(Ring):
        def step(self, actions):
            out = dict(zip(("observations", "rewards", "terminations", "truncations", "infos"), super().step(actions), strict=True))
            for name, change in changes.items():
                out[name] = change(self, out[name])
            return tuple(out.values())

    return Changed()


class Table(gym.Env):
    """Two players with Tuple spaces."""

    observation_space = spaces.Tuple([spaces.Box(0, 1, (2,), np.float32)] * 2)
    action_space = spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])
    rewards = (1.0, 2.0)

    def look(self):
        return tuple(np.zeros(2, np.float32) for _ in range(2))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, actions):
        assert self.action_space.contains(actions) and isinstance(actions, tuple)
        self.t += 1
        return self.look(), self.rewards, self.t >= 5, False, {}


def with_(base, **methods):
    return type("Odd", (base,), methods)()


def four(self, actions):
    seen, rewards, over, late, infos = Table.step(self, actions)
    return seen, rewards, over or late, infos


def old_reset(self, seed=None, options=None):
    return Ring.reset(self)[0]


REFUSED = {
    "four": (lambda: API.make_four(), r"api_habits.py:\d+ \(step\): returned 4 values: return \(observations, rewards, term"),
    "old reset": (lambda: API.make_old(), r"api_habits.py:\d+ \(reset\).*returned dict: return \(observations by agent, infos"),
    "no seed": (lambda: API.make_noseed(), r"api_habits.py:\d+ \(reset\): .*seed.*: write `def reset\(self, seed=None"),
    "old reset, own": (lambda: with_(Ring, reset=old_reset), HERE + r":\d+ \(old_reset|reset\)"),
    "gym, four": (lambda: with_(Table, step=four), HERE + r":\d+ \(step\): returned 4 values: return \(observation, reward, term"),
    "gym, no info": (lambda: with_(Table, reset=lambda self, seed=None: (1, 2, 3)), r"\(reset\): returned 3 values: return \(obs"),
    "gym, no seed": (lambda: with_(Table, reset=lambda self: (self.look(), {})), r"\(reset\): .*seed"),
    "gym, one reward missing": (lambda: with_(Table, rewards=(1.0,)), r"\(step\): agent 'team', reward: .*expected 2 entries"),
    "gym, no number": (lambda: with_(Table, rewards="lots"), r"\(step\): agent 'team', reward: .*'lots'.*expected a number"),
    "none": (lambda: with_(Ring, step=lambda self, a: None), r"\(step\): returned NoneType: return \(obs"),
    "one reward": (lambda: steps(rewards=lambda env, x: 1.0), r"\(step\): rewards is 1.0 of type float: return a dict by agent"),
    "list of ends": (lambda: steps(terminations=lambda env, x: [False] * 3), r"\(step\): terminations is \[False.*dict by agent"),
    "infos": (lambda: steps(infos=lambda env, x: [{}, {}]), r"\(step\): infos is .*list.*dict by agent"),
    "reward": (lambda: steps(rewards=lambda env, x: {**x, "r_1": "lots"}), r"\(step\): agent 'r_1', reward: .*'lots'.*expected a number"),
    "truth": (lambda: steps(truncations=lambda env, x: {**x, "r_1": "no"}), r"\(step\): agent 'r_1', truncation: .*'no'"),
    "shape": (
        lambda: steps(observations=lambda env, x: {**x, "r_2": {"place": np.zeros(3), "dial": 0}}),
        r"\(step\): agent 'r_2', observation 'place': got shape \(3,\) \(expected \(2,\)\)",
    ),
    "nothing seen": (lambda: steps(observations=lambda env, x: {**x, "r_0": None}), r"\(step\): agent 'r_0', observation: got None"),
    "stranger": (lambda: steps(rewards=lambda env, x: {**x, "ghost": 1.0}), r"\(step\): 'ghost' \(in rewards\) is not in possible_agents"),
    "mask": (
        lambda: steps(infos=lambda env, x: {"r_0": {"action_mask": [1, 0, 1]}}),
        r"\(step\): agent 'r_0', action_mask: .*3 entries.*2 actions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_breaks_the_interface_is_refused_in_the_first_step(what):
    made, words = REFUSED[what]
    with pytest.raises(NonConforming, match=words):
        probe(adapt(made(), "here"), values=False)


@pytest.mark.parametrize("made", [Ring, Table, API.make_scalar, API.make_tuple, HORIZON.make_turns, HORIZON.make_offbyone])
def test_what_keeps_the_interface_passes_and_the_report_is_as_before(made):
    env = adapt(made(), "here")
    kept = env.report
    probe(env, values=True)
    assert env.report == kept


def test_bad_values_are_refused_while_building_only_where_guards_refuse():
    far = lambda: PettingZooEnv(steps(observations=lambda env, x: {**x, "r_0": {"place": np.array([0, 1e5]), "dial": 0}}))
    probe(far(), values=False)
    with pytest.raises(NonConforming, match=r"r_0.*place.*100000"):
        probe(far(), values=True)


@pytest.mark.parametrize("case", ["make_four", "make_old", "make_noseed"])
def test_commands_end_as_a_users_mistake(case):
    with pytest.raises(UserError, match=r"api_habits.py:\d+"):
        Workers(f"{CASES / 'api_habits.py'}:{case}", 2)


def test_a_first_step_that_always_raises_is_named_and_one_that_raises_sometimes_is_not(tmp_path):
    file = tmp_path / "shaky.py"
    file.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\nfrom tests.envs.test_conformance import Ring\n"
        "class Shaky(Ring):\n    made = 0\n    def __init__(self, until):\n        super().__init__()\n        Shaky.made += 1\n"
        "        self.until = until\n    def step(self, actions):\n        if Shaky.made <= self.until: {}['z_7']\n"
        "        return super().step(actions)\ndef make(until=0): return Shaky(until)\n"
    )
    with pytest.raises(UserError, match=r"shaky.py:11 \(step\): raised KeyError: 'z_7', in the first step of every episode"):
        Workers(f"{file}:make?until=99", 1)
    with Workers(f"{file}:make?until=2", 1) as w:  # the second build raises once more, the third does not
        assert w.counts["raised"] == 0


def played(env, choose=lambda spec, row: 1, limit=100):
    """Rows of one episode in which all agents do the same."""
    rows = [env.reset(0)]
    while not rows[-1].last and len(rows) <= limit:
        rows.append(env.step(tuple(np.full(g.count, choose(env.spec, rows[-1]), np.int32) for g in env.spec.groups)))
    return rows


@pytest.mark.parametrize(("made", "length", "total"), [
    (HORIZON.make_turns, 20, 20.0), (HORIZON.make_offbyone, 11, 2.0), (HORIZON.Phases, 20, 40.0), (Ring, 6, 18.0),
])  # fmt: skip
def test_no_attribute_is_a_limit_on_steps(made, length, total):
    rows = played(adapt(made(), "here"))
    assert len(rows) - 1 == length and sum(float(r.team_reward) for r in rows) == total and rows[-1].last


def test_an_estimate_of_the_horizon_counts_turns():
    assert adapt(HORIZON.make_turns(), "here").spec.horizon == 20 and adapt(Ring(), "here").spec.horizon is None


@pytest.mark.parametrize(("mode", "total"), [("same", 12 + 9), ("at_once", 24), ("spawn", 12 + 7)])
def test_agents_that_come_back_earn_what_they_earn(mode, total):
    """Everybody earns 1 in each of 12 steps in which it is there: car_0 misses three of them under `same` (those after its ends in 3, 6 and
    9, counted by hand), and car_1 the first five under `spawn`."""
    rows = played(adapt(RESPAWN.make_env(mode), "here"))
    assert len(rows) == 13 and sum(float(r.team_reward) for r in rows) == total and rows[-1].team_discount == 1


def test_a_new_name_stops_the_run_in_training_too():
    with Workers(f"{CASES / 'respawn.py'}:make_env?mode=new", 1, guards=Guards()) as w:
        w.init([0])
        with pytest.raises(UserError, match=r"respawn.py:\d+ \(step\): 'car_2' .*not in possible_agents \['car_0', 'car_1'\]: list every"):
            for _ in range(4):
                w.step(None, (np.zeros((1, 2), np.int32),))


def test_one_reward_is_the_teams_and_shared_evenly():
    env = adapt(API.make_scalar(), "here")
    rows = played(env)
    assert sum(float(r.team_reward) for r in rows) == 5.0
    np.testing.assert_allclose(sum(r.reward for r in rows), [2.5, 2.5])
    env = GymnasiumEnv(with_(Table, rewards=np.float32(0.7)))
    env.reset(0)
    row = env.step((np.zeros(2, np.int32),))
    assert row.team_reward == np.float32(0.7) and row.reward.sum() == pytest.approx(0.7)


class Stateful(Ring):
    """Its `state()` raises once nobody is there, or from step `at` on, or always."""

    def __init__(self, ends="terminations", at=99):
        super().__init__()
        self.ends, self.at, self.asked = ends, at, 0

    def step(self, actions):
        seen, rewards, terminations, truncations, infos = super().step(actions)
        ended, going = truncations, terminations
        return (seen, rewards, *((ended, going) if self.ends == "terminations" else (going, ended)), infos)

    def state(self):
        self.asked += 1
        if not self.agents or self.t >= self.at:
            raise RuntimeError("nobody is there")
        return np.array([self.t, 7.0, 8.0])


@pytest.mark.parametrize("ends", ["terminations", "truncations"])
def test_an_end_is_never_lost_to_state(ends):
    env = PettingZooEnv(Stateful(ends))
    assert env.spec.state == 3
    rows = played(env)
    assert rows[-1].last and len(rows) == 7 and rows[-1].team_discount == (0 if ends == "terminations" else 1)
    np.testing.assert_array_equal([r.state[0] for r in rows], [0, 1, 2, 3, 4, 5, 5])  # the last one known


def test_a_state_that_fails_on_the_way_is_a_fault_and_the_last_one_known_stands_in():
    env, found = PettingZooEnv(Stateful(at=3)), []
    assert env.spec.state == 3
    env.report = lambda *what: found.append(what[:3])
    rows = played(env)
    assert found == [("no_state", "team", "state")] * 3 and rows[-1].last  # steps 3, 4 and 5; step 6 is the end
    np.testing.assert_array_equal(rows[-1].state, [2, 7, 8])


@pytest.mark.parametrize("state", [
    np.zeros(4), None, lambda self: None, lambda self: {"a": 1}, lambda self: "here", lambda self: [[1], [1, 2]], lambda self: 1 / 0,
    lambda self: self.nothing_of_that_name,
], ids=["array", "none", "returns none", "dict", "text", "ragged", "raises", "attribute"])  # fmt: skip
def test_a_state_that_does_not_work_is_all_observations(state):
    env = PettingZooEnv(with_(Ring, state=state))
    assert env.spec.state == 15 and not played(env)[-1].first
    assert len(env.notices) == (state is not None) and all("all observations" in text for text in env.notices)


def test_state_is_asked_only_where_somebody_reads_it():
    env = PettingZooEnv(Stateful())
    env.without_state()
    assert env.spec.state == 15 and len(played(env)) == 7 and env._env.asked == 0
    setup = {
        "name": f"{__file__}:Stateful",
        "options": {},
        "low": 0,
        "high": 1,
        "managers": None,
        "faults": [],
        "guards": vars(Guards()).copy(),
    }
    for wanted, size in ((False, 15), (True, 3)):
        assert EnvStepper.of({**setup, "state": wanted, "guards": dict(setup["guards"])}, lambda note: None).spec.state == size


BAD_VALUES = {
    "none": ("no_observation", lambda env, x: {**x, "r_1": None if env.t == 2 else x["r_1"]}),
    "dial": ("out_of_range", lambda env, x: {**x, "r_1": {**x["r_1"], "dial": 3 if env.t == 2 else 0}}),
    "negative dial": ("out_of_range", lambda env, x: {**x, "r_1": {**x["r_1"], "dial": -1 if env.t == 2 else 0}}),
    "far": ("out_of_range", lambda env, x: {**x, "r_1": {**x["r_1"], "place": np.array([0, -500.0 if env.t == 2 else -50.0])}}),
}


@pytest.mark.parametrize("what", BAD_VALUES)
def test_bad_values_are_counted_with_agent_and_field_and_replaced(what):
    fault, change = BAD_VALUES[what]
    env, found = PettingZooEnv(steps(observations=change)), []
    env.report = lambda *x: found.append(x[:3])
    rows = played(env)
    assert [x[:2] for x in found] == [(fault, "r_1")] and "observation" in found[0][2]
    if what == "far":
        assert rows[2].obs[0]["place"][1, 1] == 0.0 and rows[3].obs[0]["place"][1, 1] == -50.0  # a little off is the space's mistake
    else:
        assert not rows[2].obs[0]["dial"][1].any()
    refusing = PettingZooEnv(steps(observations=change))
    with pytest.raises(ValueError, match=rf"{fault}: agent 'r_1'"):
        played(refusing)


def test_infinities_stay_a_fault_of_their_own():
    env, found = PettingZooEnv(steps(observations=lambda env, x: {**x, "r_0": {"place": np.array([np.inf, 0]), "dial": 0}})), []
    env.report = lambda *x: found.append(x)
    assert np.isinf(played(env)[1].obs[0]["place"][0, 0]) and not found


def test_terminated_agents_need_no_last_observation():
    rows = played(PettingZooEnv(steps(
        observations=lambda env, x: x if env.agents else dict.fromkeys(x),
        terminations=lambda env, x: dict.fromkeys(x, not env.agents),
    )))  # fmt: skip
    assert rows[-1].last and rows[-1].team_discount == 0


def test_installed_versions_are_named():
    with pytest.raises(
        UnknownEnvironment, match=r"sisl.pursuit_v4 is not installed, but sisl.pursuit_v5 is: write pettingzoo:sisl.pursuit_v5"
    ):
        make("pettingzoo:sisl.pursuit_v4")
    with pytest.raises(UnknownEnvironment, match=r"write pettingzoo:mpe2.simple_spread_v3"):
        make("pettingzoo:mpe2.simple_spread_v2?N=3")
