"""The only place where architecture, credit and learner meet: what is acted, what is learned, what is refused."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from marlstone.architectures.contract import Architecture, Memory, Network, Seen
from marlstone.core.across import total
from marlstone.core.distributions import along_agents
from marlstone.core.normalize import Targets, absorb, follow, moments, targets
from marlstone.core.records import record, replace
from marlstone.core.types import Chunk, Spec, Step, Views
from marlstone.credit.contract import Asked, Credit
from marlstone.learners.contract import Fixed, Learner
from marlstone.learners.optimizer import Adam, clip_by_set

Array = Any
ALWAYS = frozenset({"logp", "entropy"})  # views that every architecture has
VALUE_RATE = 0.05  # how fast value targets' moments follow, per update


@record
class Nets:
    """Arrays only: they pass through scan, vmap and checkpoints. `actor` is all that is shipped, exported and served."""

    actor: tuple[Network, ...]
    critic: tuple[Network, ...]
    credit: Any


@record
class Policy:
    """What acts: the actor's networks and the frozen moments of what they see."""

    actor: tuple[Network, ...]
    seen: Seen


@record
class Train:
    """All that learning carries from update to update. `version` counts updates."""

    nets: Nets
    seen: Seen
    targets: Targets
    opt: Any
    version: Array

    @property
    def policy(self) -> Policy:
        return Policy(self.nets.actor, self.seen)


