"""Episodes in which different policies play different agents: who decides for whom, in one compiled program."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.algorithm import Algorithm
from marlstone.core.distributions import draw_group_noise
from marlstone.core.records import replace
from marlstone.core.types import Step
from marlstone.play.action_selectors import Actions
from marlstone.policy.dictionaries import blank_actions
from marlstone.policy.policy import Policy
from marlstone.rollout.opponents import ByPolicy, Seat

Array = Any


@dataclass(frozen=True, eq=False)
class BySides:
    """Every seat decides for its agents, as it is deployed. `algorithm`: of the whole environment, for its groups and spaces.

    What is evaluated, `policy`, holds of every seat the temperature it acts at and the arrays of its policy (none for chance): policies of
    one structure share a program.
    """

    algorithm: Algorithm
    seats: tuple[Seat, ...]

    def memory(self, b: int) -> Any:
        """Of every seat, before an episode of each of `b` environments."""
        many = lambda x: jnp.broadcast_to(jnp.asarray(x), (b, *jnp.shape(x)))
        return tuple(jax.tree.map(many, seat.mind.memory()) for seat in self.seats)

    def decide(self, policy: Any, step: Step, memory: Any, key: Array, temperature: Array) -> tuple[Actions, Any]:
        """Recorded actions of all agents; how each seat acts is its own affair, so that `temperature` is left aside."""
        b, step = step.first.shape, _whole(step)
        joint: Actions = tuple(jnp.broadcast_to(x, (*b, *x.shape)) for x in map(blank_actions, self.algorithm.spec.groups))
        after = []
        for i, (seat, (heat, arrays), m) in enumerate(zip(self.seats, policy, memory, strict=True)):
            groups = seat.mind.groups
            k = jax.random.fold_in(key, i)
            drawn = draw_group_noise([g.space for g in groups], [g.count for g in groups], k, b)
            noise = (*(heat * z for z in drawn), *seat.mind.link_draws(k, b))
            action, m = jax.vmap(with_arrays(seat, arrays).mind.act)(seat.seen(step), m, noise)
            joint = seat.view.put(joint, action, seat.acting)
            after.append(m)
        return joint, tuple(after)


def _whole(step: Step) -> Step:
    """A step with everything that views look at, also where a host shows policies only what they see."""
    b, here = step.first.shape, step.present
    ones, zeros = jnp.ones(here.shape), jnp.zeros(here.shape)
    numbers = {"reward": zeros, "discount": ones, "deciding": here, "team_reward": jnp.zeros(b), "team_discount": jnp.ones(b)}
    return replace(step, **numbers, state=jnp.zeros((*b, 0)), last=jnp.zeros(b, bool), metrics={})


def with_arrays(seat: Seat, arrays: tuple[Array, ...]) -> Seat:
    """A seat whose policy has these arrays, which may be known only when a program runs."""
    if not isinstance(seat.mind, ByPolicy):
        return seat
    return replace(seat, mind=_Bound(seat.mind.policy, seat.mind.acting, arrays))


@dataclass(frozen=True, eq=False)
class _Bound(ByPolicy):
    """A policy with other arrays of the same shapes."""

    arrays: tuple[Array, ...] = ()

    def act(self, step: Step, memory: Any, noise: Actions) -> tuple[Actions, Any]:
        """The decisions of these arrays."""
        held = jax_policy(self.policy).deployed
        bound = held.actor.bind(self.arrays, copy=lambda x: x)
        return replace(held, weights=bound).choose(step, memory, noise)


def jax_policy(policy: Policy) -> Policy:
    """The same policy, deciding in JAX."""
    return policy if policy.backend == "jax" else Policy(policy.description, policy.arrays, policy.gate, "jax", policy.parts)
