"""What agents' actions were truly worth: the same states played on with the same keys, one thing changed.

    worth_i(s, a) = R(s, a) - R(s, (a_-i, default_i))         R: the team's return from s on, policies going on as before
    v(S)          = R of a whole episode in which agents outside S play their defaults throughout

Everything random is drawn per step and agent and shared by all variants of a state, so differences are paired. A decision may be
continued several times, each time with other keys (`continued`): how much those differ is how noisy the truth is (`reliability`). Needs an
environment written in JAX: its state can be stepped again.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.algorithm import Algorithm, Policy
from marlstone.core.acting import Act
from marlstone.core.distributions import draw_group_noise, enumerable
from marlstone.core.records import record, replace
from marlstone.core.types import Step, Trajectory
from marlstone.envs.protocol import Env
from marlstone.envs.vectorized import Vectorized
from marlstone.play.episodes import acting_by
from marlstone.play.evaluator import longest
from marlstone.rollout.counterfactuals import without
from marlstone.rollout.unroll import assemble, draw_noise

Array = Any
EXACT = 8  # Shapley values of up to so many agents are exact
PERMUTATIONS = 32  # pairs of antithetic ones, above


@record
class Decisions:
    """`trajectories [b t ...]` gathered by a policy, and the environment states `[b t ...]` and memories in which it decided."""

    trajectories: Trajectory
    states: Any
    memory: Any


def gather(env: Vectorized, algorithm: Algorithm, policy: Policy, key: Array, length: int, act: Act | None = None) -> Decisions:
    """`length` steps of `env.b` environments, acting as training does (None) or as deployed, with everything needed to step any of them
    again."""
    choose = acting_by(algorithm, act)
    k1, k2 = jax.random.split(key)
    state, step = env.init(jax.random.split(k1, env.b))
    begin = algorithm.memory(env.b)

    def tick(carry: Any, row: Any) -> tuple[Any, Any]:
        state, step, memory = carry
        action, emitted, heads, after = choose(policy, step, memory, row[0])
        following, new = env.step(state, emitted, row[1])
        return (following, new, after), ((step, action, heads), state.env, memory)

    (_, last, _), (rows, states, memory) = lax.scan(tick, (state, step, begin), draw_noise(algorithm, k2, length, env.b))
    swap = lambda tree: jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)
    return Decisions(assemble(algorithm, rows, last, begin), swap(states), swap(memory))


@record
class Returns:
    """The team's returns from a state on, `[m]` each: undiscounted, and with the learner's discount; the last step that was made, and
    whether the episode had ended by then."""

    total: Array
    discounted: Array
    last: Step
    over: Array


def play_on(
    env: Env, algorithm: Algorithm, policy: Policy, state: Any, step: Step, memory: Any, first: Any, always: Array, samples: int,
    key: Array, *, act: Act | None = None, window: int | None = None,
) -> Returns:  # fmt: skip
    """What `m = samples x variants` states lead to, variants of a sample (adjacent) sharing all keys.

    Args: `first`: the recorded actions of the first step, or None: the policy's. `always [m n]`: agents that play their default. `act`: as
    deployed; None: as training does. `window`: steps after which nothing is played any more; None: to the end.
    """
    groups, m, gamma = algorithm.spec.groups, step.first.shape[0], algorithm.discount
    limit = longest(env.spec, None) if window is None else min(window, longest(env.spec, None))
    share, choose = lambda x: jnp.repeat(x, m // samples, 0), acting_by(algorithm, act)

    def tick(carry: Any) -> Any:
        t, state, step, memory, total, discounted, over = carry
        k1, k2 = jax.random.split(jax.random.fold_in(key, t))
        noise = jax.tree.map(share, draw_group_noise([g.space for g in groups], [g.count for g in groups], k1, (samples,)))
        action, _, _, memory = choose(policy, step, memory, noise)
        if first is not None:
            action = tuple(jnp.where(t == 0, a, b) for a, b in zip(first, action, strict=True))
        emitted = algorithm.emit(without(algorithm.spec, action, always))
        state, after = jax.vmap(env.step)(state, emitted, share(jax.random.split(k2, samples)))
        gained = jnp.where(over, 0, after.team_reward)
        return t + 1, state, after, memory, total + gained, discounted + gamma**t * gained, over | after.last

    going = lambda carry: (carry[0] < limit) & ~carry[-1].all()
    zero = jnp.zeros(m)
    begin = jnp.array(0), state, step, memory, zero, zero, jnp.zeros(m, bool)
    _, _, last, _, total, discounted, over = lax.while_loop(going, tick, begin)
    return Returns(total, discounted, last, over)


@record
class Worth:
    """`worth [s k]` of agents `who [k]` in the steps `at [s]` (flat in `[b t]`), the same with the learner's discount, and the team's
    return from there, `[s]`."""

    worth: Array
    at: Array
    team_return: Array
    discounted: Array


@record
class Chosen:
    """Decisions to be measured, `[s ...]`: where they are in a batch (`at`, flat in `[b t]`), and the environment's state, the step, the
    memory and the actions there."""

    at: Array
    state: Any
    step: Step
    memory: Any
    action: tuple[Array, ...]


def _flat_at(at: Array, x: Array) -> Array:
    """Of `x [b t ...]` what is at `at [s]`, flat in `[b t]`; what an opponent that knows nothing remembers has no size at all."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[at]


