"""What decisions were worth where only Python can step: the JAX twin's truth; and who cannot go back is found out."""

import copy
import random
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.config import RunConfig
from marlstone.credit import Attention, Team
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit import host_truth, truth
from marlstone.evaluation.credit.audit import Auditor, auditable
from marlstone.evaluation.credit.host_truth import Compiled, revisited
from marlstone.learners import PolicyGradient
from tests.batches import begun, quick
from tests.twin import Twin

TWIN = f"{Path(__file__).parents[2] / 'twin.py'}:make"
FORAGING = "gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3"
SAMPLES, LENGTH = 12, 14

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_worth_is_the_jax_twins() -> None:
    """With the same keys, row by row and agent by agent; what was gathered too. Policies remember, and what follows depends on them."""
    env = revisited(TWIN)
    algorithm = Algorithm(env.spec, Ctde(Gru(4, 4, (), "tanh")), Team(), PolicyGradient())
    policy, twin, key, who = quick(algorithm.init)(jax.random.key(0)).policy, Twin(env.spec), jax.random.key(3), np.arange(2)
    compiled = Compiled(algorithm, SAMPLES)
    it = host_truth.gather(env, compiled, policy, key, LENGTH)
    worth = host_truth.decisions_worth(env, compiled, policy, it, who, jax.random.key(1))

    def measured(key: Any) -> Any:
        it = truth.gather(Vectorized(twin, 1), algorithm, policy, key, LENGTH)
        return it, truth.decisions_worth(twin, algorithm, policy, it, SAMPLES, who, jax.random.key(1))

    there, known = jax.device_get(quick(measured)(key))
    for a, b in zip(jax.tree.leaves((it.trajectories, it.memory)), jax.tree.leaves((there.trajectories, there.memory)), strict=True):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=1e-5)
    np.testing.assert_array_equal(worth.at, known.at)
    np.testing.assert_allclose(worth.worth, known.worth, atol=1e-5)
    np.testing.assert_allclose(worth.discounted, known.discounted, atol=1e-5)
    assert np.abs(worth.discounted - worth.worth).max() > 1e-3, "what follows later counts for less"
    np.testing.assert_allclose(worth.team_return, known.team_return, atol=1e-5)
    assert np.abs(worth.worth).max() > 0.1 and len(set(worth.at)) > 5


def test_an_audit_where_only_python_steps() -> None:
    """Of a real package, at a tiny size, twice the same: its random numbers went back too."""
    env = revisited(FORAGING)
    algorithm = Algorithm(env.spec, Decentralized(Mlp((4,))), Team(), PolicyGradient())
    train = begun(algorithm)
    auditor = Auditor(env, algorithm, 64, decisions=3)
    once, again = (auditor.seed(train, jax.random.key(0)) for _ in range(2))
    env.env.close()
    assert once.true_each.shape == once.claimed_each.shape == (3, 2) and np.isfinite(once.claimed_each).all()
    np.testing.assert_array_equal(once.true_each, again.true_each)
    assert once.claimed.any() and once.efficiency_error is None


def test_of_long_play_some_states_are_kept_from_beginning_to_end() -> None:
    """As many as were asked for, of rows that decided, and decisions are drawn from these; nothing else of the play changes."""
    env = revisited(TWIN)
    algorithm = Algorithm(env.spec, Decentralized(Mlp((4,))), Team(), PolicyGradient())
    policy, compiled, key = begun(algorithm).policy, Compiled(algorithm, SAMPLES), jax.random.key(3)
    long, some = (host_truth.gather(env, compiled, policy, key, 120, most) for most in (None, 15))
    for a, b in zip(jax.tree.leaves(long.trajectories), jax.tree.leaves(some.trajectories), strict=True):
        np.testing.assert_array_equal(a, b)
    at, real = ([t for t, kept in enumerate(mask) if kept] for mask in ((x is not None for x in some.states), long.trajectories.real[0]))
    assert [t for t, x in enumerate(long.states) if x is not None] == real == np.flatnonzero(some.trajectories.real[0]).tolist()
    assert len(at) == 15 and set(at) <= set(real) and 3 <= sum(t >= 60 for t in at) <= 12
    worth = host_truth.decisions_worth(env, compiled, policy, some, np.arange(2), jax.random.key(1))
    assert set(worth.at.tolist()) <= set(at)


