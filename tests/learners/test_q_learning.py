"""Value-based learning: targets are the equation, target networks follow their clock, exploration its schedule; and it learns."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.credit import Individual, Vdn
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import Pqn, QLearning, Replay
from marlstone.play.action_selectors import Alone
from marlstone.play.evaluator import play
from marlstone.training.fused import Fused
from tests.batches import B, T, begun, quick, trajectories_of

DUMMY = "proving:dummy?rows=3"
MLP, GRU = Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")
SMALL = Replay(8, 2, 1)


def batch(algorithm: Algorithm) -> tuple[Trajectory, np.ndarray]:
    """Trajectories of random play in which some ends are truncations, an agent is gone for a while and some actions are illegal; and the
    rows `[b t+1]` that were truncated."""
    trajectory, rng = trajectories_of(algorithm, DUMMY), np.random.default_rng(2)
    step, n = trajectory.step, algorithm.spec.n
    cut = np.asarray(step.last) & (rng.random(step.last.shape) < 0.5)
    team_discount, discount, present = (np.array(x) for x in (step.team_discount, step.discount, step.present))
    team_discount[cut], discount[cut] = 1.0, 1.0
    present[:, 5, 1] = False
    legal = rng.random((*step.last.shape, n, 5)) < 0.6
    legal[..., 0] = True
    step = replace(step, team_discount=team_discount, discount=discount, present=present, legal=(legal,))
    return replace(trajectory, step=step), cut


def q_of(algorithm: Algorithm, nets: Any, train: Any, trajectory: Trajectory) -> np.ndarray:
    """`[b t+1 n a]`"""
    return np.asarray(algorithm.architecture.policy(algorithm.spec, nets.actor, train.seen, trajectory.step, trajectory.memory)[0][0])


# ---- targets
@pytest.mark.parametrize("credit", [Vdn(), Individual()], ids=["vdn", "individual"])
@pytest.mark.parametrize("learner", [QLearning(gamma=0.9, lam=0.7, replay=SMALL), Pqn(gamma=0.9, lam=0.7)], ids=["double", "pqn"])
def test_targets_are_the_recursion(learner: Any, credit: Any) -> None:
    """y_t = r_t + g d_t [(1 - l) V_t+1 + l y_t+1], V from the target networks' value of the online networks' best legal action;
    nothing flows over an end or a reset, a truncated episode is bootstrapped from the row it was cut on."""
    it = Algorithm(make(DUMMY).spec, Ctde(MLP), credit, learner)
    trajectory, cut = batch(it)
    train, rng, team = begun(it), np.random.default_rng(4), isinstance(credit, Vdn)
    other = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), jnp.float32), train.nets)
    target_params = other if isinstance(learner, QLearning) else None
    fixed = quick(
        lambda train, trajectory: it.learner.compute_targets(it.problem, replace(train, target_params=target_params), trajectory)
    )(train, trajectory)
    online = q_of(it, train.nets, train, trajectory)
    valued = q_of(it, other, train, trajectory) if isinstance(learner, QLearning) else online
    best = np.where(trajectory.step.legal[0], online, -np.inf).argmax(-1)
    value = np.take_along_axis(valued, best[..., None], -1)[..., 0]
    assert (best != np.where(trajectory.step.legal[0], valued, -np.inf).argmax(-1)).any() == isinstance(learner, QLearning)
    s = jax.tree.map(np.asarray, trajectory.step)
    if team:
        value = np.broadcast_to(np.where(s.present, value, 0).sum(-1, keepdims=True), value.shape)
        pay, discount = s.team_reward[..., None], s.team_discount[..., None]
    else:
        pay, discount = s.reward, s.discount
    kinds = set()
    for b in range(B):
        y = v = value[b, T]
        for t in reversed(range(T)):
            if s.first[b, t + 1]:  # the action was ignored: what comes after belongs to another episode
                y = v = value[b, t]
                continue
            r, d, acts = pay[b, t + 1], 0.9 * discount[b, t + 1], s.present[b, t] & s.deciding[b, t]
            target = r + d * (0.3 * v + 0.7 * y)
            np.testing.assert_allclose(np.asarray(fixed.target)[b, t][acts], target[acts], rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(np.asarray(fixed.predicted)[b, t], acts)
            y, v = np.where(acts, target, r + d * y), np.where(acts, value[b, t], r + d * v)  # pay accumulates between decisions
            kinds.add("cut" if cut[b, t + 1] else "ended" if s.last[b, t + 1] else "going")
            kinds.add("idle" if not acts.all() else "going")
    assert kinds == {"cut", "ended", "going", "idle"}


# ---- clocks
def test_epsilon_falls_linearly_and_stays() -> None:
    learner = Pqn(epsilon=0.8, epsilon_end=0.2, explore_for=0.5)
    np.testing.assert_allclose([learner.explore(p) for p in (0, 0.25, 0.5, 0.75, 1)], [0.8, 0.5, 0.2, 0.2, 0.2], atol=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_target_networks_move_every_so_many_batches(tau: float) -> None:
    """By `tau` towards the online ones, which for tau = 1 they then equal; in between they stand still to the bit."""
    learner = QLearning(target_every=2, tau=tau, lr=1e-2, replay=SMALL)
    it = Algorithm(make(DUMMY).spec, Decentralized(MLP), Vdn(), learner)
    trajectory = trajectories_of(it, DUMMY)
    update = quick(lambda train, key: it.update(train, trajectory, 0.0, key)[0])
    leaves = lambda x: np.concatenate([np.ravel(y) for y in jax.tree.leaves(x)])
    train = begun(it, like=trajectory)
    for k in range(5):
        after = update(train, jax.random.key(k))
        before, online, target_params = (leaves(x) for x in (train.target_params, after.nets, after.target_params))
        assert int(after.opt.count) == k + 1 and (leaves(train.nets) != online).all()
        if k % 2:
            np.testing.assert_allclose(target_params, before + tau * (online - before), atol=1e-6)
        else:
            np.testing.assert_array_equal(target_params, before)
        train = after


# ---- burn-in
@pytest.mark.parametrize(("body", "asked", "rows"), [(GRU, None, T // 4), (GRU, 5, 5), (GRU, 0, 0), (MLP, None, 0), (MLP, 2, 2)])
def test_rows_that_only_bring_memory_up_to_date_are_not_trained(body: Any, asked: int | None, rows: int) -> None:
    """Neither by the loss nor by priorities, until an episode begins in the sequence; targets are the same all over."""
    it = Algorithm(make(DUMMY).spec, Decentralized(body), Vdn(), QLearning(burn_in=asked, replay=SMALL))
    trajectory = trajectories_of(it, "proving:dummy?rows=9")
    bare = Algorithm(it.spec, it.architecture, it.credit, QLearning(burn_in=0, replay=SMALL))
    train = begun(it)
    fixed, whole = (
        quick(lambda t, c, a=a: a.learner.compute_targets(a.problem, replace(t, target_params=t.nets), c))(train, trajectory)
        for a in (it, bare)
    )
    np.testing.assert_array_equal(fixed.target, whole.target)
    begun_here = np.cumsum(np.asarray(trajectory.step.first)[:, 1:-1], 1) > 0
    for t in range(T):
        exact = np.asarray(trajectory.step.first)[:, 0] | (begun_here[:, t - 1] if t else False)
        wanted = np.asarray(whole.predicted)[:, t] & (exact | (t >= rows))[:, None]
        np.testing.assert_array_equal(np.asarray(fixed.predicted)[:, t], wanted)
    assert (np.asarray(fixed.predicted) != np.asarray(whole.predicted)).any() == (
        rows > 0 and not np.asarray(trajectory.step.first)[:, 0].all()
    )


def test_a_sequence_all_burnt_in_is_refused() -> None:
    it = Algorithm(make(DUMMY).spec, Decentralized(GRU), Vdn(), QLearning(burn_in=T, replay=SMALL))
    trajectory, train = trajectories_of(it, DUMMY), begun(it)
    with pytest.raises(ValueError, match=f"burn_in is {T}, and sequences have {T} steps: give less than rollout.length"):
        jax.eval_shape(lambda t, c: it.learner.compute_targets(it.problem, replace(t, target_params=t.nets), c), train, trajectory)


# ---- refusals
@pytest.mark.parametrize("learner", [QLearning(), Pqn()], ids=["q_learning", "pqn"])
def test_what_cannot_be_enumerated_is_refused(learner: Any) -> None:
    with pytest.raises(ValueError, match=rf"group 'arm': {type(learner).__name__} cannot maximize over a Box: use .*policy_gradient"):
        Algorithm(make("proving:pair").spec, Decentralized(), Individual(), learner)


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: QLearning(tau=0.0), ["QLearning.tau is 0.0", "up to 1"]),
        (lambda: QLearning(burn_in=-1), ["QLearning.burn_in is -1", "0 or more"]),
        (lambda: QLearning(target_every=0), ["QLearning.target_every is 0", "at least 1"]),
        (lambda: QLearning(epsilon=1.5), ["QLearning.epsilon is 1.5", "the default is 1.0"]),
        (lambda: Pqn(epochs=0), ["Pqn.epochs is 0", "at least 1"]),
        (lambda: Pqn(explore_for=0.0), ["Pqn.explore_for is 0.0", "the default is"]),
    ],
)
def test_learners_refuse_their_own_fields(make_it: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        make_it()
    assert all(w in str(caught.value) for w in words)


# ---- learning
@pytest.mark.parametrize(
    ("learner", "least"),
    [
        (QLearning(lr=1e-2, target_every=10, explore_for=0.5, replay=Replay(512, 32, 4, priority=0.5)), 10),
        (Pqn(lr=5e-3, explore_for=0.5), 10),
        (Pqn(lr=1e-2, epsilon_end=1.0, lam=0.0, downward=0.02), 22),
    ],
    ids=["q_learning", "pqn", "optimistic"],
)
def test_climbing_settles_on_an_equilibrium_and_optimists_on_the_best(learner: Any, least: float) -> None:
    """Two rows: random play earns -2.5 a game of one row; the safe equilibrium 10, the best 22."""
    env = Vectorized(make("proving:climbing?rows=2"), 32)
    algorithm = Algorithm(env.spec, Decentralized(Mlp((32,), norm="layer")), Vdn(), learner)
    runtime = Fused(env, algorithm, 4, 60, (0,))
    state, report = quick(lambda s: runtime.advance(runtime.begin(s), 60, 60))(0)
    assert np.isfinite(np.concatenate([np.ravel(x) for x in jax.tree.leaves((state.train.nets, report.losses))])).all()
    judged = quick(lambda policy: play(Vectorized(env.env, 8), 8, Alone(algorithm), policy, jax.random.key(1), 0.0)[0].team_return.mean())
    assert judged(state.train.policy) >= least
