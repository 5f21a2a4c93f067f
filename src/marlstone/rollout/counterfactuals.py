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
from marlstone.architectures.contract import Memory
from marlstone.core.distributions import concat_agents
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
    m, gamma = len(drawn.times), getattr(algorithm.learner, "gamma", 1.0)
    step, value = trajectories.step, state_values(algorithm, train, trajectories.step, trajectories.memory)
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

    begun, spans = (flat(jnp.broadcast_to(x[:, None], (m, b))) for x in (drawn.times, span))
    recurrent = algorithm.architecture.recurrent_critic()
    again = lambda x: jnp.tile(x, (m, *(1,) * (x.ndim - 1)))  # for each of the times [m b ...], flat
    story: Any = (
        jax.tree.map(again, step) if recurrent else None
    )  # what critics with a memory have seen, the branch in place of the rollout

    def tick(carry: Any) -> Any:
        h, state, now, memory, total, going, story = carry
        t = jnp.minimum(drawn.times + h, length - 1)
        drawn_noise, key = jax.tree.map(lambda x: flat(x[t]), (noise, keys))
        chosen, _, _, after = algorithm.act(train.policy, now, memory, drawn_noise)
        chosen = tuple(jnp.where(h == 0, a, c) for a, c in zip(first, chosen, strict=True))
        following, reached = jax.vmap(env.env.step)(state, algorithm.emit(chosen), key)
        reached, _ = sanitize(reached, env.guards)
        on = going & (h < spans)
        hold = lambda x, y: jnp.where(on.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
        state, now, memory = jax.tree.map(hold, (following, reached, after), (state, now, memory))
        if recurrent:
            place = (jnp.arange(m * b), jnp.where(on, begun + h + 1, length + 1))  # past the end nothing is written
            story = jax.tree.map(lambda all_, x: all_.at[place].set(x, mode="drop"), story, now)
        total = total + jnp.where(on, gamma**h * reached.team_reward, 0)
        return h + 1, state, now, memory, total, going & ~(on & reached.last), story

    carry = jnp.array(0), state, here, memory, jnp.zeros(m * b), jnp.ones(m * b, bool), story
    _, _, now, _, total, still, story = lax.while_loop(lambda carry: (carry[0] < window) & carry[5].any(), tick, carry)
    if recurrent:
        ahead = state_values(algorithm, train, story, jax.tree.map(again, trajectories.memory))[jnp.arange(m * b), begun + spans]
    else:
        ahead = state_values(algorithm, train, jax.tree.map(lambda x: x[:, None], now), algorithm.memory(m * b))[:, 0]
    total = total + jnp.where(still, gamma**spans * ahead, 0)

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


def state_values(algorithm: Algorithm, train: Train, step: Step, memory: Memory) -> Array:
    """What the team's agents' critics say of sequences of steps `[x t ...]`, on average `[x t]`."""
    architecture, spec, cores = algorithm.architecture, algorithm.spec, None
    if architecture.trunk == "shared":
        cores = architecture.policy(spec, train.nets.actor, train.seen, step, memory)[1]
    values, _ = architecture.value(spec, train.nets.critic, train.seen, step, memory, cores)
    return algorithm.sets.denormalized(concat_agents(list(values)), train.targets.value)[..., : spec.team.n].mean(-1)
