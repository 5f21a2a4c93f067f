"""City traffic: sumo-rl's own numbers to the last bit, real truncation, one simulation per process."""

import importlib.util
import sys

import numpy as np
import pytest

from marlstone.envs.host import sumo
from marlstone.envs.make import make
from marlstone.envs.names import UnknownEnvironment

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
    net, routes, begin = sumo._configuration(sumo.networks()["cologne3"])
    assert begin == 25200
    with sumo._silence():
        plain = sumo_rl.SumoEnvironment(
            net, routes, begin_time=begin, num_seconds=300, sumo_warnings=False, additional_sumo_cmd="--no-step-log"
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
