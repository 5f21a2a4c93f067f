"""Mixers: more of an agent is never less of the team, the best joint action is everybody's best, and contributions are differences."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Mlp
from marlstone.core.records import replace
from marlstone.core.types import Views
from marlstone.credit import Counterfactual, Credit, Difference, Individual, Qmix, Qplex, Team, Vdn
from marlstone.credit.decomposition import _generated
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient, Pqn, QLearning
from tests.batches import trajectories_of

DUMMY = "proving:dummy?rows=3"
SPEC = make(DUMMY).spec
N, ACTIONS, ROWS = SPEC.n, 3, 30
CREDITS = pytest.mark.parametrize("credit", [Vdn(), Qmix(4, 5), Qplex(5)], ids=["vdn", "qmix", "qplex"])
SEEDS = pytest.mark.parametrize("seed", range(4))


def parameters(credit: Credit, seed: int) -> Any:
    """Random everywhere, biases too; small enough that no weight is lost in rounding."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda k: credit.init(SPEC, k), jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.5), jnp.float32), shapes)


def draws(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Action values `[rows n a]` and states `[rows s]`."""
    rng = np.random.default_rng(100 + seed)
    return rng.normal(size=(ROWS, N, ACTIONS)).astype(np.float32), rng.normal(size=(ROWS, SPEC.state)).astype(np.float32)


@CREDITS
@SEEDS
def test_more_of_an_agent_is_never_less_of_the_team(credit: Any, seed: int) -> None:
    p, (q, state) = parameters(credit, seed), draws(seed)
    slopes = jax.grad(lambda chosen: credit.mix(p, chosen, q.max(-1), state).sum())(jnp.asarray(q[..., 0]))
    assert (np.asarray(slopes) >= 0).all() and (np.asarray(slopes) > 0).mean() > 0.99
    rows = jax.vmap(lambda chosen, best, s: credit.mix(p, chosen, best, s))(q[..., 0], q.max(-1), state)
    np.testing.assert_allclose(rows, credit.mix(p, jnp.asarray(q[..., 0]), q.max(-1), state), rtol=1e-5, atol=1e-5)


@SEEDS
def test_qplex_teaches_agents_by_their_weights_alone(seed: int) -> None:
    """As in the authors' code: advantages are detached, so that values move by w_i > 0, whatever l says of them; the mixed value is the
    paper's sum_i w_i v_i + b + sum_i l_i w_i (q_i - v_i) all the same."""
    credit, (q, state) = Qplex(5), draws(seed)
    p = parameters(credit, seed)
    chosen, best = jnp.asarray(q[..., 0]), jnp.asarray(q.max(-1))
    value, (by_chosen, by_best) = jax.value_and_grad(lambda c, v: credit.mix(p, c, v, state).sum(), (0, 1))(chosen, best)
    said = np.asarray(_generated(p["scale"], state))
    w, b = np.log1p(np.exp(said[:, :N])), said[:, N]
    duel = np.log1p(np.exp(np.asarray(_generated(p["duel"], jnp.concatenate([state, chosen - best], -1)))))
    np.testing.assert_allclose(by_chosen, w, rtol=1e-5)
    assert not np.asarray(by_best).any()
    np.testing.assert_allclose(value, ((w * (best + duel * (chosen - best))).sum(-1) + b).sum(), rtol=1e-4)
    moved = jax.grad(lambda p: credit.mix(p, chosen, best, state).sum())(p)
    assert all(np.asarray(x).any() for x in jax.tree.leaves(moved))


@CREDITS
@SEEDS
def test_the_best_joint_action_is_everybodys_best(credit: Any, seed: int) -> None:
    """By brute force over all joint actions (Son et al. 2019's condition); the worst is nobody's guess."""
    p, (q, state) = parameters(credit, seed), draws(seed)
    joint = np.array(list(itertools.product(range(ACTIONS), repeat=N)))
    chosen = np.take_along_axis(q[:, None], joint[None, ..., None], -1)[..., 0]  # [rows joint n]
    total = np.asarray(jax.vmap(lambda c: credit.mix(p, c, q.max(-1), state), 1, 1)(jnp.asarray(chosen)))
    np.testing.assert_array_equal(joint[total.argmax(-1)], q.argmax(-1))
    assert np.ptp(total, axis=-1).min() > 1e-3


@CREDITS
def test_contributions_are_the_team_with_an_action_less_the_team_with_the_default(credit: Any) -> None:
    """One value replaced, the others kept; the absent are worth nothing, and count for nothing."""
    it = Algorithm(SPEC, Ctde(Mlp((4,))), credit, QLearning())
    trajectory = jax.tree.map(lambda x: x[0], trajectories_of(it, DUMMY))
    rng, t = np.random.default_rng(0), len(trajectory.logp)
    present = rng.random((t + 1, N)) < 0.7
    trajectory = replace(trajectory, step=replace(trajectory.step, present=jnp.asarray(present)))
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    views = Views(q_chosen=draw(t, N), q_default=draw(t, N), q_best=2 + draw(t + 1, N) ** 2)
    p = parameters(credit, 0)
    said = np.asarray(credit.contribution(p, views, trajectory))
    assert (said[~present[:-1]] == 0).all() and (said[present[:-1]] != 0).all()
    if type(credit) is Vdn:
        np.testing.assert_allclose(said, np.where(present[:-1], views.q_chosen - views.q_default, 0), atol=1e-5)
    here = lambda q: np.where(present[:-1], q[:t], 0).astype(np.float32)
    mixed = lambda q: np.asarray(credit.mix(p, q, here(views.q_best), trajectory.step.state[:-1]))
    for i in range(N):
        swapped = here(views.q_chosen)
        swapped[:, i] = here(views.q_default)[:, i]
        np.testing.assert_allclose(said[:, i], mixed(jnp.asarray(here(views.q_chosen))) - mixed(jnp.asarray(swapped)), rtol=1e-4, atol=1e-4)
    noise = replace(views, **{k: jnp.where(present[: len(getattr(views, k))], getattr(views, k), 7) for k in ("q_chosen", "q_default")})
    np.testing.assert_array_equal(said, credit.contribution(p, noise, trajectory))


def test_claims_are_made_of_trained_action_values_only() -> None:
    """State values that are mixed say nothing of actions; Q values do; who answers no `contribution` claims nothing."""
    claims = lambda credit, learner: Algorithm(SPEC, Ctde(), credit, learner).claims
    for learner in (QLearning(), Pqn()):
        assert all(claims(c, learner) for c in (Vdn(), Qmix(), Qplex()))
        assert Algorithm(SPEC, Decentralized(), Vdn(), learner).claims
        assert not any(claims(c, learner) for c in (Team(), Individual()))
    assert not any(claims(c, PolicyGradient()) for c in (Vdn(), Qmix(), Team(), Individual()))
    assert all(claims(c, PolicyGradient()) for c in (Counterfactual(), Difference()))
