"""A lock-step fleet is the fused loop: the same trajectories, the same updates."""

import socket
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.config import load
from marlstone.core.records import replace
from marlstone.fleet.actor import Actor, HostActor, Post, ReferenceActor, setup_of
from marlstone.fleet.broker import Broker
from marlstone.fleet.learner import Learning, shipped_shapes
from marlstone.fleet.payload import Weights, leaves
from marlstone.fleet.status_page import Page
from marlstone.fleet.transport import Here, Linked, answers, serve
from marlstone.policy.numpy_actor import describe, weights
from marlstone.rollout.shared_memory import anonymous, map_step
from marlstone.rollout.unroll import RolloutState
from marlstone.training.loop import runtime_of
from tests.fleet.test_fleet import HOST
from tests.twin import advance

pytestmark = pytest.mark.usefixtures("compiled_once")
B, T = 4, 6
GRU = {"architecture.body": "gru", "architecture.body.before": "8", "architecture.body.hidden": "8", "architecture.body.after": "[]"}
CASES = Path(__file__).parents[1] / "cases"
COMBINATIONS = {
    "composite-coma": {"env": f"jax:{CASES / 'composite_jax.py'}:make_env", "architecture": "ctde", "credit": "counterfactual",
                       "architecture.body.hidden": "[8]"},
    "coma-gru": {"env": "proving:additive", "architecture": "ctde", "credit": "counterfactual", **GRU},
    "hierarchical": {"env": "proving:plan", "architecture": "hierarchical", "architecture.body.hidden": "[8]", "credit": "team"},
    "qmix-replay-gru": {"env": "proving:additive", "architecture": "ctde", "credit": "qmix", "learner": "q_learning",
                        "learner.replay.capacity": "16", "learner.replay.batch": "4", "learner.replay.updates": "1", **GRU},
    "pqn-vdn": {"env": "proving:additive", "architecture.body.hidden": "[8]", "credit": "vdn", "learner": "pqn",
                "faults": '["noise", {kind = "action_loss", rate = 0.5}]'},
    "talking": {"env": "proving:climbing", "architecture.body.hidden": "[8]", "comms": "targeted", "comms.size": "2", "comms.hold": "1",
                "comms.message": "dithered", "comms.budget_bits": "[4.0]", "comms.link.loss_good": "0.3", "comms.link.delay": "1"},
    "opponent": {"env": "proving:rps?rows=4", "opponents.blue": "random", "architecture.body.hidden": "[8]"},
}  # fmt: skip


def configured(fields: dict[str, str], **more: str) -> Any:
    few = {} if fields.get("learner") == "q_learning" else {"learner.epochs": "1", "learner.minibatches": "2"}
    small = {"seeds": "1", "seed": "0", "steps": str(10 * B * T), "rollout.envs": str(B), "rollout.length": str(T), **few}
    return load(None, {**small, **fields, **more})


def lockstep(config: Any, end: Any, broker: Broker) -> tuple[Actor, Learning, Any]:
    """One actor of the whole width, and the learner, with its first policy published."""
    page = Page(anonymous(), create=True)
    learning = Learning.of(config, (broker,), page, lambda: pytest.fail("nobody asks a JAX environment's actors"))
    state = jax.tree.map(lambda x: x[0], learning.start())
    learning.publish(0, state)
    post = Post(0, config.seed, 0, 0, B, T)
    return Actor(post, ReferenceActor(config, post, page), end, page), learning, state


def alike(a: Any, b: Any, tolerance: float) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x, float), np.asarray(y, float), rtol=0, atol=tolerance)


SLOW = ("composite-coma", "hierarchical", "pqn-vdn", "coma-gru", "opponent", "talking")  # the others show the same of another part each


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in COMBINATIONS])
def test_a_lock_step_fleet_is_the_fused_loop(name: str) -> None:
    config = configured(COMBINATIONS[name])
    broker = Broker(1, 2 * B)
    actor, learning, state = lockstep(config, Here(broker, 0), broker)
    fused = runtime_of(config)
    beside = jax.tree.map(lambda x: x[0], fused.placement.trim(fused.start()))
    alike(state.train, beside.train, 0)
    cycle = jax.jit(fused.cycle)
    for _ in range(3):
        assert actor.fetch(0.0)
        actor.deliver(actor.unroll())
        state, report = learning.cycle(0, state)
        beside, other = cycle(beside)
        # Observations and chosen actions are equal, or rewards would differ; then each update is, from identical trajectories.
        alike(report.finished, other.finished, 1e-4)
        alike(report.used, other.used, 0)
        alike((state.train.nets, state.train.seen), (beside.train.nets, beside.train.seen), 1e-5)
        beside = replace(beside, train=state.train)  # or one flipped sample would part them later
    assert broker.facts()[0]["unsaved"] == 3 * B


