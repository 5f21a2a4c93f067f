"""Batches of random play that laws are tested on, and updates compiled once for all of them."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Nets, Train
from marlstone.core.normalize import Scales, targets
from marlstone.core.records import replace
from marlstone.core.types import Chunk, Step, Views
from marlstone.credit import Credit, Individual, Team
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners.optimizer import Adam

# Compiled to run a few times: half the compile time of an update, or less.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True, "xla_cpu_use_fusion_emitters": False}
B, T = 4, 14


def quick(f: Any) -> Any:
    return jax.jit(f, compiler_options=QUICK)


@dataclass(frozen=True)
class Either(Credit):
    """Individual or team pay, as its one number says: both in one compiled program."""

    kind: ClassVar[str] = "either"

    def init(self, spec: Any, key: Any) -> Any:
        return jnp.zeros(())

    def reward(self, p: Any, views: Views, chunk: Chunk) -> tuple[Any, Any]:
        team, own = (credit.reward(None, views, chunk) for credit in (Team(), Individual()))
        return tuple(jnp.where(p > 0, a, b) for a, b in zip(team, own))


def built(name: str, architecture: Any) -> Any:
    """The environment `name`, with the managers that `architecture` asks for."""
    managers = architecture.managers()
    return make(name) if managers is None else managers.over(make(name))


@functools.cache
def rollout(name: str, b: int = B, t: int = T, managers: Any = None) -> tuple[Step, tuple[np.ndarray, ...], np.ndarray]:
    """Rows `[b t+1]`, recorded actions and their log-probs `[b t n]`, of a policy that plays uniformly among what is legal."""
    env = Vectorized(make(name) if managers is None else managers.over(make(name)), b)
    spaces = [(g.space, g.count) for g in env.spec.groups]

    def tick(carry: Any, key: Any) -> Any:
        state, row = carry
        k1, k2 = jax.random.split(key)
        heads = [jnp.zeros((b, n, s.head)) for s, n in spaces]
        noise = [s.noise(k, (b, n)) for (s, n), k in zip(spaces, jax.random.split(k1, len(spaces)))]
        action = tuple(s.sample(h, ok, z) for (s, _), h, ok, z in zip(spaces, heads, row.legal, noise))
        logp = jnp.concatenate([s.log_prob(h, ok, a) for (s, _), h, ok, a in zip(spaces, heads, row.legal, action)], -1)
        after = env.step(state, tuple(s.emit(a) for (s, _), a in zip(spaces, action)), jax.random.split(k2, b))
        return after, (row, action, logp)

    def run(key: Any) -> Any:
        (_, last), (rows, action, logp) = jax.lax.scan(tick, env.init(jax.random.split(key, b)), jax.random.split(key, t))
        rows = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, last)
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (rows, action, logp))

    return jax.tree.map(np.asarray, quick(run)(jax.random.key(3)))


def chunks_of(algorithm: Algorithm, name: str, b: int = B, t: int = T) -> Chunk:
    """A batch of chunks for this algorithm, begun with a memory that is not zero."""
    step, action, logp = rollout(name, b, t, algorithm.architecture.managers())
    rng = np.random.default_rng(5)
    memory = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), algorithm.memory(b))
    return Chunk(step, action, logp, memory)


def begun(algorithm: Algorithm, team: bool = False, like: Chunk | None = None) -> Train:
    """A `Train` whose networks are random numbers everywhere, biases too: cheaper to make than `Algorithm.init`, and nothing is zero."""
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), jnp.float32)
    nets: Nets = jax.tree.map(draw, jax.eval_shape(algorithm.init, jax.random.key(0)).nets)
    nets = replace(nets, credit=jnp.float32(team)) if isinstance(algorithm.credit, Either) else nets
    blank = jax.eval_shape(algorithm.init, jax.random.key(0), like)
    train = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)
    k = sum(algorithm.sets.sizes)
    seen, scale = algorithm.sets.unseen(), Scales(targets(k), targets(k))
    seen = seen if algorithm.learner.normalize_observations else train.seen
    return replace(train, nets=nets, seen=seen, targets=scale, opt=Adam().init(nets), lagged=nets if algorithm.learner.lags else None)


class Combination:
    """One combination of parts and its update, compiled once for all tests that use it."""

    def __init__(self, name: str, *parts: Any) -> None:
        self.name, self.it = name, Algorithm(built(name, parts[0]).spec, *parts)
        self._update = quick(lambda train, chunks: self.it.update(train, chunks, 0.25, jax.random.key(7))[0])

    def chunks(self) -> Chunk:
        return chunks_of(self.it, self.name)

    def updated(self, chunks: Chunk, times: int = 1, team: bool = False) -> Train:
        """After `times` updates on the same chunks."""
        train = begun(self.it, team, chunks)
        for _ in range(times):
            train = self._update(train, chunks)
        return jax.device_get(train)


combination = functools.cache(Combination)