@dataclass(frozen=True)
class Algorithm:
    """One combination, checked against one environment's `spec` when it is made. Raises ValueError naming part and remedy.

    `shards`: how many devices hold a part of each batch (`core.across`); what is averaged is averaged over all of them.
    """

    spec: Spec
    architecture: Architecture
    credit: Credit
    learner: Learner
    shards: int = 1

    def __post_init__(self) -> None:
        a, c, learns = (type(x).__name__ for x in (self.architecture, self.credit, self.learner))
        if reason := self.architecture.refuses(self.spec):
            raise ValueError(reason)
        if lacking := (self.wanted | self.credit.audits) - ALWAYS - (self.architecture.provides - self.learner.withholds):
            raise ValueError(
                f"{c} with {learns} needs {sorted(lacking)}, which {a} does not provide: choose another architecture or credit"
            )
        for ignored in sorted(self.credit.answers() - self.learner.asks - {"contribution"}):
            raise ValueError(f"{learns} never asks for {ignored!r}, so {c}'s answer would be ignored: choose another learner or credit")
        if self.spec.opponents and "reward" in self.credit.answers():
            raise ValueError(
                f"{c} pays every agent of the team's reward, and {', '.join(self.spec.opponents)} play against the team: "
                "use credit = 'individual', or an environment where all are one team"
            )
        for g in self.spec.groups:
            if reason := self.learner.refuses(g.space):
                raise ValueError(f"group {g.name!r}: {reason}")

    # ---- who belongs to whom
    @cached_property
    def wanted(self) -> frozenset[str]:
        return self.credit.needs | self.learner.needs(self.credit.answers())

    @cached_property
    def sets(self) -> tuple[int, ...]:
        """Number of parameter sets of each group."""
        return tuple(max(self.architecture.owners(g)) + 1 for g in self.spec.groups)

    @cached_property
    def members(self) -> np.ndarray:
        """`[n k]`: 1 where agent n uses global parameter set k."""
        start, columns = 0, []
        for g, k in zip(self.spec.groups, self.sets, strict=True):
            columns += [start + o for o in self.architecture.owners(g)]
            start += k
        return np.eye(start, dtype=np.float32)[columns]

    def _per_agent(self, by_set: Array) -> Array:
        """`[k] -> [n]`"""
        return by_set[np.argmax(self.members, -1)]

    def asked(self, nets: Nets) -> Asked:
        return Asked(self.credit, nets.credit, self.spec.team)

    # ---- beginning
    def init(self, key: Array) -> Train:
        k1, k2 = jax.random.split(key)
        actor, critic = self.architecture.init(self.spec, k1)
        nets = Nets(actor, critic, self.credit.init(self.spec.team, k2))
        return Train(nets, self._unseen(), targets(sum(self.sets)), Adam().init(nets), jnp.array(0, jnp.int32))

    def _unseen(self) -> Seen:
        if not self.learner.normalize_observations:
            return Seen(tuple({} for _ in self.spec.groups), None)
        shape = lambda leaf, k: leaf.shape if k == 1 else (k, *leaf.shape)
        obs = tuple(
            {name: moments(shape(leaf, k)) for name, leaf in g.observation.items() if leaf.kind == "vector"}
            for g, k in zip(self.spec.groups, self.sets, strict=True)
        )
        return Seen(obs, moments((self.spec.state,)) if self.architecture.central else None)

    def memory(self, b: int) -> Memory:
        return self.architecture.memory(self.spec, b)

    # ---- acting: rows of `b` environments
    def heads(self, policy: Policy, step: Step, memory: Memory) -> tuple[tuple[Array, ...], Memory]:
        heads, _, memory = self.architecture.policy(self.spec, policy.actor, policy.seen, step, memory)
        return heads, memory

    def sample(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...], noise: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(g.space.sample(h, ok, z) for g, h, ok, z in zip(self.spec.groups, heads, legal, noise, strict=True))

    def mode(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...]) -> tuple[Array, ...]:
        return tuple(g.space.mode(h, ok) for g, h, ok in zip(self.spec.groups, heads, legal, strict=True))

    def emit(self, action: tuple[Array, ...]) -> tuple[Array, ...]:
        """Recorded actions as environments take them."""
        return tuple(g.space.emit(a) for g, a in zip(self.spec.groups, action, strict=True))

    def act(
        self, policy: Policy, step: Step, memory: Memory, noise: tuple[Array, ...]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...], Memory]:
        """One row of `b` environments: actions as recorded and as environments take them, heads, memory after."""
        heads, memory = self.heads(policy, step, memory)
        action = self.sample(heads, step.legal, noise)
        return action, self.emit(action), heads, memory

    def log_prob(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...], action: tuple[Array, ...]) -> Array:
        """`[... n]`"""
        return along_agents([g.space.log_prob(h, ok, a) for g, h, ok, a in zip(self.spec.groups, heads, legal, action, strict=True)])

    def remember(self, train: Train, chunk: Chunk, memory: Memory) -> Memory:
        """Memory after a batch of chunks: the actor's as it acted, the critic's by one pass over each sequence."""
        if not self.architecture.recurrent_critic():
            return memory
        rows = jax.tree.map(lambda x: x[:, :-1], chunk.step)
        _, after = self.architecture.value(self.spec, train.nets.critic, train.seen, rows, chunk.memory, None)
        return replace(memory, critic=after.critic)

    # ---- learning: batches of chunks `[b t ...]`
    def views(self, nets: Nets, seen: Seen, value_scale: Targets, chunk: Chunk) -> Views:
        step = chunk.step
        heads, cores, _ = self.architecture.policy(self.spec, nets.actor, seen, step, chunk.memory)
        values, _ = self.architecture.value(self.spec, nets.critic, seen, step, chunk.memory, cores)
        mu, sigma = (self._per_agent(x) for x in (value_scale.mu, value_scale.sigma))
        heads = tuple(h[:, :-1] for h in heads)
        legal = tuple(None if ok is None else ok[:, :-1] for ok in step.legal)
        entropy = along_agents([g.space.entropy(h, ok) for g, h, ok in zip(self.spec.groups, heads, legal, strict=True)])
        return Views(self.log_prob(heads, legal, chunk.action), entropy, along_agents(list(values)) * sigma + mu)

    def update(self, train: Train, chunks: Chunk, progress: Array, key: Array) -> tuple[Train, dict[str, Array]]:
        """One update from a batch of chunks `[b ...]`: targets once, then epochs over permuted environments."""
        learner, absorbed = self.learner, self._absorb(train.seen, chunks)
        seen = jax.tree.map(lambda a, b: jnp.where(train.version == 0, a, b), absorbed, train.seen)
        views = self.views(train.nets, seen, train.targets, chunks)
        fixed = learner.targets(self.asked(train.nets), views, chunks)
        if learner.normalize_advantages:
            fixed = replace(fixed, advantage=self._standardized(fixed.advantage, chunks.acts))
        nets, scale = train.nets, train.targets
        if learner.normalize_values:
            scale = follow(train.targets, fixed.target, fixed.predicted, self.members, VALUE_RATE, self._total)
            nets = replace(nets, critic=self._preserved(nets.critic, train.targets, scale))
        sigma, lr = self._per_agent(scale.sigma), learner.rate(progress)

        def loss(nets: Nets, chunks: Chunk, fixed: Fixed, counts: tuple[Array, ...]) -> tuple[Array, dict[str, Array]]:
            """This device's share of the loss."""
            views, asked = self.views(nets, seen, scale, chunks), self.asked(nets)
            losses, metrics = learner.loss(asked, views, chunks, fixed, sigma, progress)
            acts, predicted, real = counts
            share = self._mean(losses.deciding, chunks.acts, acts) + self._mean(losses.predicting, fixed.predicted, predicted)
            if (own := asked.loss(views, chunks)) is not None:
                share = share + jnp.where(chunks.real, own, 0).sum() / real
            return share, {k: jnp.where(chunks.acts, v, 0).sum() for k, v in metrics.items()}

        def minibatch(carry: tuple[Nets, Any], rows: Array) -> tuple[tuple[Nets, Any], tuple[Any, ...]]:
            (nets, opt), (part, known) = carry, jax.tree.map(lambda x: x[rows], (chunks, fixed))
            counts = self._count(part.acts), self._count(known.predicted), part.real.sum().astype(jnp.float32)
            counts = jax.tree.map(lambda x: jnp.maximum(x, 1), self._total(counts))
            grads, sums = jax.grad(loss, has_aux=True)(nets, part, known, counts)
            grads, norm = self._clipped(self._total(grads))
            nets, opt = Adam().step(grads, opt, nets, lr)
            return (nets, opt), (sums, part.acts.sum(), norm)

        b = chunks.logp.shape[0]
        order = jax.vmap(lambda k: jax.random.permutation(k, b))(jax.random.split(key, learner.epochs))
        order = order.reshape(learner.epochs * learner.minibatches, b // learner.minibatches)
        (nets, opt), (sums, count, norm) = lax.scan(minibatch, (nets, train.opt), order)
        sums, count = self._total((sums, count))
        metrics = {k: jnp.mean(v / jnp.maximum(count, 1)) for k, v in sums.items()} | {"gradient_norm": jnp.mean(norm)}
        return Train(nets, absorbed, scale, opt, train.version + 1), metrics

    # ---- what is averaged, scaled or clipped stays within a parameter set
    def _total(self, tree: Any) -> Any:
        return total(tree, self.shards)

    def _count(self, mask: Array) -> Array:
        """How many elements `[b t n]` each parameter set has, `[k]`."""
        return mask.sum((0, 1)).astype(jnp.float32) @ self.members

    def _mean(self, x: Array, mask: Array, count: Array) -> Array:
        """Mean over each parameter set's own elements, summed over sets: sets do not dilute each other."""
        return ((jnp.where(mask, x, 0).sum((0, 1)) @ self.members) / count).sum()

    def _standardized(self, x: Array, mask: Array) -> Array:
        sums = lambda y: jnp.where(mask, y, 0).sum((0, 1)) @ self.members
        first, count = self._total((sums(x), self._count(mask)))
        count = jnp.maximum(count, 1)
        mean = self._per_agent(first / count)
        std = jnp.sqrt(self._per_agent(self._total(sums((x - mean) ** 2)) / count))
        return (x - mean) / (std + 1e-8)

    def _clipped(self, grads: Nets) -> tuple[Nets, Array]:
        clip = lambda nets: [clip_by_set(g, k > 1, self.learner.max_grad_norm) for g, k in zip(nets, self.sets, strict=True)]
        if self.architecture.trunk == "shared":
            both = clip(tuple(zip(grads.actor, grads.critic, strict=True)))
            actor, critic = tuple(g[0] for g, _ in both), tuple(g[1] for g, _ in both)
            norms = [jnp.mean(n) for _, n in both]
        else:
            a, c = clip(grads.actor), clip(grads.critic)
            actor, critic = tuple(g for g, _ in a), tuple(g for g, _ in c)
            norms = [jnp.mean(n) for _, n in a]
        credit = grads.credit
        if jax.tree.leaves(credit):
            credit, _ = clip_by_set(credit, False, self.learner.max_grad_norm)
        return Nets(actor, critic, credit), jnp.stack(norms).mean()

    def _preserved(self, critic: tuple[Network, ...], old: Targets, new: Targets) -> tuple[Network, ...]:
        """PopArt (van Hasselt et al. 2016): heads rescaled so that denormalized values stay what they were."""
        out, start = [], 0
        for p, k in zip(critic, self.sets, strict=True):
            part = slice(start, start + k) if k > 1 else start
            start += k
            (mu0, sigma0), (mu1, sigma1) = ((t.mu[part], t.sigma[part]) for t in (old, new))
            fit = lambda x, rank: x[(..., *[None] * (rank - x.ndim))] if x.ndim else x
            w = p.head.w * fit(sigma0 / sigma1, p.head.w.ndim)
            b = (p.head.b * fit(sigma0, p.head.b.ndim) + fit(mu0 - mu1, p.head.b.ndim)) / fit(sigma1, p.head.b.ndim)
            out.append(replace(p, head=replace(p.head, w=w, b=b)))
        return tuple(out)

    def _absorb(self, seen: Seen, chunks: Chunk) -> Seen:
        """Moments of what was observed, by present agents, in the batch's rows."""
        if not self.learner.normalize_observations:
            return seen
        step, start, obs = jax.tree.map(lambda x: x[:, :-1], chunks.step), 0, []
        for g, k, leaves, x in zip(self.spec.groups, self.sets, seen.obs, step.obs, strict=True):
            here = step.present[..., start : start + g.count, None].astype(jnp.float32)
            start += g.count
            own = np.array(self.architecture.owners(g))
            merged = {}
            for name, m in leaves.items():
                width = g.observation[name].shape[0]
                real = np.array([np.arange(width) < f for f in g.features.get(name, (width,) * g.count)], np.float32)
                weight = here * real
                if k == 1:
                    merged[name] = absorb(m, x[name], weight, (0, 1, 2), self._total)
                else:
                    member = np.eye(k, dtype=np.float32)[own]  # [n k]
                    merged[name] = absorb(m, x[name][..., None, :], weight[..., None, :] * member[..., None], (0, 1, 2), self._total)
            obs.append(merged)
        state = None if seen.state is None else absorb(seen.state, step.state, jnp.ones_like(step.state), (0, 1), self._total)
        return Seen(tuple(obs), state)

    # ---- what it costs
    def flops(self, nets: Nets) -> tuple[int, int]:
        """FLOPs of one joint step: of acting, and of learning from it (one pass for targets, three per epoch; one more of critics
        that remember)."""
        act, value = self.architecture.flops(self.spec, nets.actor, nets.critic)
        again = value if self.architecture.recurrent_critic() else 0
        return act, (act + value) * (1 + 3 * self.learner.epochs) + again
