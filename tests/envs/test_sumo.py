"""City traffic: sumo-rl's own numbers to the last bit, real truncation, one simulation per process."""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from marlstone.config.paths import beside, portable
from marlstone.core.errors import UserError
from marlstone.core.types import Metric
from marlstone.envs.host import sumo
from marlstone.envs.host.sumo_networks import find_network
from marlstone.envs.make import absolute, make
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.own_metrics import Info, measured

pytestmark = pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="needs the extra sumo")


@pytest.fixture
def env():
    env = make("sumo:cologne3?seconds=300")
    yield env
    env.close()


def drive(env, seed):
    """One episode of random phases, and the phases by light."""
    rng, rows, phases = np.random.default_rng(seed), [env.reset(seed)], []
    (group,) = env.spec.groups
    while not rows[-1].last:
        legal = rows[-1].legal[0]
        choice = np.array([rng.choice(np.flatnonzero(x)) for x in legal], np.int32)
        phases.append(dict(zip(group.agents, choice.tolist(), strict=True)))
        rows.append(env.step((choice,)))
    return rows, phases


def test_lights_of_different_sizes_share_one_group(env):
    (group,) = env.spec.groups
    widths = group.features["obs"]
    assert group.count == 3 and set(group.types) == {"light"} and len(set(widths)) > 1
    assert group.observation["obs"].shape == (max(widths),) and env.spec.state == sum(widths)
    assert env.spec.horizon == 60 and {k: m.better for k, m in env.spec.metrics.items()} == {"mean_waiting_time": "down", "stopped": "down"}
    row = env.reset(1)
    assert row.legal[0].shape == (3, group.space.size)
    assert not row.obs[0]["obs"][0, widths[0] :].any()


def test_the_hour_ends_by_truncation_and_seeds_decide(env):
    rows, _ = drive(env, 3)
    assert len(rows) == 61 and rows[-1].last and not any(r.last for r in rows[:-1])
    assert all((r.discount == 1).all() and r.team_discount == 1 for r in rows)
    assert all(r.metrics["mean_waiting_time"] >= 0 for r in rows) and rows[-1].metrics["mean_waiting_time"] > 0
    again, _ = drive(env, 3)
    assert all((a.state == b.state).all() and (a.reward == b.reward).all() for a, b in zip(rows, again, strict=True))
    other = env.reset(4)
    for _ in range(30):
        other = env.step((np.zeros(3, np.int32),))
    third = env.reset(5)
    for _ in range(30):
        third = env.step((np.zeros(3, np.int32),))
    assert (other.state != third.state).any()


def test_rows_equal_those_of_sumo_rl(env):
    rows, phases = drive(env, 7)
    env.close()
    sumo_rl, _ = sumo._load()
    place = find_network("sumo:cologne3", "cologne3", {}, None)
    assert place.begin == 25200 and place.seconds == 3600
    with sumo._silence():
        plain = sumo_rl.SumoEnvironment(
            place.net, place.routes, begin_time=place.begin, num_seconds=300, sumo_warnings=False, additional_sumo_cmd="--no-step-log"
        )
        plain.reset(seed=7)
    names = env.spec.agents
    for row, phase in zip(rows[1:], phases, strict=True):
        seen, reward, done, info = plain.step(phase)
        np.testing.assert_array_equal(row.state, np.concatenate([seen[a] for a in names]))
        np.testing.assert_array_equal(row.reward, np.float32([reward[a] for a in names]))
        assert row.metrics["mean_waiting_time"] == np.float32(info["system_mean_waiting_time"])
        assert row.metrics["stopped"] == info["system_total_stopped"] and row.last == done["__all__"]
    plain.close()


def test_a_second_simulation_in_a_process_is_refused_with_the_remedy(env):
    with pytest.raises(sumo.OneSimulation, match=r"one simulation per process.*worker process of its own"):
        make("sumo:cologne8")
    env.close()
    env.close()
    make("sumo:cologne8?seconds=10").close()


def test_names_and_options_are_checked():
    for name, words in (
        ("sumo:cologne4", "did you mean 'cologne"),
        ("sumo:cologne3?sekonds=3", "did you mean 'seconds'"),
        ("sumo:cologne3?reward=gueue", "did you mean 'queue'"),
        ("sumo:cologne3?delta=2", "yellow < delta"),
        ("sumo:cologne3?seconds=long", "type str"),
    ):
        with pytest.raises(UnknownEnvironment, match=words):
            make(name)


def test_sumo_is_silent(env, capfd):
    env.reset(1)
    env.step((np.zeros(3, np.int32),))
    said = capfd.readouterr()
    assert said.out == "" and said.err == "", said
    assert "libsumo" in sys.modules


MINE = """
import numpy as np
from gymnasium import spaces
from sumo_rl.environment.observations import ObservationFunction

def halted(signal):
    return -float(signal.get_total_queued())

by_light = {"1": halted, "2": lambda signal: 7.0, "5": halted, "6": halted}
two = {"1": halted, "2": halted, "9": halted}

class Queues(ObservationFunction):
    def __call__(self):
        return np.array(self.ts.get_lanes_queue(), np.float32)

    def observation_space(self):
        return spaces.Box(0, 1, (len(self.ts.lanes),), np.float32)
"""


