"""Runtimes that stand before an evaluation: policies made by hand or by chance, nothing trained."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Train
from marlstone.architectures import Decentralized, Mlp
from marlstone.core.records import replace
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient
from marlstone.rollout.state import State
from marlstone.training.fused import Fused
from tests.batches import begun

LEARNER = PolicyGradient(epochs=1, minibatches=1)


def runtime(name: Any, seeds: int, architecture: Any = None, learner: Any = LEARNER, length: int = 4, credit: Any = None) -> Fused:
    """A runtime in an environment, or one of that name."""
    env: Any = make(name) if isinstance(name, str) else name
    it = Algorithm(env.spec, architecture or Decentralized(Mlp((4,))), credit or Individual(), learner)
    return Fused(Vectorized(env, 4), it, length, 1, tuple(range(5, 5 + seeds)))


def always(algorithm: Algorithm, *heads: list[float]) -> Train:
    """A policy that says these heads everywhere, one per group."""
    train = begun(algorithm)
    still = jax.tree.map(jnp.zeros_like, train.nets.actor)
    actor = tuple(replace(a, head=replace(a.head, b=jnp.array(h))) for a, h in zip(still, heads, strict=True))
    return replace(train, nets=replace(train.nets, actor=actor))


def by_chance(algorithm: Algorithm, seed: int, scale: float = 1.0) -> Train:
    """A policy of random numbers, another for every seed."""
    random, train = np.random.default_rng(seed), begun(algorithm)
    actor = jax.tree.map(lambda x: jnp.asarray(scale * random.normal(size=x.shape), x.dtype), train.nets.actor)
    return replace(train, nets=replace(train.nets, actor=actor))


def standing(*trains: Train) -> State:
    """A state in which these policies are evaluated, one per seed."""
    train = jax.tree.map(lambda *xs: jnp.stack(xs), *(replace(t, opt=None, replay=None, target_params=None) for t in trains))
    nothing: Any = None
    return State(train, nothing, nothing, nothing, nothing)
