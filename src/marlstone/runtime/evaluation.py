"""Playing whole episodes with a frozen policy: how good is it, without learning?"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.records import record, replace
from marlstone.core.types import Metric, Step
from marlstone.envs.protocol import VectorEnv
from marlstone.runtime.deciding import Act, Decider, told
from marlstone.runtime.unroll import Acting

Array = Any
UNKNOWN_HORIZON = 10_000  # rows after which an episode of undeclared length is cut


@record
class Episodes:
    """One episode of each of `e` environments, undiscounted: `team_return [e]`, `agent_return [e n]`, `length [e]`,
    true `metrics` `[e]`, whether it `ended [e]` before the horizon, and sums of what its decider `told` of its rows, `[e]` each."""

    team_return: Array
    agent_return: Array
    length: Array
    metrics: dict[str, Array]
    ended: Array
    told: dict[str, Array] = field(default_factory=dict)


def nothing_yet(e: int, n: int, metrics: dict[str, Metric], telling: Mapping[str, Any] | None = None) -> Episodes:
    """`telling`: what the decider tells of a row, by name."""
    none = lambda names: {k: jnp.zeros(e) for k in names}
    return Episodes(jnp.zeros(e), jnp.zeros((e, n)), jnp.zeros(e), none(metrics), jnp.zeros(e, bool), none(telling or {}))


def add(so_far: Episodes, row: Step, declared: dict[str, Metric], said: Mapping[str, Array] | None = None) -> Episodes:
    """Count a row `[e ...]` for the episodes still going; one that broke off (a reset row before an end) is begun again. `said`: what the
    decider told of the actions before this row."""
    going = ~so_far.ended
    each = lambda mask, x: mask.reshape(-1, *(1,) * (x.ndim - 1))
    plus = lambda old, new: jnp.where(each(going & row.first, new), 0, old + jnp.where(each(going, new), new, 0))
    latest = lambda k: jnp.where(going, row.metrics[k], so_far.metrics[k])
    keep = lambda k: latest(k) if declared[k].reduce == "last" else plus(so_far.metrics[k], row.metrics[k])
    return Episodes(
        plus(so_far.team_return, row.team_reward),
        plus(so_far.agent_return, row.reward),
        plus(so_far.length, jnp.ones_like(so_far.length)),
        {k: keep(k) for k in declared},
        so_far.ended | row.last,
        {k: plus(so_far.told[k], jnp.asarray(v, jnp.float32)) for k, v in (said or {}).items()},
    )


def finish(e: Episodes, declared: dict[str, Metric]) -> Episodes:
    """Sums of metrics that are means, divided."""
    mean = lambda k, x: x / jnp.maximum(e.length, 1) if declared[k].reduce == "mean" else x
    return replace(e, metrics={k: mean(k, x) for k, x in e.metrics.items()})


def play(env: VectorEnv, b: int, decider: Decider, policy: Any, key: Array, act: Act = "mode") -> Episodes:
    """One episode of each of `b` JAX environments, in one compiled loop. The same key meets every decider with the same environments."""
    k1, k2, k3 = jax.random.split(key, 3)
    state, step = env.init(jax.random.split(k1, b))
    metrics, limit = env.spec.metrics, env.spec.horizon or UNKNOWN_HORIZON
    memory = decider.memory(b)
    telling = jax.eval_shape(lambda m: told(decider, m), memory)
    begin = (jnp.array(0), Acting(state, step, memory), nothing_yet(b, env.spec.n, metrics, telling))

    def tick(carry: tuple[Array, Acting, Episodes]) -> tuple[Array, Acting, Episodes]:
        i, now, so_far = carry
        action, memory = decider.decide(policy, now.step, now.memory, jax.random.fold_in(k2, i), act)
        state, row = env.step(now.env, decider.algorithm.emit(action), jax.random.split(jax.random.fold_in(k3, i), b))
        return i + 1, Acting(state, row, memory), add(so_far, row, metrics, told(decider, memory))

    going = lambda carry: (carry[0] < limit) & ~carry[2].ended.all()
    return finish(lax.while_loop(going, tick, begin)[2], metrics)
