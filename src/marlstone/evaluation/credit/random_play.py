"""Batches of random play, and networks of random numbers: what laws are checked on, and what learning is measured from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Train
from marlstone.core.compile_options import FASTEST_COMPILE, supported
from marlstone.core.normalize import init_ema_moments
from marlstone.core.records import replace
from marlstone.core.types import Step, Trajectory
from marlstone.envs.protocol import Env
from marlstone.envs.vectorized import Vectorized

Array = Any
Rows = tuple[Step, tuple[np.ndarray, ...], np.ndarray]


def quick(f: Any, level: int = 0) -> Any:
    """`f`, compiled in a hurry where that can be asked for.

    `level`: LLVM's. At 0 jaxlib 0.10.2 makes NaN of some finite second derivatives (shaping's); 1 takes twice as long and does not."""
    return jax.jit(f, compiler_options=supported(FASTEST_COMPILE | {"xla_backend_optimization_level": level}))


def rollout(env: Env, b: int, t: int) -> Rows:
    """Steps `[b t+1]`, recorded actions and their log-probs `[b t n]`, of a policy that plays uniformly among what is legal."""
    many, spaces = Vectorized(env, b), [(g.space, g.count) for g in env.spec.groups]

    def tick(carry: Any, key: Array) -> Any:
        state, row = carry
        k1, k2 = jax.random.split(key)
        heads = [jnp.zeros((b, n, s.head)) for s, n in spaces]
        noise = [s.noise(k, (b, n)) for (s, n), k in zip(spaces, jax.random.split(k1, len(spaces)), strict=True)]
        action = tuple(s.sample(h, ok, z) for (s, _), h, ok, z in zip(spaces, heads, row.legal, noise, strict=True))
        logp = jnp.concatenate([s.log_prob(h, ok, a) for (s, _), h, ok, a in zip(spaces, heads, row.legal, action, strict=True)], -1)
        after = many.step(state, tuple(s.emit(a) for (s, _), a in zip(spaces, action, strict=True)), jax.random.split(k2, b))
        return after, (row, action, logp)

    def run(key: Array) -> Any:
        (_, last), (rows, action, logp) = jax.lax.scan(tick, many.init(jax.random.split(key, b)), jax.random.split(key, t))
        rows = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), rows, last)
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (rows, action, logp))

    return jax.tree.map(np.asarray, quick(run)(jax.random.key(3)))


def trajectories_of(algorithm: Algorithm, rows: Rows) -> Trajectory:
    """These steps as a batch of trajectories for this algorithm, begun with a memory that is not zero."""
    step, action, logp = rows
    rng = np.random.default_rng(5)
    memory = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), algorithm.memory(len(logp)))
    return Trajectory(step, action, logp, memory)


def drawn(algorithm: Algorithm, like: Trajectory | None = None) -> Train:
    """A `Train` whose networks are random numbers everywhere, biases too: cheaper to make than `Algorithm.init`, and nothing is zero."""
    rng = np.random.default_rng(0)
    blank = jax.eval_shape(algorithm.init, jax.random.key(0), like)
    real = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), x.dtype) if real(x) else jnp.zeros(x.shape, x.dtype)
    nets = jax.tree.map(draw, blank.nets)
    train = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)
    k = sum(algorithm.sets.sizes)
    seen = algorithm.sets.unseen() if algorithm.learner.normalize_observations else train.seen
    scale = replace(train.targets, value=init_ema_moments(k), gap=init_ema_moments(k))
    target_params, replay = algorithm.learner.init(nets, like)
    opt = algorithm.learner.optimizer.init(nets)
    return replace(train, nets=nets, seen=seen, targets=scale, opt=opt, target_params=target_params, replay=replay)
