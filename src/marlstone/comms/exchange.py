"""One step of a channel: what agents send is held to the budget, travels, and is heard. Arrays of one environment, in NumPy and JAX.

    messages, budget  ->  inbox, budget, bits

Recipients come first: `[n n]` is (recipient, sender).
"""

from typing import Any

import numpy as np

from marlstone.comms.contract import Channel
from marlstone.comms.link import DRAWS
from marlstone.core.arrays import Array
from marlstone.core.records import record


@record
class Messages:
    """What agents send at one step: `content [n w]`; `to [n n]`, to whom; `bits [n]`, of one copy; `own [n p]`, what each listens by."""

    content: Array
    to: Array
    bits: Array
    own: Array


@record
class Budget:
    """What an episode may still send: `level []` bits are added at every step, `left` (`[]`, or `[n]` of each sender) are unspent; `step
    []` counts steps, so that senders take turns in being first. The first `level` is there from the beginning."""

    level: Array
    left: Array
    step: Array


@record
class Wire:
    """What a channel remembers of an episode, the latest step first.

    `said [h n w]`; `due`, `again [h n n]`: at which age a message is heard, and its copy (0: never); `age [n n]` of what each agent holds
    from each other (0: nothing), and `held [n n]`, for how many more steps; `bad [n n]` links; `own [n p]`; and of the last step alone:
    `sent [n n]`, `bits [n n]`, and how many messages the budget did not allow, `refused []`.
    """

    said: Array
    due: Array
    again: Array
    age: Array
    held: Array
    bad: Array
    own: Array
    sent: Array
    bits: Array
    refused: Array


def draws(channel: Channel) -> int:
    """Uniform numbers `[draws n n]` that one step takes, and as many the beginning."""
    return DRAWS + 1 if channel.drawing else 0


def begin(channel: Channel, n: int, u: Array | None, level: Array, xp: Any) -> tuple[Wire, Budget]:
    """A channel where an episode starts. Args: `u [draws n n]`, or None where nothing is drawn; `level []`, the budget, in bits a step."""
    h, zeros = channel.history, lambda *shape: xp.zeros(shape, np.float32)
    whole = lambda *shape: xp.zeros(shape, np.int32)
    bad = channel.link.begin(u[0]) if u is not None else xp.zeros((n, n), bool)
    wire = Wire(
        zeros(h, n, channel.numbers), whole(h, n, n), whole(h, n, n), whole(n, n), whole(n, n), bad, zeros(n, channel.private),
        xp.zeros((n, n), bool), zeros(n, n), whole(),
    )  # fmt: skip
    level = xp.asarray(level, dtype=np.float32)
    return wire, Budget(level, xp.broadcast_to(level, (n,) if channel.per_agent else ()), whole())


def exchange(channel: Channel, wire: Wire, messages: Messages, budget: Budget, u: Array | None) -> tuple[Wire, Array, Budget, Array]:
    """One step: what the wire holds after it, everybody's inbox `[n f]`, what is left of the budget, and the bits sent `[n n]`.

    Args: `u [draws n n]`, uniform numbers; None where the channel draws none.
    """
    xp, h = messages.bits.__array_namespace__(), channel.history
    n = messages.bits.shape[0]
    to = channel.admits(messages.to, None if u is None else u[-1])
    price = xp.broadcast_to(messages.bits, (n, n)).astype(np.float32)
    admitted, budget = _admit(channel, to, price, budget) if channel.enforce else (to, budget)
    bits = xp.where(admitted, price, np.float32(0))
    if u is None:
        bad, arrives, again = wire.bad, xp.ones((n, n), np.int32), xp.zeros((n, n), np.int32)
    else:
        bad, arrives, again = channel.link.fate(wire.bad, u)
    queue = lambda new, old: new[None] if h == 1 else xp.concat([new[None], old[:-1]])
    said = queue(messages.content.astype(np.float32), wire.said)
    due, copy = queue(xp.where(admitted, arrives, 0), wire.due), queue(xp.where(admitted, again, 0), wire.again)
    ages = (np.arange(h, dtype=np.int32) + 1)[:, None, None]
    newest = xp.min(xp.where((due == ages) | (copy == ages), ages, h + 1), axis=0)
    kept = xp.where((wire.held > 0) & (wire.age > 0) & (wire.age < h), wire.age + 1, h + 1)
    age = xp.minimum(newest, kept)
    age = xp.where(age > h, 0, age).astype(np.int32)
    held = xp.where((newest <= kept) & (newest <= h), channel.hold, xp.maximum(wire.held - 1, 0)).astype(np.int32)
    refused = xp.sum(to & ~admitted).astype(np.int32)
    after = Wire(said, due, copy, age, held, bad, messages.own.astype(np.float32), admitted, bits, refused)
    return after, inbox(channel, after), budget, bits


def inbox(channel: Channel, wire: Wire) -> Array:
    """What everybody hears, `[n f]`."""
    return channel.hear(wire.own, tuple(wire.said[a] for a in range(channel.history)), wire.age)


def _admit(channel: Channel, to: Array, price: Array, budget: Budget) -> tuple[Array, Budget]:
    """Which messages the budget allows, senders in turn, whole or not at all; and what is left of it, with the next step's bits."""
    xp, n = to.__array_namespace__(), to.shape[0]
    cost = xp.where(to, price, np.float32(0)).T  # (sender, recipient)
    left = budget.left
    if channel.per_agent:
        allowed = xp.cumsum(cost, axis=1) <= left[:, None]
    else:
        order = (xp.arange(n) + budget.step) % n  # who is first
        place = (xp.arange(n) - budget.step) % n
        allowed = (xp.cumsum(cost[order].reshape(-1)) <= left).reshape(n, n)[place]
    admitted = to & allowed.T
    spent = xp.sum(xp.where(admitted, price, np.float32(0)), axis=0)
    left = left - (spent if channel.per_agent else xp.sum(spent)) + budget.level
    return admitted, Budget(budget.level, left, budget.step + 1)
