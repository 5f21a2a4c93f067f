"""What may go wrong between an environment and its agents: one flat list of faults, each a small filter over actions and rows.

    action -> every fault's `action`, in order -> the environment -> every fault's `row`, in order -> agents

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
MOST = 1000  # draws of one fault on one row
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
    """Draws from a JAX key."""

    def __init__(self, key: Array) -> None:
        import jax

        self._key, self._next = jax.random.fold_in(key, STREAM), 0

    def part(self, n: int) -> "KeyDraws":
        mine = copy.copy(self)
        mine._next = n * MOST
        return mine

    def _fresh(self) -> Array:
        import jax

        self._next += 1
        return jax.random.fold_in(self._key, self._next)

    def uniform(self, shape: tuple[int, ...] = ()) -> Array:
        import jax

        return jax.random.uniform(self._fresh(), shape)

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        import jax

        return jax.random.normal(self._fresh(), shape)


class SeedDraws:
    """Draws from an episode's seed, in NumPy."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, STREAM])

    def part(self, n: int) -> "SeedDraws":
        """One generator goes through the whole episode."""
        return self

    def uniform(self, shape: tuple[int, ...] = ()) -> Array:
        return self._random.random(shape, np.float32)

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        return self._random.standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Derive from it, answer what is affected, inherit the rest: nothing happens there.

    `kind` names it in configurations; `outlives`: it remembers across an environment's episodes (`again`). Methods are given the
    environment's `spec`; actions are as environments take them, per group `[n_g ...]`; rows have no leading axes.
    """

    kind: ClassVar[str] = ""
    outlives: ClassVar[bool] = False

    def refuses(self, spec: Spec) -> str:
        """Why it cannot happen in this environment, with a remedy; empty where it can."""
        return ""

    def spec(self, spec: Spec) -> Spec:
        """What agents know of the environment under this fault."""
        return spec

    def begin(self, spec: Spec, row: Step, draw: Draws) -> Any:
        """What it remembers at an episode's first row: a pytree of arrays, always of the same shapes."""
        return ()

    def again(self, spec: Spec, memory: Any, row: Step, draw: Draws) -> Any:
        """The same at a later episode of the same copy, whose last one it left with `memory`."""
        return self.begin(spec, row, draw)

    def action(self, spec: Spec, memory: Any, action: tuple[Array, ...], draw: Draws) -> tuple[Any, tuple[Array, ...]]:
        """What reaches the environment."""
        return memory, action

    def row(self, spec: Spec, memory: Any, row: Step, draw: Draws) -> tuple[Any, Step]:
        """What reaches agents, an episode's first row included."""
        return memory, row


@record
class FaultedState:
    """An environment's state, and what each fault remembers."""

    env: Any
    memory: tuple[Any, ...]


@dataclass(frozen=True)
class _Layered:
    faults: tuple[Fault, ...]

    def specs(self, inner: Spec) -> list[Spec]:
        """What each fault is told, then what agents are."""
        return list(accumulate(self.faults, lambda spec, f: f.spec(spec), initial=inner))

    def begin(self, specs: list[Spec], row: Step, draw: Draws, before: tuple[Any, ...] | None = None) -> tuple[tuple[Any, ...], Step]:
        """`before`: what they remembered where the copy's last episode ended."""
        memory = []
        for i, (f, spec) in enumerate(zip(self.faults, specs, strict=False)):
            begins = draw.part(3 * i + BEGINS)
            mine = f.begin(spec, row, begins) if before is None else f.again(spec, before[i], row, begins)
            mine, row = f.row(spec, mine, row, draw.part(3 * i + SHOWS))
            memory.append(mine)
        return tuple(memory), row

    def action(self, specs: list[Spec], memory: tuple[Any, ...], action: tuple[Array, ...], draw: Draws) -> tuple[Any, tuple[Array, ...]]:
        after = []
        for i, (f, spec, m) in enumerate(zip(self.faults, specs, memory, strict=False)):
            m, action = f.action(spec, m, action, draw.part(3 * i + ACTS))
            after.append(m)
        return tuple(after), action

    def row(self, specs: list[Spec], memory: tuple[Any, ...], row: Step, draw: Draws) -> tuple[Any, Step]:
        after = []
        for i, (f, spec, m) in enumerate(zip(self.faults, specs, memory, strict=False)):
            m, row = f.row(spec, m, row, draw.part(3 * i + SHOWS))
            after.append(m)
        return tuple(after), row


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
        return self._specs[-1]

    def init(self, key: Array) -> tuple[FaultedState, Step]:
        state, row = self.env.init(key)
        memory, row = self.layers.begin(self._specs, row, KeyDraws(key))
        return FaultedState(state, memory), row

    def step(self, state: FaultedState, action: tuple[Array, ...], key: Array) -> tuple[FaultedState, Step]:
        draw = KeyDraws(key)
        memory, action = self.layers.action(self._specs, state.memory, action, draw)
        env, row = self.env.step(state.env, action, key)
        memory, row = self.layers.row(self._specs, memory, row, draw)
        return FaultedState(env, memory), row


@dataclass(frozen=True)
class FaultedPersistent(Faulted):
    """One whose copies outlive their episodes, or whose faults do."""

    def again(self, state: FaultedState, key: Array) -> tuple[FaultedState, Step]:
        anew = getattr(self.env, "again", None)
        env, row = self.env.init(key) if anew is None else anew(state.env, key)
        memory, row = self.layers.begin(self._specs, row, KeyDraws(key), state.memory)
        return FaultedState(env, memory), row


class FaultedHost:
    """A host environment under faults."""

    def __init__(self, env: HostEnv, layers: _Layered) -> None:
        self.env, self.layers = env, layers
        self._specs = layers.specs(env.spec)
        self._memory: tuple[Any, ...] | None = None
        self._draw = SeedDraws(0)

    @property
    def spec(self) -> Spec:
        return self._specs[-1]

    def reset(self, seed: int) -> Step:
        self._draw = SeedDraws(seed)
        self._memory, row = self.layers.begin(self._specs, self.env.reset(seed), self._draw, self._memory)
        return row

    def step(self, action: tuple[Array, ...]) -> Step:
        assert self._memory is not None  # it was reset
        self._memory, action = self.layers.action(self._specs, self._memory, action, self._draw)
        self._memory, row = self.layers.row(self._specs, self._memory, self.env.step(action), self._draw)
        return row

    def close(self) -> None:
        self.env.close()


def faults_of(env: Any) -> tuple[Fault, ...]:
    """The faults that an environment is already under."""
    return env.layers.faults if isinstance(env, Faulted | FaultedHost) else ()


def with_faults(faults: Sequence[Fault], env: Any) -> Any:
    """`env`, an `Env` or a `HostEnv`, under these faults; itself where there are none. Raises `UserError` where one cannot happen there."""
    if not faults:
        return env
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
