"""What may go wrong between an environment and its agents: one flat list of faults, each a small filter over actions and steps.

    action -> every fault's `action`, in order -> the environment -> every fault's `step`, in order -> agents

A fault is its own configuration; what it remembers is a pytree that travels with the environment's state. The same code
runs on JAX's arrays and on NumPy's. Randomness is asked of `Draws`, a stream apart from the environment's own: with and
without faults, and under other faults, an environment draws the same numbers, so that returns can be compared in pairs.
"""

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar, Protocol

import numpy as np

from marlstone.core.errors import UserError
from marlstone.core.records import record
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.protocol import Env, HostEnv

STREAM = zlib.crc32(b"faults")
MOST = 1000  # draws of one fault on one step
BEGINS, ACTS, SHOWS = range(3)


class Draws(Protocol):
    """Where a fault's randomness comes from; every call draws anew."""

    def uniform(self, shape: tuple[int, ...] = ()) -> Array:
        """In [0, 1)."""

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        """Standard normal."""

    def part(self, n: int) -> "Draws":
        """A stream apart for the n-th to draw, who then does not depend on how often others did."""


class KeyDraws:
    """Draws from a JAX key; `stream`: whose they are."""

    def __init__(self, key: Array, stream: int = STREAM) -> None:
        import jax

        self._key, self._next = jax.random.fold_in(key, stream), 0

    def part(self, n: int) -> "KeyDraws":
        """Draws folded in by number, so that they do not depend on how often others drew."""
        mine = copy.copy(self)
        mine._next = n * MOST
        return mine

    def _fresh(self) -> Array:
        import jax

        self._next += 1
        return jax.random.fold_in(self._key, self._next)

    def uniform(self, shape: tuple[int, ...] = ()) -> Array:
        """From a fresh key each time."""
        import jax

        return jax.random.uniform(self._fresh(), shape)

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        """From a fresh key each time."""
        import jax

        return jax.random.normal(self._fresh(), shape)


