"""What actions were worth, measured while training: states of a rollout played on without one agent's action (credit = "measured").

    w_i = sum_{h < H} g^h r_{t+h}  + g^H v(s_{t+H})  -  the same, where agent i's action at t is its default

The first sum is the rollout itself; only the second is played, with the very noise and keys that the rollout met afterwards (common
random numbers), by the policy that acted: what differs is the action's doing. Where an episode ends within the window there is nothing
to bootstrap, be it a termination or a time limit: the worth is of the episode's return.
"""

from dataclasses import dataclass, field
from functools import partial
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
    """What is measured in one rollout: at which steps, `times [m]`, ascending, and by which numbers, `lots [m b n]`, the agent is drawn in
    each environment whose action that is."""

    times: Array
    lots: Array


def draw(measuring: Measuring, key: Array, length: int, b: int, agents: int) -> Drawn:
    """Times spread over the rollout, a random one in each of equally long parts, and random lots."""
    k1, k2 = jax.random.split(key)
    count, last = measuring.times(length), measuring.last(length)
    edges = np.arange(count + 1) * last // count
    times = edges[:-1] + jax.random.randint(k1, (count,), 0, np.diff(edges))
    return Drawn(times, jax.random.uniform(k2, (count, b, agents)))


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
    """A rollout's `trajectories [b t ...]` with what one action in each of its environments was worth, at each of the drawn times: of an
    agent drawn from those who did something else than their default. Where nobody did, nothing is known.

    Args: `kept`: `Snapshots.kept`; `noise`, `keys`: the rollout's own, `[t b ...]`; `window`: H.
    """
    b, length = trajectories.logp.shape[:2]
    n, at = algorithm.spec.team.n, partial(_at, times=drawn.times)
    action = tuple(at(a) for a in trajectories.action)
    everyone = without(algorithm.spec, action, jnp.ones((len(drawn.times), b, algorithm.spec.n), bool))
    eligible = (at(trajectories.acts) & ~_same(action, everyone))[..., :n]
    who = jnp.where(eligible, drawn.lots, -1).argmax(-1)
    first = without(algorithm.spec, action, jax.nn.one_hot(who, algorithm.spec.n, dtype=bool))
    recorded = _recorded(algorithm, train, trajectories, drawn.times, window)
    worth = recorded - _played(env, algorithm, train, trajectories, kept, drawn.times, first, noise, keys, window)
    known = eligible.any(-1)
    place = jnp.arange(b), drawn.times[:, None], who
    put = lambda x: jnp.zeros((b, length, algorithm.spec.n), x.dtype).at[place].set(x)
    return replace(trajectories, measured=MeasuredWorth(put(jnp.where(known, worth, 0)), put(known)))


def _at(x: Array, times: Array) -> Array:
    """`x [b t ...]` at `times [m]`, `[m b ...]`."""
    return jnp.swapaxes(x[:, times], 0, 1)


def _same(action: tuple[Array, ...], other: tuple[Array, ...]) -> Array:
    """Which agents do the same in both, `[m b n]`."""
    return concat_agents([jnp.equal(a, o).reshape(*a.shape[:3], -1).all(-1) for a, o in zip(action, other, strict=True)])


