"""An environment whose agents have tools and a memory: over sensors and actuators, and what goes wrong with them, and under messages.

Randomness of tools is a stream apart: with and without them, an environment draws the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.errors import UserError
from marlstone.core.records import record
from marlstone.core.types import Spec, Step
from marlstone.envs.faults.contract import Fault, KeyDraws, SeedDraws, with_faults
from marlstone.envs.protocol import Env, HostEnv
from marlstone.tools.calls import Desk
from marlstone.tools.exchange import ToolState, arrive
from marlstone.tools.layout import ToolLayout
from marlstone.tools.toolbox import Toolbox

STREAM = 0x746F6F6C  # of tools' randomness, apart from channels', faults' and the environment's


@record
class TooledState:
    """State of an environment whose agents have tools: its own, the tools'; which choices everybody had in its last step (`may [n
    choices]`), and what delay lines read in it (`source [n *]`)."""

    env: Any
    tools: ToolState
    may: Array
    source: Array


@dataclass(frozen=True)
class Tooled:
    """A JAX environment whose agents have tools."""

    env: Env
    layout: ToolLayout

    @property
    def spec(self) -> Spec:
        """The spec with tools."""
        return self.layout.spec

    @property
    def constant(self) -> frozenset[str]:
        """As the environment declares."""
        return getattr(self.env, "constant", frozenset())

    def under(self, faults: Sequence[Fault]) -> Any:
        """The same with faults between environment and tools: a sensor that is called is as wrong as one that is seen."""
        return tooled(self.layout.box, with_faults(faults, self.env))

    def _first_step(self, env: Any, step: Step, key: Array) -> tuple[TooledState, Step]:
        import jax.numpy as jnp

        layout = self.layout
        tools = layout.begin(layout.draws(KeyDraws(key, STREAM)), jnp)
        return TooledState(env, tools, layout.allowed(tools, step), layout.source(step)), layout.row(step, tools)

    def init(self, key: Array) -> tuple[TooledState, Step]:
        """A fresh episode: nothing was called."""
        env, step = self.env.init(key)
        return self._first_step(env, step, key)

    def step(self, state: TooledState, action: tuple[Array, ...], key: Array) -> tuple[TooledState, Step]:
        """One joint step; what is called in it is answered in the next at the earliest."""
        layout = self.layout
        tools = layout.after(state.tools, layout.request(action), state.may, state.source, layout.draws(KeyDraws(key, STREAM)))
        env, step = self.env.step(state.env, layout.acted(action), key)
        return TooledState(env, tools, layout.allowed(tools, step), layout.source(step)), layout.row(step, tools)

    def render(self, state: TooledState) -> Any:
        """As the environment does."""
        return self.env.render(state.env)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class TooledPersistent(Tooled):
    """One whose copies outlive their episodes (`envs.protocol.PersistentEnv`)."""

    def again(self, state: TooledState, key: Array) -> tuple[TooledState, Step]:
        """A fresh episode of the same copy."""
        env, step = self.env.again(state.env, key)  # type: ignore[attr-defined]
        return self._first_step(env, step, key)


class TooledHost:
    """An environment that Python steps, whose agents have tools."""

    def __init__(self, env: HostEnv, layout: ToolLayout) -> None:
        self.env, self.layout = env, layout
        self._draw = SeedDraws(0, STREAM)
        self._state: Any = None
        self._may: Any = None
        self._source: Any = None
        self._step: Any = None  # the environment's own, in which the next calls are made
        self._desk: Desk | None = None

    @property
    def spec(self) -> Spec:
        """The spec with tools."""
        return self.layout.spec

    def under(self, faults: Sequence[Fault]) -> Any:
        """As `Tooled.under`."""
        return tooled(self.layout.box, with_faults(faults, self.env))

    @property
    def desk(self) -> Desk:
        """Where real tools are called, opened by the first call."""
        if self._desk is None:
            self._desk = Desk(self.layout.box, self.layout.inner.team.agents)
        return self._desk

    def _shown(self, step: Step) -> Step:
        layout = self.layout
        self._may, self._source, self._step = layout.allowed(self._state, step), layout.source(step), step
        return layout.row(step, self._state)

    def reset(self, seed: int) -> Step:
        """A fresh episode: nothing was called."""
        self._draw = SeedDraws(seed, STREAM)
        if self._desk is not None:
            self._desk.forget()
        step = self.env.reset(seed)
        self._state = self.layout.begin(self.layout.draws(self._draw), np)
        return self._shown(step)

    def step(self, action: tuple[Array, ...]) -> Step:
        """One joint step; what is called in it is answered in the next at the earliest."""
        layout = self.layout
        self._state = layout.after(self._state, layout.request(action), self._may, self._source, layout.draws(self._draw))
        if layout.box.real:
            before = self._step
            self.desk.make(self._state.called, self._state.argument, lambda k, t: layout.sent(before, k, t))
        step = self.env.step(layout.acted(action))
        if layout.box.real:
            told = self.desk.outcomes()
            self._state = arrive(layout.box, self._state, told.came, told.good, told.value, told.attempts)
        return self._shown(step)

    def close(self) -> None:
        """Close the environment."""
        if self._desk is not None:
            self._desk.close()
        self.env.close()


def tooled(box: Toolbox, env: Any) -> Any:
    """`env`, an `Env` or a `HostEnv`, whose agents have the toolbox. Raises `UserError` where they cannot."""
    layout = ToolLayout(box, env.spec)
    if hasattr(env, "reset"):
        return TooledHost(env, layout)
    if box.real:
        t = box.tools[box.real[0]]
        raise UserError(
            f"tools.{t.name} is called by Python, and this environment is written in JAX, whose compiled steps call nothing: declare it as "
            "a delay line (kind = 'delay_line'), or use an environment that Python steps"
        )
    return (TooledPersistent if hasattr(env, "again") else Tooled)(env, layout)


def toolbox_of(env: Any) -> Toolbox:
    """What an environment's agents have, under whatever is put over it."""
    while env is not None:
        if isinstance(env, Tooled | TooledHost):
            return env.layout.box
        env = getattr(env, "env", None)
    return Toolbox()
