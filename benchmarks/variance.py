"""How noisy is the policy gradient under each credit method? The same fixed policy, many independent batches.

    python benchmarks/variance.py

    noise(g) = tr Cov g / |E g|^2,   g_batch = mean over actions of A grad log pi(a | o)

A batch is 16 episodes of `proving:swarm?agents=64`. The policy is untrained and everybody acts by it, without further
exploration; the critics, the action values and what a method learns are fitted to it first, while it is held still. |E g|^2
is corrected for what is left of the noise in the mean of the batches, or no method could come out above their number.
`exact` is told who can change whom (each agent the one before it): what a filter could reach at best. `cosine` is between
a method's mean gradient and the exact one's: `individual` is quiet, and points elsewhere.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from record import stamp, write

from marlstone.algorithm import Algorithm, Train
from marlstone.architectures import Ctde, Mlp
from marlstone.core.records import replace
from marlstone.core.seeds import REPORTING, component_key
from marlstone.credit import Counterfactual, Credit, Decoupled, Individual, Team
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit.truth import gather
from marlstone.learners import PolicyGradient
from marlstone.rollout.placement import prepare
from marlstone.stats.intervals import interval

Array = Any
ENV = "proving:swarm?agents=64"
ENVS, ROWS = 16, 9  # an episode, and the row it begins with
FIT, BATCHES = 100, 120
SEEDS = tuple(range(REPORTING, REPORTING + 10))


@dataclass(frozen=True)
class Exact(Credit):
    """Own reward and that of the agent before, on a ring: the one whom an agent can change."""

    kind: ClassVar[str] = "exact"

    def reward(self, p: Any, views: Any, trajectory: Any) -> tuple[Array, Array]:
        own = trajectory.step.reward[1:]
        return own + jnp.roll(own, 1, -1), trajectory.step.discount[1:]


METHODS = {
    "team": Team(),
    "individual": Individual(),
    "counterfactual": Counterfactual(explore=0.0),
    "decoupled": Decoupled(explore=0.0),
    "exact": Exact(),
}


@dataclass(frozen=True, eq=False)
class Probe:
    """One method on the fixed policies of a seed."""

    algorithm: Algorithm
    env: Vectorized

    def fitted(self, key: Array) -> Train:
        """Everything but the policy, fitted to the policy."""
        k1, k2 = jax.random.split(key)
        train = self.algorithm.init(k1)
        actor = train.nets.actor

        def one(train: Train, key: Array) -> tuple[Train, None]:
            k1, k2 = jax.random.split(key)
            trajectories = gather(self.env, self.algorithm, train.policy, k1, ROWS).trajectories
            after, _ = self.algorithm.update(train, trajectories, jnp.zeros(()), k2)
            return replace(after, nets=replace(after.nets, actor=actor)), None

        return lax.scan(one, train, jax.random.split(k2, FIT))[0]

    def gradient(self, train: Train, key: Array) -> Array:
        """Of one batch, flat."""
        it, nets = self.algorithm, train.nets
        trajectories = gather(self.env, it, train.policy, key, ROWS).trajectories
        fixed = it.learner.compute_targets(it.problem, replace(train, nets=nets), trajectories)
        advantage = it.sets.standardized(fixed.advantage, trajectories.acts)

        def gain(actor: Any) -> Array:
            logp = it.views(replace(nets, actor=actor), train.seen, train.targets, trajectories, frozenset({"logp"})).logp
            return jnp.where(trajectories.acts, advantage * logp, 0).sum() / trajectories.acts.sum()

        return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(jax.grad(gain)(nets.actor))])

    def moments(self, key: Array) -> tuple[Array, Array]:
        """Mean of the gradient over batches, and the trace of its covariance."""
        k1, k2 = jax.random.split(key)
        train = self.fitted(k1)

        def one(carry: Any, key: Array) -> tuple[Any, None]:
            g = self.gradient(train, key)
            return (carry[0] + g, carry[1] + (g**2).sum()), None

        size = sum(x.size for x in jax.tree.leaves(train.nets.actor))
        (total, square), _ = lax.scan(one, (jnp.zeros(size), jnp.zeros(())), jax.random.split(k2, BATCHES))
        mean = total / BATCHES
        return mean, (square - BATCHES * (mean**2).sum()) / (BATCHES - 1)


def moments(method: str, seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Means `[seed, parameter]` and traces `[seed]`. Methods share the seeds' policies and batches."""
    env = make(ENV)
    learner = PolicyGradient(entropy=0.0, anneal=False, credit_lr=5e-3, minibatches=1)
    it = Probe(Algorithm(env.spec, Ctde(Mlp((32,))), METHODS[method], learner), Vectorized(env, ENVS))
    one, cores = jax.jit(it.moments), jax.local_devices()
    keys = [jax.device_put(component_key(seed, "audit"), cores[i % len(cores)]) for i, seed in enumerate(seeds)]
    found = jax.device_get([one(key) for key in keys])  # dispatched at once, so that cores work beside each other
    return np.stack([mean for mean, _ in found]), np.array([trace for _, trace in found])


def compared(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Per method: noise and cosine per seed, their IQMs over seeds and 95% intervals."""
    length = lambda mean: np.linalg.norm(mean, axis=-1)
    exact, methods = found["exact"][0], {}
    for name, (mean, trace) in found.items():
        signal = length(mean) ** 2 - trace / BATCHES
        figures = {
            "noise": trace / np.maximum(signal, 1e-30),
            "cosine": (mean * exact).sum(-1) / (length(mean) * length(exact)),
        }
        methods[name] = {}
        for k, x in figures.items():
            center, ends = interval([[v] for v in x])
            methods[name] |= {k: center, f"{k}_ci95": list(ends), f"{k}_by_seed": x.tolist()}
    return methods


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", type=int, metavar="K", help="on seeds 0 to K - 1, and nothing is recorded")
    few = parser.parse_args().tuning
    prepare()
    seeds, began = tuple(range(few)) if few else SEEDS, time.perf_counter()
    methods = compared({name: moments(name, seeds) for name in METHODS})
    for name, m in methods.items():
        figure = lambda k, m=m: f"{m[k]:.3g} ({m[f'{k}_ci95'][0]:.3g} to {m[f'{k}_ci95'][1]:.3g})"
        print(f"{name}: noise {figure('noise')}, cosine with the exact {figure('cosine')}", file=sys.stderr)
    if not few:
        settings = {"env": ENV, "seeds": list(seeds), "envs": ENVS, "rows": ROWS, "fitted_for": FIT, "batches": BATCHES}
        write("variance/swarm", {**settings, "methods": methods, "seconds": time.perf_counter() - began, **stamp()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
