"""An environment whose agents talk: a channel over it, outermost, so that what goes wrong with sensors and actions leaves messages alone.

What becomes of messages themselves is the channel's link. Its randomness is a stream apart: with and without a channel, an environment
draws the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.comms.contract import Channel
from marlstone.comms.disturbed import disturbed
from marlstone.comms.exchange import Budget, Wire, draws
from marlstone.comms.layout import TalkLayout
from marlstone.core.arrays import Array
from marlstone.core.errors import UserError
from marlstone.core.records import record, replace
from marlstone.core.types import Spec, Step
from marlstone.envs.faults.contract import Draws, Fault, KeyDraws, SeedDraws, with_faults
from marlstone.envs.faults.messages import is_message_fault
from marlstone.envs.protocol import Env, HostEnv

STREAM = 0x6D736773  # of a channel's randomness, apart from faults' and the environment's


@record
class TalkingState:
    """State of an environment whose agents talk: its own, who may send to whom in its last step (`allowed [n n]`), and the channel's."""

    env: Any
    allowed: Array
    wire: Wire
    budget: Budget


def _drawn(channel: Channel, n: int, draw: Draws) -> Array | None:
    return draw.uniform((draws(channel), n, n)) if channel.drawing else None


@dataclass(frozen=True)
class Talking:
    """A JAX environment whose agents talk.

    Fields: `cut [n n]` (recipient, sender): links on which everything is refused before it is sent, data, so that it may be traced (None:
    none); `faults` of messages that made the channel what it is.
    """

    env: Env
    layout: TalkLayout
    cut: Any = None
    faults: tuple[Fault, ...] = ()

    @property
    def spec(self) -> Spec:
        """The spec with messages."""
        return self.layout.spec

    @property
    def constant(self) -> frozenset[str]:
        """As the environment declares."""
        return getattr(self.env, "constant", frozenset())

    def under(self, faults: Sequence[Fault]) -> Any:
        """The same with faults between environment and channel; those that are the channel's own change its link."""
        return _under(self, faults)

    def _first_step(self, env: Any, step: Step, key: Array) -> tuple[TalkingState, Step]:
        import jax.numpy as jnp

        draw, layout = KeyDraws(key, STREAM), self.layout
        level = layout.level(draw.part(1).uniform() if layout.channel.shown else None, jnp)
        wire, budget, shown = layout.begin(step, _drawn(layout.channel, layout.n, draw), level)
        return TalkingState(env, layout.allowed(step), wire, budget), shown

    def init(self, key: Array) -> tuple[TalkingState, Step]:
        """A fresh episode: nobody has said anything."""
        env, step = self.env.init(key)
        return self._first_step(env, step, key)

    def step(self, state: TalkingState, action: tuple[Array, ...], key: Array) -> tuple[TalkingState, Step]:
        """One joint step; what is said in it is heard in the next at the earliest."""
        layout = self.layout
        sent = layout.messages(action, _uncut(state.allowed, self.cut))
        env, step = self.env.step(state.env, layout.acted(action), key)
        wire, budget, shown = layout.after(state.wire, state.budget, sent, step, _drawn(layout.channel, layout.n, KeyDraws(key, STREAM)))
        return TalkingState(env, layout.allowed(step), wire, budget), shown

    def render(self, state: TalkingState) -> Any:
        """As the environment does."""
        return self.env.render(state.env)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class TalkingPersistent(Talking):
    """One whose copies outlive their episodes (`envs.protocol.PersistentEnv`)."""

    def again(self, state: TalkingState, key: Array) -> tuple[TalkingState, Step]:
        """A fresh episode of the same copy."""
        env, step = self.env.again(state.env, key)  # type: ignore[attr-defined]
        return self._first_step(env, step, key)


class TalkingHost:
    """An environment that Python steps, whose agents talk."""

    def __init__(self, env: HostEnv, layout: TalkLayout, cut: Any = None, faults: tuple[Fault, ...] = ()) -> None:
        self.env, self.layout, self.cut, self.faults = env, layout, cut, faults
        self._draw = SeedDraws(0, STREAM)
        self._allowed: Any = None
        self._wire: Any = None
        self._budget: Any = None

    @property
    def spec(self) -> Spec:
        """The spec with messages."""
        return self.layout.spec

    def under(self, faults: Sequence[Fault]) -> Any:
        """As `Talking.under`."""
        return _under(self, faults)

    def reset(self, seed: int) -> Step:
        """A fresh episode: nobody has said anything."""
        self._draw, layout = SeedDraws(seed, STREAM), self.layout
        step = self.env.reset(seed)
        self._allowed = layout.allowed(step)
        level = layout.level(self._draw.uniform() if layout.channel.shown else None, np)
        self._wire, self._budget, shown = layout.begin(step, _drawn(layout.channel, layout.n, self._draw), level)
        return shown

    def step(self, action: tuple[Array, ...]) -> Step:
        """One joint step; what is said in it is heard in the next at the earliest."""
        layout = self.layout
        sent = layout.messages(action, _uncut(self._allowed, self.cut))
        step = self.env.step(layout.acted(action))
        self._allowed = layout.allowed(step)
        u = _drawn(layout.channel, layout.n, self._draw)
        self._wire, self._budget, shown = layout.after(self._wire, self._budget, sent, step, u)
        return shown

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _uncut(allowed: Array, cut: Any) -> Array:
    return allowed if cut is None else allowed & ~cut


def _under(it: Any, faults: Sequence[Fault]) -> Any:
    channel = it.layout.channel
    for f in faults:  # Alternatives are refused below: they hold what is for the environment as well
        if is_message_fault(f) and (reason := f.refuses(it.spec)):
            raise UserError(f"fault {f.kind!r}: {reason}")
    met = disturbed(channel.link, it.cut, faults, it.layout.inner.team.agents)
    kept = (*it.faults, *(f for f in faults if is_message_fault(f)))
    return talking(replace(channel, link=met.link), with_faults(met.below, it.env), met.cut, kept)


def talking(channel: Channel, env: Any, cut: Any = None, faults: tuple[Fault, ...] = ()) -> Any:
    """`env`, an `Env` or a `HostEnv`, whose agents talk over `channel`; `cut` and `faults` as `Talking` has them. Raises `UserError` where
    they cannot."""
    layout = TalkLayout(channel, env.spec)
    if hasattr(env, "reset"):
        return TalkingHost(env, layout, cut, faults)
    return (TalkingPersistent if hasattr(env, "again") else Talking)(env, layout, cut, faults)


def channel_of(env: Any) -> Channel | None:
    """The channel over an environment, if there is one."""
    return env.layout.channel if isinstance(env, Talking | TalkingHost) else None


def with_channel(env: Any, **changes: Any) -> Any:
    """The same environment with its channel's fields changed; itself where there is none."""
    return env if (channel := channel_of(env)) is None else talking(replace(channel, **changes), env.env, env.cut, env.faults)