def test_actions_that_lead_elsewhere_when_taken_again_are_noticed() -> None:
    """Whatever the check before had seen."""
    env = revisited(TWIN)
    algorithm = Algorithm(env.spec, Decentralized(Mlp((4,))), Team(), PolicyGradient())
    policy, compiled = begun(algorithm).policy, Compiled(algorithm, SAMPLES)
    it = host_truth.gather(env, compiled, policy, jax.random.key(3), LENGTH)
    for state in it.states:
        if state is not None:
            state[0]["_env"].x += np.float32(0.5)
    with pytest.raises(ValueError, match=r"the same actions led elsewhere: obs\.0\..* was another"):
        host_truth.decisions_worth(env, compiled, policy, it, np.arange(2), jax.random.key(1))


# ---- who can go back
class Walk:
    """A point that wanders by random numbers of its own and of the process."""

    def __init__(self, spec: Any) -> None:
        self.spec, self.inner = spec, make(TWIN)
        self.random = np.random.default_rng(0)

    def reset(self, seed: int) -> Any:
        self.random = np.random.default_rng(seed)
        return self.inner.reset(seed)

    def step(self, action: Any) -> Any:
        self.inner._env.x += np.float32(self.random.normal() + random.random() + np.random.random())
        return self.inner.step(action)

    def close(self) -> None:
        pass

    def snapshot(self) -> Any:
        return self.inner.snapshot(), copy.deepcopy(self.random)

    def restore(self, state: Any) -> None:
        self.inner.restore(state[0])
        self.random = copy.deepcopy(state[1])


class Forgets(Walk):
    """One that leaves its own random numbers out."""

    def restore(self, state: Any) -> None:
        self.inner.restore(state[0])


class Shares(Walk):
    """One whose snapshot is itself."""

    def snapshot(self) -> Any:
        return vars(self.inner)["_env"], self.random

    def restore(self, state: Any) -> None:
        self.inner._env, self.random = state


class Holds(Walk):
    """One that holds what cannot be copied."""

    def snapshot(self) -> Any:
        return copy.deepcopy(x for x in "abc")


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Walk, None), (Forgets, "was another for the same actions"), (Shares, "was another"), (Holds, "copy failed with TypeError")],
)
def test_going_back_is_checked_before_it_is_trusted(kind: Any, why: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_truth, "make", lambda name: kind(make(TWIN).spec))
    if why is None:
        assert revisited("file.py:walk").env.spec.n == 2
        return
    with pytest.raises(ValueError, match=rf"file\.py:walk cannot go back to a state it was in.*{why}.*environment written in JAX"):
        revisited("file.py:walk")


@pytest.mark.parametrize(
    ("env", "parts", "why"),
    [
        ("sumo:cologne3", {}, "state in native code"),
        (TWIN, {"credit": Attention(), "architecture": Ctde()}, "attention claims shares"),
        (TWIN, {"architecture": Hierarchical()}, "with managers"),
    ],
)
def test_what_cannot_be_measured_is_refused(env: str, parts: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        auditable(RunConfig(env, **parts))


@pytest.mark.parametrize("name", ["pettingzoo:mpe2.simple_spread_v3?N=2", "gymnasium:rware?id=rware-tiny-2ag-v2", FORAGING, TWIN])
def test_shipped_adapters_go_back(name: str) -> None:
    """Copies of environments that pickle by their constructor's arguments are copies of their state."""
    revisited(name).env.close()
