"""What holds of every combination of parts: independence, no dead parameters, masks without leaks, values preserved, refusals named."""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm, Train
from marlstone.architectures import Architecture, Ctde, Decentralized, Gru, Mlp
from marlstone.core.flops import count_flops
from marlstone.core.normalize import EmaMoments, Scales
from marlstone.core.records import replace
from marlstone.core.types import Trajectory, Views
from marlstone.credit import Attention, Credit, Decoupled, Difference, Individual, Qmix, Qplex, Shaping, Team, Vdn
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import Batch, PolicyGradient, Pqn, QLearning
from marlstone.learners.replay import Replay
from marlstone.rollout.unroll import RolloutState, trajectory_shapes
from tests.batches import B, Combination, Either, T, begun, combination, quick, rollout
from tests.pairwise import pairwise

PAIR = "proving:pair"
MLP, GRU = Mlp((6, 5), "tanh"), Gru(6, 5, (4,), "tanh")  # tanh: no unit is dead by chance
LEARNER = PolicyGradient(lr=1e-2, epochs=2, minibatches=2)
PLAIN = PolicyGradient(lr=1e-2, epochs=1, minibatches=1, normalize_observations=False, normalize_values=False, normalize_advantages=False)
BODIES = pytest.mark.parametrize("body", [MLP, GRU], ids=["mlp", "gru"])
CREDITS = pytest.mark.parametrize("team", [False, True], ids=["individual", "team"])
TRUNKS = pytest.mark.parametrize("trunk", ["separate", "shared"])


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def disturbed(trajectories: Trajectory, name: str, agent: int) -> Trajectory:
    """The same batch in which all that concerns one agent is different: what it saw, did, got, and whether it was there."""
    rng, spec, step = np.random.default_rng(11), make(name).spec, trajectories.step
    draw = lambda x: rng.normal(size=x.shape).astype(np.float32) * 3
    obs, action, at = [dict(o) for o in step.obs], list(trajectories.action), 0
    for g, group in enumerate(spec.groups):
        if at <= agent < at + group.count:
            i = agent - at
            for k, x in obs[g].items():
                obs[g][k] = np.concatenate([x[:, :, :i], draw(x[:, :, i : i + 1]), x[:, :, i + 1 :]], 2)
            a = action[g].copy()
            a[:, :, i] = draw(a[:, :, i]) if a.dtype == np.float32 else (a[:, :, i] + 1) % 2
            action[g] = a
        at += group.count

    def column(x: np.ndarray, value: np.ndarray) -> np.ndarray:
        out = np.array(x)
        out[..., agent] = value
        return out

    flags = rng.random((2, *step.present.shape[:2])) < 0.5
    step = replace(
        step, obs=tuple(obs), reward=column(step.reward, draw(step.reward[..., 0])), discount=column(step.discount, flags[0]),
        present=column(step.present, flags[1]),
    )  # fmt: skip
    return replace(trajectories, step=step, action=tuple(action), logp=column(trajectories.logp, -np.abs(draw(trajectories.logp[..., 0]))))


def parts_of(train: Train, algorithm: Algorithm) -> list[list[np.ndarray]]:
    """Per agent: every array that belongs to its parameter set alone: networks, optimizer's moments, observations', targets'."""
    out, at = [], 0
    for g, (group, k) in enumerate(zip(algorithm.spec.groups, algorithm.sets.sizes, strict=True)):
        trees = [(n.actor[g], n.critic[g]) for n in (train.nets, train.opt.mu, train.opt.nu)]
        for i, owner in enumerate(algorithm.architecture.owners(group)):
            pick = (lambda x, o=owner: x[o]) if k > 1 else (lambda x: x)
            scale = [x[at + owner] for x in jax.tree.leaves(train.targets.value)]
            out.append([np.asarray(pick(x)) for x in jax.tree.leaves((trees, train.seen.obs[g]))] + scale)
            assert i < group.count
        at += k
    return out