@pytest.fixture
def city(tmp_path, monkeypatch):
    """A folder with a network of one's own, four lights, and a file with a reward and an observation."""
    nets = Path(importlib.util.find_spec("sumo_rl").origin).parent / "nets"
    shutil.copy(nets / "2x2grid" / "2x2.net.xml", tmp_path / "my.net.xml")
    shutil.copy(nets / "2x2grid" / "2x2.rou.xml", tmp_path / "my.rou.xml")
    shutil.copy(nets / "Nguyen" / "nguyenNoTL.net.xml", tmp_path / "dark.net.xml")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "my.sumocfg").write_text(
        '<configuration><input><net-file value="my.net.xml"/><route-files value="my.rou.xml"/></input>'
        '<time><begin value="20"/><end value="60"/></time></configuration>'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state_after(name, steps=6):
    env = make(name)
    row = env.reset(1)
    for k in range(steps):
        row = env.step((np.full(env.spec.n, k % 2, np.int32),))
    env.close()
    return env.spec, row


def test_a_network_of_ones_own_is_the_same_by_every_name(city):
    spec, row = state_after("sumo:my.net.xml?route=my.rou.xml&begin=20&end=60")
    assert spec.agents == ("1", "2", "5", "6") and spec.horizon == 8 and row.state.any()
    for name in ("sumo:?net=my.net.xml&route=my.rou.xml&begin=20&seconds=40", "sumo:my.sumocfg"):
        other, again = state_after(name)
        assert other == spec
        np.testing.assert_array_equal(again.state, row.state)


def test_rewards_and_observations_of_ones_own_are_taken_as_sumo_rl_takes_them(city):
    spec, row = state_after("sumo:my.sumocfg?reward=mine.py:halted&observation=mine.py:Queues")
    _, plain = state_after("sumo:my.sumocfg?reward=queue")
    np.testing.assert_array_equal(row.reward, plain.reward)
    assert row.reward.any() and spec.state == sum(spec.groups[0].features.get("obs", [spec.groups[0].observation["obs"].shape[0]] * 4))
    spec, row = state_after("sumo:my.sumocfg?reward=mine.py:by_light")
    assert row.reward[1] == 7
    np.testing.assert_array_equal(row.reward[[0, 2, 3]], plain.reward[[0, 2, 3]])


def test_metrics_of_sumo_rls_infos_are_read_where_they_are_asked_for(city):
    env = measured(make("sumo:my.sumocfg"), [Info("system_mean_speed"), Info("no_such", "down")])
    told = []
    env.metrics.notify = told.append
    assert env.spec.metrics["system_mean_speed"] == Metric("up")
    row = env.reset(1)
    while not row.last:
        row = env.step((np.zeros(4, np.int32),))
    env.close()
    assert row.metrics["system_mean_speed"] > 0 and row.metrics["stopped"] >= 0 and row.metrics["no_such"] == 0
    assert len(told) == 1 and "'no_such'" in told[0] and "system_" in told[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sumo:my.net.xml", "needs the option 'route': write sumo:my.net.xml.route="),
        ("sumo:gone.net.xml?route=my.rou.xml", "there is no net file gone.net.xml .looked in .*: write its path"),
        ("sumo:my.net.xml?route=my.rou.xml,gone.rou.xml", "there is no route file gone.rou.xml"),
        ("sumo:my.rou.xml?route=my.rou.xml", "my.rou.xml is no net file: it begins with <routes>"),
        ("sumo:mine.py?route=my.rou.xml", "names a file but no function"),
        ("sumo:dark.net.xml?route=my.rou.xml", "dark.net.xml has no traffic light, so nobody acts: .*netconvert --tls.set"),
        ("sumo:my.net.xml?route=my.rou.xml&begin=9&end=4", "end must lie after begin"),
        ("sumo:my.net.xml?route=my.rou.xml&seconds=9&end=4", "give one of them"),
        ("sumo:my.net.xml?net=my.net.xml&route=my.rou.xml", "given twice"),
        ("sumo:cologne3?route=my.rou.xml", "routes of its own"),
        ("sumo:my.sumocfg?reward=mine.py:halte", "did you mean 'halted'"),
        ("sumo:my.sumocfg?reward=mine.py:two", "name every traffic light and no other: .'5', '6', '9'"),
        ("sumo:my.sumocfg?observation=fancy", "file.py:Name for your own"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_file_and_remedy(city, name, words):
    with pytest.raises((UnknownEnvironment, UserError), match=words):
        make(name)


def test_the_files_of_a_network_move_with_a_run(city):
    (city / "runs" / "a").mkdir(parents=True)
    name = "sumo:my.net.xml?route=my.rou.xml&reward=mine.py:halted&begin=3"
    kept = portable(name, city / "runs" / "a")
    assert kept == "sumo:../../my.net.xml?route=../../my.rou.xml&reward=../../mine.py:halted&begin=3"
    assert beside(kept, city / "runs" / "a") == absolute(name) and str(city) in absolute(name)
    assert absolute("sumo:cologne3?reward=queue") == portable("sumo:cologne3?reward=queue", city) == "sumo:cologne3?reward=queue"
