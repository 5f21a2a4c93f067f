"""How differently do training seeds act where all of them have been? On frozen probes, so that later versions can be compared.

Probes are whole episodes, equally many played by every seed's policy. For each pair of policies and every decision in them,
a number in [0, 1], 0 where both would do the same:

    Discrete       JS_2(p, q) = H_2((p + q) / 2) - (H_2(p) + H_2(q)) / 2, over what is legal; MultiDiscrete: the mean over choices
    Box            W_2(p, q) / 2 = sqrt(mean_d E_z (tanh(m_d + s_d z) - tanh(m'_d + s'_d z))^2) / 2,   z ~ N(0, 1)
    Composite      the mean over its parts

W_2 is of the actions as emitted, in (-1, 1), a root mean square over dimensions: in one dimension optimal transport pairs
quantiles, tanh keeps their order, and of independent dimensions squared distances add up; E_z by the trapezoidal rule, whose
error falls exponentially here (tanh(s z) is analytic for |Im z| < pi / 2s, and s is at most e).
Divided by the widest possible distance it is 1 where policies always take opposite ends.

A policy is compared without exploration: the distribution it samples from if it was learned as one; what it takes, with
probability 1, if its heads are action values, whose differences are no odds. Memories are unrolled over each episode.
Means are over a seed's decisions, then over the seeds that played them, so that long episodes do not outvote short ones.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Policy
from marlstone.core.acting import Act
from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.core.distributions import ActionSpace, Box, Composite, Discrete, MultiDiscrete
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.evaluation.episode_log import difference, open_log, write
from marlstone.play.episodes import together
from marlstone.play.player import Player
from marlstone.rollout.state import State

Array = Any
Probes = dict[int, Trajectory]
FOLDER = "probes"  # in a run's directory: a log of episodes
EPISODES = 8  # of every seed
NODES = np.linspace(-5, 5, 41)  # of the quadrature


# ---- probes
def probes_of(runtime: Player, state: State, episodes: int = EPISODES, act: Act = "sample") -> Probes:
    """Whole episodes of every seed's policy, by seed, all with the same steps. The same state plays the same."""
    width = min(episodes, runtime.b)
    play = runtime.player(width, act)
    rounds = [play(state, nth) for nth in range(-(-episodes // width))]
    played = [jax.tree.map(lambda x: x[:episodes], together([r[i] for r in rounds])) for i in range(len(runtime.seeds))]
    whole = together([replace(c, memory=None) for c in played])
    part = lambda i: jax.tree.map(lambda x: x[i * episodes : (i + 1) * episodes], whole)
    return {seed: part(i) for i, seed in enumerate(runtime.seeds)}


def frozen_probes(run: Path, env: str, runtime: Player, state: State, episodes: int = EPISODES) -> Probes:
    """The probes kept in a run's directory; where there are none yet, played by `state` and kept. Raises `UserError` for others'."""
    path, spec = run / FOLDER, runtime.algorithm.spec
    if not path.exists():
        step = int(np.asarray(runtime.placement.first(state.train.version)))
        write(path, env, "sample", spec, probes_of(runtime, state, episodes), version=step)
    log = open_log(path)
    if (why := difference(log.spec, spec)) is not None:
        raise UserError(f"probes {str(path)!r} do not fit this run: {why}; remove them, or evaluate the run they were made for")
    return log.trajectories


# ---- distances between heads, `[... head]` each -> `[...]`
def jensen_shannon(space: Discrete | MultiDiscrete, a: Array, b: Array, legal: Array | None) -> Array:
    """Between 0 and 1 (logarithms of base 2)."""
    sizes = (space.size,) if isinstance(space, Discrete) else space.sizes
    ends, out = np.cumsum(sizes), []
    for size, end in zip(sizes, ends, strict=True):
        part, one = slice(int(end) - size, int(end)), Discrete(size)
        ok = None if legal is None else legal[..., part]
        p, q = (_odds(one, h[..., part], ok) for h in (a, b))
        out.append(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)
    return jnp.clip(jnp.stack(out).mean(0), 0, 1)


def _odds(space: Discrete, head: Array, legal: Array | None) -> Array:
    each = lambda x: None if x is None else x[..., None, :]
    return jnp.exp(space.log_prob(each(head), each(legal), jnp.arange(space.size)))


def _entropy(p: Array) -> Array:
    return -jnp.sum(jnp.where(p > 0, p * jnp.log2(jnp.where(p > 0, p, 1)), 0), -1)


def wasserstein(space: Box, a: Array, b: Array, legal: Array | None) -> Array:
    """Half the 2-Wasserstein distance of emitted actions, a root mean square over real dimensions: between 0 and 1."""
    z = jnp.asarray(NODES, jnp.float32).reshape(-1, *(1,) * a.ndim)
    weights = jnp.exp(-(z**2) / 2)
    x, y = (space.emit(space.sample(h, legal, z)) for h in (a, b))
    squares = (weights * (x - y) ** 2).sum(0) / weights.sum()
    real = jnp.ones(space.size) if legal is None else legal.astype(jnp.float32)
    return jnp.sqrt((squares * real).sum(-1) / jnp.maximum(real.sum(-1), 1)) / 2


def distance(space: ActionSpace, a: Array, b: Array, legal: Array | None) -> Array:
    """Between two policies' heads `[... head]`, `[...]`: Jensen-Shannon divergence of choices, Wasserstein-2 distance of numbers, the mean
    over a Composite's parts."""
    if isinstance(space, Composite):
        return jnp.stack([distance(*of) for of in zip(space.parts, *map(space.by_part, (a, b)), space.masks(legal), strict=True)]).mean(0)
    if isinstance(space, Box):
        return wasserstein(space, a, b, legal)
    assert isinstance(space, Discrete | MultiDiscrete)
    return jensen_shannon(space, a, b, legal)


# ---- between policies
def action_disagreement(runtime: Player, state: State, probes: Probes | None = None) -> np.ndarray:
    """`[seeds seeds]`, symmetric, 0 on the diagonal: mean distances between seeds' policies on `probes` (default: their own, fresh)."""
    probes = probes_of(runtime, state) if probes is None else probes
    algorithm, count = runtime.algorithm, len(runtime.seeds)
    policies = runtime.placement.trim(state.train.policy)
    between = jax.jit(lambda a, b, trajectory: disagreement(algorithm, a, b, trajectory), compiler_options=supported(FAST_COMPILE))
    of = lambda i: jax.tree.map(lambda x: x[i], policies)
    out = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            out[i, j] = out[j, i] = np.mean([float(between(of(i), of(j), c)) for c in probes.values()])
    return out


def disagreement(algorithm: Algorithm, a: Policy, b: Policy, probes: Trajectory) -> Array:
    """The mean distance between two policies over the decisions in one batch of whole episodes. Unexplored, heads of action values are
    those of the best action alone (`Algorithm.heads`)."""
    rows = jax.tree.map(lambda x: x[:, :-1], probes.step)
    heads = [algorithm.heads(replace(p, explore=jnp.zeros(())), rows, algorithm.memory(len(probes.logp)))[0] for p in (a, b)]
    apart = [distance(g.space, x, y, ok) for g, x, y, ok in zip(algorithm.spec.groups, *heads, rows.legal, strict=True)]
    acts = probes.acts
    return jnp.where(acts, jnp.concatenate(apart, -1), 0).sum() / jnp.maximum(acts.sum(), 1)
