"""What learning needs of a channel: what was heard computed anew, with memory and managers too, and what speaking is expected to cost."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Decentralized, Gru, Hierarchical, Mlp
from marlstone.comms import Broadcast, Channel, Link, Targeted
from marlstone.comms.layout import TalkLayout, with_shares
from marlstone.comms.learning import Speech
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.comms_cases import blank, channel_case
from marlstone.evaluation.credit.random_play import drawn, quick
from marlstone.learners import PolicyGradient
from marlstone.rollout.unroll import RolloutState, draw_noise, unroll

pytestmark = pytest.mark.usefixtures("compiled_once")
B, T, N = 2, 9, 4
LOSSY = Link(loss_good=0.2, delay=1, copies=0.3)
LED = Hierarchical(Gru(5, 4, ()), every=2, span=2, roles=2, manager=Mlp((4,)))
CASES: dict[str, tuple[Any, Channel]] = {
    "managers and memory": (LED, Targeted("dithered", 2, signature=2, link=LOSSY, hold=1)),
    "nobody shares": (Decentralized(Gru(5, 4, ()), "none"), Broadcast("symbols", 3, link=LOSSY, budget_bits=(2.0, 8.0))),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "shares" in n else n for n in CASES])
def test_what_was_heard_is_computed_anew(name: str) -> None:
    """By the networks that acted: inboxes and log-probabilities as they were recorded, with the memory a trajectory began with. By others:
    log-probabilities as whole policies that see what would have been heard have them."""
    architecture, channel = CASES[name]
    env: Any = wrap_env(make("proving:additive?rows=4"), architecture.managers(), channel=channel)
    it = Algorithm(env.spec, architecture, Individual(), PolicyGradient(epochs=1, minibatches=1), channel=channel)
    train, many = drawn(it), Vectorized(env, B)

    def run(train: Any, key: Any) -> tuple[Trajectory, Any, Any, Any, Any]:
        state, step = many.init(jax.random.split(key, B))
        acting = RolloutState(state, step, it.memory(B))
        for k in range(2):  # the second begins in the middle of an episode, with memory, and with messages on their way
            noise, keys = draw_noise(it, jax.random.fold_in(key, k), T, B)
            acting, trajectory = unroll(many, it, train.policy, acting, noise, keys)

        def heard(actor: Any) -> Any:
            said, _, _ = it.architecture.policy(it.spec, actor, train.seen, trajectory.step, trajectory.memory)
            assert it.speech is not None
            return it.speech.heard(said, trajectory)

        logp = lambda nets: it.views(nets, train.seen, train.targets, trajectory, frozenset({"logp"})).logp
        others = jax.tree.map(lambda x: 1.3 * x, train.nets)
        heads, _, _ = it.architecture.policy(it.spec, others.actor, train.seen, heard(others.actor), trajectory.memory)
        heads = tuple(h[:, :-1] for h in with_shares(it.spec, heads, train.seen.obs))
        whole = it.log_prob(heads, tuple(None if x is None else x[:, :-1] for x in trajectory.step.legal), trajectory.action)
        return trajectory, heard(train.nets.actor), logp(train.nets), logp(others), whole

    trajectory, step, logp, other, whole = jax.device_get(quick(run)(train, jax.random.key(0)))
    np.testing.assert_allclose(logp, trajectory.logp, atol=1e-4)
    np.testing.assert_allclose(other, whole, atol=1e-4)
    assert np.abs(other - logp).max() > 0.01
    for mine, theirs in zip(step.obs, trajectory.step.obs, strict=True):
        for leaf in theirs:
            np.testing.assert_allclose(mine[leaf], theirs[leaf], atol=1e-4, err_msg=leaf)
    assert trajectory.step.obs[0]["links"][..., : env.layout.n].max() > 1 and trajectory.step.first[:, 1:].any()


@pytest.mark.parametrize(
    "channel",
    [Targeted("dithered", 2, signature=1), Broadcast("symbols", 3, reach="near"), Broadcast("float", 1, gate=False)],
    ids=lambda c: f"{c.kind} {c.message}",
)
def test_bits_are_expected_as_they_are_sent(channel: Channel) -> None:
    """The mean over a policy's own gates and symbols, for who is there and within reach; nothing is expected of the absent."""
    case, rng, draws = channel_case(channel, None), np.random.default_rng(0), 1000
    layout = case.layout(channel)
    groups = layout.spec.groups
    present = np.array([True, True, False, True])
    near = tuple({"near": rng.integers(0, 2, (g.count, N)).astype(np.float32)} for g in groups)
    heads = tuple(rng.normal(size=(g.count, g.space.head)).astype(np.float32) for g in groups)
    heads = with_shares(layout.spec, heads, ({},) * len(groups))
    allowed, sent = layout.allowed(blank(case.spec, present, near)), np.zeros(N)
    for _ in range(draws):
        action = tuple(g.space.sample(h, None, g.space.noise(rng, (g.count,))) for g, h in zip(groups, heads, strict=True))
        m = layout.messages(action, allowed)
        sent += m.bits * m.to.sum(0)
    twice = lambda x: np.broadcast_to(x, (1, 2, *np.shape(x)))
    step = jax.tree.map(twice, blank(case.spec, present, near))
    trajectory = Trajectory(step, tuple(twice(a)[:, :1] for a in action), np.zeros((1, 1, N), np.float32), None)
    expected = Speech(channel, layout.spec).expected_bits(tuple(jnp.asarray(twice(h)) for h in heads), trajectory)
    np.testing.assert_allclose(expected[0, 0], sent / draws, rtol=0.1, atol=0.05)
    assert expected[0, 0, 2] == 0 and expected[0, 0, 0] > 0