def deciding(it: Decisions, at: Array) -> tuple[Step, Any, tuple[Array, ...]]:
    """The step, the memory and the actions of the decisions `at [s]` (flat in `[b t]`), `[s ...]` each."""
    steps = jax.tree.map(lambda x: x[:, :-1], it.trajectories.step)
    found: tuple[Step, Any, tuple[Array, ...]] = jax.tree.map(partial(_flat_at, at), (steps, it.memory, it.trajectories.action))
    return found


def choose(it: Decisions, samples: int, key: Array) -> Chosen:
    """So many decisions, drawn from those where an action counted."""
    counts = it.trajectories.real.reshape(-1)
    at = jax.random.choice(key, counts.shape[0], (samples,), p=counts / counts.sum())
    states = jax.tree.map(partial(_flat_at, at), it.states)
    return Chosen(at, states, *deciding(it, at))


def with_and_without(
    env: Env, algorithm: Algorithm, policy: Policy, chosen: Chosen, who: np.ndarray, key: Array,
    *, act: Act | None = None, window: int | None = None,
) -> Returns:  # fmt: skip
    """What the `chosen` decisions lead to in one continuation of each, `[s x (1 + k)]`: as they were made, then without what each of the
    agents `who [k]` did; `act` and `window` as in `play_on`."""
    samples = chosen.at.shape[0]
    variants = np.concatenate([np.zeros((1, algorithm.spec.n), bool), np.eye(algorithm.spec.n, dtype=bool)[who]])
    v = len(variants)
    state, step, memory, action = jax.tree.map(lambda x: jnp.repeat(x, v, 0), (chosen.state, chosen.step, chosen.memory, chosen.action))
    first = without(algorithm.spec, action, jnp.tile(variants, (samples, 1)))
    none = jnp.zeros((samples * v, algorithm.spec.n), bool)
    return play_on(env, algorithm, policy, state, step, memory, first, none, samples, key, act=act, window=window)


def difference(chosen: Chosen, who: np.ndarray, returns: Array) -> Array:
    """What each of the agents `who [k]` did was worth by the returns of `with_and_without`, `[s k]`; 0 of those that did not act."""
    r, acted = returns.reshape(chosen.at.shape[0], -1), (chosen.step.present & chosen.step.deciding)[:, who]
    return jnp.where(acted, r[:, :1] - r[:, 1:], 0)


def continued(
    env: Env, algorithm: Algorithm, policy: Policy, chosen: Chosen, who: np.ndarray, key: Array,
    *, act: Act | None = None, window: int | None = None,
) -> Worth:  # fmt: skip
    """What agents `who` did in the `chosen` decisions was worth in one continuation of each; `act` and `window` as in `play_on`."""
    returns = with_and_without(env, algorithm, policy, chosen, who, key, act=act, window=window)
    worth = partial(difference, chosen, who)
    as_made = returns.total.reshape(chosen.at.shape[0], -1)[:, 0]
    return Worth(worth(returns.total), chosen.at, as_made, worth(returns.discounted))


def decisions_worth(env: Env, algorithm: Algorithm, policy: Policy, it: Decisions, samples: int, who: np.ndarray, key: Array) -> Worth:
    """What agents `who` did in `samples` steps, drawn from those where an action counted, was truly worth, by one continuation."""
    k1, k2 = jax.random.split(key)
    return continued(env, algorithm, policy, choose(it, samples, k1), who, k2)


