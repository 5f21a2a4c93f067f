"""One filter over rows, the same on NumPy and JAX arrays: nothing bad comes out, everything bad is counted."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marlstone.core.distributions import Discrete
from marlstone.core.types import Group, Leaf, Metric, Spec, Step, replace
from marlstone.envs.guards import FAULTS, BadStep, Guards, name_fault, sanitize
from marlstone.envs.host.host_step import as_number, host_step
from marlstone.envs.host.pettingzoo import PettingZooEnv
from marlstone.envs.user_file import load

HERE = load(str(Path(__file__).parent / "host_examples.py"))

GROUP = Group("g", ("a", "b"), {"obs": Leaf("vector", (3,)), "eye": Leaf("image", (8, 8, 1), "uint8")}, Discrete(2))
SPEC = Spec((GROUP,), 6, metrics={"true": Metric()})


def row(obs=None, reward=(1.0, 2.0), metric=0.0) -> Step:
    x = np.ones((2, 3), np.float32) if obs is None else np.asarray(obs, np.float32).reshape(2, 3)
    leaves = {"obs": x, "eye": np.zeros((2, 8, 8, 1), np.uint8)}
    return host_step((leaves,), x.reshape(-1), (None,), np.asarray(reward, np.float32), metrics={"true": metric})


def test_a_clean_row_passes_unchanged():
    clean, counts = sanitize(row(), Guards(reward_bounds=(-5, 5)))
    assert not any(counts.values()) and set(counts) <= set(FAULTS)
    jax.tree.map(np.testing.assert_array_equal, clean, row())
    assert name_fault(row(), SPEC, Guards(reward_bounds=(-5, 5))) is None


@pytest.mark.parametrize(
    ("bad", "fault", "agent", "field"),
    [
        (row(obs=[1, 2, 3, np.nan, 5, 6]), "nan_observation", "b", "obs"),
        (row(obs=[np.inf, 2, 3, 4, 5, 6]), "nan_observation", "a", "obs"),
        (row(reward=[0, np.inf]), "nan_reward", "b", "reward"),
        (row(reward=[np.nan, 0]), "nan_reward", "a", "reward"),
        (row(reward=[0, -77]), "reward_bounds", "b", "reward"),
        (row(metric=np.nan), "nan_observation", "team", "true"),
    ],
)
def test_each_fault_is_repaired_counted_and_named(bad, fault, agent, field):
    guards = Guards(reward_bounds=(-10, 10))
    clean, counts = sanitize(bad, guards)
    assert counts[fault] == 1 and sum(counts.values()) == 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(clean)) and np.abs(clean.reward).max() <= 10
    named = name_fault(bad, SPEC, guards)
    assert isinstance(named, BadStep) and (named.fault, named.agent) == (fault, agent) and field in named.field
    assert "survive" in str(named)
    assert name_fault(clean, SPEC, guards) is None


def test_the_same_code_stands_inside_jit_over_a_batch():
    guards = Guards(reward_bounds=(-1, 1))
    batch = jax.tree.map(lambda *x: np.stack(x), row(obs=[np.nan, 1, 2, 3, 4, 5]), row(reward=[np.inf, 9]), row(reward=[0, 0]))
    host, counts = sanitize(batch, guards)
    device, counted = jax.jit(lambda s: sanitize(s, guards))(jax.tree.map(jnp.asarray, batch))
    jax.tree.map(np.testing.assert_array_equal, host, device)
    assert {k: int(x) for k, x in counts.items()} == {k: int(x) for k, x in counted.items()}
    assert name_fault(batch, SPEC, guards).agent == "a"


@pytest.mark.parametrize(
    "wrong",
    [{"on_bad": "ignore"}, {"timeout": 0}, {"start_timeout": -1.0}, {"restarts": -1}, {"reward_bounds": (1, -1)}],
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=f"Guards.{next(iter(wrong))}"):
        Guards(**wrong)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("much", "wrong_dtype"),
        (None, "wrong_dtype"),
        ([1, 2], "wrong_shape"),
        (1j, "wrong_dtype"),
        ([[1], [2, 3]], "wrong_shape"),
        (3, ""),
        ([2.0], ""),
    ],
)
def test_a_reward_is_one_number(value, fault):
    seen = []
    x = as_number(value, "a", "reward", lambda *what: seen.append(what[0]))
    assert isinstance(x, float) and seen == ([fault] if fault else []) and (not fault or x == 0)


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
STEPS = 50  # mangled rows per example: 200 examples make 10,000


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.lists(FLOATS, min_size=1, max_size=9), st.sampled_from([None, (-1.0, 1.0), (0.0, 0.0)]))
def test_ten_thousand_mangled_steps_never_let_a_nan_out(seed, poison, bounds):
    guards, rng = Guards(reward_bounds=bounds), np.random.default_rng(seed)
    many = [row(rng.normal(size=6), rng.normal(size=2)) for _ in range(STEPS)]
    batch = jax.tree.map(lambda *x: np.stack(x), *many)
    with np.errstate(over="ignore"):
        for x in (batch.obs[0]["obs"], batch.state, batch.reward, batch.team_reward, batch.metrics["true"]):
            hit = rng.random(x.shape) < rng.choice([0.0, 0.1, 1.0])
            x[hit] = rng.choice(np.float32(poison), hit.sum())
    clean, counts = sanitize(batch, guards)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(clean))
    if bounds:
        assert clean.reward.min() >= bounds[0] and clean.reward.max() <= bounds[1]
    named = name_fault(batch, SPEC, guards)
    assert (named is None) == (not any(counts.values()))
    assert name_fault(replace(clean), SPEC, guards) is None


class Garbage(HERE.Toy):
    """Says anything at all, for ever."""

    def __init__(self, draw):
        super().__init__(length=10**9)
        self.draw = draw

    def step(self, actions):
        seen, reward, terminated, truncated, infos = super().step(actions)
        return {a: self.draw(x) for a, x in seen.items()}, {a: self.draw(x) for a, x in reward.items()}, terminated, truncated, infos


ANYTHING = st.one_of(
    FLOATS, st.none(), st.text(max_size=3), st.booleans(), st.lists(FLOATS, max_size=4), st.complex_numbers(),
    st.lists(st.lists(FLOATS, max_size=2), max_size=2),
    st.integers(-(2**70), 2**70), st.just(10**400), st.binary(max_size=3), st.dictionaries(st.text(max_size=1), FLOATS, max_size=1),
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), st.lists(ANYTHING, min_size=1, max_size=4))
def test_ten_thousand_garbled_answers_become_rows(seed, garbage):
    rng, counts = np.random.default_rng(seed), dict.fromkeys(FAULTS, 0)

    def report(fault, agent, field, value):
        counts[fault] += 1

    env = PettingZooEnv(Garbage(lambda x: garbage[rng.integers(len(garbage))] if rng.random() < 0.5 else x))
    env.reset(seed)
    env.report = report
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            row, _ = sanitize(env.step((np.zeros(2, np.int32),)), Guards(reward_bounds=(-1e6, 1e6)))
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(row))
            assert row.obs[0]["obs"].shape == (2, 3) and row.reward.shape == (2,) and row.discount.min() == 1
