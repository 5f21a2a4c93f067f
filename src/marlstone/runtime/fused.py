"""Whole training in one compiled loop, for environments written in JAX. The host is met only to report and checkpoint.

Seeds are trained together: mapped over the accelerator by vmap, or dealt out to the processor's cores, where each core
runs its seeds one after another (on CPUs vmapping seeds buys nothing; a core to itself does).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from marlstone.algorithm import Algorithm, Train
from marlstone.core.episodes import Finished, Tally, begin, tally
from marlstone.core.records import record
from marlstone.core.seeds import component_key
from marlstone.envs.vectorized import Vectorized
from marlstone.runtime.unroll import Acting, draw, unroll

Array = Any


@record
class State:
    """Everything one training seed carries: enough to go on as if it had never stopped."""

    train: Train
    acting: Acting
    tally: Tally
    act_key: Array
    learn_key: Array


@record
class Report:
    """One update's figures."""

    finished: Finished
    steps: Array
    losses: dict[str, Array]


@dataclass(frozen=True)
class Fused:
    """Trains `seeds` at once, `b` environments each, in updates of `length` rows; `total` updates make the whole budget."""

    env: Vectorized
    algorithm: Algorithm
    length: int
    total: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        b, m = self.env.b, self.algorithm.learner.minibatches
        if b % m:
            raise ValueError(f"rollout.envs is {b}, not a multiple of learner.minibatches = {m}: environments are what minibatches are made of")

    # ---- one seed
    def begin(self, seed: Array) -> State:
        keys = {c: component_key(seed, c) for c in ("init", "environment", "act", "learner")}
        env, step = self.env.init(jax.random.split(keys["environment"], self.env.b))
        acting = Acting(env, step, self.algorithm.memory(self.env.b))
        return State(self.algorithm.init(keys["init"]), acting, begin(self.env.b, self.env.spec.metrics), keys["act"], keys["learner"])

    def cycle(self, state: State) -> tuple[State, Report]:
        """One rollout and one update."""
        train, algorithm = state.train, self.algorithm
        noise, keys = draw(algorithm, jax.random.fold_in(state.act_key, train.version), self.length, self.env.b)
        acting, chunks = unroll(self.env, algorithm, train.policy, state.acting, noise, keys)
        acting = Acting(acting.env, acting.step, algorithm.remember(train, chunks, acting.memory))
        rows = jax.tree.map(lambda x: x[:, 1:], chunks.step)
        running, finished = tally(state.tally, rows, self.env.spec.metrics)
        progress = train.version / self.total
        train, losses = algorithm.update(train, chunks, progress, jax.random.fold_in(state.learn_key, train.version))
        return State(train, acting, running, state.act_key, state.learn_key), Report(finished, chunks.real.sum(), losses)

    def advance(self, state: State, updates: Array, most: int) -> tuple[State, Report]:
        """`updates` cycles (at most `most`, so that one program serves every segment); reports `[most ...]`."""
        blank = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), jax.eval_shape(self.cycle, state)[1])

        def body(i: Array, carry: tuple[State, Report]) -> tuple[State, Report]:
            state, report = self.cycle(carry[0])
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), carry[1], report)

        return lax.fori_loop(0, updates, body, (state, blank))

    # ---- all seeds
    @cached_property
    def _devices(self) -> list[Any]:
        return jax.devices()[: len(self.seeds)]

    @cached_property
    def _slots(self) -> int:
        """Seeds per device, the last ones of which may be empty."""
        return -(-len(self.seeds) // len(self._devices))

    def _spread(self, f: Callable[..., Any], *loose: Any) -> Callable[..., Any]:
        """`f` for every seed's slice of its arguments: vmapped on one accelerator, dealt out to a CPU's devices."""
        if self._devices[0].platform != "cpu":
            return jax.vmap(f)
        mesh = Mesh(np.array(self._devices), ("seed",))

        def mine(*args: Any) -> Any:
            here = lax.axis_index("seed")
            full = len(self.seeds) - here * self._slots
            at = lambda i: jax.tree.map(lambda x: x[i], args)
            blank = jax.tree.map(lambda x: jnp.zeros((self._slots, *x.shape), x.dtype), jax.eval_shape(f, *at(0)))
            put = lambda i, out: jax.tree.map(lambda all_, one: all_.at[i].set(one), out, f(*at(i)))
            return lax.fori_loop(0, jnp.minimum(full, self._slots), put, blank)

        return jax.shard_map(mine, mesh=mesh, in_specs=P("seed"), out_specs=P("seed"), check_vma=False)

    def padded(self, x: np.ndarray) -> np.ndarray:
        """One entry per seed -> one per slot."""
        return np.concatenate([x, np.repeat(x[-1:], self._slots * len(self._devices) - len(x), 0)])

    def start(self) -> State:
        """Every seed's beginning, stacked `[slots ...]`."""
        return jax.jit(self._spread(self.begin))(self.padded(np.array(self.seeds, np.uint32)))

    def compile(self, state: State, most: int) -> Callable[[State, int], tuple[State, Report]]:
        """The training program for up to `most` updates between host contacts."""
        run = jax.jit(self._spread(lambda s, n: self.advance(s, n, most)), donate_argnums=0)
        count = lambda n: self.padded(np.full(len(self.seeds), n, np.int32))
        compiled = run.lower(state, count(0)).compile()
        return lambda state, n: compiled(state, count(n))