def default_chances(algorithm: Algorithm, policy: Policy, step: Step, memory: Any, action: tuple[Array, ...]) -> Array:
    """With what probability each agent would have taken its default in the steps `[s ...]`, as training acts, `[s n]`; NaN where actions
    are not counted but measured. `action`: any recorded ones, for their shapes."""
    heads, _ = algorithm.heads(policy, step, memory)
    defaults = tuple(jnp.broadcast_to(g.default_like(a), a.shape) for g, a in zip(algorithm.spec.groups, action, strict=True))
    chances = jnp.exp(algorithm.log_prob(heads, step.legal, defaults))
    counted = np.concatenate([np.full(g.count, enumerable(g.space)) for g in algorithm.spec.groups])
    return jnp.where(counted, chances, jnp.nan)


def _play_keys(key: Array, play: Array | None) -> tuple[Array, Array]:
    """Of the beginnings, and of what happens after them in one of several plays."""
    k1, k2 = jax.random.split(key)
    return k1, k2 if play is None else jax.random.fold_in(k2, play)


def coalition_returns(
    env: Env, algorithm: Algorithm, policy: Policy, episodes: int, coalitions: np.ndarray, key: Array, act: Act | None = None,
    play: Array | None = None,
) -> Array:  # fmt: skip
    """v(S) `[episodes coalitions]` of whole episodes from the same beginnings; `coalitions [c n]`: who of the team plays its policy;
    `play`: which of several plays from these beginnings."""
    k1, k2 = _play_keys(key, play)
    state, step = jax.vmap(env.init)(jax.random.split(k1, episodes))
    c = len(coalitions)
    state, step = jax.tree.map(lambda x: jnp.repeat(x, c, 0), (state, step))
    out = jnp.pad(~coalitions, ((0, 0), (0, algorithm.spec.n - coalitions.shape[1])))  # managers play on
    always = jnp.tile(out, (episodes, 1))
    returns = play_on(env, algorithm, policy, state, step, algorithm.memory(episodes * c), None, always, episodes, k2, act=act)
    return returns.total.reshape(episodes, c)


def recorded_play(
    env: Env,
    algorithm: Algorithm,
    policy: Policy,
    episodes: int,
    length: int,
    key: Array,
    act: Act | None = None,
    play: Array | None = None,
) -> Trajectory:
    """The episodes in which `coalition_returns`' whole team plays, draw by draw, as trajectories of `length` steps: what credit is
    asked of. Steps behind an end are resets, which nobody counts."""
    groups, choose = algorithm.spec.groups, acting_by(algorithm, act)
    k1, k2 = _play_keys(key, play)
    state, step = jax.vmap(env.init)(jax.random.split(k1, episodes))
    begin = algorithm.memory(episodes)

    def tick(carry: Any, t: Array) -> tuple[Any, Any]:
        state, step, memory, over = carry
        a, b = jax.random.split(jax.random.fold_in(k2, t))
        noise = draw_group_noise([g.space for g in groups], [g.count for g in groups], a, (episodes,))
        action, emitted, heads, after = choose(policy, step, memory, noise)
        stepped = jax.vmap(env.step)(state, emitted, jax.random.split(b, episodes))
        over = over | step.last
        still = lambda old, new: jnp.where(over.reshape(-1, *(1,) * (old.ndim - 1)), old, new)
        state, following = jax.tree.map(still, (state, step), stepped)
        following = replace(following, first=following.first | over, last=following.last & ~over)
        return (state, following, after, over), (step, action, heads)

    (_, last, _, _), rows = lax.scan(tick, (state, step, begin, jnp.zeros(episodes, bool)), jnp.arange(length))
    return assemble(algorithm, rows, last, begin)


def shapley(value: Callable[[np.ndarray], np.ndarray], n: int, random: np.random.Generator) -> np.ndarray:
    """Shapley values `[e n]` of the game `value(coalitions [c n]) -> [e c]`: exact up to eight agents, else from antithetic
    permutations (Mitchell et al. 2022)."""
    if n <= EXACT:
        coalitions = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)
        v = value(coalitions)
        out = np.zeros((len(v), n))
        for i in range(n):
            others = [j for j in range(n) if j != i]
            for size in range(n):
                weight = factorial(size) * factorial(n - 1 - size) / factorial(n)
                for chosen in combinations(others, size):
                    index = sum(1 << j for j in chosen)
                    out[:, i] += weight * (v[:, index | 1 << i] - v[:, index])
        return out
    orders = [random.permutation(n) for _ in range(PERMUTATIONS)]
    orders += [order[::-1] for order in orders]
    total: Any = 0.0
    for order in orders:
        joined = np.zeros((n + 1, n), bool)
        for k, i in enumerate(order):
            joined[k + 1 :, i] = True
        gain = np.diff(value(joined), axis=1)
        back = np.empty(n, int)
        back[order] = np.arange(n)
        total = total + gain[:, back]
    return total / len(orders)
