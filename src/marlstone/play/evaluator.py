"""Playing whole episodes with a frozen policy: how good is it, without learning?"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.core.records import record, replace
from marlstone.core.types import Metric, Spec, Step
from marlstone.envs.vectorized import Vectorized
from marlstone.play.action_selectors import Decider, told
from marlstone.play.used import used_by
from marlstone.rollout.unroll import RolloutState

Array = Any
LONGEST = 10_000  # steps after which an episode that has not ended is given up, where none are configured and no longer horizon is declared
REPLAYS = 10  # times in a row that an episode may break off before it is given up


@record
class Episodes:
    """One episode of each of `e` environments, undiscounted: `team_return [e]`, `agent_return [e n]`, `length [e]`,
    true `metrics` `[e]`, whether it `ended [e]` (what has not is given up, and left out of every figure), how often it `broke [e]` off
    and was replayed, sums of what its decider counted (`told`) of its steps, `[e ...]` each, and what playing used (`play.used`), replayed
    steps and those until the last episode ended included."""

    team_return: Array
    agent_return: Array
    length: Array
    metrics: dict[str, Array]
    ended: Array
    broke: Array = 0
    told: dict[str, Array] = field(default_factory=dict)
    used: dict[str, Array] = field(default_factory=dict)

    def per_seed(self, values: Any = None) -> list[np.ndarray]:
        """`values [seeds e]` (default: team returns) of the episodes that ended, seed by seed."""
        values = np.asarray(self.team_return if values is None else values, float)
        return [v[ended] for v, ended in zip(values, np.asarray(self.ended, bool), strict=True)]

    def ended_only(self, values: Any = None) -> np.ndarray:
        """`values [seeds e]` (default: team returns), NaN where an episode did not end: what is compared in pairs."""
        return np.where(np.asarray(self.ended, bool), np.asarray(self.team_return if values is None else values, float), np.nan)


def init_episodes(
    e: int, n: int, metrics: dict[str, Metric], telling: Mapping[str, Any] | None = None, using: Mapping[str, Any] | None = None
) -> Episodes:
    """`telling`: what the decider counts of a step, `using`: what a step uses, by name: anything with the shape `[e ...]` of it."""
    counts = {k: jnp.zeros(x.shape) for k, x in (telling or {}).items()}
    used = {k: jnp.zeros(x.shape, x.dtype) for k, x in (using or {}).items()}
    zeros, none = jnp.zeros(e), {k: jnp.zeros(e) for k in metrics}
    return Episodes(zeros, jnp.zeros((e, n)), zeros, none, jnp.zeros(e, bool), jnp.zeros(e, jnp.int32), counts, used)


def over(so_far: Episodes) -> Array:
    """Which episodes are not played on, `[e]`: they ended, or broke off too often."""
    return so_far.ended | (so_far.broke >= REPLAYS)


def longest(spec: Spec, most: int | None) -> int:
    """Steps after which an episode is given up: `most`, if that is configured. A declared horizon cuts nothing; it only raises this."""
    return most or max(LONGEST, 2 * (spec.horizon or 0))


def add(
    so_far: Episodes,
    step: Step,
    declared: dict[str, Metric],
    counts: Mapping[str, Array] | None = None,
    used: Mapping[str, Array] | None = None,
) -> Episodes:
    """Count a step `[e ...]` for the episodes still going; one that broke off (a reset before an end) is begun again.

    Args: `counts`: the decider's, of the actions before this step; `used`: what they used (`play.used.used_by`): of whoever still plays,
    and `rows` of all, since all are computed.
    """
    going = ~over(so_far)
    spent = {k: so_far.used[k] + (v if k == "rows" else jnp.where(going.reshape(-1, *(1,) * (v.ndim - 1)), v, 0))
             for k, v in (used or {}).items()}  # fmt: skip
    each = lambda mask, x: mask.reshape(-1, *(1,) * (x.ndim - 1))
    plus = lambda old, new: jnp.where(each(going & step.first, old), 0, old + jnp.where(each(going, old), new, 0))
    latest = lambda k: jnp.where(going, step.metrics[k], so_far.metrics[k])
    keep = lambda k: latest(k) if declared[k].reduce == "last" else plus(so_far.metrics[k], step.metrics[k])
    return Episodes(
        plus(so_far.team_return, step.team_reward),
        plus(so_far.agent_return, step.reward),
        plus(so_far.length, jnp.ones_like(so_far.length)),
        {k: keep(k) for k in declared},
        so_far.ended | (going & step.last & ~step.first),
        so_far.broke + (going & step.first),
        {k: plus(so_far.told[k], jnp.asarray(v, jnp.float32)) for k, v in (counts or {}).items()},
        spent,
    )


def finish(e: Episodes, declared: dict[str, Metric]) -> Episodes:
    """Sums of metrics that are means, divided."""
    mean = lambda k, x: x / jnp.maximum(e.length, 1) if declared[k].reduce == "mean" else x
    return replace(e, metrics={k: mean(k, x) for k, x in e.metrics.items()})


def play(
    env: Vectorized, b: int, decider: Decider, policy: Any, key: Array, temperature: Array, most: int | None = None
) -> tuple[Episodes, dict[str, Array]]:
    """One episode of each of `b` JAX environments, in one compiled loop, to its end or for `longest` steps; and the faults met in them,
    by name. The same key meets every decider, at every temperature of sampling, with the same environments."""
    k1, k2, k3 = jax.random.split(key, 3)
    state, step = env.init(jax.random.split(k1, b))
    metrics, limit = env.spec.metrics, longest(env.spec, most)
    memory = decider.memory(b)
    telling = jax.eval_shape(lambda m, after: told(decider, m, after), memory, step)
    using = jax.eval_shape(lambda at: used_by(decider.algorithm, at, at), step)
    begin = (jnp.array(0), RolloutState(state, step, memory), init_episodes(b, env.spec.n, metrics, telling, using))

    def tick(carry: tuple[Array, RolloutState, Episodes]) -> tuple[Array, RolloutState, Episodes]:
        i, now, so_far = carry
        action, memory = decider.decide(policy, now.step, now.memory, jax.random.fold_in(k2, i), temperature)
        state, step = env.step(now.env, decider.algorithm.emit(action), jax.random.split(jax.random.fold_in(k3, i), b))
        used = used_by(decider.algorithm, now.step, step)
        return i + 1, RolloutState(state, step, memory), add(so_far, step, metrics, told(decider, memory, step), used)

    going = lambda carry: (carry[0] < limit) & ~over(carry[2]).all()
    _, now, played = lax.while_loop(going, tick, begin)
    return finish(played, metrics), now.env.faults
