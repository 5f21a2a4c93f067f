"""How fast could this possibly go? The environment's own rate and the machine's matrix rate, measured beside the run.

    limit = 1 / (1 / random-policy steps per second + FLOPs per step / matrix rate)

The matrix rate is taken at the shapes of the run's own products that cost most, on the same threads; a share of 1 would mean that
nothing but the environment and the products costs any time. Where environments step in other processes while products are computed, only
the slower of the two limits. Worker processes add what it costs to wait for each other, and a trained policy may meet other steps
than random play does: there the limit is an estimate. A run's own speed is a measurement too, so no limit is below it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.algorithm import Algorithm
from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.core.distributions import draw_group_noise
from marlstone.core.flops import Flops, Shape
from marlstone.envs.vectorized import Vectorized
from marlstone.rollout.placement import SeedPlacement
from marlstone.rollout.unroll import draw_noise
from marlstone.rollout.worker_pool import Workers
from marlstone.training.one_by_one import OneByOne

Array = Any


@dataclass(frozen=True)
class Limit:
    """`random_rate`: joint steps/s with random legal actions, all seeds together; `flops_per_step`; `matrix_rate` in FLOP/s;
    `overlapped`: whether environments step while products are computed; `is_estimate`: whether a run could be faster."""

    random_rate: float
    flops_per_step: float
    matrix_rate: float
    overlapped: bool = False
    is_estimate: bool = False

    @property
    def steps_per_second(self) -> float:
        """The limit, in joint steps of all seeds."""
        environment, products = 1 / self.random_rate, self.flops_per_step / self.matrix_rate
        return 1 / (max(environment, products) if self.overlapped else environment + products)

    def record(self, speed: float) -> dict[str, Any]:
        """The record's fields for a run of `speed` steps/s. One that was faster shows that the limit was measured too low: it is then
        at its limit, which is an estimate."""
        limit = max(self.steps_per_second, speed)
        return {
            "limit_steps_per_second": limit,
            "share_of_limit": speed / limit,
            "limit_is_estimate": self.is_estimate or speed > self.steps_per_second,
        }


LONGEST = 0.4  # seconds in which one rate is taken
SHORTEST = 0.06


def seconds_for(training: float) -> float:
    """In how many seconds each rate is taken beside a run that trained for `training` seconds: a fiftieth of it, within bounds, so that a
    short run does not take longer to be compared than to train."""
    return min(LONGEST, max(SHORTEST, training / 50))


NOT_MEASURED: dict[str, Any] = {"limit_steps_per_second": None, "share_of_limit": None, "limit_is_estimate": None}


def per_second(f: Callable[[], Any], amount: float, seconds: float) -> float:
    """The best of three timings of `amount` per call, each of at least `seconds` / 3."""
    jax.block_until_ready(f())
    best = 0.0
    for _ in range(3):
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 3:
            jax.block_until_ready(f())
            calls += 1
        best = max(best, calls * amount / (time.perf_counter() - start))
    return best


def matrix_rate(products: Mapping[Shape, float], placement: SeedPlacement, seconds: float = LONGEST) -> float:
    """FLOP/s of float32 products, of which so many FLOPs are of each shape `(m, k, n)`, run on all devices at once, as training is."""
    taken = sum(flops / _rate(shape, placement, seconds) for shape, flops in products.items())
    return sum(products.values()) / taken if taken else float("inf")


def _rate(shape: Shape, placement: SeedPlacement, seconds: float) -> float:
    """FLOP/s of products of one shape."""
    m, k, n = shape
    everywhere = placement.seeds * placement.shards  # devices that share a seed do the same thing each: a part's work
    repeat = max(1, int(5e8 * seconds // (2 * m * k * n)))
    a, b = jax.random.normal(jax.random.key(0), (m, k)), jax.random.normal(jax.random.key(1), (k, n))

    def again(_: Array, x: Array) -> Array:  # what passes a barrier is neither shortened nor moved out of the loop
        left, x = lax.optimization_barrier((a, x))
        return x + lax.optimization_barrier(left @ b)[0, 0]

    def one(slot: Array) -> Array:
        return lax.fori_loop(0, repeat, again, slot.astype(jnp.float32))

    run = jax.jit(placement.map_seeds(one), compiler_options=supported(FAST_COMPILE))  # the product itself is a library's
    slots = placement.pad(jnp.zeros(placement.seeds))
    return per_second(lambda: run(slots), everywhere * repeat * 2.0 * m * k * n, seconds)


def random_rate(env: Vectorized, algorithm: Algorithm, length: int, placement: SeedPlacement, seconds: float = LONGEST) -> float:
    """Joint steps per second (resets left out) of the environment alone, under random legal actions."""

    def one(key: Array) -> Array:
        state, step = env.init(jax.random.split(key, env.b))
        noise, keys = draw_noise(algorithm, key, length, env.b)

        def tick(carry: Any, row: Any) -> tuple[Any, Array]:
            (state, step), (z, k) = carry, row
            heads = tuple(jnp.zeros((env.b, g.count, g.space.head)) for g in env.spec.groups)
            state, step = env.step(state, algorithm.emit(algorithm.sample(heads, step.legal, z)), k)
            return (state, step), (~step.first).sum() + 0 * step.reward.sum().astype(jnp.int32)

        return lax.scan(tick, (state, step), (noise, keys))[1].sum()

    run = jax.jit(placement.map_seeds(one))
    keys = placement.pad(jax.random.split(jax.random.key(0), placement.seeds))
    real = float(placement.trim(run(keys)).sum())
    return per_second(lambda: run(keys), real * placement.shards, seconds)


def fused_limit(env: Vectorized, algorithm: Algorithm, length: int, seeds: int, flops: Flops, seconds: float = LONGEST) -> Limit:
    """The limit of a fused run of `seeds` seeds; `env` is what one device steps, `flops` what a joint step costs in products; every rate
    is taken in `seconds`."""
    placement = SeedPlacement(seeds, algorithm.shards)
    rate = random_rate(env, algorithm, length, placement, seconds)
    return Limit(rate, flops.total, matrix_rate(flops.heaviest, placement, seconds))


def host_limit(pools: list[Workers], algorithm: Algorithm, placement: OneByOne, flops: Flops, seconds: float = LONGEST) -> Limit:
    """The limit of a run whose seeds' environments Python steps, in `pools`: random legal actions through their workers, all seeds at once,
    by the best of three measurements of the time that stepping takes; products as in the fused runtime."""
    groups, b = algorithm.spec.groups, pools[0].b

    def one(i: int, key: Any) -> float:
        _, step = pools[i].init(jax.random.split(key, b))
        zeros = [np.zeros((b, g.count, g.space.head), np.float32) for g in groups]
        noise = [np.asarray(z) for z in draw_group_noise([g.space for g in groups], [g.count for g in groups], key, (32, b))]
        rows, best = 0, 0.0
        for _ in range(3):
            real, stepping = 0, 0.0
            while stepping < seconds or not real:
                sampled = [g.space.sample(h, ok, z[rows % 32]) for g, h, ok, z in zip(groups, zeros, step.legal, noise, strict=True)]
                action, began = algorithm.emit(tuple(sampled)), time.perf_counter()
                _, step = pools[i].step(None, action)
                stepping += time.perf_counter() - began
                real, rows = real + int((~step.first).sum()), rows + 1
            best = max(best, real / stepping)
        return best

    rate = sum(placement.apart(one, jax.random.split(jax.random.key(0), len(pools))))
    products = matrix_rate(flops.heaviest, SeedPlacement(1), seconds)
    return Limit(rate, flops.total, products, overlapped=len(pools) > 1, is_estimate=True)
