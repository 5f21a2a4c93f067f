"""Optimizers: each is its paper's equation, any optax transformation serves, and what is no direction of descent is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Mlp
from marlstone.config import dump, load, parse
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.credit import Counterfactual, Individual
from marlstone.envs.make import make
from marlstone.learners import Adam, Optimizer, PolicyGradient, Pqn, QLearning, RAdam, RmsProp, Sgd
from marlstone.learners.gradient_step import learning_rates
from tests.batches import begun, quick, trajectories_of

ADDITIVE = "proving:additive?rows=3"


def path(optimizer: Optimizer, grads: np.ndarray, rate: float = 0.1) -> np.ndarray:
    """Where it goes from 1, along these gradients."""
    p = jnp.ones(grads.shape[1])
    state = optimizer.init(p)
    for g in grads:
        p, state = optimizer.step(jnp.asarray(g, jnp.float32), state, p, jnp.array(rate))
    return np.asarray(p)


GRADS = np.random.default_rng(0).normal(size=(6, 3))


def test_adam_is_the_papers() -> None:
    """Kingma & Ba, algorithm 1, in NumPy."""
    x, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    for t, g in enumerate(GRADS, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-5)
    np.testing.assert_allclose(path(Adam(), GRADS), x, rtol=1e-4)


def test_rmsprop_divides_by_the_running_root_mean_square() -> None:
    x, v = np.ones(3), np.zeros(3)
    for g in GRADS:
        v = 0.9 * v + 0.1 * g * g
        x = x - 0.1 * g / np.sqrt(v + 1e-5)
    np.testing.assert_allclose(path(RmsProp(decay=0.9), GRADS), x, rtol=1e-4)


def test_sgd_is_the_gradient_or_its_running_sum() -> None:
    np.testing.assert_allclose(path(Sgd(), GRADS), 1 - 0.1 * GRADS.sum(0), rtol=1e-4)
    x, m = np.ones(3), np.zeros(3)
    for g in GRADS:
        m = g + 0.8 * m
        x = x - 0.1 * m
    np.testing.assert_allclose(path(Sgd(momentum=0.8), GRADS), x, rtol=1e-4)


def test_radam_begins_with_plain_momentum() -> None:
    """Until the second moment is known: the first five steps of b2 = 0.999 are momentum, free of its bias to zero (Liu et al. 2020)."""
    x, m = np.ones(3), np.zeros(3)
    for t, g in enumerate(GRADS[:4], 1):
        m = 0.9 * m + 0.1 * g
        x = x - 0.1 * m / (1 - 0.9**t)
    np.testing.assert_allclose(path(RAdam(), GRADS[:4]), x, rtol=1e-4)
    assert not np.allclose(path(RAdam(), GRADS), path(Adam(), GRADS))


def test_every_learner_takes_every_optimizer_and_both_rates_hold() -> None:
    """One step of plain descent moves actors by `lr` and what credit wants learned by `credit_lr` times the clipped gradient."""
    spec = make(ADDITIVE).spec
    step = {}
    for scale in (1.0, 2.0):
        learner = PolicyGradient(
            lr=0.01, credit_lr=0.02 * scale, optimizer=Sgd(), epochs=1, minibatches=1, anneal=False, normalize_values=False
        )
        it = Algorithm(spec, Ctde(Mlp((4,))), Counterfactual(), learner)
        train, trajectory = begun(it), trajectories_of(it, ADDITIVE)
        after = quick(lambda t, c, it=it: it.update(t, c, jnp.float32(0.0), jax.random.key(0))[0])(train, trajectory)
        moved = jax.tree.map(lambda a, b: np.asarray(b - a), train.nets, after.nets)
        step[scale] = moved
        norm = lambda tree: float(np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(tree))))
        assert norm(moved.actor) <= 0.01 * learner.max_grad_norm * 1.001  # clipped before the optimizer, whatever it is
    for a, b in zip(jax.tree.leaves(step[1.0].q), jax.tree.leaves(step[2.0].q), strict=True):
        np.testing.assert_allclose(2 * a, b, atol=1e-6)
    for a, b in zip(jax.tree.leaves(step[1.0].actor), jax.tree.leaves(step[2.0].actor), strict=True):
        np.testing.assert_array_equal(a, b)


def test_target_networks_keep_their_clock_whatever_the_optimizer_counts() -> None:
    """Sgd counts no steps; targets move every second gradient step all the same."""
    learner = QLearning(target_every=2, lr=1e-2, optimizer=Sgd(), replay=replace(QLearning().replay, capacity=8, batch=2, updates=1))
    it = Algorithm(make(ADDITIVE).spec, Ctde(Mlp((4,))), Individual(), learner)
    trajectory = trajectories_of(it, ADDITIVE)
    train, update = begun(it, like=trajectory), quick(lambda train, key: it.update(train, trajectory, 0.0, key)[0])
    for k in range(4):
        after = update(train, jax.random.key(k))
        same = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (train.target_params, after.target_params)), strict=True)]
        assert all(same) != bool(k % 2)
        train = after


# ---- one's own
@dataclass(frozen=True)
class Decayed(Optimizer):
    """Adam with decoupled weight decay."""

    decay: float = 0.1

    def transform(self) -> Any:
        return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(self.decay))


@dataclass(frozen=True)
class Turned(Optimizer):
    """A whole optax optimizer, which turns the sign."""

    def transform(self) -> Any:
        return optax.adam(1e-3)


@dataclass(frozen=True)
class Absent(Optimizer):
    """No transformation at all."""

    def transform(self) -> Any:
        return 3


def test_any_optax_transformation_serves_and_sees_the_parameters() -> None:
    assert Decayed().refuses() is None
    np.testing.assert_allclose(path(Decayed(), np.zeros((1, 2))), 1 - 0.1 * 0.1)  # the gradient is 0: only the decay moves it


@pytest.mark.parametrize(("optimizer", "words"), [(Turned(), "without a learning rate"), (Absent(), "gives a int")])
def test_what_is_no_direction_of_descent_is_refused(optimizer: Optimizer, words: str) -> None:
    with pytest.raises(ValueError, match=rf"learner.optimizer: {type(optimizer).__name__}.transform .*{words}"):
        Algorithm(make(ADDITIVE).spec, Ctde(), Individual(), Pqn(optimizer=optimizer))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Adam()),
        ({"learner.optimizer": "rmsprop"}, RmsProp()),
        ({"learner.optimizer.kind": "sgd", "learner.optimizer.momentum": "0.9"}, Sgd(0.9)),
        ({"learner": "pqn", "learner.optimizer": "radam", "learner.optimizer.eps": "1e-8"}, RAdam(eps=1e-8)),
    ],
)
def test_it_is_set_by_flag_and_written_to_toml(given: dict[str, str], wanted: Optimizer) -> None:
    config = load(None, {"env": "any", **given})
    assert config.learner.optimizer == wanted
    assert parse(dump(config)).learner == config.learner


def test_a_users_file_names_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nimport optax\nfrom marlstone.learners import Optimizer\n"
        "@dataclass(frozen=True)\nclass Lion(Optimizer):\n    b1: float = 0.9\n"
        "    def transform(self):\n        return optax.scale_by_lion(self.b1)\n"
    )
    (tmp_path / "run.toml").write_text('env = "any"\n[learner.optimizer]\nkind = "mine.py:Lion"\nb1 = 0.8\n')
    found = load(tmp_path / "run.toml").learner.optimizer
    assert type(found).__name__ == "Lion" and found.b1 == 0.8 and found.refuses() is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learner.optimizer": "adm"}, ["learner.optimizer", "did you mean", "adam"]),
        ({"learner.optimizer": "sgd", "learner.optimizer.eps": "1e-5"}, ["learner.optimizer.eps", "momentum"]),
        ({"learner.optimizer.b1": "1"}, ["Adam.b1 is 1.0", "below 1"]),
        ({"learner.optimizer.eps": "0"}, ["Adam.eps is 0.0", "positive"]),
    ],
)
def test_mistakes_are_refused(given: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(None, {"env": "any", **given})
    assert all(w in str(caught.value) for w in words), caught.value


@pytest.mark.parametrize("learner", [PolicyGradient(lr=1e-3, epochs=1, minibatches=1), QLearning(lr=1e-3), Pqn(lr=1e-3)])
def test_groups_learn_at_their_own_rates(learner: Any) -> None:
    """One group's actors and critics, at half of the run; everybody else at the run's rate. Without, every array has the run's."""
    env = make("proving:match" if learner.value_based else "proving:pair")
    name = env.spec.groups[-1].name
    own = Algorithm(env.spec, Ctde(Mlp((4,))), Individual(), replace(learner, group_lr={name: 1e-5}))
    nets, half = begun(own).nets, jnp.array(0.5)
    rates = learning_rates(own.learner, nets, half, own.problem)
    for parts in (rates.actor, rates.critic):
        for g, net in zip(env.spec.groups, parts, strict=False):
            expected = (1e-5 if g.name == name else 1e-3) / 2
            np.testing.assert_allclose(jax.tree.leaves(net), expected, rtol=1e-5)
    plain = learning_rates(learner, nets, half, own.problem)
    assert {float(x) for x in jax.tree.leaves((plain.actor, plain.critic))} == {float(np.float32(5e-4))}
    assert len(jax.tree.leaves(rates)) == len(jax.tree.leaves(nets))


def test_rates_of_groups_are_read_written_and_refused() -> None:
    told = parse('env = "proving:pair"\n[learner.group_lr]\narm = 1e-4')
    assert told.learner.group_lr == {"arm": 1e-4} and parse(dump(told)) == told  # type: ignore[attr-defined]
    spec = make("proving:pair").spec
    with pytest.raises(ValueError, match=r"learner\.group_lr has 'arms', and the groups are 'players', 'arm', 'late'"):
        Algorithm(spec, Ctde(Mlp((4,))), Individual(), PolicyGradient(group_lr={"arms": 1e-4}))
    with pytest.raises(UserError, match=r"PolicyGradient\.group_lr is .*: out of range"):
        parse('env = "proving:pair"\n[learner.group_lr]\narm = 0')