# ---- independence
@BODIES
@TRUNKS
@pytest.mark.parametrize("agent", [0, 2], ids=["player_0", "arm_0"])
def test_with_nothing_shared_an_update_depends_on_no_other_agents_data(body: Any, trunk: Any, agent: int) -> None:
    """Exactly: two updates, with every normalization on, leave all others' parameters and statistics the same to the bit."""
    it = combination(PAIR, Decentralized(body, "none", trunk=trunk), Either(), LEARNER)
    trajectories = it.trajectories()
    before, after = (parts_of(it.updated(c, 2), it.it) for c in (trajectories, disturbed(trajectories, PAIR, agent)))
    for n, (a, b) in enumerate(zip(before, after, strict=True)):
        moved = [not np.array_equal(x, y) for x, y in zip(a, b, strict=True)]
        assert all(moved) or n != agent or np.mean(moved) > 0.9, "the agent's own parameters must follow its own data"
        assert n == agent or not any(moved), f"agent {n} learned from agent {agent}'s data"


@BODIES
def test_the_law_of_independence_catches_sharing(body: Any) -> None:
    it = combination(PAIR, Decentralized(body, "all"), Either(), LEARNER)
    trajectories = it.trajectories()
    before, after = (parts_of(it.updated(c), it.it) for c in (trajectories, disturbed(trajectories, PAIR, 0)))
    assert not same(before[1], after[1]), "player_1 shares player_0's parameters"
    assert same(before[2], after[2]) and same(before[3], after[3]), "other groups share nothing with them"


# ---- no dead parameters
WAYS = {"decentralized": Decentralized, "ctde": Ctde, "shared trunk": partial(Decentralized, trunk="shared")}
COVER = pairwise(itertools.product(("mlp", "gru"), WAYS, ("all", "none"), (False, True)))


@pytest.mark.parametrize(("body", "architecture", "sharing", "team"), COVER)
def test_every_parameter_learns(body: str, architecture: str, sharing: Any, team: bool) -> None:
    made = WAYS[architecture]({"mlp": MLP, "gru": GRU}[body], sharing)
    it = combination(PAIR, made, Either(), LEARNER)
    start, end = begun(it.it, team), it.updated(it.trajectories(), 2, team)
    for networks, after in ((start.nets.actor, end.nets.actor), (start.nets.critic, end.nets.critic)):
        for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(networks), jax.tree.leaves(after), strict=True):
            assert (np.asarray(x) != y).any(), f"{jax.tree_util.keystr(path)} did not move"
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(end))


# ---- rows that must not teach
def _moved(it: Combination, team: bool, trajectories: Trajectory, change: Any) -> bool:
    """Whether the update differs where `change` made the batch differ."""
    changed = change(trajectories)
    assert not same(trajectories, changed), "the change must change something"
    return not same(it.updated(trajectories, 1, team).nets, it.updated(changed, 1, team).nets)


def _where(mask: np.ndarray, x: np.ndarray, by: float = 1.5) -> np.ndarray:
    return np.where(mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim)), x + np.asarray(by, x.dtype), x)


def _resets(trajectories: Trajectory) -> np.ndarray:
    """`[b t+1]`: rows in which an episode begins anew."""
    first = np.array(trajectories.step.first)
    first[:, 0] = False
    return first


@BODIES
@CREDITS
def test_rows_without_a_decision_do_not_move_policies(body: Any, team: bool) -> None:
    """Log-probs and actions of the absent and of resets are noise; those of decisions are not."""
    it = combination(PAIR, Decentralized(body), Either(), PLAIN)
    trajectories = it.trajectories()
    acts = np.asarray(trajectories.acts)
    resets, absent = ~np.asarray(trajectories.real)[..., None] & np.ones_like(acts), ~np.asarray(trajectories.step.present)[:, :-1]
    assert resets.any() and (absent & ~resets).any()
    for mask in (resets, absent):
        assert not _moved(it, team, trajectories, lambda c, m=mask: replace(c, logp=_where(m, c.logp)))
        arm = mask[..., 2:3]
        if arm.any():
            assert not _moved(
                it, team, trajectories, lambda c, m=arm: replace(c, action=(c.action[0], _where(m, c.action[1]), c.action[2]))
            )
    one = np.zeros_like(acts)
    one[tuple(np.argwhere(acts)[3])] = True
    assert _moved(it, team, trajectories, lambda c: replace(c, logp=_where(one, c.logp)))


