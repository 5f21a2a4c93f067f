"""Faults of messages: the channel takes them on, they add up, one program plays several, and nobody below it knows of them."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.comms import Broadcast, Link
from marlstone.comms.talking import channel_of, talking
from marlstone.core.errors import UserError
from marlstone.core.types import Spec, Step
from marlstone.envs.faults import (
    Fault,
    MessageCopies,
    MessageCut,
    MessageDelay,
    MessageLoss,
    Noise,
    fault_from_json,
    fault_to_json,
    faults_of,
    with_faults,
)  # fmt: skip
from marlstone.envs.faults.alternatives import Alternatives
from marlstone.envs.make import make
from marlstone.envs.wrappers import wrap_env
from marlstone.evaluation.robustness.edge_cases import standard_cases

pytestmark = pytest.mark.usefixtures("compiled_once")
FAULTS: tuple[Fault, ...] = (
    Noise(0.1), MessageLoss(0.5, 0.5), MessageDelay(2), MessageCopies(0.5), MessageCut(("scout>worker",)),
)  # fmt: skip
LINE = f"{Path(__file__).parents[1] / 'twin.py'}:make"
TALK = Broadcast(size=1)


def speaking(spec: Spec, t: Any, xp: Any) -> tuple[Any, ...]:
    """Everybody speaks at even steps; number 1 says .1, number 2 .2 ..."""
    (g,) = spec.groups
    said = xp.zeros((spec.n, g.space.action_shape[0] - 2)) + xp.arange(1, spec.n + 1)[:, None] / 10
    return (xp.concatenate([xp.zeros((spec.n, 1)), xp.full((spec.n, 1), t % 2 == 0), said], -1).astype(np.float32),)


def episode(env: Any, steps: int = 12) -> Step:
    """Steps `[steps ...]` of one episode."""
    if hasattr(env, "reset"):
        env.reset(3)
        return jax.tree.map(lambda *x: np.stack(x), *(env.step(speaking(env.spec, t, np)) for t in range(steps)))
    key = jax.random.key(3)
    tick = lambda state, t: env.step(state, speaking(env.spec, t, jnp), jax.random.fold_in(key, t))
    return jax.lax.scan(tick, env.init(key)[0], jnp.arange(steps))[1]


def test_one_program_plays_every_fault_as_each_alone() -> None:
    """A fault of sensors, a lossy link, a late one, one that repeats, and a cut one: which of them is data."""
    env = talking(TALK, make("proving:signal"))
    together = jax.jit(lambda which: episode(with_faults([Alternatives(FAULTS, which)], env)))
    seen = []
    for which, fault in enumerate(FAULTS):  # noise shows in what is seen, the others in what is heard
        alone = jax.jit(lambda f=fault: episode(with_faults([f], env)))()
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-6, 1e-6), together(which), alone)  # up to rounding
        seen.append(np.concatenate([alone.obs[0]["inbox"].ravel(), alone.obs[0]["symbol"].ravel()]))
    assert all((a != b).any() for i, a in enumerate(seen) for b in seen[:i])


def test_faults_of_messages_add_up_and_leave_the_rest_of_the_link() -> None:
    env = talking(Broadcast(size=1, link=Link(copies=0.2)), make("proving:signal"))
    link = channel_of(with_faults([MessageDelay(2), Noise(0.1), MessageLoss(0.1, 0.5, 0.9)], env)).link  # type: ignore[union-attr]
    assert link == Link(0.1, 0.5, 0.9, 0.0, 2, 0.2)
    under = wrap_env(make("proving:signal"), faults=[MessageDelay(2), Noise(0.1)], channel=TALK)
    assert channel_of(under).link == Link(delay=2) and faults_of(under) == (Noise(0.1), MessageDelay(2))  # type: ignore[union-attr]


def test_a_cut_link_refuses_before_sending_and_others_go_on() -> None:
    """In JAX and where Python steps: not sent, no bits; by agents' names or everybody."""
    for env in (make("proving:signal"), make(LINE)):
        there = talking(TALK, env)
        a, b = there.spec.team.agents[:2]
        n = there.spec.team.n
        for cut, gone in (((f"{a}>{b}",), [(0, 1)]), ((f"{a}>*",), [(0, j) for j in range(n)]), ((f"*>{b}",), [(i, 1) for i in range(n)])):
            links = episode(with_faults([MessageCut(cut)], there), 1).obs[0]["links"][0]
            wanted = 1 - np.eye(n)
            for i, j in gone:
                wanted[i, j] = 0
            assert (np.asarray(links[:, n : 2 * n]) == wanted).all() and (np.asarray(links[:, 2 * n :]) == 32 * wanted).all()


def test_refused_where_nobody_talks_or_nobody_has_that_name() -> None:
    for fault in (MessageLoss(), MessageDelay(), MessageCopies(), MessageCut(("scout>worker",))):
        with pytest.raises(UserError, match="nobody talks here"):
            with_faults([fault], make("proving:signal"))
        with pytest.raises(UserError, match="nobody talks here"):
            wrap_env(make("proving:signal"), faults=[fault])
    with pytest.raises(UserError, match="'scot', who does not talk; did you mean 'scout'"):
        with_faults([MessageCut(("scot>worker",))], talking(TALK, make("proving:signal")))
    for wrong in ((), ("scout",), ("scout>",)):
        with pytest.raises(UserError, match="sender>recipient"):
            MessageCut(wrong)
    with pytest.raises(UserError, match="rate is 2"):
        MessageCopies(2)


def test_they_travel_as_json_and_stand_in_the_suite_where_agents_talk() -> None:
    for fault in FAULTS:
        assert fault_from_json(json.loads(json.dumps(fault_to_json(fault)))) == fault
    quiet = make("proving:signal").spec
    names = [c.name for c in standard_cases(talking(TALK, make("proving:signal")).spec)]
    assert [name for name in names if name not in {c.name for c in standard_cases(quiet)}] == [
        "message loss 30%, in bursts", "messages 0-3 rows late", "messages twice 30%",
    ]  # fmt: skip