def test_what_goes_over_a_socket_comes_back_bit_for_bit() -> None:
    config = configured(COMBINATIONS["coma-gru"])
    broker = Broker(1, 2 * B)
    ours, theirs = socket.socketpair()
    threading.Thread(target=serve, args=(theirs, answers(broker, {}), lambda: None), daemon=True).start()
    with ours:
        actor, learning, state = lockstep(config, Linked(ours), broker)
        assert actor.fetch(0.0)
        parcel = actor.unroll()
        assert actor.deliver(parcel) == "accepted"
    taken = broker.take(0, 1.0)
    assert taken is not None
    assert taken.words() == parcel.words()
    for sent, came in zip(parcel.arrays, taken.arrays, strict=True):
        assert sent.dtype == came.dtype
        np.testing.assert_array_equal(sent, came)
    here, there = (learning._learn(state.train, learning.batch(0, [p]), state.learn_key)[0] for p in (parcel, taken))
    alike(here.nets, there.nets, 0)


TALKING = {
    "comms": f"{Path(__file__).parents[2] / 'examples' / 'my_channel.py'}:Thinned", "comms.size": "2", "comms.keep": "0.5",
    "comms.link.delay": "1",
}  # fmt: skip


@pytest.mark.parametrize("body", [{}, GRU, TALKING], ids=["", "gru", "talking"])
def test_what_an_actor_ships_is_what_it_saw_did_and_said(body: dict[str, str]) -> None:
    """Rows follow each other within and across trajectories, and log-probs are those of the policy on the rows shipped."""
    config = configured({"env": f"{HOST}:toy?length=4", "fleet.kind": "local", "fleet.envs": str(B), **body})
    post = Post(0, config.seed, 0, 0, B, T)
    told = setup_of(config, post, (), frozenset(), None)
    actor = HostActor(told["stepping"], post, Page(anonymous(), create=True))
    algorithm = Algorithm(actor.stepper.spec, config.architecture, config.credit, config.learner, channel=config.comms)
    train = algorithm.init(jax.random.key(0), None)
    learned = jax.jit(lambda x: algorithm.views(train.nets, train.seen, train.targets, x, frozenset({"logp"})).logp)
    actor.load(Weights(0, weights(jax.device_get(train.policy)), describe(algorithm)))
    structure = jax.tree.structure(shipped_shapes(algorithm, RolloutState(None, actor.block.step, algorithm.memory(B)), T))
    assert actor.policy is not None
    memory, last, heard = actor.memory, None, 0
    for seq in range(3):
        arrays, said = actor.unroll(seq)
        trajectory = jax.tree.unflatten(structure, arrays)
        seen = trajectory.step.obs[0]["obs"]
        at, first = seen[:, :, 0, 0], trajectory.step.first
        assert (at[:, 1:] == np.where(first[:, 1:], 0, at[:, :-1] + 1)).all()
        assert said["steps"] == (~first[:, 1:]).sum()
        assert last is None or (seen[:, 0] == last).all()
        last = seen[:, -1].copy()
        for t in range(T):
            step = map_step(lambda x: x[:, t], trajectory.step)  # noqa: B023
            heads, memory = actor.policy.heads(step, memory)
            logp = actor.policy.log_prob(heads, step.legal, tuple(a[:, t] for a in trajectory.action))
            np.testing.assert_allclose(trajectory.logp[:, t], logp, atol=1e-6)
        if body is TALKING:  # learning computes anew what was heard, over a link that thins and delays
            np.testing.assert_allclose(trajectory.logp, learned(trajectory), atol=1e-4)
            heard += int((trajectory.step.obs[0]["links"][..., :2] > 0).sum())
        assert len({float(x) for x in trajectory.logp.ravel()}) > 1
    assert heard > 0 or body is not TALKING


def test_a_python_environments_actor_plays_against_the_frozen_opponent() -> None:
    """What it ships is of those who learn, and follows from their actions and the opponent's, which is always 0."""
    line = f"{Path(__file__).parents[1] / 'twin.py'}:make"
    config = configured({"env": line, "opponents.pusher": "default", "fleet.kind": "local", "architecture.body.hidden": "[4]"})
    post = Post(0, config.seed, 0, 0, B, T)
    actor = HostActor(setup_of(config, post, (), frozenset(), None)["stepping"], post, Page(anonymous(), create=True))
    algorithm = Algorithm(actor.stepper.spec, config.architecture, config.credit, config.learner)
    assert algorithm.spec.agents == ("puller",)
    actor.load(Weights(0, weights(jax.device_get(algorithm.init(jax.random.key(0), None).policy)), describe(algorithm)))
    trajectory = jax.tree.unflatten(
        jax.tree.structure(shipped_shapes(algorithm, RolloutState(None, actor.block.step, algorithm.memory(B)), T)), actor.unroll(0)[0]
    )
    x, first = trajectory.step.obs[0]["obs"][:, :, 0, 0], trajectory.step.first
    chosen = trajectory.action[0][:, :, 0]
    after, (reward, _) = advance(x[:, :-1], (chosen, np.zeros_like(chosen)))
    went_on = ~first[:, 1:]
    np.testing.assert_allclose(x[:, 1:][went_on], after[went_on], rtol=1e-5)
    np.testing.assert_allclose(trajectory.step.team_reward[:, 1:][went_on], reward[went_on], rtol=1e-4, atol=1e-6)


def test_arrays_are_listed_as_jax_lists_them() -> None:
    config = configured(COMBINATIONS["pqn-vdn"])
    tree = runtime_of(config).start().train.policy
    ours, theirs = leaves(tree), jax.tree.leaves(tree)
    assert len(ours) == len(theirs) > 5
    assert all(x is y for x, y in zip(ours, theirs, strict=True))