class SeedDraws:
    """Draws from an episode's seed, in NumPy; `stream`: whose they are."""

    def __init__(self, seed: int, stream: int = STREAM) -> None:
        self._random = np.random.default_rng([seed, stream])

    def part(self, n: int) -> "SeedDraws":
        """One generator goes through the whole episode."""
        return self

    def uniform(self, shape: tuple[int, ...] = ()) -> Array:
        """The next numbers of the episode's generator."""
        return self._random.random(shape, np.float32)

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        """The next numbers of the episode's generator."""
        return self._random.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Derive from it and override what is affected; the other methods change nothing.

    Methods are given the environment's `spec`; actions are as environments take them, per group `[n_g ...]`; steps have no leading axes.
    A class that calls `step` by its older name `row` works, too.

    Attributes:
      kind: its name in configurations.
      outlives: whether it remembers across an environment's episodes (`again`).
    """

    kind: ClassVar[str] = ""
    outlives: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "row" in vars(cls) and "step" not in vars(cls):
            setattr(cls, "step", vars(cls)["row"])  # noqa: B010

    def refuses(self, spec: Spec) -> str:
        """Why it cannot happen in this environment, with a remedy; empty where it can."""
        return ""

    def spec(self, spec: Spec) -> Spec:
        """The environment's spec as agents know it under this fault."""
        return spec

    def begin(self, spec: Spec, step: Step, draw: Draws) -> Any:
        """What it remembers at an episode's first step: a pytree of arrays, always of the same shapes."""
        return ()

    def again(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> Any:
        """The same at a later episode of the same copy, whose last one it left with `memory`."""
        return self.begin(spec, step, draw)

    def action(self, spec: Spec, memory: Any, action: tuple[Array, ...], draw: Draws) -> tuple[Any, tuple[Array, ...]]:
        """The memory afterwards, and the actions that reach the environment."""
        return memory, action

    def step(self, spec: Spec, memory: Any, step: Step, draw: Draws) -> tuple[Any, Step]:
        """The memory afterwards, and the step that agents see; also called for an episode's first step."""
        return memory, step


@record
class FaultedState:
    """State of an environment under faults: its own, and each fault's memory."""

    env: Any
    memory: tuple[Any, ...]


@dataclass(frozen=True)
class _Layered:
    faults: tuple[Fault, ...]

    def specs(self, inner: Spec) -> list[Spec]:
        """The spec that each fault is given, then the one agents know."""
        return list(accumulate(self.faults, lambda spec, f: f.spec(spec), initial=inner))

    def begin(self, specs: list[Spec], step: Step, draw: Draws, before: tuple[Any, ...] | None = None) -> tuple[tuple[Any, ...], Step]:
        """`before`: what they remembered where the copy's last episode ended."""
        memory = []
        for i, (f, spec) in enumerate(zip(self.faults, specs, strict=False)):
            begins = draw.part(3 * i + BEGINS)
            mine = f.begin(spec, step, begins) if before is None else f.again(spec, before[i], step, begins)
            mine, step = f.step(spec, mine, step, draw.part(3 * i + SHOWS))
            memory.append(mine)
        return tuple(memory), step

    def action(self, specs: list[Spec], memory: tuple[Any, ...], action: tuple[Array, ...], draw: Draws) -> tuple[Any, tuple[Array, ...]]:
        after = []
        for i, (f, spec, m) in enumerate(zip(self.faults, specs, memory, strict=False)):
            m, action = f.action(spec, m, action, draw.part(3 * i + ACTS))
            after.append(m)
        return tuple(after), action

    def step(self, specs: list[Spec], memory: tuple[Any, ...], step: Step, draw: Draws) -> tuple[Any, Step]:
        after = []
        for i, (f, spec, m) in enumerate(zip(self.faults, specs, memory, strict=False)):
            m, step = f.step(spec, m, step, draw.part(3 * i + SHOWS))
            after.append(m)
        return tuple(after), step


@dataclass(frozen=True)
class Faulted:
    """A JAX environment under faults."""

    env: Env
    layers: _Layered

    @cached_property
    def _specs(self) -> list[Spec]:
        return self.layers.specs(self.env.spec)

    @property
    def spec(self) -> Spec:
        """The spec that agents know, after every fault."""
        return self._specs[-1]

    def init(self, key: Array) -> tuple[FaultedState, Step]:
        """A fresh episode as agents see it."""
        state, step = self.env.init(key)
        memory, step = self.layers.begin(self._specs, step, KeyDraws(key))
        return FaultedState(state, memory), step

    def step(self, state: FaultedState, action: tuple[Array, ...], key: Array) -> tuple[FaultedState, Step]:
        """The actions through every fault, the environment, then its step through every fault."""
        draw = KeyDraws(key)
        memory, action = self.layers.action(self._specs, state.memory, action, draw)
        env, step = self.env.step(state.env, action, key)
        memory, step = self.layers.step(self._specs, memory, step, draw)
        return FaultedState(env, memory), step


@dataclass(frozen=True)
class FaultedPersistent(Faulted):
    """One whose copies outlive their episodes, or whose faults do."""

    def again(self, state: FaultedState, key: Array) -> tuple[FaultedState, Step]:
        """A fresh episode of the same copy; faults that outlive episodes keep their memory."""
        anew = getattr(self.env, "again", None)
        env, step = self.env.init(key) if anew is None else anew(state.env, key)
        memory, step = self.layers.begin(self._specs, step, KeyDraws(key), state.memory)
        return FaultedState(env, memory), step


class FaultedHost:
    """A host environment under faults."""

    def __init__(self, env: HostEnv, layers: _Layered) -> None:
        self.env, self.layers = env, layers
        self._specs = layers.specs(env.spec)
        self._memory: tuple[Any, ...] | None = None
        self._draw = SeedDraws(0)

    @property
    def spec(self) -> Spec:
        """The spec that agents know, after every fault."""
        return self._specs[-1]

    def reset(self, seed: int) -> Step:
        """A fresh episode as agents see it; faults draw from a stream of the same seed."""
        self._draw = SeedDraws(seed)
        self._memory, step = self.layers.begin(self._specs, self.env.reset(seed), self._draw, self._memory)
        return step

    def step(self, action: tuple[Array, ...]) -> Step:
        """The actions through every fault, the environment, then its step through every fault."""
        assert self._memory is not None  # it was reset
        self._memory, action = self.layers.action(self._specs, self._memory, action, self._draw)
        self._memory, step = self.layers.step(self._specs, self._memory, self.env.step(action), self._draw)
        return step

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def faults_of(env: Any) -> tuple[Fault, ...]:
    """The faults that an environment is already under: those below its tools and channel, then those of its messages."""
    of_messages: tuple[Fault, ...] = ()
    while hasattr(env, "under"):
        env, of_messages = env.env, (*of_messages, *getattr(env, "faults", ()))
    return (*(env.layers.faults if isinstance(env, Faulted | FaultedHost) else ()), *of_messages)


def with_faults(faults: Sequence[Fault], env: Any) -> Any:
    """`env`, an `Env` or a `HostEnv`, under these faults; itself where there are none. Raises `UserError` where one cannot happen there."""
    if not faults:
        return env
    if hasattr(env, "under"):  # agents talk over it, or have tools: messages and calls are no observations
        return env.under(faults)
    if isinstance(env, Faulted | FaultedHost):  # one flat list: its faults come first, and all draw from one stream
        return with_faults((*env.layers.faults, *faults), env.env)
    layers = _Layered(tuple(faults))
    for f, spec in zip(layers.faults, layers.specs(env.spec), strict=False):
        if reason := f.refuses(spec):
            raise UserError(f"fault {f.kind!r}: {reason}")
    if hasattr(env, "reset"):
        return FaultedHost(env, layers)
    outlives = hasattr(env, "again") or any(f.outlives for f in layers.faults)
    return (FaultedPersistent if outlives else Faulted)(env, layers)