@BODIES
@CREDITS
def test_pay_of_a_reset_row_is_nobodys(body: Any, team: bool) -> None:
    it = combination(PAIR, Decentralized(body), Either(), PLAIN)
    trajectories = it.trajectories()
    pay = lambda mask: (
        lambda c: replace(c, step=replace(c.step, reward=_where(mask, c.step.reward), team_reward=_where(mask, c.step.team_reward)))
    )
    resets = _resets(trajectories)
    assert not _moved(it, team, trajectories, pay(resets)), "a reset row pays nobody"
    assert _moved(it, team, trajectories, pay(np.asarray(trajectories.step.last))), "an end does"


@BODIES
def test_final_observations_count_only_where_an_episode_was_cut(body: Any) -> None:
    """The row an episode ended on is only bootstrapped from: after a truncation it matters, after a termination it does not."""
    it = combination(PAIR, Decentralized(body), Either(), PLAIN)
    trajectories = it.trajectories()
    last = np.array(trajectories.step.last)
    last[:, -1] = False
    terminated = last & (np.asarray(trajectories.step.team_discount) == 0)
    look = lambda mask: (
        lambda c: replace(c, step=replace(c.step, obs=tuple({k: _where(mask, x) for k, x in o.items()} for o in c.step.obs)))
    )
    assert terminated.any() and (last & ~terminated).any()
    assert not _moved(it, False, trajectories, look(terminated))
    assert _moved(it, False, trajectories, look(last & ~terminated))


@BODIES
def test_values_of_the_dead_are_trained_while_the_team_still_pays(body: Any) -> None:
    """player_1's view after its death: nothing under its own pay, everything its value is made of under the team's."""
    it = combination(PAIR, Decentralized(body), Either(), PLAIN)
    for team in (False, True):
        trajectories = it.trajectories()
        dead = np.array(~trajectories.step.present & (trajectories.step.discount == 0))
        dead[:, -1] = False
        dead[..., [0, 2, 3]] = False
        dead &= ~np.asarray(trajectories.step.last)[..., None]
        assert dead.any()
        view = lambda c, m=dead[..., :2]: replace(
            c, step=replace(c.step, obs=({"view": _where(m, c.step.obs[0]["view"])}, *c.step.obs[1:]))
        )
        before, after = (it.updated(c, 1, team).nets for c in (trajectories, view(trajectories)))
        assert same(before.critic, after.critic) != team
        # A recurrent critic remembers the view until the end, from which earlier decisions are bootstrapped.
        assert same(before.actor, after.actor) or (team and body is GRU), "it does not act any more"


def test_absent_agents_do_not_count_in_moments() -> None:
    it = combination(PAIR, Decentralized(MLP, "all"), Either(), LEARNER)
    trajectories = it.trajectories()
    seen = it.updated(trajectories).seen.obs
    step = trajectories.step
    present = np.asarray(step.present)[:, :-1]
    for g, (low, high) in enumerate(((0, 2), (2, 3), (3, 4))):
        for name, m in seen[g].items():
            mine = np.asarray(step.obs[g][name])[:, :-1][present[..., low:high]]
            np.testing.assert_allclose(m.mean, mine.mean(0), atol=1e-5)
            np.testing.assert_allclose(m.var, mine.var(0), atol=1e-5)
            assert (np.asarray(m.count) == len(mine)).all()


