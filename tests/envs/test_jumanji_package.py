"""Tasks of the jumanji package: its own steps, per-agent views, time limits that truncate, true metrics."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.envs.jumanji import make
from marlstone.envs.jumanji.package import TASKS
from marlstone.envs.names import UnknownEnvironment, read_options
from tests.envs.contract_laws import keeps_its_contract, trains

pytest.importorskip("jumanji", reason="needs marlstone[jumanji]")
pytestmark = pytest.mark.usefixtures("compiled_once")

SMALL = {
    "Connector": "grid=5&agents=3&time_limit=12",
    "Cleaner": "grid=4&agents=2&time_limit=12",
    "MMST": "nodes=12&edges=18&agents=2&own=3&time_limit=12",
    "SearchAndRescue": "agents=2&targets=5&vision=8&time_limit=12",
    "MultiCVRP": "agents=2&customers=6",
}
SLOW = ("Connector", "MMST", "SearchAndRescue", "MultiCVRP")  # to compile; Connector is a world of `test_worlds`


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TASKS])
def test_tasks_keep_the_contract(name: str) -> None:
    keeps_its_contract(f"jumanji:{name}?{SMALL[name]}")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TASKS))
def test_tasks_train(name: str) -> None:
    trains(f"jumanji:{name}?{SMALL[name]}")


@pytest.mark.parametrize("name", ["Connector", pytest.param("MMST", marks=pytest.mark.slow)])
def test_steps_are_the_packages(name: str) -> None:
    """The same state, reward and end from the same state and action."""
    env = make(name, read_options(name, SMALL[name]))

    @jax.vmap
    def run(key):
        state, row = env.init(key)
        action = jnp.argmax(row.legal[0] * jax.random.uniform(key, row.legal[0].shape), -1)
        theirs = env.env.step(state.replace(key=jax.random.key_data(key)), action)
        return env.step(state, (action,), key), theirs

    (mine, row), (yours, timestep) = jax.jit(run, compiler_options=supported(FASTEST_COMPILE))(jax.random.split(jax.random.key(0), 16))
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(yours), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(row.team_reward, np.asarray(timestep.reward).reshape(16, -1).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(row.last, timestep.step_type == 2)


def test_time_truncates_and_an_end_terminates() -> None:
    """Clean mazes terminate, dirty ones are truncated; what was cleaned is all that was dirty."""
    step, *_ = keeps_its_contract("jumanji:Cleaner?grid=3&agents=2&time_limit=8", b=16)
    clean = step.metrics["clean"] == 1
    over = step.last & ~step.first
    np.testing.assert_array_equal(over & clean, step.team_discount == 0)
    assert (over & clean).any() and (over & ~clean).any()
    np.testing.assert_allclose(step.team_reward[:, 1:], np.where(step.first[:, 1:], 0, step.metrics["tiles_cleaned"][:, 1:] - 0.5))


def test_an_agent_sees_itself_apart_from_the_others() -> None:
    """Of all agents' planes, own heads are in different cells; one agent's others are the rest's own."""
    env = make("Connector", {"grid": 5, "agents": 3})
    _, row = jax.jit(env.init)(jax.random.key(0))
    planes = np.asarray(row.obs[0]["grid"])
    own, others = planes[..., :3], planes[..., 3:]
    np.testing.assert_array_equal(own.sum((1, 2)), [[0, 1, 1]] * 3)
    np.testing.assert_array_equal(others[0], own[1] + own[2])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Conector", {}, "did you mean 'Connector'"),
        ("Connector", {"agent": 4}, "did you mean 'agents'"),
        ("Connector", {"agents": 40, "grid": 5}, "take at most 12"),
        ("Connector", {"agents": 0}, "at least 1"),
        ("Cleaner", {"grid": 2}, "at least 3"),
        ("MMST", {"nodes": 6}, "take nodes=12"),
        ("MultiCVRP", {"time_limit": 9}, "leave time_limit out"),
    ],
)
def test_errors_carry_the_remedy(name: str, options: dict, says: str) -> None:
    with pytest.raises(UnknownEnvironment, match=says):
        make(name, options)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And foraging still works: it is written here."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "jumanji" else real(name, *a))
    with pytest.raises(UnknownEnvironment, match=r"needs jumanji: pip install marlstone\[jumanji\]"):
        make("Connector", {})
    assert make("LevelBasedForaging", {}).spec.n == 2
