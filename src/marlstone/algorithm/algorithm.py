"""One combination of architecture, credit and learner: what is acted, what is learned, what is refused."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.algorithm.constrained_costs import ConstrainedCosts, begin_spending
from marlstone.algorithm.parameter_sets import ParameterSets
from marlstone.algorithm.problem import LearningProblem
from marlstone.algorithm.state import Nets, Policy, Train
from marlstone.algorithm.views import FROM_CRITICS, FROM_VALUES
from marlstone.architectures.acting import log_prob
from marlstone.architectures.contract import ACTION_VALUES, COST, Architecture, Memory, ObservationNormalizer
from marlstone.comms import Channel, NoMessages
from marlstone.comms.layout import with_shares
from marlstone.comms.learning import Speech, begin_price
from marlstone.core.distributions import draw_group_noise, exploration_head
from marlstone.core.flops import Counted, Flops, by_component, by_shape, count_components
from marlstone.core.normalize import Scales, init_ema_moments
from marlstone.core.records import replace
from marlstone.core.types import Spec, Step, Trajectory, Views
from marlstone.credit.contract import Asked, Credit
from marlstone.learners.constraint import Constraint
from marlstone.learners.contract import Learner

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
ALWAYS = frozenset({"logp", "entropy", "scale", "gap_scale"})  # views that every architecture has


@dataclass(frozen=True)
class Algorithm:
    """One combination, checked against one environment's `spec` when it is made. Raises ValueError naming part and remedy.

    `channel`: how agents talk, which `spec` then shows; `shards`: how many devices hold a part of each batch (`core.across`); what is
    averaged is averaged over all of them. `ramps`: fields of the learner that move while it trains, linearly with progress: `(name, from,
    to)`. `constraint`: what play may cost.
    """

    spec: Spec
    architecture: Architecture
    credit: Credit
    learner: Learner
    shards: int = 1
    ramps: tuple[tuple[str, float, float], ...] = ()
    channel: Channel = NoMessages()
    constraint: Constraint = Constraint()

    def __post_init__(self) -> None:
        c, learns = (type(x).__name__ for x in (self.credit, self.learner))
        if reason := self.architecture.refuses(self.spec):
            raise ValueError(reason)
        if lacking := sorted(self.wanted - self._provided):
            raise ValueError(self._lacks(lacking))
        for ignored in sorted(self.credit.answers() - self.learner.queries - {"contribution"}):
            raise ValueError(f"{learns} never asks for {ignored!r}, so {c}'s answer would be ignored: choose another learner or credit")
        if self.spec.opponents and "reward" in self.credit.answers():
            raise ValueError(
                f"{c} gives every agent the team's reward, and {', '.join(self.spec.opponents)} play against the team: "
                "use credit = 'individual', where both sides learn, or let a frozen policy play them: "
                f"--opponent {'+'.join(self.spec.opponents)}=random, or =RUN"
            )
        if self.shards > 1 and "meta" in self.credit.answers():
            raise ValueError(
                f"{c} looks a step ahead of each seed's whole batch, which {self.shards} devices share: use rollout.shards = 1"
            )
        if self.constraint.active and not self.learner.constrained:
            raise ValueError(
                f"{learns} has no value head for costs: constrain them (cost.budget, cost.weight) with --learner policy_gradient, or leave "
                "[cost] out"
            )
        _ = self.costs  # kinds of cost that nothing records are refused now
        if reason := self.learner.optimizer.refuses():
            raise ValueError(f"learner.optimizer: {reason}")
        names = [g.name for g in self.spec.groups]
        if unknown := [name for name in getattr(self.learner, "group_lr", {}) if name not in names]:
            raise ValueError(f"learner.group_lr has {unknown[0]!r}, and the groups are {', '.join(map(repr, names))}: name one of these")
        for g in self.spec.groups:
            if reason := self.learner.refuses(g.space):
                raise ValueError(f"group {g.name!r}: {reason}")

    def _lacks(self, lacking: list[str]) -> str:
        """What the credit method needs and does not get here, and from whom it would."""
        architecture, credit, learner = (getattr(type(x), "kind", type(x).__name__) for x in (self.architecture, self.credit, self.learner))
        what = f"--credit {credit} needs {' and '.join(VIEWS.get(view, repr(view)) for view in lacking)}"
        if {"central", "joint_q"} >= set(lacking) and not (self.learner.value_based and set(lacking) & FROM_CRITICS):
            return f"{what}, which --architecture {architecture} does not have: add --architecture ctde"
        return f"{what}, which --learner {learner} with --architecture {architecture} does not have: choose another learner or credit"

    @property
    def _provided(self) -> frozenset[str]:
        """Views that this combination has networks for."""
        views = self.architecture.provides
        return ALWAYS | (views - FROM_CRITICS | FROM_VALUES if self.learner.value_based else views)

    # ---- who belongs to whom
    @cached_property
    def wanted(self) -> frozenset[str]:
        """Views that training needs; critics are built for these alone."""
        return self.credit.needs | self.learner.needs

    @property
    def discount(self) -> Any:
        """By how much the learner discounts a return each step; 1 where it does not say."""
        return getattr(self.learner, "gamma", 1.0)

    @cached_property
    def sets(self) -> ParameterSets:
        """Who shares parameters with whom."""
        return ParameterSets(self.spec, self.architecture, self.shards)

    @cached_property
    def problem(self) -> LearningProblem:
        """What the learner meets."""
        return LearningProblem(
            self.spec, self.architecture, self.credit, self.learner, self.sets, self.wanted, speech=self.speech, costs=self.costs
        )

    @cached_property
    def speech(self) -> Speech | None:
        """The channel's part in acting and learning; None where nobody talks."""
        return Speech(self.channel, self.spec) if self.channel.speaks else None

    @cached_property
    def costs(self) -> ConstrainedCosts | None:
        """The constraint's part in learning; None where nothing is constrained."""
        if not self.constraint.active:
            return None
        return ConstrainedCosts(self.constraint, self.spec, self.architecture, self.sets, self.credit.splits, self.speech)

    @cached_property
    def _critics(self) -> frozenset[str]:
        if self.learner.value_based:
            return frozenset()
        return self.wanted | {COST} if self.constraint.active else self.wanted

    def asked(self, nets: Nets, beside: Array | None = None) -> Asked:
        """Credit to be asked over a batch, with these networks' parameters. `beside`: rewards that the architecture adds, `[b t n]`."""
        return self.problem.asked(nets, beside)

    # ---- beginning
    def init(self, key: Array, like: Trajectory | None = None) -> Train:
        """`like` has the shapes of one rollout's trajectories, `[b ...]`: what a learner with a replay must know."""
        k1, k2 = jax.random.split(key)
        nets = Nets(*self.architecture.init(self.spec, k1, self._critics), self.credit.init(self.spec.team, k2))
        spending = None
        if self.constraint.active:  # critics as those of values, begun by other numbers
            own = self.architecture.init(self.spec, jax.random.fold_in(key, 2), frozenset({"value"}))[1]
            nets, spending = replace(nets, cost=own), begin_spending()
        target_params, replay = self.learner.init(nets, like)
        normalized = self.learner.normalize_observations
        seen = self.sets.unseen() if normalized else ObservationNormalizer(tuple({} for _ in self.spec.groups), None)
        k = sum(self.sets.sizes)
        cost = init_ema_moments(k) if self.constraint.active else None
        scale, version = Scales(init_ema_moments(k), init_ema_moments(k), cost), jnp.array(0, jnp.int32)
        opt = self.learner.optimizer.init(nets)
        explore, price = self._explore(jnp.zeros(())), begin_price(self.channel)
        return Train(nets, seen, scale, opt, version, explore, target_params, replay, price, spending)

    def memory(self, b: int) -> Memory:
        """Recurrent state of actors and critics at the start of an episode, for `b` environments."""
        return self.architecture.memory(self.spec, b, self._critics)

    # ---- acting: steps of `b` environments
    def heads(self, policy: Policy, step: Step, memory: Memory) -> tuple[tuple[Array, ...], Memory]:
        """The policy's outputs for one step, ready to sample from, `[b n_g head]` per group; and its memory after it."""
        heads, _, memory = self.architecture.policy(self.spec, policy.actor, policy.seen, step, memory)
        heads = with_shares(self.spec, heads, policy.seen.obs)
        return self._behave(heads, step.legal, policy.explore), memory

    def _explore(self, progress: Array) -> Array:
        return jnp.maximum(self.learner.explore(progress), self.credit.explore)

    def _behave(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...], explore: Array) -> tuple[Array, ...]:
        """Action values as epsilon-greedy policies; policies with the random actions that credit asks for."""
        value_based = self.learner.value_based
        if not value_based and not self.credit.explore:
            return heads
        groups, how = zip(self.spec.groups, heads, legal, strict=True), "greedy" if value_based else "mixed"
        return tuple(exploration_head(how, g.space, h, ok, explore, g.default) for g, h, ok in groups)  # type: ignore[arg-type]

    def sample(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...], noise: tuple[Array, ...]) -> tuple[Array, ...]:
        """Legal actions drawn from the policy, as recorded, per group."""
        return tuple(g.space.sample(h, ok, z) for g, h, ok, z in zip(self.spec.groups, heads, legal, noise, strict=True))

    def mode(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...]) -> tuple[Array, ...]:
        """The most probable legal actions, as recorded, per group."""
        return tuple(g.space.mode(h, ok) for g, h, ok in zip(self.spec.groups, heads, legal, strict=True))

    def emit(self, action: tuple[Array, ...]) -> tuple[Array, ...]:
        """Recorded actions as environments take them."""
        return tuple(g.space.emit(a) for g, a in zip(self.spec.groups, action, strict=True))

    def act(
        self, policy: Policy, step: Step, memory: Memory, noise: tuple[Array, ...]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...], Memory]:
        """One step of `b` environments: actions as recorded and as environments take them, heads, memory after."""
        heads, memory = self.heads(policy, step, memory)
        action = self.sample(heads, step.legal, noise)
        return action, self.emit(action), heads, memory

    def log_prob(self, heads: tuple[Array, ...], legal: tuple[Array | None, ...], action: tuple[Array, ...]) -> Array:
        """Log-probs of recorded actions, `[... n]`."""
        return log_prob(self.spec, heads, legal, action)

    def remember(self, train: Train, trajectory: Trajectory, memory: Memory) -> Memory:
        """Memory after a batch of trajectories: the actor's as it acted, the critics' by one pass over each sequence."""
        if not self.architecture.recurrent_critic():
            return memory
        steps = jax.tree.map(lambda x: x[:, :-1], trajectory.step)
        if train.nets.critic:
            memory = replace(
                memory, critic=self.architecture.value(self.spec, train.nets.critic, train.seen, steps, trajectory.memory, None)[1].critic
            )
        if train.nets.cost:
            begun = replace(trajectory.memory, critic=self.architecture.of_costs(self.spec, trajectory.memory))
            after = self.architecture.value(self.spec, train.nets.cost, train.seen, steps, begun, None)[1].critic
            memory = replace(memory, critic=(*memory.critic[: -len(after)], *after))
        if train.nets.q:
            memory = replace(
                memory, q=self.architecture.q(self.spec, train.nets.q, train.seen, steps, trajectory.action, trajectory.memory)[1].q
            )
        return memory

    # ---- learning: batches of trajectories `[b t ...]`
    def views(
        self, nets: Nets, seen: ObservationNormalizer, scale: Scales, trajectory: Trajectory, wanted: frozenset[str] | None = None
    ) -> Views:
        """What is `wanted` of a batch (None: what training needs)."""
        return self.problem.views(nets, seen, scale, trajectory, wanted)

    def update(self, train: Train, trajectories: Trajectory, progress: Array, key: Array) -> tuple[Train, dict[str, Array]]:
        """One update from a batch of trajectories `[b ...]` at `progress` in [0, 1] of the budget, as the learner makes it; and figures to
        record, scalars."""
        if self.ramps:
            return self._at(progress).update(train, trajectories, progress, key)
        after, metrics = self.learner.update(self.problem, train, trajectories, progress, key)
        if self.speech is not None:
            price, spent = self.speech.next_price(train.price, trajectories, progress, self.sets.psum)
            after, metrics = replace(after, price=price), metrics | spent
        if self.costs is not None:
            spending, figures = self.costs.after(train.cost, trajectories, progress, self.sets.psum)
            after, metrics = replace(after, cost=spending), metrics | figures
        return replace(after, version=train.version + 1, explore=self._explore(progress)), metrics

    def _at(self, progress: Array) -> "Algorithm":
        """The same, with the learner as it is at `progress`, which may be known only when the program runs."""
        learner = copy.copy(self.learner)
        for name, start, end in self.ramps:
            object.__setattr__(learner, name, start + (end - start) * progress)  # past the checks of its range: both ends passed them
        return replace(self, learner=learner, ramps=())

    # ---- what it costs
    def flops(self, trajectory: Trajectory) -> Flops:
        """What acting, and an update from a batch of such trajectories `[b t ...]` (shapes are enough), cost in products, whatever parts
        they are made of, and the critics' memories."""
        whole = replace(self, shards=1)  # devices share one seed's work out: together they do what one would do
        b, t = trajectory.logp.shape[:2]
        train = jax.eval_shape(whole.init, jax.random.key(0), trajectory)
        step = jax.tree.map(lambda x: jax.ShapeDtypeStruct((b, *x.shape[2:]), x.dtype), trajectory.step)
        act = whole.acting_products(train.policy, step, trajectory.memory)
        learn = count_components(whole.update, train, trajectory, 0.0, jax.random.key(0))
        learn += count_components(whole.remember, train, trajectory, trajectory.memory)
        acting, learning = by_shape(act), by_shape(learn)
        per_step = {shape: (acting[shape] * t + learning[shape]) / (b * t) for shape in acting | learning}
        totals = round(act.total() / b), round(learn.total() / (b * t))
        return Flops(*totals, per_step, by_component(act, totals[0], b), by_component(learn, totals[1], b * t))

    def acting_products(self, policy: Policy, step: Step, memory: Memory) -> Counted:
        """FLOPs of acting once in `b` environments, by component and shape of the products; shapes are enough."""
        spaces, counts, b = [g.space for g in self.spec.groups], [g.count for g in self.spec.groups], step.first.shape[0]
        noise = jax.eval_shape(lambda key: draw_group_noise(spaces, counts, key, (b,)), jax.random.key(0))
        return count_components(self.act, policy, step, memory, noise)

    # ---- what it claims
    @property
    def claims(self) -> bool:
        """Whether this combination says what each agent contributed: its method does, of views that something here trains."""
        given = FROM_VALUES if self.learner.value_based else frozenset()
        trained = self.wanted | ALWAYS | given | (ACTION_VALUES if self.wanted & ACTION_VALUES else frozenset())
        return "contribution" in self.credit.answers() and self.credit.audits <= trained

    def pay(self, train: Train, trajectories: Trajectory) -> Array:
        """The reward that each of the team learns from, `[b t n]`; 0 at reset steps."""
        batch = self.problem.read(train, trajectories)
        reward, _ = batch.credit.reward(batch.views, batch.trajectory)
        return jnp.where(trajectories.real[..., None], reward, 0)[..., : self.spec.team.n]

    def contribution(self, train: Train, trajectories: Trajectory) -> Array:
        """`[b t n]` for the team's agents: as the method claims; where it makes no claim, what its critic implies: how much better than
        the agent's default an action is, or, of a critic that knows no actions, the advantage that moved its policy. Who did not act
        was worth nothing."""
        n, (nets, seen, scale) = self.spec.team.n, (train.nets, train.seen, train.targets)
        if self.claims:
            views = self.views(nets, seen, scale, trajectories, self.wanted | self.credit.audits)
            claimed: Any = self.asked(nets).contribution(views, self.problem.encoded(seen, trajectories))
            if self.credit.claims == "shares":
                return claimed
        elif self.learner.value_based:
            views = self.views(nets, seen, scale, trajectories, self.wanted | {"q_default"})
            claimed = (views.q_chosen - views.q_default)[..., :n]
        else:
            claimed = self.learner.signal(self.problem, train, trajectories)[..., :n]
        return jnp.where(trajectories.acts[..., :n], claimed, 0)