# ---- ends, through the whole stack
def ends_obey(name: str, credit: Credit) -> bool:
    """Targets on the row before an end: with every value 100 and gamma = lam = 1, an end that the coin (the truth, in `state`)
    calls a termination is worth its pay alone, a truncation 100 more."""
    it = Algorithm(make(name).spec, Decentralized(MLP), credit, PolicyGradient(gamma=1.0, lam=1.0))
    step, action, logp = rollout(name)
    trajectories = Trajectory(step, action, logp, it.memory(B))
    views = Views(logp, logp, jnp.full((B, T + 1, 4), 100.0))
    fixed = it.learner.targets(Batch(trajectories, views, it.asked(begun(it).nets)))
    pay, _ = it.asked(begun(it).nets).reward(views, trajectories)
    last = np.array(step.last)
    last[:, 0] = False
    rows = np.argwhere(last)
    assert len(rows) > 4
    worth = np.array([np.asarray(fixed.target - pay)[b, t - 1, [0, 2, 3]] for b, t in rows])
    truth = np.array([step.state[b, t, 4] for b, t in rows])
    assert 0 < truth.mean() < 1
    return bool(np.allclose(worth, np.where(truth == 1, 0.0, 100.0)[:, None], atol=1e-3))


@pytest.mark.parametrize("credit", [Individual(), Team()], ids=["individual", "team"])
def test_truncation_bootstraps_and_termination_does_not(credit: Credit) -> None:
    assert ends_obey(PAIR, credit)
    assert not ends_obey(f"{PAIR}?swapped=true", credit), "the law must fail where ends are reported the wrong way round"


@pytest.mark.parametrize(("discount", "worth"), [(1.0, 100.0), (0.0, 0.0)], ids=["truncated", "terminated"])
def test_an_agent_that_ends_alone_bootstraps_from_its_final_observation_if_it_was_cut(discount: float, worth: float) -> None:
    """player_0 leaves on row 2 of an episode of five while the others play on: with every value 100, gamma = lam = 1, rows without
    pay; what is valued at 0 afterwards must not be bootstrapped from."""
    it = Algorithm(make(PAIR).spec, Decentralized(MLP), Individual(), PolicyGradient(gamma=1.0, lam=1.0))
    step, action, logp = rollout(PAIR)
    b, t = next((b, t) for b, t in np.argwhere(np.asarray(step.first)) if t + 5 < T)
    present, discounts, reward = (np.array(x) for x in (step.present, step.discount, step.reward))
    present[b, t : t + 2, 0], present[b, t + 2 : t + 6, 0] = True, False
    discounts[b, t : t + 6, 0], reward[b, t : t + 6, 0] = [1, 1, discount, 0, 0, 0], 0.0
    trajectories = Trajectory(replace(step, present=present, discount=discounts, reward=reward), action, logp, it.memory(B))
    value = np.full((B, T + 1, 4), 100.0, np.float32)
    value[b, t + 3 : t + 6, 0] = 0.0
    fixed = it.learner.targets(Batch(trajectories, Views(logp, logp, jnp.asarray(value)), it.asked(begun(it).nets)))
    np.testing.assert_allclose(fixed.target[b, t : t + 2, 0], worth, atol=1e-3)


# ---- values keep their meaning when their scale moves
@pytest.mark.parametrize("sharing", ["all", "none"])
@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_rescaled_heads_predict_the_same_values(sharing: Any, trunk: Any) -> None:
    it = combination(PAIR, Decentralized(GRU, sharing, trunk=trunk), Either(), LEARNER)
    train, k, rng = begun(it.it), sum(it.it.sets.sizes), np.random.default_rng(1)
    scale = lambda mean, spread: EmaMoments(jnp.asarray(mean, jnp.float32), jnp.asarray(spread**2, jnp.float32), jnp.ones(k))
    old, new = (Scales(scale(rng.normal(size=k) * 10, rng.uniform(0.5, 20, size=k)), train.targets.gap) for _ in range(2))
    critic = it.it.sets.preserved(train.nets, old, new).critic
    assert not same(critic, train.nets.critic)
    compiled = quick(lambda critic, s, trajectories: it.it.views(replace(train.nets, critic=critic), train.seen, s, trajectories).value)
    value = lambda critic, scale: compiled(critic, scale, it.trajectories())
    before, after = value(train.nets.critic, old), value(critic, new)
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-3)
    assert np.abs(value(train.nets.critic, new) - before).max() > 0.5, "heads alone would have changed"