def _recorded(algorithm: Algorithm, train: Train, trajectories: Trajectory, times: Array, window: int) -> Array:
    """The team's discounted return from `times [m]` on in the rollout itself, bootstrapped after `window` steps, `[m b]`."""
    length, step, gamma = trajectories.logp.shape[1], trajectories.step, algorithm.discount
    span = jnp.minimum(window, length - times)[:, None]
    over = step.last | step.first

    def add(h: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, going = carry
        t, on = jnp.minimum(times + h + 1, length), going & (h < span)
        return total + jnp.where(on, gamma**h * _at(step.team_reward, t), 0), going & ~(on & _at(over, t))

    begin = jnp.zeros((len(times), len(over))), jnp.ones((len(times), len(over)), bool)
    total, going = lax.fori_loop(0, window, add, begin)
    ends = times + span[:, 0]
    if algorithm.architecture.recurrent_critic():
        ahead = _at(state_values(algorithm, train, step, trajectories.memory), ends)
    else:
        last = jax.tree.map(lambda x: _at(x, ends).reshape(total.size, *x.shape[2:]), step)
        ahead = step_values(algorithm, train, last).reshape(total.shape)
    return total + jnp.where(going, gamma**span * ahead, 0)


def _played(
    env: Vectorized, algorithm: Algorithm, train: Train, trajectories: Trajectory, kept: Any, times: Array, first: tuple[Array, ...],
    noise: tuple[Array, ...], keys: Array, window: int,
) -> Array:  # fmt: skip
    """The same where the actions at `times` are `first`, `[m b n_g ...]` per group: played on from the states that were `kept`, `[m b]`."""
    b, length = trajectories.logp.shape[:2]
    m, gamma, recurrent = len(times), algorithm.discount, algorithm.architecture.recurrent_critic()
    flat = lambda x: x.reshape(m * b, *x.shape[2:])
    wide = lambda x: flat(jnp.broadcast_to(x[:, None], (m, b)))
    again = lambda x: jnp.tile(x, (m, *(1,) * (x.ndim - 1)))  # `[b ...]` for each of the times
    (state, memory), here, first = jax.tree.map(flat, (kept, jax.tree.map(lambda x: _at(x, times), trajectories.step), first))
    begun, span = wide(times), wide(jnp.minimum(window, length - times))
    story: Any = jax.tree.map(again, trajectories.step) if recurrent else None  # what critics with a memory see: the rollout up to `times`

    def tick(carry: Any) -> Any:
        h, state, now, memory, total, going, story = carry
        drawn, key = jax.tree.map(lambda x: flat(x[jnp.minimum(times + h, length - 1)]), (noise, keys))
        chosen, _, _, after = algorithm.act(train.policy, now, memory, drawn)
        chosen = tuple(jnp.where(h == 0, a, c) for a, c in zip(first, chosen, strict=True))
        following, reached = jax.vmap(env.env.step)(state, algorithm.emit(chosen), key)
        reached, _ = sanitize(reached, env.guards)
        on = going & (h < span)
        hold = lambda x, y: jnp.where(on.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
        state, now, memory = jax.tree.map(hold, (following, reached, after), (state, now, memory))
        if recurrent:
            place = jnp.arange(m * b), jnp.where(on, begun + h + 1, length + 1)  # past the end nothing is written
            story = jax.tree.map(lambda all_, x: all_.at[place].set(x, mode="drop"), story, now)
        total = total + jnp.where(on, gamma**h * reached.team_reward, 0)
        return h + 1, state, now, memory, total, going & ~(on & reached.last), story

    carry = jnp.array(0), state, here, memory, jnp.zeros(m * b), jnp.ones(m * b, bool), story
    _, _, now, _, total, going, story = lax.while_loop(lambda carry: (carry[0] < window) & carry[5].any(), tick, carry)
    if recurrent:
        ahead = state_values(algorithm, train, story, jax.tree.map(again, trajectories.memory))[jnp.arange(m * b), begun + span]
    else:
        ahead = step_values(algorithm, train, now)
    return (total + jnp.where(going, gamma**span * ahead, 0)).reshape(m, b)


def without(spec: Spec, action: tuple[Array, ...], out: Array) -> tuple[Array, ...]:
    """`action` (`[... n_g]` per group) with the declared default where `out [... n]`."""
    start, changed = 0, []
    for g, a in zip(spec.groups, action, strict=True):
        which = out[..., start : start + g.count]
        start += g.count
        changed.append(jnp.where(which.reshape(*which.shape, *(1,) * (a.ndim - which.ndim)), g.default_like(a), a))
    return tuple(changed)


def state_values(algorithm: Algorithm, train: Train, step: Step, memory: Memory) -> Array:
    """What the team's agents' critics say of sequences of steps `[x t ...]`, on average `[x t]`."""
    architecture, spec, cores = algorithm.architecture, algorithm.spec, None
    if architecture.trunk == "shared":
        cores = architecture.policy(spec, train.nets.actor, train.seen, step, memory)[1]
    values, _ = architecture.value(spec, train.nets.critic, train.seen, step, memory, cores)
    return algorithm.sets.denormalized(concat_agents(list(values)), train.targets.value)[..., : spec.team.n].mean(-1)


def step_values(algorithm: Algorithm, train: Train, step: Step) -> Array:
    """The same of single steps `[x ...]`, by critics without memory, `[x]`."""
    return state_values(algorithm, train, jax.tree.map(lambda x: x[:, None], step), algorithm.memory(step.first.shape[0]))[:, 0]
