"""Managers and workers: who is paid for what, who depends on whom, and what lies between two decisions."""

from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Gru, Hierarchical, Mlp
from marlstone.core.normalize import EmaMoments
from marlstone.core.records import replace
from marlstone.core.types import Trajectory, Views
from marlstone.credit import Counterfactual, Credit, Individual, Team, Vdn
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit.truth import coalition_returns, decisions_worth, gather, play_on
from marlstone.learners import PolicyGradient, Pqn, QLearning, Replay
from tests.batches import B, T, begun, built, quick, trajectories_of

PLAN, ADDITIVE = "proving:plan?reach=1&rows=9", "proving:additive?rows=3"
SMALL = Mlp((6, 5), "tanh")
ROLES = Hierarchical(SMALL, every=2, span=3, roles=2, manager=SMALL)
LED = Hierarchical(SMALL, every=3, span=2, leaf="place", goal_pay=0.5, manager=Mlp((4, 3), "tanh"))


def combined(architecture: Hierarchical = LED, credit: Credit = Team(), learner: Any = PolicyGradient(), name: str = PLAN) -> Algorithm:
    return Algorithm(built(name, architecture).spec, architecture, credit, learner)


# ---- pay
def paid(it: Algorithm, trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """What following is paid `[b t n]`, and the places `[b t+1 n]` as networks see them."""

    def ask(trajectory: Trajectory) -> Any:
        known = it.problem.encoded(it.sets.absorb(it.sets.unseen(), trajectory), trajectory)
        return it.architecture.pay(it.spec, trajectory, known), known.step.obs[0]["place"][..., 0]

    return jax.device_get(quick(ask)(trajectory))


def test_workers_are_paid_for_the_way_they_went() -> None:
    """goal_pay times the change asked for, of an observation in standard deviations; nothing for the free, over a reset, for managers."""
    it = combined()
    trajectory = trajectories_of(it, PLAN, t=30)
    pay, place = paid(it, trajectory)
    goal = np.asarray(trajectory.step.obs[0]["goal"]).argmax(-1)[:, :-1]
    direction = np.array([0, -1, 1])[goal]
    expected = 0.5 * direction * np.diff(place, axis=1) * trajectory.real[..., None]
    np.testing.assert_allclose(pay[..., :2], expected, atol=1e-5)
    assert not pay[..., 2:].any() and set(goal.ravel()) == {0, 1, 2}
    assert place.std() == pytest.approx(1, rel=0.1) and (np.diff(place, axis=1)[~trajectory.real] != 0).any()
    assert (expected > 0.1).any() and (expected < -0.1).any()


def test_a_goal_held_pays_its_whole_way_however_it_went() -> None:
    """The undiscounted sum over rows of one goal is that of its ends."""
    it = combined()
    trajectory = trajectories_of(it, PLAN, t=30)
    pay, place = paid(it, trajectory)
    goal, met = np.asarray(trajectory.step.obs[0]["goal"]).argmax(-1), 0
    for b in range(B):
        for n in range(2):
            begin = 0
            for t in range(1, 31):
                if t == 30 or goal[b, t, n] != goal[b, begin, n] or trajectory.step.first[b, t]:
                    end = t - 1 if trajectory.step.first[b, t] else t
                    sign = (0, -1, 1)[goal[b, begin, n]]
                    np.testing.assert_allclose(pay[b, begin:end, n].sum(), 0.5 * sign * (place[b, end, n] - place[b, begin, n]), atol=1e-5)
                    met += end - begin > 2 and sign != 0
                    begin = t
    assert met > 3


def test_going_forth_and_back_earns_what_the_discount_leaves() -> None:
    """Undiscounted nothing; discounted 1 - gamma^k of the way forth, k rows between the ways, as the docs state."""
    it = combined()
    trajectory = trajectories_of(it, PLAN, t=8)
    leaves, shape = dict(trajectory.step.obs[0]), trajectory.step.obs[0]["place"].shape
    path = np.array([0, 1, 1, 1, 0, 0, 0, 0, 0], np.float32)
    leaves["place"] = np.broadcast_to(path[None, :, None, None], shape).copy()
    leaves["goal"] = np.zeros_like(leaves["goal"])
    leaves["goal"][..., 2] = 1  # up
    here, no = np.ones(trajectory.step.present.shape, bool), np.zeros(trajectory.step.first.shape, bool)
    led = replace(trajectory, step=replace(trajectory.step, obs=(leaves, *trajectory.step.obs[1:]), present=here, first=no))
    pay = np.asarray(it.architecture.pay(it.spec, led, led))[..., 0]
    np.testing.assert_allclose(pay.sum(-1), 0, atol=1e-6)
    np.testing.assert_allclose((0.9 ** np.arange(8) * pay).sum(-1), 0.5 * (1 - 0.9**3), rtol=1e-5)


def test_nothing_is_paid_on_the_way_in_or_out() -> None:
    """Where a worker is gone, its padded observation has not moved; without a leaf, or pay, there is nothing to ask."""
    it = combined()
    trajectory = trajectories_of(it, PLAN, t=30)
    before, present = paid(it, trajectory)[0], np.array(trajectory.step.present)
    b, t = (int(x[0]) for x in np.nonzero((before[:, :-1, 1] != 0) & (before[:, 1:, 1] != 0)))
    present[b, t + 1, 1] = False
    after = paid(it, replace(trajectory, step=replace(trajectory.step, present=present)))[0]
    assert not after[b, t : t + 2, 1].any()
    for none in (replace(LED, leaf=""), replace(LED, goal_pay=0.0), Ctde(SMALL)):
        assert none.pay(it.spec, trajectory, trajectory) is None


@pytest.mark.parametrize("credit", [Individual(), Team()], ids=["individual", "team"])
def test_goal_pay_comes_beside_credits_answer_and_managers_keep_their_own(credit: Credit) -> None:
    it = combined(credit=credit)
    trajectory = trajectories_of(it, PLAN, t=30)
    beside = np.random.default_rng(0).normal(size=trajectory.logp.shape).astype(np.float32)
    plain, until = it.asked(begun(it).nets).reward(Views(), trajectory)
    more, still = it.asked(begun(it).nets, beside).reward(Views(), trajectory)
    np.testing.assert_allclose(np.asarray(more), np.asarray(plain) + beside, atol=1e-6)
    np.testing.assert_array_equal(still, until)
    np.testing.assert_array_equal(plain[..., 2:], trajectory.step.reward[:, 1:, 2:])
    np.testing.assert_array_equal(until[..., 2:], trajectory.step.discount[:, 1:, 2:])


# ---- between decisions
def between(it: Algorithm, trajectory: Trajectory, value: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray, int]:
    """For the manager at each decision, `[b t]`: sum_k gamma^k r + gamma^every value(next decision, or the row it was cut on) over the
    rows between, by hand; where; and how many of them saw an end."""
    s, target, where, ended = trajectory.step, np.zeros((B, T)), np.zeros((B, T), bool), 0
    for b in range(B):
        for t in range(T):
            if not (s.deciding[b, t, -1] and not s.first[b, t + 1]):
                continue
            total, left, k = 0.0, 1.0, t
            while True:
                total, left, k = total + left * s.reward[b, k + 1, -1], left * gamma * s.discount[b, k + 1, -1], k + 1
                if k == T or s.deciding[b, k, -1] or s.first[b, k + 1]:
                    break
            ended += k < T and bool(s.first[b, k + 1])
            target[b, t], where[b, t] = total + left * value[b, k], True
    return target, where, ended


@pytest.mark.parametrize(
    "learner",
    [PolicyGradient(gamma=0.9, lam=0), QLearning(gamma=0.9, lam=0, replay=Replay(8, 2, 1)), Pqn(gamma=0.9, lam=0)],
    ids=["policy_gradient", "q_learning", "pqn"],
)
@pytest.mark.parametrize("credit", [Team(), Vdn()], ids=["team", "vdn"])
def test_managers_are_paid_for_all_rows_until_their_next_decision(learner: Any, credit: Credit) -> None:
    """One-step targets of a manager are of one decision, k rows; workers' of one row. Whatever credit says of the team."""
    it = combined(ROLES, credit, learner, ADDITIVE)
    trajectory = trajectories_of(it, ADDITIVE)
    cut = np.asarray(trajectory.step.last) & (np.arange(B) % 2 == 0)[:, None]
    step = replace(trajectory.step, discount=np.where(cut[..., None], 1, trajectory.step.discount).astype(np.float32))
    trajectory = replace(trajectory, step=replace(step, team_discount=np.where(cut, 1, step.team_discount).astype(np.float32)))
    train = begun(it)

    def ask(trajectory: Trajectory) -> Any:
        views = it.views(train.nets, train.seen, train.targets, trajectory)
        acted = trajectory if views.logp is None else replace(trajectory, logp=views.logp)  # on-policy: rho = 1
        return it.learner.compute_targets(it.problem, train, acted), views

    fixed, views = quick(ask)(trajectory)
    value = np.asarray(views.q_best if it.learner.value_based else views.value)
    target, where, ended = between(it, trajectory, value[..., -1], 0.9)
    assert where.sum() > 8 and ended > 1
    np.testing.assert_allclose(np.asarray(fixed.target)[..., -1][where], target[where], rtol=1e-4, atol=1e-5)
    real = np.asarray(trajectory.real)
    assert np.asarray(fixed.predicted)[..., -1][real].all() and not np.asarray(fixed.predicted)[..., -1][~real].any()
    if fixed.advantage is not None:
        np.testing.assert_allclose((np.asarray(fixed.advantage) + value[:, :-1])[..., -1][where], target[where], rtol=1e-4, atol=1e-5)


def test_managers_wait_for_something_to_be_paid() -> None:
    """Without entropy's bonus, not a bit of a fresh manager moves before the team earns anything; its workers learn to follow."""
    it = combined(learner=PolicyGradient(entropy=0.0, epochs=1, minibatches=2))
    trajectory = trajectories_of(it, PLAN)
    train = quick(it.init)(jax.random.key(0))
    update = quick(lambda trajectory: it.update(train, trajectory, 0.5, jax.random.key(0))[0].nets.actor)
    for reward in (0.0, 1.0):
        pay = np.where(np.asarray(trajectory.step.last), reward, 0).astype(np.float32)
        own = np.broadcast_to(pay[..., None] / 2, trajectory.step.reward.shape)
        after = update(replace(trajectory, step=replace(trajectory.step, team_reward=pay, reward=own)))
        for moves, new, old in zip((True, reward > 0), after, train.nets.actor, strict=True):
            assert {bool((a != b).any()) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old))} == {moves}


