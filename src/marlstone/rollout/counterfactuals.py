"""What actions were worth, measured while training: states of a rollout played on without one agent's action (credit = "measured").

    w_i = sum_{h < H} g^h r_{t+h}  + g^H v(s_{t+H})  -  the same, where agent i's action at t is its default

The first sum is the rollout itself; only the second is played, with the very noise and keys that the rollout met afterwards (common
random numbers), by the policy that acted: what differs is the action's doing. Where an episode ends within the window there is nothing
to bootstrap, be it a termination or a time limit: the worth is of the episode's return.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.algorithm import Algorithm, Train
from marlstone.core.records import record, replace
from marlstone.core.types import MeasuredWorth, Spec, Step, Trajectory
from marlstone.credit.contract import Measuring
from marlstone.envs.guards import sanitize
from marlstone.envs.vectorized import Vectorized
from marlstone.rollout.unroll import RolloutState

Array = Any


@record
class Drawn:
    """What is measured in one rollout: at which steps, `times [m]`, ascending, and whose action in each environment, `who [m b]`."""

    times: Array
    who: Array


def draw(measuring: Measuring, key: Array, length: int, b: int, agents: int) -> Drawn:
    """Times spread over the rollout, a random one in each of equally long parts, and random agents."""
    k1, k2 = jax.random.split(key)
    count, last = measuring.times(length), measuring.last(length)
    edges = np.arange(count + 1) * last // count
    times = edges[:-1] + jax.random.randint(k1, (count,), 0, np.diff(edges))
    return Drawn(times, jax.random.randint(k2, (count, b), 0, agents))


@dataclass(eq=False)
class Snapshots:
    """`lax.scan` for `unroll` that keeps what environments and memories were before the steps `times [m]`, in `kept`, `[m b ...]`."""

    times: Array
    kept: Any = field(default=None, init=False)

    def scan(self, tick: Any, acting: RolloutState, xs: Any) -> tuple[RolloutState, Any]:
        """As `lax.scan`. One copy of the state is written on a step, to where the next of `times` is kept."""
        of = lambda now: (now.env.env, now.memory)
        blank = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(self.times), *x.shape)), of(acting))

        def keeping(carry: Any, x: Any) -> Any:
            now, kept, t = carry
            slot = jnp.searchsorted(self.times, t)  # the first that is not before t; after the last one nothing is written
            kept = jax.tree.map(lambda all_, one: all_.at[slot].set(one, mode="drop"), kept, of(now))
            now, out = tick(now, x)
            return (now, kept, t + 1), out

        (after, self.kept, _), out = lax.scan(keeping, (acting, blank, jnp.array(0, jnp.int32)), xs)
        return after, out


def measure(
    env: Vectorized, algorithm: Algorithm, train: Train, trajectories: Trajectory, kept: Any, drawn: Drawn, noise: tuple[Array, ...],
    keys: Array, window: int,
) -> Trajectory:  # fmt: skip
    """A rollout's `trajectories [b t ...]` with what the drawn actions were worth.

    Args: `kept`: `Snapshots.kept`; `noise`, `keys`: the rollout's own, `[t b ...]`; `window`: H.
    """
    b, length = trajectories.logp.shape[:2]
    m, n, gamma = len(drawn.times), algorithm.spec.team.n, getattr(algorithm.learner, "gamma", 1.0)
    views = algorithm.views(train.nets, train.seen, train.targets, trajectories, frozenset({"value"}))
    value, step = views.value[..., :n].mean(-1), trajectories.step  # of the team, from every agent's side [b t+1]
    span = jnp.minimum(window, length - drawn.times)  # steps there are to play [m]
    over = step.last | step.first

    def at(x: Array, t: Array) -> Array:
        """`x [b t ...]` at the times `t [m]`, `[m b ...]`."""
        return jnp.swapaxes(x[:, t], 0, 1)

    # ---- what came of the recorded action: the rollout itself
    def add(h: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, going = carry
        t, on = jnp.minimum(drawn.times + h + 1, length), going & (h < span)[:, None]
        return total + jnp.where(on, gamma**h * at(step.team_reward, t), 0), going & ~(on & at(over, t))

    factual, alive = lax.fori_loop(0, window, add, (jnp.zeros((m, b)), jnp.ones((m, b), bool)))
    factual = factual + jnp.where(alive, gamma ** span[:, None] * at(value, drawn.times + span), 0)

    # ---- the same without it: played
    flat = lambda x: x.reshape(m * b, *x.shape[2:])
    state, memory = jax.tree.map(flat, kept)
    here: Step = jax.tree.map(lambda x: flat(at(x, drawn.times)), step)
    out = jax.nn.one_hot(flat(drawn.who), algorithm.spec.n, dtype=bool)
    action = tuple(flat(at(a, drawn.times)) for a in trajectories.action)
    first = without(algorithm.spec, action, out)

    def tick(carry: Any) -> Any:
        h, state, now, memory, total, going = carry
        t = jnp.minimum(drawn.times + h, length - 1)
        drawn_noise, key = jax.tree.map(lambda x: flat(x[t]), (noise, keys))
        chosen, _, _, after = algorithm.act(train.policy, now, memory, drawn_noise)
        chosen = tuple(jnp.where(h == 0, a, c) for a, c in zip(first, chosen, strict=True))
        following, reached = jax.vmap(env.env.step)(state, algorithm.emit(chosen), key)
        reached, _ = sanitize(reached, env.guards)
        on = going & flat(jnp.broadcast_to((h < span)[:, None], (m, b)))
        hold = lambda x, y: jnp.where(on.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
        state, now, memory = jax.tree.map(hold, (following, reached, after), (state, now, memory))
        return h + 1, state, now, memory, total + jnp.where(on, gamma**h * reached.team_reward, 0), going & ~(on & reached.last)

    going = lambda carry: (carry[0] < window) & carry[-1].any()
    _, _, now, _, total, going_on = lax.while_loop(
        going, tick, (jnp.array(0), state, here, memory, jnp.zeros(m * b), jnp.ones(m * b, bool))
    )
    ahead = _value(algorithm, train, now)[..., :n].mean(-1)
    total = total + jnp.where(going_on, gamma ** flat(jnp.broadcast_to(span[:, None], (m, b))) * ahead, 0)

    # ---- where it counts
    mine = lambda x: jnp.take_along_axis(flat(x), flat(drawn.who)[:, None], -1)[:, 0]
    counted = mine(at(trajectories.acts, drawn.times))
    same = mine(_same(algorithm, action, first).reshape(m, b, -1))
    worth = jnp.where(counted & ~same, flat(factual) - total, 0).reshape(m, b)
    known = counted.reshape(m, b)
    rows, blank = jnp.arange(b), jnp.zeros((b, length, algorithm.spec.n))
    put = lambda x, dtype: blank.astype(dtype).at[rows[None], drawn.times[:, None], drawn.who].set(x)
    return replace(trajectories, measured=MeasuredWorth(put(worth, jnp.float32), put(known, bool)))


def without(spec: Spec, action: tuple[Array, ...], out: Array) -> tuple[Array, ...]:
    """`action` (`[... n_g]` per group) with the declared default where `out [... n]`."""
    start, changed = 0, []
    for g, a in zip(spec.groups, action, strict=True):
        which = out[..., start : start + g.count]
        start += g.count
        changed.append(jnp.where(which.reshape(*which.shape, *(1,) * (a.ndim - which.ndim)), g.default_like(a), a))
    return tuple(changed)


def _same(algorithm: Algorithm, action: tuple[Array, ...], other: tuple[Array, ...]) -> Array:
    """Which agents do the same in both, `[x n]`."""
    each = [jnp.equal(a, o).reshape(*a.shape[:2], -1).all(-1) for a, o in zip(action, other, strict=True)]
    return jnp.concatenate(each, -1)


def _value(algorithm: Algorithm, train: Train, step: Step) -> Array:
    """State values of single steps `[x ...]`, `[x n]`, of critics without memory."""
    trajectory = jax.tree.map(lambda x: x[:, None], step)
    memory = algorithm.memory(step.first.shape[0])
    architecture, sets = algorithm.architecture, algorithm.sets
    cores = architecture.policy(algorithm.spec, train.nets.actor, train.seen, trajectory, memory)[1]
    values, _ = architecture.value(algorithm.spec, train.nets.critic, train.seen, trajectory, memory, cores)
    return sets.denormalized(jnp.concatenate(list(values), -1), train.targets.value)[:, 0]