def test_a_senders_own_leaf_says_whom_it_reaches() -> None:
    """`[n n]` is (recipient, sender); nobody reaches itself, and the absent neither reach nor are reached."""
    channel = Broadcast(size=2, reach="near")
    case = channel_case(channel, None)
    layout = TalkLayout(channel, case.spec)
    near = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], np.float32)  # (sender, recipient)
    obs = tuple({"near": near[i : i + g.count]} for i, g in zip((0, 2, 3), case.spec.groups, strict=True))
    everybody = layout.allowed(blank(case.spec, np.ones(4, bool), obs))
    np.testing.assert_array_equal(everybody, near.T.astype(bool) & ~np.eye(4, dtype=bool))
    without = layout.allowed(blank(case.spec, np.array([True, True, False, True]), obs))
    assert not without[2].any() and not without[:, 2].any() and without[1, 0] and without[0, 3]


def test_several_budgets_are_drawn_and_shown() -> None:
    """Each as often as the others, constant over an episode; agents see its logarithm as their inbox ends, absent ones too."""
    channel = Broadcast(size=2, budget_bits=(1.0, 4.0, 64.0))
    layout = channel_case(channel, None).layout(channel)
    u = np.linspace(0, 1, 300, endpoint=False, dtype=np.float32)
    drawn_levels = [float(layout.level(x, np)) for x in u]
    assert {x: drawn_levels.count(x) for x in set(drawn_levels)} == {1.0: 100, 4.0: 100, 64.0: 100}
    env = channel.over(make("proving:pair"))
    init, move = jax.jit(env.init), jax.jit(env.step)
    shown = set()
    for episode in range(6):
        state, step = init(jax.random.key(episode))
        levels = []
        for t in range(4):
            levels.append(np.concatenate([np.asarray(x["inbox"])[:, -1] for x in step.obs]))
            action = tuple(jnp.zeros((g.count, *g.space.action_shape)) for g in env.spec.groups)
            state, step = move(state, action, jax.random.key(10 * episode + t))
        assert np.unique(levels).size == 1
        shown.add(round(float(2 ** (10 * levels[0][0]))))
    assert len(shown) > 1 and shown <= {1, 4, 64}
    one = replace(channel, budget_bits=(4.0,))
    assert one.over(make("proving:pair")).spec.groups[0].observation["inbox"].shape == (one.heard(4),) and not one.shown
