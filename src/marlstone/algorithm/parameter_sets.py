"""What is averaged, scaled, clipped or normalized stays within a parameter set: agents who share nothing disturb nothing."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm.state import Nets
from marlstone.architectures.action_values import Joint
from marlstone.architectures.contract import Architecture, ObservationNormalizer
from marlstone.architectures.network import Network
from marlstone.core.distributions import enumerable
from marlstone.core.layers import Dense
from marlstone.core.normalize import EmaMoments, Scales, init_moments, merge_moments
from marlstone.core.records import replace
from marlstone.core.shards import psum_over_shards
from marlstone.core.types import Spec, Trajectory
from marlstone.learners.optimizer import clip_by_set

Array = Any


@dataclass(frozen=True)
class ParameterSets:
    """Who belongs to which parameter set, over all groups; sums run over all `shards`."""

    spec: Spec
    architecture: Architecture
    shards: int

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of parameter sets of each group."""
        return tuple(max(self.architecture.owners(g)) + 1 for g in self.spec.groups)

    @cached_property
    def members(self) -> np.ndarray:
        """`[n k]`: 1 where agent n uses global parameter set k."""
        start, columns = 0, []
        for g, k in zip(self.spec.groups, self.sizes, strict=True):
            columns += [start + o for o in self.architecture.owners(g)]
            start += k
        return np.eye(start, dtype=np.float32)[columns]

    def per_agent(self, by_set: Array) -> Array:
        """What each agent's parameter set has, `[k] -> [n]`."""
        return by_set[np.argmax(self.members, -1)]

    def denormalized(self, x: Array, t: EmaMoments) -> Array:
        """Predictions of the first agents, `[... m]`, as they are meant, `[... n]`; of the others nothing is predicted: 0."""
        m = x.shape[-1]
        real = x * self.per_agent(t.sigma)[:m] + self.per_agent(t.mu)[:m]
        return jnp.pad(real, [(0, 0)] * (x.ndim - 1) + [(0, self.spec.n - m)])

    def psum(self, tree: Any) -> Any:
        """A sum over the devices that share a batch."""
        return psum_over_shards(tree, self.shards)

    def count(self, mask: Array) -> Array:
        """How many elements `[b t n]` each parameter set has, `[k]`."""
        return mask.sum((0, 1)).astype(jnp.float32) @ self.members

    def mean(self, x: Array, mask: Array, count: Array) -> Array:
        """Mean over each parameter set's own elements, summed over sets: sets do not dilute each other."""
        return ((jnp.where(mask, x, 0).sum((0, 1)) @ self.members) / count).sum()

    def standardized(self, x: Array, mask: Array) -> Array:
        """`x [b t n]` with mean 0 and deviation 1 over each parameter set's masked elements."""
        sums = lambda y: jnp.where(mask, y, 0).sum((0, 1)) @ self.members
        first, count = self.psum((sums(x), self.count(mask)))
        count = jnp.maximum(count, 1)
        mean = self.per_agent(first / count)
        std = jnp.sqrt(self.per_agent(self.psum(sums((x - mean) ** 2)) / count))
        return (x - mean) / (std + 1e-8)

    def clipped(self, grads: Nets, limit: float) -> tuple[Nets, Array]:
        """Gradients clipped per network and parameter set, and the policies' mean norm."""
        clip = lambda nets: [clip_by_set(g, k > 1, limit) for g, k in zip(nets, self.sizes, strict=False)]
        if self.architecture.trunk == "shared" and grads.critic:
            both = clip(tuple(zip(grads.actor, grads.critic, strict=True)))
            actor, critic = tuple(g[0] for g, _ in both), tuple(g[1] for g, _ in both)
            norms = [jnp.mean(n) for _, n in both]
        else:
            a = clip(grads.actor)
            actor, critic = tuple(g for g, _ in a), tuple(g for g, _ in clip(grads.critic))
            norms = [jnp.mean(n) for _, n in a]
        tables = [clip_by_set(j.others, False, limit)[0] if j.others else None for j in grads.q]  # one for all sets
        q = tuple(Joint(n, t, m) for ((n, m), _), t in zip(clip([(j.network, j.mine) for j in grads.q]), tables, strict=True))
        credit = grads.credit
        if jax.tree.leaves(credit):
            credit, _ = clip_by_set(credit, False, limit)
        cost = tuple(g for g, _ in clip(grads.cost))
        return Nets(actor, critic, q, credit, cost), jnp.stack(norms).mean()

    def preserved(self, nets: Nets, old: Scales, new: Scales) -> Nets:
        """PopArt (van Hasselt et al. 2016): heads rescaled so that denormalized values stay what they were. Where an action's value is a
        sum, its terms share the shift."""
        start, parts = 0, []
        for k in self.sizes:
            parts.append(slice(start, start + k) if k > 1 else start)
            start += k

        def head(p: Dense, part: Any, old: EmaMoments, new: EmaMoments, terms: int = 1) -> Dense:
            (mu0, sigma0), (mu1, sigma1) = ((t.mu[part], t.sigma[part]) for t in (old, new))
            fit = lambda x, rank: x[(..., *[None] * (rank - x.ndim))] if x.ndim else x
            w = p.w * fit(sigma0 / sigma1, p.w.ndim)
            return Dense(w, (p.b * fit(sigma0, p.b.ndim) + fit(mu0 - mu1, p.b.ndim) / terms) / fit(sigma1, p.b.ndim))

        on = lambda p, *its: replace(p, head=head(p.head, *its))
        critic: tuple[Network, ...] = tuple(on(p, part, old.value, new.value) for p, part in zip(nets.critic, parts, strict=False))
        terms = [g.space.terms if enumerable(g.space) else 1 for g in self.spec.groups]
        q = tuple(replace(j, network=on(j.network, part, old.gap, new.gap, k)) for j, part, k in zip(nets.q, parts, terms, strict=False))
        if old.cost is None or new.cost is None:
            return replace(nets, critic=critic, q=q)
        cost = tuple(on(p, part, old.cost, new.cost) for p, part in zip(nets.cost, parts, strict=False))
        return replace(nets, critic=critic, q=q, cost=cost)

    def unseen(self) -> ObservationNormalizer:
        """Observation moments before anything was seen: per group, leaf -> `[(k) f]`; and the state's, for central critics."""
        shape = lambda leaf, k: leaf.shape if k == 1 else (k, *leaf.shape)
        obs = tuple(
            {name: init_moments(shape(leaf, k)) for name, leaf in g.observation.items() if leaf.kind == "vector"}
            for g, k in zip(self.spec.groups, self.sizes, strict=True)
        )
        return ObservationNormalizer(obs, init_moments((self.spec.state,)) if self.architecture.central else None)

    def absorb(self, seen: ObservationNormalizer, trajectories: Trajectory) -> ObservationNormalizer:
        """Moments of what was observed, by present agents, at the batch's steps."""
        step, start, obs = jax.tree.map(lambda x: x[:, :-1], trajectories.step), 0, []
        for g, k, leaves, x in zip(self.spec.groups, self.sizes, seen.obs, step.obs, strict=True):
            here = step.present[..., start : start + g.count, None].astype(jnp.float32)
            start += g.count
            own = np.array(self.architecture.owners(g))
            merged = {}
            for name, m in leaves.items():
                width = g.observation[name].shape[0]
                real = np.array([np.arange(width) < f for f in g.features.get(name, (width,) * g.count)], np.float32)
                weight = here * real
                if k == 1:
                    merged[name] = merge_moments(m, x[name], weight, (0, 1, 2), self.psum)
                else:
                    member = np.eye(k, dtype=np.float32)[own]  # [n k]
                    merged[name] = merge_moments(m, x[name][..., None, :], weight[..., None, :] * member[..., None], (0, 1, 2), self.psum)
            obs.append(merged)
        state = None if seen.state is None else merge_moments(seen.state, step.state, jnp.ones_like(step.state), (0, 1), self.psum)
        return ObservationNormalizer(tuple(obs), state)
