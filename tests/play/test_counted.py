"""What play costs in messages, and how much of it goes to asking: planted policies whose counts are known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.core.records import replace
from marlstone.core.types import Step
from marlstone.envs.proving.errands import ASK
from marlstone.play.counted import Counted
from marlstone.play.evaluator import Episodes
from marlstone.training.loop import runtime_of
from tests.evaluation.messages.small import config

pytestmark = pytest.mark.usefixtures("compiled_once")


@dataclass(frozen=True)
class Planted:
    """`does(t)`: everybody's action and whether it speaks, at step t of an episode."""

    algorithm: Algorithm
    does: Callable[[Any], tuple[Any, Any]]

    def memory(self, b: int) -> Any:
        return jnp.zeros(b, jnp.int32)

    def decide(self, policy: Any, step: Step, memory: Any, key: Any, temperature: Any) -> tuple[tuple[Any, ...], Any]:
        act, speaks = self.does(memory)
        (g,), n = self.algorithm.spec.groups, self.algorithm.spec.n
        act = jnp.broadcast_to(act[:, None], (len(act), n)).astype(jnp.int32)
        if self.algorithm.speech is None:
            return (act,), memory + 1
        whole = jnp.zeros((len(act), n, g.space.action_shape[0])).at[..., 0].set(act)
        return (whole.at[..., 1].set(jnp.broadcast_to(speaks[:, None], (len(act), n))),), memory + 1


def played(env: str, does: Callable[[Any], tuple[Any, Any]], **changes: Any) -> Episodes:
    runtime = runtime_of(config(env, seeds=1, **changes))
    decider = Counted(Planted(runtime.algorithm, does))
    found: Episodes = runtime.evaluate(None, 4, decider=decider, policies=runtime.placement.pad(np.zeros(1, np.float32)))
    return found


def shares(e: Episodes) -> tuple[float, float]:
    """Of steps, and of time, equal for all agents."""
    steps, time = (e.told[k] / e.told["decisions"] for k in ("requests", "asking"))
    assert np.ptp(steps) == np.ptp(time) == 0
    return float(steps.flat[0]), float(time.flat[0])


QUIET = "proving:errands?chatty=false&workers=2"


def test_requests_are_the_actions_that_a_group_declares() -> None:
    """Asking before every act is half of all steps; asking once and acting on is 1 of 16; asking once and idling waits for ever."""
    never = lambda t: jnp.zeros_like(t)
    assert shares(played(QUIET, lambda t: (jnp.where(t % 2 == 0, ASK, 1), never(t)))) == (0.5, 0.5)
    assert shares(played(QUIET, lambda t: (jnp.where(t == 0, ASK, 1), never(t)))) == (1 / 16, 1 / 16)
    assert shares(played(QUIET, lambda t: (jnp.where(t == 0, ASK, 0), never(t)))) == (1 / 16, 1.0)


def test_talking_and_doing_nothing_is_a_request_until_somebody_is_heard() -> None:
    """Speaking while acting is none. What all say is heard a step later, so nobody waits beyond it, unless it is
    lost: then until somebody acts."""
    from marlstone.comms import Broadcast, Link

    talk = Broadcast(size=2)
    once = lambda t: (jnp.zeros_like(t), t == 0)
    assert shares(played(QUIET, lambda t: (jnp.ones_like(t), t >= 0), comms=talk)) == (0.0, 0.0)
    assert shares(played(QUIET, lambda t: (jnp.zeros_like(t), t < 4), comms=talk)) == (4 / 16, 4 / 16)
    lost = Link(to_bad=1.0, to_good=0.0)
    assert shares(played(QUIET, once, comms=replace(talk, link=lost))) == (1 / 16, 1.0)
    assert shares(played(QUIET, lambda t: (jnp.where(t > 3, 1, 0), t == 0), comms=replace(talk, link=lost))) == (1 / 16, 4 / 16)
    assert shares(played(QUIET, once, comms=replace(talk, gate=False))) == (0.0, 0.0)


def test_who_can_do_nothing_else_does_not_chatter() -> None:
    """Signal's scout has one legal action: it talks because it can do nothing else; the worker could act."""
    from marlstone.comms import Broadcast

    e = played("proving:signal", lambda t: (jnp.zeros_like(t), t >= 0), comms=Broadcast(size=2))
    steps = (e.told["requests"] / e.told["decisions"])[0]
    assert (steps == np.array([0.0, 1.0])).all()


def test_messages_are_counted_by_sender_and_recipient_with_the_last_ones() -> None:
    """32 bits a number, one copy for each recipient, in every step of an episode of 16; what a budget refuses was tried."""
    from marlstone.comms import Broadcast

    always = lambda t: (jnp.ones_like(t), t >= 0)
    e = played(QUIET, always, comms=Broadcast(size=2))
    assert (e.told["messages"] == 16 * (1 - np.eye(2))).all() and (e.told["bits"] == 64 * e.told["messages"]).all()
    assert (e.metrics["messages_per_step"] == 2).all() and (e.told["tried"] == 16).all()
    held = played(QUIET, always, comms=Broadcast(size=2, budget_bits=(64.0,)))
    assert (held.told["tried"] == 16).all() and (held.told["messages"].sum((-1, -2)) == 16).all()


def test_every_budget_of_several_is_reported_apart() -> None:
    """Half of all episodes may send one message a step, the others all: which one an episode has is counted with it."""
    from marlstone.comms import Broadcast
    from marlstone.evaluation.messages.traffic import by_budget

    levels = (64.0, 1024.0)
    runtime = runtime_of(config(QUIET, seeds=1, comms=Broadcast(size=2, budget_bits=levels)))
    decider = Counted(Planted(runtime.algorithm, lambda t: (jnp.ones_like(t), t >= 0)))
    e = runtime.evaluate(None, 32, decider=decider, policies=runtime.placement.pad(np.zeros(1, np.float32)))
    low, high = by_budget(e, levels)
    assert low["episodes"] + high["episodes"] == 32 and min(low["episodes"], high["episodes"]) > 4
    assert (low["bits_per_step"], low["bits_p95"]) == (64, 64) and (high["bits_per_step"], high["bits_p95"]) == (128, 128)