@pytest.mark.parametrize("body", [SMALL, Gru(6, 5, (), "tanh")], ids=["mlp", "gru"])
def test_workers_act_without_their_managers(body: Any) -> None:
    """Given their goals, workers' heads and memory are the same to the bit whatever managers are, see or decide; goals do matter."""
    architecture = replace(LED, body=body)
    it = combined(architecture)
    trajectory, train = trajectories_of(it, PLAN), begun(it)
    row = jax.tree.map(lambda x: x[:, 3], trajectory.step)
    changed = jax.tree.map(lambda x: x + 1, train.nets.actor[-1])
    policy = train.policy
    other = replace(policy, actor=(*policy.actor[:-1], changed))
    elsewhere = replace(row, obs=(*row.obs[:-1], jax.tree.map(lambda x: x + 1, row.obs[-1])), deciding=~row.deciding)
    ordered = replace(row, obs=({**row.obs[0], "goal": row.obs[0]["goal"][..., ::-1]}, row.obs[-1]))
    heads = quick(lambda policy, row: it.heads(policy, row, trajectory.memory))
    (workers, manager), memory = heads(policy, row)
    for (w, m), after in (heads(other, row), heads(policy, elsewhere)):
        np.testing.assert_array_equal(w, workers)
        assert (np.asarray(m) != manager).any()
        for a, b in zip(jax.tree.leaves(after.actor[0]), jax.tree.leaves(memory.actor[0]), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (np.asarray(heads(policy, ordered)[0][0]) != workers).any()


def test_actions_between_decisions_change_nothing() -> None:
    """Neither the environment nor any target or gradient: only the managers' decisions are learned from."""
    it = combined(LED, Counterfactual(), PolicyGradient(epochs=1, minibatches=1))
    trajectory, train = trajectories_of(it, PLAN), begun(it)
    silent = ~np.asarray(trajectory.acts)[..., -1]
    action = np.array(trajectory.action[-1])
    action[silent] = (action[silent] + 1) % 3
    logp = np.array(trajectory.logp)
    logp[..., -1][silent] -= 1.0
    other = replace(trajectory, action=(trajectory.action[0], action), logp=logp)
    update = quick(lambda train, trajectory: it.update(train, trajectory, 0.5, jax.random.key(0))[0])
    for a, b in zip(jax.tree.leaves(update(train, trajectory)), jax.tree.leaves(update(train, other)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert silent.any() and not silent.all()


# ---- what credit and audits see
def test_critics_of_actions_are_the_teams() -> None:
    """Managers have no action values and nobody's critic looks at their orders; their views say no more than their value."""
    it = combined(LED, Counterfactual())
    trajectory, train = trajectories_of(it, PLAN), begun(it)
    assert len(train.nets.q) == 1 and [x.shape[0] for x in train.nets.q[0].others] == [2]
    asked = it.wanted | it.credit.audits
    shifted = EmaMoments(np.arange(2.0, 4), np.ones(2), np.ones(2))
    scale = replace(train.targets, gap=shifted)
    views = quick(lambda trajectory: it.views(train.nets, train.seen, scale, trajectory, asked))(trajectory)
    for q in (views.q_chosen, views.q_expected, views.q_default):
        np.testing.assert_array_equal(q[..., 2:], views.value[:, :-1, 2:])
        assert (np.asarray(q)[..., :2] != np.asarray(views.value)[:, :-1, :2]).all()
    assert jax.eval_shape(it.contribution, train, trajectory).shape == (B, T, 2)


def test_the_audit_knows_workers_under_managers() -> None:
    """In `additive` a worker is worth its own term whatever anybody is told; coalitions are of workers, and managers play on."""
    env, inner = built(ADDITIVE, ROLES), make(ADDITIVE)
    it = combined(ROLES, name=ADDITIVE)
    policy = begun(it).policy
    who = np.arange(it.spec.team.n)
    sets = np.concatenate([np.zeros((1, len(who)), bool), np.eye(len(who), dtype=bool), np.ones((1, len(who)), bool)])

    def measured(key: Any) -> Any:
        found = gather(Vectorized(env, 6), it, policy, key, 7)
        worth = decisions_worth(env, it, policy, found, 16, who, jax.random.key(1))
        flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[worth.at], tree)
        truth = jax.vmap(inner.contribution)(flat(found.states).env, flat(found.trajectories.action)[:-1])
        k1, k2 = jax.random.split(key)
        begin, nobody = jax.vmap(env.init)(jax.random.split(k1, 40)), np.zeros((40, it.spec.n), bool)
        played = play_on(env, it, policy, *begin, it.memory(40), None, nobody, 40, k2).total
        return worth.worth, truth, coalition_returns(env, it, policy, 40, sets, key), played

    said, truth, v, played = jax.device_get(quick(measured)(jax.random.key(0)))
    np.testing.assert_allclose(said, truth, atol=1e-5)
    assert (np.abs(truth).max(0) > 0.005).all()
    np.testing.assert_array_equal(v[:, 0], 0)
    np.testing.assert_array_equal(v[:, -1], played)
    assert v.shape == (40, 10) and played.std() > 0


# ---- refusals
@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: Hierarchical(every=1), ["every is 1", "at least 2"]),
        (lambda: Hierarchical(goal_pay=-1.0), ["Hierarchical.goal_pay is -1.0", "0 or more"]),
        (lambda: Hierarchical(manager=Gru()), ["Hierarchical.manager is Gru", "not run between decisions", "use Mlp"]),
        (lambda: Hierarchical(trunk="shared"), ["trunk"]),
        (lambda: Algorithm(make(PLAN).spec, Hierarchical(), Team(), PolicyGradient()), ["every 8 steps", "managers().over(env)"]),
        (lambda: Algorithm(Managers(4).over(make(PLAN)).spec, Hierarchical(), Team(), PolicyGradient()), ["every 8 steps"]),
        (lambda: combined(name="proving:dummy?rows=3"), ["leaf is 'place'"]),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(make_it: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        make_it()
    assert all(w in str(caught.value) for w in words), caught.value


def test_an_environment_without_a_state_is_refused() -> None:
    env = make(PLAN)
    blind = Managers().over(type("Blind", (), {"spec": replace(env.spec, state=0)})())
    with pytest.raises(ValueError, match="needs a global state"):
        Algorithm(blind.spec, Hierarchical(), Team(), PolicyGradient())
