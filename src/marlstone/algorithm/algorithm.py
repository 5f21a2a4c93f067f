"""One combination of architecture, credit and learner: what is acted, what is learned, what is refused."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.algorithm.lookahead import BatchLookahead
from marlstone.algorithm.parameter_sets import ParameterSets
from marlstone.algorithm.state import Nets, Policy, Train
from marlstone.algorithm.views import ViewBuilder
from marlstone.architectures.acting import log_prob
from marlstone.architectures.contract import ACTION_VALUES, Architecture, Memory, ObservationNormalizer
from marlstone.core.distributions import draw_group_noise
from marlstone.core.flops import Flops, count_products
from marlstone.core.normalize import Scales, init_ema_moments, update_moments
from marlstone.core.records import replace
from marlstone.core.types import Spec, Step, Trajectory, Views
from marlstone.credit.contract import Asked, Credit
from marlstone.learners.contract import Learner, LearningTargets
from marlstone.learners.optimizer import Adam

Array = Any
VIEWS = {
    "central": "the global state",
    "joint_q": "a critic of joint actions",
    "q_chosen": "action values",
    "q_expected": "expected action values",
    "q_default": "values of default actions",
    "q_best": "values of the best actions",
    "value": "state values",
}
"""What messages call the views of a batch that a credit method may need."""
ALWAYS = frozenset({"logp", "entropy", "scale"})  # views that every architecture has
VALUE_RATE = 0.05  # how fast value targets' moments follow, per update


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
        c, learns = (type(x).__name__ for x in (self.credit, self.learner))
        if reason := self.architecture.refuses(self.spec):
            raise ValueError(reason)
        offered = ALWAYS | (self.architecture.provides - self.learner.withholds) | self.learner.offers
        if lacking := sorted(self.wanted - offered):
            raise ValueError(self._lacks(lacking))
        for ignored in sorted(self.credit.answers() - self.learner.asks - {"contribution"}):
            raise ValueError(f"{learns} never asks for {ignored!r}, so {c}'s answer would be ignored: choose another learner or credit")
        if self.spec.opponents and "reward" in self.credit.answers():
            raise ValueError(
                f"{c} pays every agent of the team's reward, and {', '.join(self.spec.opponents)} play against the team: "
                "use credit = 'individual', or an environment where all are one team"
            )
        if self.shards > 1 and "meta" in self.credit.answers():
            raise ValueError(
                f"{c} looks a step ahead of each seed's whole batch, which {self.shards} devices share: use rollout.shards = 1"
            )
        for g in self.spec.groups:
            if reason := self.learner.refuses(g.space):
                raise ValueError(f"group {g.name!r}: {reason}")

    def _lacks(self, lacking: list[str]) -> str:
        """What the credit method needs and does not get here, and from whom it would."""
        architecture, credit, learner = (getattr(type(x), "kind", type(x).__name__) for x in (self.architecture, self.credit, self.learner))
        what = f"--credit {credit} needs {' and '.join(VIEWS.get(view, repr(view)) for view in lacking)}"
        if not set(lacking) & self.learner.withholds and {"central", "joint_q"} >= set(lacking):
            return f"{what}, which --architecture {architecture} does not have: add --architecture ctde"
        return f"{what}, which --learner {learner} with --architecture {architecture} does not have: choose another learner or credit"

    # ---- who belongs to whom
    @cached_property
    def wanted(self) -> frozenset[str]:
        """Views that training needs; critics are built for these alone."""
        return self.credit.needs | self.learner.needs(self.credit)

    @cached_property
    def sets(self) -> ParameterSets:
        return ParameterSets(self.spec, self.architecture, self.shards)

    @cached_property
    def _critics(self) -> frozenset[str]:
        return frozenset() if self.learner.values_are_heads else self.wanted

    def asked(self, nets: Nets, beside: Array | None = None) -> Asked:
        return Asked(self.credit, nets.credit, self.spec.team, beside)

    # ---- beginning
    def init(self, key: Array, like: Trajectory | None = None) -> Train:
        """`like` has the shapes of one rollout's trajectories, `[b ...]`: what a learner with a replay must know."""
        k1, k2 = jax.random.split(key)
        nets = Nets(*self.architecture.init(self.spec, k1, self._critics), self.credit.init(self.spec.team, k2))
        learner = self.learner
        replay = None if learner.replay is None or like is None else learner.replay.empty(like)
        target_params = jax.tree.map(jnp.copy, nets) if learner.lags else None
        seen = self.sets.unseen() if learner.normalize_observations else ObservationNormalizer(tuple({} for _ in self.spec.groups), None)
        k = sum(self.sets.sizes)
        scale, version = Scales(init_ema_moments(k), init_ema_moments(k)), jnp.array(0, jnp.int32)
        return Train(nets, seen, scale, Adam().init(nets), version, self._explore(jnp.zeros(())), target_params, replay)

    def memory(self, b: int) -> Memory:
        return self.architecture.memory(self.spec, b, self._critics)

    # ---- acting: rows of `b` environments
    def heads(self, policy: Policy, step: Step, memory: Memory) -> tuple[tuple[Array, ...], Memory]:
        """What the policy says, ready to sample from."""
        heads, _, memory = self.architecture.policy(self.spec, policy.actor, policy.seen, step, memory)
        return self._behave(heads, step.legal, policy.explore), memory

    def _explore(self, progress: Array) -> Array:
        return jnp.maximum(self.learner.explore(progress), self.credit.explore)

    def _behave(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...], explore: Array) -> tuple[Array, ...]:
        if not self.learner.values_are_heads and not self.credit.explore:
            return heads
        return tuple(
            self.learner.behave(g.space, h, ok, explore, g.default) for g, h, ok in zip(self.spec.groups, heads, legal, strict=True)
        )

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
        return log_prob(self.spec, heads, legal, action)

    def remember(self, train: Train, trajectory: Trajectory, memory: Memory) -> Memory:
        """Memory after a batch of trajectories: the actor's as it acted, the critics' by one pass over each sequence."""
        if not self.architecture.recurrent_critic():
            return memory
        rows = jax.tree.map(lambda x: x[:, :-1], trajectory.step)
        if train.nets.critic:
            memory = replace(
                memory, critic=self.architecture.value(self.spec, train.nets.critic, train.seen, rows, trajectory.memory, None)[1].critic
            )
        if train.nets.q:
            memory = replace(
                memory, q=self.architecture.q(self.spec, train.nets.q, train.seen, rows, trajectory.action, trajectory.memory)[1].q
            )
        return memory

    # ---- learning: batches of trajectories `[b t ...]`
    @cached_property
    def _view_builder(self) -> ViewBuilder:
        return ViewBuilder(self.spec, self.architecture, self.learner, self.sets)

    def views(
        self,
        nets: Nets,
        seen: ObservationNormalizer,
        scale: Scales,
        trajectory: Trajectory,
        wanted: Any = None,
        greedy: Any = None,
        said: Any = None,
    ) -> Views:
        """What is `wanted` of a batch (by default what training needs); `greedy` and `said` as `ViewBuilder.views` has them."""
        return self._view_builder.views(nets, seen, scale, trajectory, self.wanted if wanted is None else wanted, greedy, said)

    def _targets(
        self, nets: Nets, target_params: Any, seen: ObservationNormalizer, scale: Scales, trajectory: Trajectory, said: Any = None
    ) -> LearningTargets:
        """The learner's fixed targets for a batch, by these networks and the target networks, if it keeps some."""
        said = said or self._view_builder.said(nets, seen, trajectory)
        views, then = self.views(nets, seen, scale, trajectory, said=said), None
        if self.learner.values_are_heads:
            best = self.mode(said[0], trajectory.step.legal)
            then = self.views(target_params or nets, seen, scale, trajectory, greedy=best, said=None if target_params else said)
        known = self._view_builder.known(seen, trajectory)
        asked = self.asked(nets, self.architecture.pay(self.spec, trajectory, known))
        return self.learner.targets(asked, views, known, self.asked(target_params or nets), then)

    def update(self, train: Train, trajectories: Trajectory, progress: Array, key: Array) -> tuple[Train, dict[str, Array]]:
        """One update from a batch of trajectories `[b ...]`: targets once, then epochs over permuted environments; or, with a replay,
        batches of what is remembered, each with targets of its own."""
        learner, sets, remembers, replay = self.learner, self.sets, self.learner.replay, train.replay
        absorbed = sets.absorb(train.seen, trajectories) if learner.normalize_observations else train.seen
        seen = jax.tree.map(lambda a, b: jnp.where(train.version == 0, a, b), absorbed, train.seen)
        nets, scale, (lr, faster) = train.nets, train.targets, learner.rate(progress)
        parts = (nets.actor, lr), (nets.critic, lr), (nets.q, faster), (nets.credit, faster)
        rates = Nets(*(jax.tree.map(lambda _, r=r: r, part) for part, r in parts))
        if remembers is None:
            fixed = self._targets(nets, train.target_params, seen, scale, trajectories)
            if learner.normalize_advantages:
                fixed = replace(fixed, advantage=sets.standardized(fixed.advantage, trajectories.acts))
            if learner.normalize_values:
                moved = lambda t, x, mask: update_moments(t, x, mask, sets.members, VALUE_RATE, sets.psum)
                gap = scale.gap if fixed.gap is None else moved(scale.gap, fixed.gap, trajectories.acts)
                scale = Scales(moved(scale.value, fixed.target, fixed.predicted), gap)
                nets = sets.preserved(nets, train.targets, scale)
            b = trajectories.logp.shape[0]
            order = jax.vmap(lambda k: jax.random.permutation(k, b))(jax.random.split(key, learner.epochs))
            rows = order.reshape(learner.epochs * learner.minibatches, b // learner.minibatches)
        else:
            replay, rows = remembers.add(replay, trajectories), jax.random.split(key, remembers.updates)
        sigma, spread = sets.per_agent(scale.value.sigma), sets.per_agent(scale.gap.sigma)

        def loss(
            nets: Nets, trajectories: Trajectory, fixed: LearningTargets | None, target_params: Any, weight: Array
        ) -> tuple[Array, Any]:
            """This device's share of the loss. Without targets: by targets of its own, from what the actors say here anyway."""
            said = self._view_builder.said(nets, seen, trajectories)
            views, known = self.views(nets, seen, scale, trajectories, said=said), self._view_builder.known(seen, trajectories)
            if fixed is None:
                fixed = lax.stop_gradient(self._targets(nets, target_params, seen, scale, trajectories, lax.stop_gradient(said)))
            counts = sets.count(trajectories.acts), sets.count(fixed.predicted), trajectories.real.sum().astype(jnp.float32)
            counts = jax.tree.map(lambda x: jnp.maximum(x, 1), sets.psum(counts))
            asked = self.asked(nets, self.architecture.pay(self.spec, trajectories, known))
            losses, metrics = learner.loss(asked, views, known, fixed, sigma, progress)
            acts, predicted, real = counts
            weigh = lambda x: x * weight[:, None, None]
            share = sets.mean(weigh(losses.deciding), trajectories.acts, acts) + sets.mean(
                weigh(losses.predicting), fixed.predicted, predicted
            )
            if losses.gap is not None:
                share = share + sets.mean(weigh(losses.gap / spread**2), trajectories.acts, acts)
            ahead = BatchLookahead(
                self.spec, self.architecture, learner, sets, nets.actor, seen, trajectories, acts, asked.beyond(views, known)
            )
            for own in (asked.loss(views, known), asked.meta(views, known, ahead)):
                if own is not None:
                    share = share + jnp.where(trajectories.real, own, 0).sum() / real
                    metrics["credit_loss"] = metrics.get("credit_loss", 0) + jnp.broadcast_to(own[..., None], trajectories.acts.shape)
            error = jnp.where(fixed.predicted, losses.predicting, 0).sum((1, 2)) / jnp.maximum(fixed.predicted.sum((1, 2)), 1)
            return share, ({k: jnp.where(trajectories.acts, v, 0).sum() for k, v in metrics.items()}, jnp.sqrt(error))

        def minibatch(carry: tuple[Any, ...], row: Array) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            nets, opt, target_params, replay = carry
            if remembers is None:
                part, known = jax.tree.map(lambda x: x[row], (trajectories, fixed))
                weight = jnp.ones(row.shape)
            else:
                which, weight = remembers.draw(replay, row)
                part, known = remembers.at(replay, which), None
            grads, (sums, error) = jax.grad(loss, has_aux=True)(nets, part, known, target_params, weight)
            grads, norm = sets.clipped(sets.psum(grads), learner.max_grad_norm)
            nets, opt = Adam().step(grads, opt, nets, rates)
            if remembers is not None:
                replay = remembers.update_priorities(replay, which, error)
            return (nets, opt, learner.update_target(target_params, nets, opt), replay), (sums, part.acts.sum(), norm)

        (nets, opt, target_params, replay), (sums, count, norm) = lax.scan(minibatch, (nets, train.opt, train.target_params, replay), rows)
        if hasattr(learner, "sharpened"):
            nets = replace(nets, actor=learner.sharpened([g.space for g in self.spec.groups], nets.actor, progress, train.version))
        sums, count = sets.psum((sums, count))
        metrics = {k: jnp.mean(v / jnp.maximum(count, 1)) for k, v in sums.items()} | {"gradient_norm": jnp.mean(norm)}
        return Train(nets, absorbed, scale, opt, train.version + 1, self._explore(progress), target_params, replay), metrics

    # ---- what it costs
    def flops(self, trajectory: Trajectory) -> Flops:
        """What acting, and an update from a batch of such trajectories `[b t ...]` (shapes are enough), cost in products, whatever parts
        they are made of, and the critics' memories."""
        whole = replace(self, shards=1)  # devices share one seed's work out: together they do what one would do
        b, t = trajectory.logp.shape[:2]
        train = jax.eval_shape(whole.init, jax.random.key(0), trajectory)
        row = jax.tree.map(lambda x: jax.ShapeDtypeStruct((b, *x.shape[2:]), x.dtype), trajectory.step)
        spaces, counts = [g.space for g in self.spec.groups], [g.count for g in self.spec.groups]
        noise = jax.eval_shape(lambda key: draw_group_noise(spaces, counts, key, (b,)), jax.random.key(0))
        act = count_products(whole.act, train.policy, row, trajectory.memory, noise)
        learn = count_products(whole.update, train, trajectory, 0.0, jax.random.key(0))
        learn += count_products(whole.remember, train, trajectory, trajectory.memory)
        per_step = {shape: (act[shape] * t + learn[shape]) / (b * t) for shape in act | learn}
        return Flops(round(act.total() / b), round(learn.total() / (b * t)), per_step)

    # ---- what it claims
    @property
    def claims(self) -> bool:
        """Whether this combination says what each agent contributed: its method does, of views that something here trains."""
        trained = self.wanted | ALWAYS | self.learner.offers | (ACTION_VALUES if self.wanted & ACTION_VALUES else frozenset())
        return "contribution" in self.credit.answers() and self.credit.audits <= trained

    def pay(self, train: Train, trajectories: Trajectory) -> Array:
        """`[b t n]`: what each of the team is paid, which is what its learning optimizes; 0 at reset rows."""
        views, known = self.views(train.nets, train.seen, train.targets, trajectories), self._view_builder.known(train.seen, trajectories)
        asked = self.asked(train.nets, self.architecture.pay(self.spec, trajectories, known))
        return jnp.where(trajectories.real[..., None], asked.reward(views, known)[0], 0)[..., : self.spec.team.n]

    def contribution(self, train: Train, trajectories: Trajectory) -> Array:
        """`[b t n]` for the team's agents: as the method claims; where it makes no claim, what its critic implies: how much better than
        the agent's default an action is, or, of a critic that knows no actions, the advantage that moved its policy. Who did not act
        was worth nothing."""
        n, (nets, seen, scale) = self.spec.team.n, (train.nets, train.seen, train.targets)
        if self.claims:
            views = self.views(nets, seen, scale, trajectories, self.wanted | self.credit.audits)
            said: Any = self.asked(nets).contribution(views, self._view_builder.known(seen, trajectories))
            if self.credit.claims == "shares":
                return said
        elif self.learner.values_are_heads:
            views = self.views(nets, seen, scale, trajectories, self.wanted | {"q_default"})
            said = (views.q_chosen - views.q_default)[..., :n]
        else:
            said = self._targets(nets, train.target_params, seen, scale, trajectories).advantage[..., :n]
        return jnp.where(trajectories.acts[..., :n], said, 0)
