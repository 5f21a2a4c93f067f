"""Credit learned from played counterfactuals: what it learns, what it costs, and where it is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Mlp
from marlstone.config import load
from marlstone.core.records import replace
from marlstone.core.types import MeasuredWorth
from marlstone.credit import Asked, Counterfactual, Measured
from marlstone.envs.make import make
from marlstone.learners import PolicyGradient
from marlstone.rollout.unroll import draw_noise
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of, train
from tests.batches import begun, trajectories_of

ENV = "proving:additive"


def batch():
    algorithm = Algorithm(make(ENV).spec, Ctde(Mlp((8,))), Measured(), PolicyGradient())
    return algorithm, begun(algorithm), trajectories_of(algorithm, ENV)


def loss(algorithm, state, trajectories, nets=None):
    nets = state.nets if nets is None else nets
    views = algorithm.views(nets, state.seen, state.targets, trajectories)
    return algorithm.asked(nets).loss(views, trajectories)


def test_its_loss_is_the_squared_error_of_what_it_claims_and_reaches_the_critic_of_actions_alone():
    algorithm, state, trajectories = batch()
    claimed = algorithm.contribution(state, trajectories)
    known = jnp.zeros(claimed.shape, bool).at[:, ::3, 0].set(True) & trajectories.acts
    views = algorithm.views(state.nets, state.seen, state.targets, trajectories)
    off = claimed + 2 * views.gap_scale[:, None]
    right, wrong = (replace(trajectories, measured=MeasuredWorth(jnp.where(known, x, 0), known)) for x in (claimed, off))
    np.testing.assert_allclose(loss(algorithm, state, right), 0, atol=1e-6)
    per_environment = (loss(algorithm, state, wrong) * trajectories.real).sum(1) / trajectories.real.sum(1)
    assert (known.sum((1, 2)) > 0).all()
    assert (np.asarray(loss(algorithm, state, wrong)).sum(1) > 0).all() and np.isfinite(per_environment).all()
    grads = jax.grad(lambda nets: loss(algorithm, state, wrong, nets).sum())(state.nets)
    norm = lambda tree: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))
    assert norm(grads.q) > 0 and norm(grads.actor) == 0 and norm(grads.critic) == 0


def test_an_error_of_one_scale_at_every_measured_decision_costs_one_a_step():
    algorithm, state, trajectories = batch()
    views = algorithm.views(state.nets, state.seen, state.targets, trajectories)
    known = trajectories.acts & (jnp.arange(trajectories.logp.shape[1]) % 2 == 0)[None, :, None]
    worth = jnp.where(known, algorithm.contribution(state, trajectories) + views.gap_scale[:, None], 0)
    told = loss(algorithm, state, replace(trajectories, measured=MeasuredWorth(worth, known)))
    mean = jnp.where(trajectories.real, told, 0).sum(1) / trajectories.real.sum(1)
    np.testing.assert_allclose(mean, 1, rtol=1e-4)


def test_without_measurements_it_learns_as_counterfactual_does():
    algorithm, state, trajectories = batch()
    np.testing.assert_array_equal(loss(algorithm, state, trajectories), 0)
    views = algorithm.views(state.nets, state.seen, state.targets, trajectories)
    td = jnp.ones_like(trajectories.logp)
    mine, theirs = (Asked(x, None, algorithm.spec.team).advantage(views, trajectories, td) for x in (Measured(), Counterfactual()))
    np.testing.assert_array_equal(mine, theirs)


def test_the_steps_that_are_played_are_part_of_the_budget_and_of_the_ledger(tmp_path):
    fields = {
        "env": ENV, "credit": "measured", "architecture": "ctde", "architecture.body.hidden": "[8]", "seeds": "1", "seed": "0",
        "rollout.envs": "4", "rollout.length": "16", "credit.share": "0.125", "credit.window": "4", "steps": "1000",
        "evaluate.episodes": "4", "evaluate.logged": "0",
    }  # fmt: skip
    config = load(None, fields)
    assert config.measured_steps == 4 * 2 * 4 and config.steps_per_update == 4 * 16 + 32 and config.whole_steps == 11 * 96
    record = train(config, RunDirectory.create(tmp_path / "run", ""), limited=False)
    assert record["steps"] == 11 * 96
    for ledger in record["ledger"]:
        assert ledger["rows"] == 11 * 64 and ledger["measured"] == 11 * 32
        acting, learning = record["flops_per_step"]["acting"], record["flops_per_step"]["learning"]
        assert ledger["flops"] == 11 * (64 * (acting + learning) + 32 * acting)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"env": "pettingzoo:mpe2.simple_spread_v3"}, "stepped in worker processes"),
        ({"env": ENV, "fleet.kind": "local"}, "fleet's actors"),
        ({"env": ENV, "credit.share": "0.0"}, "Measured.share is 0.0"),
        ({"env": ENV, "credit.window": "0"}, "window 0"),
    ],
)
def test_where_nothing_can_be_played_on_it_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        load(None, {"architecture": "ctde", "credit": "measured", "steps": "100", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"env": "proving:plan", "architecture": "hierarchical"},
        {"env": "proving:pair", "architecture": "ctde", "architecture.sharing": "none"},
    ],
    ids=["managers", "agents that come and go"],
)
def test_only_decisions_of_the_team_are_measured(fields):
    """Managers make none of them; nor does an agent that is not there, or a reset."""
    small = {"architecture.body.hidden": "[8]", "rollout.envs": "8", "rollout.length": "24", "credit.share": "0.25", "credit.window": "3"}
    config = load(None, {**small, "credit": "measured", "seeds": "1", "seed": "0", "steps": "1000", **fields})
    runtime = runtime_of(config)
    state = jax.tree.map(lambda x: x[0], runtime.start())

    @jax.jit
    def rollout(state):
        drawn = draw_noise(runtime.algorithm, jax.random.key(0), runtime.length, runtime.env.b)
        return runtime._rollout(runtime.env, state, *drawn)[1]

    trajectories = rollout(state)
    known, team = np.asarray(trajectories.measured.known), runtime.algorithm.spec.team.n
    assert known.sum() > 8 and not known[..., team:].any()
    assert (known <= np.asarray(trajectories.acts)).all() and (known.sum(-1) <= 1).all()
    assert np.isfinite(trajectories.measured.worth).all() and (np.asarray(trajectories.measured.worth)[~known] == 0).all()