# ---- refusals
@dataclass(frozen=True)
class Biased(Credit):
    kind: ClassVar[str] = "biased"

    def advantage(self, p: Any, views: Any, trajectory: Any, td: Any) -> Any:
        return td + 1


@dataclass(frozen=True)
class Counterfactual(Credit):
    kind: ClassVar[str] = "counterfactual"
    needs: ClassVar[frozenset[str]] = frozenset({"q"})


@dataclass(frozen=True)
class Central(Credit):
    kind: ClassVar[str] = "central_only"
    needs: ClassVar[frozenset[str]] = frozenset({"central"})


def refusal(*parts: Any, spec: Any = None) -> str:
    with pytest.raises(ValueError) as caught:
        Algorithm(make(PAIR).spec if spec is None else spec, *parts)
    return str(caught.value)


def test_what_does_not_fit_is_refused_with_part_and_remedy() -> None:
    stateless = replace(make(PAIR).spec, state=0)
    assert "Ctde needs a global state" in (said := refusal(Ctde(), Individual(), LEARNER, spec=stateless)) and "decentralized" in said
    listed = make("proving:climbing").spec
    assert "QLearning never asks for 'advantage'" in (said := refusal(Decentralized(), Biased(), QLearning(), spec=listed))
    assert "Biased's answer" in said and "choose another" in said
    assert "group 'arm': QLearning cannot maximize over a Box: use" in refusal(Decentralized(), Individual(), QLearning())
    said = refusal(Decentralized(), Central(), LEARNER)
    assert "needs the global state, which --architecture decentralized does not have: add --architecture ctde" in said
    said = refusal(Decentralized(), Counterfactual(), LEARNER)
    assert "needs 'q', which --learner policy_gradient with --architecture decentralized does not have: choose another learner" in said
    Algorithm(make(PAIR).spec, Ctde(), Central(), LEARNER)


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: Ctde(trunk="shared"), ["Ctde.trunk", "separate"]),
        (lambda: Decentralized(sharing="some"), ["Decentralized.sharing is 'some'", "all, type, none"]),
        (lambda: Architecture(trunk="both"), ["trunk is 'both'", "separate, shared"]),
        (lambda: Ctde(critic_sees="all"), ["Ctde.critic_sees is 'all'", "state_and_observation"]),
        (lambda: Mlp(()), ["Mlp.hidden", "(128, 128)"]),
    ],
)
def test_parts_refuse_their_own_fields(make_it: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        make_it()
    assert all(w in str(caught.value) for w in words)


@pytest.mark.parametrize(
    ("field", "bad"),
    [("lr", 0.0), ("clip", -0.1), ("cap", 0.5), ("gamma", 1.1), ("lam", -0.1), ("epochs", 0), ("minibatches", 0), ("max_grad_norm", 0.0),
     ("entropy", -1.0), ("value", -1.0)],
)  # fmt: skip
def test_the_learner_refuses_what_is_out_of_range(field: str, bad: float) -> None:
    with pytest.raises(ValueError, match=rf"PolicyGradient\.{field} is {bad}: out of range, the default is"):
        PolicyGradient(**{field: bad})


def test_opponents_are_not_paid_the_teams_reward() -> None:
    pytest.importorskip("jaxmarl")
    spec = make("jaxmarl:MPE_simple_tag_v3").spec
    assert len(spec.opponents) == 1
    Algorithm(spec, Decentralized(MLP), Individual(), LEARNER)
    with pytest.raises(ValueError, match=rf"Team gives.*{spec.opponents[0]}.*individual"):
        Algorithm(spec, Decentralized(MLP), Team(), LEARNER)
    together = make("jaxmarl:MPE_simple_tag_v3?team=all").spec
    assert not together.opponents and Algorithm(together, Decentralized(MLP), Team(), LEARNER)


# ---- what it costs
@pytest.mark.parametrize(
    "architecture",
    [
        Decentralized(Mlp((96, 64))),
        Decentralized(Gru(96, 64, (48,)), "none", trunk="shared"),
        Ctde(Mlp((96, 64)), critic_sees="state", agent_ids=False),
        Ctde(Gru(96, 64, (48,)), "none"),
    ],
    ids=["mlp", "gru_shared_trunk", "state_critic", "gru_none"],
)
@pytest.mark.parametrize("name", [PAIR, "proving:dials"], ids=["pair", "pictures"])
def test_flops_are_those_of_the_program(architecture: Any, name: str) -> None:
    """XLA's own count of one forward pass has little more than the products: activations, biases, normalization."""
    it = Algorithm(make(name).spec, architecture, Individual(), LEARNER)
    train, rows = begun(it), 4  # few enough pictures for one block: XLA counts a loop's body once
    step = jax.eval_shape(lambda key: Vectorized(make(name), rows).init(jax.random.split(key, rows))[1], jax.random.key(0))

    def forward(train: Any, step: Any) -> Any:
        heads, cores, _ = it.architecture.policy(it.spec, train.nets.actor, train.seen, step, it.memory(rows))
        return heads, it.architecture.value(it.spec, train.nets.critic, train.seen, step, it.memory(rows), cores)[0]

    counted = count_flops(forward, train, step)
    assert 0.8 < counted / jax.jit(forward).lower(train, step).cost_analysis()["flops"] <= 1


def learning(credit: Credit, learner: Any = LEARNER, name: str = "proving:climbing") -> int:
    """FLOPs of learning from one joint step."""
    it = Algorithm(make(name).spec, Ctde(MLP), credit, learner)
    return it.flops(shapes(it, name)).learning


def shapes(it: Algorithm, name: str) -> Trajectory:
    row = jax.eval_shape(lambda key: Vectorized(make(name), B).init(jax.random.split(key, B))[1], jax.random.key(0))
    return trajectory_shapes(it, RolloutState(None, row, it.memory(B)), T)


def test_learning_is_counted_as_by_hand() -> None:
    """One layer apart for actor and critic: two forward passes for targets, and per epoch those and their gradients. Trajectories hold a
    row more than they have steps."""
    it = Algorithm(make("proving:climbing").spec, Decentralized(Mlp((32,)), agent_ids=False), Individual(), PLAIN)
    trajectory = shapes(it, "proving:climbing")
    (group,), n, rows = it.spec.groups, it.spec.n, B * (T + 1)
    seen = sum(leaf.shape[0] for leaf in group.observation.values())
    forward = [2 * n * rows * 32 * (seen + out) for out in (group.space.head, 1)]
    backward = [2 * n * rows * 32 * (seen + 2 * out) for out in (group.space.head, 1)]
    counted = it.flops(trajectory)
    acting, learns = counted.acting, counted.learning
    assert acting == 2 * n * 32 * (seen + group.space.head)
    assert learns == pytest.approx((2 * sum(forward) + sum(backward)) / (B * T), rel=1e-3)


@pytest.mark.parametrize(
    ("credit", "learner"),
    [
        (lambda h: Attention(hidden=h), LEARNER), (lambda h: Decoupled(hidden=h), LEARNER), (lambda h: Shaping(hidden=h), LEARNER),
        (lambda h: Qmix(hidden=h), QLearning(replay=Replay(8, 4, 2))), (lambda h: Qplex(hidden=h), Pqn(epochs=1, minibatches=2)),
    ],
    ids=["attention", "decoupled", "shaping", "qmix", "qplex"],
)  # fmt: skip
def test_credit_networks_cost_what_they_compute(credit: Any, learner: Any) -> None:
    small, large = learning(credit(32), learner), learning(credit(256), learner)
    assert small * 1.5 < large
    if learner is LEARNER:
        assert learning(Team()) < small


def test_learning_costs_more_with_whatever_is_computed_more() -> None:
    """Epochs; action values beside the state's; updates from a replay."""
    base = learning(Team())
    assert learning(Team(), replace(LEARNER, epochs=2 * LEARNER.epochs)) > 1.7 * base
    assert learning(Difference()) > base
    replay = Replay(8, 4, 2)
    assert learning(Vdn(), QLearning(replay=replace(replay, updates=4))) > 1.9 * learning(Vdn(), QLearning(replay=replay))
