"""Is the team's reward always 0, because what one agent wins another loses? Found out before anything is trained on it.

Credit methods that learn from the team's reward would learn nothing there, silently. What an environment declares is refused when the
algorithm is built; this measures the others, by a few hundred random joint steps of a new run's own environments.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.core.distributions import draw_group_noise
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.envs.vectorized import Vectorized
from marlstone.rollout.worker_pool import Workers
from marlstone.training.backend import Backend
from marlstone.training.fused import Fused
from marlstone.training.host import Hosted

ENVS, STEPS = 8, 64  # of environments written in JAX
HOST_STEPS = 32  # of a seed's environments stepped by Python, as far as they take no longer than
PATIENCE = 5.0  # seconds
SMALL = 1e-5  # of the agents' rewards: what rounding leaves of a sum that is 0
KEY = 4242


def refuse_zero_sum(backend: Backend, credit: str) -> None:
    """Raises `UserError` with the remedy, where `backend` learns from a team reward that is 0 at every step of random play although its
    agents' own rewards are not. Where no agent is rewarded at all, nothing is known, and nothing is refused. A fleet's actors that step
    Python environments are not asked."""
    algorithm = backend.algorithm
    if not algorithm.credit.answers() & {"reward", "mix"} or not possible(algorithm.spec):
        return
    if isinstance(backend, Fused):
        own, team = _jax_play(backend.env, algorithm)
    elif isinstance(backend, Hosted) and backend.pools:
        own, team = _host_play(backend.pools[0], algorithm)
    else:
        return
    if not is_zero_sum(own, team):
        return
    agents = algorithm.spec.team.agents
    half = "+".join(agents[: len(agents) // 2])
    rest = "+".join(agents[len(agents) // 2 :])
    raise UserError(
        f"the rewards of {', '.join(agents)} sum to 0 at each of {len(team):,} steps of random play: what one wins another loses, so the "
        f"team's reward that --credit {credit} learns from is always 0. Say whose side it is and who plays the others, for example "
        f"--team {half!r} --opponent '{rest}=random', or let all learn for themselves: --credit individual"
    )


def possible(spec: Spec) -> bool:
    """Whether a team of this spec may be zero-sum, by what it declares."""
    low, high = spec.return_bounds or (None, None)
    bounded = (low is not None and low > 0) or (high is not None and high < 0) or (low == 0 and high is not None and high > 0)
    return len(spec.team.agents) > 1 and not bounded


def is_zero_sum(own: np.ndarray, team: np.ndarray) -> bool:
    """Whether the `team`'s rewards `[k]` are 0 at every step, and `own`, the agents' `[k n]`, at some step are not."""
    size = np.abs(own).sum(-1)
    return bool(size.max(initial=0) > 0 and (np.abs(team) <= SMALL * np.maximum(size, SMALL)).all())


def _jax_play(env: Vectorized, algorithm: Algorithm) -> tuple[np.ndarray, np.ndarray]:
    """Rewards of random legal play, `[k n]` of the team's agents and `[k]`; resets left out."""
    many, spec = replace(env, b=ENVS), algorithm.spec
    spaces, counts = [g.space for g in spec.groups], [g.count for g in spec.groups]
    blank = tuple(jnp.zeros((ENVS, g.count, g.space.head)) for g in spec.groups)

    def tick(carry: Any, key: Any) -> Any:
        state, step = carry
        k1, k2 = jax.random.split(key)
        action = algorithm.sample(blank, step.legal, draw_group_noise(spaces, counts, k1, (ENVS,)))
        state, step = many.step(state, algorithm.emit(action), jax.random.split(k2, ENVS))
        return (state, step), (step.reward, step.team_reward, step.first)

    def run(key: Any) -> Any:
        k1, k2 = jax.random.split(key)
        return jax.lax.scan(tick, many.init(jax.random.split(k1, ENVS)), jax.random.split(k2, STEPS))[1]

    played = jax.jit(run, compiler_options=supported(FAST_COMPILE))(jax.random.key(KEY))
    return _real(spec, *jax.device_get(played))


def _host_play(pool: Workers, algorithm: Algorithm) -> tuple[np.ndarray, np.ndarray]:
    """The same, of one seed's worker processes; they begin anew when training does."""
    spec, b, random = algorithm.spec, pool.b, np.random.default_rng(KEY)
    _, step = pool.init(np.arange(b))
    rows, began = list[tuple[np.ndarray, ...]](), time.monotonic()
    while len(rows) < HOST_STEPS and (len(rows) < 2 or time.monotonic() - began < PATIENCE):
        action = []
        for g, ok in zip(spec.groups, step.legal, strict=True):
            noise = g.space.noise(random, (b, g.count))
            action.append(g.space.emit(g.space.sample(np.zeros((b, g.count, g.space.head), np.float32), ok, noise)))
        _, step = pool.step(None, tuple(action))
        rows.append((step.reward, step.team_reward, step.first))
    return _real(spec, *(np.stack(x) for x in zip(*rows, strict=True)))


def _real(spec: Spec, own: np.ndarray, team: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(own)[~first][:, : spec.team.n], np.asarray(team)[~first]
