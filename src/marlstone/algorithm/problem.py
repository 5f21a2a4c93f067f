"""The learning problem of one combination: what several parts know together, offered to the learner (`learners.problem.Problem`)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.algorithm.constrained_costs import ConstrainedCosts
from marlstone.algorithm.lookahead import BatchLookahead
from marlstone.algorithm.parameter_sets import ParameterSets
from marlstone.algorithm.state import Nets
from marlstone.algorithm.views import Outputs, ViewBuilder
from marlstone.architectures.contract import Architecture, ObservationNormalizer
from marlstone.comms.learning import Speech
from marlstone.core.normalize import Scales, update_moments
from marlstone.core.records import replace
from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit.contract import Asked, Credit
from marlstone.learners.contract import Learner
from marlstone.learners.problem import Batch, LearningTargets, Losses, TrainState, TrainT

Array = Any
VALUE_RATE = 0.05  # how fast value targets' moments follow, per update


@dataclass(frozen=True)
class LearningProblem:
    """One combination in one environment, as its learner meets it. `wanted`: the views that training needs; `scales`: of values and of
    action values per agent, `[n]` each, where they are known (`scaled`); `speech`: the channel's part, where agents talk; `costs`: a
    constraint's, where costs are constrained."""

    spec: Spec
    architecture: Architecture
    credit: Credit
    learner: Learner
    sets: ParameterSets
    wanted: frozenset[str]
    scales: tuple[Array, Array] | None = None
    speech: Speech | None = None
    costs: ConstrainedCosts | None = None

    def scaled(self, train: TrainState) -> "LearningProblem":
        """The same, with the scales of `train`'s value targets worked out once per agent: what a loop of gradient steps is given."""
        return replace(self, scales=self._scales(train))

    def _scales(self, train: TrainState) -> tuple[Array, Array]:
        if self.scales is not None:
            return self.scales
        return self.sets.per_agent(train.targets.value.sigma), self.sets.per_agent(train.targets.gap.sigma)

    # ---- reading a batch
    @cached_property
    def views_of(self) -> ViewBuilder:
        """What builds views and encodes batches."""
        return ViewBuilder(self.spec, self.architecture, self.learner, self.sets, self.speech)

    def encoded(self, seen: ObservationNormalizer, trajectories: Trajectory) -> Trajectory:
        """A batch with observations and state normalized and actions encoded, as networks and credit see it."""
        return self.views_of.encoded(seen, trajectories)

    def views(
        self, nets: Nets, seen: ObservationNormalizer, scale: Scales, trajectory: Trajectory, wanted: Any = None, greedy: Any = None,
        outputs: Outputs | None = None,
    ) -> Views:  # fmt: skip
        """What is `wanted` of a batch (None: what training needs); `greedy` and `outputs` as `ViewBuilder.views` has them."""
        return self.views_of.views(nets, seen, scale, trajectory, self.wanted if wanted is None else wanted, greedy, outputs)

    def asked(self, nets: Nets, beside: Array | None = None) -> Asked:
        """Credit to be asked, with these networks' parameters. `beside`: rewards that the architecture adds, `[b t n]`."""
        return Asked(self.credit, nets.credit, self.spec.team, beside)

    def outputs(self, train: TrainState, trajectories: Trajectory) -> Outputs:
        """What the actors' networks say of a batch, `[b t+1 n_g ...]` per group: heads and the cores below them."""
        return self.views_of.outputs(train.nets, train.seen, trajectories)

    def read(self, train: TrainState, trajectories: Trajectory, outputs: Outputs | None = None) -> Batch:
        """A batch as `train.nets` read it. `outputs`: of the actors, where they are known."""
        outputs = outputs or self.outputs(train, trajectories)
        views = self.views(train.nets, train.seen, train.targets, trajectories, outputs=outputs)
        encoded = self.encoded(train.seen, trajectories)
        asked = self.asked(train.nets, self.architecture.pay(self.spec, trajectories, encoded))
        cost = None if self.costs is None else self.costs.signal(train, trajectories, outputs[1])
        return Batch(encoded, views, asked, self._scales(train)[0], cost)

    def read_greedy(self, train: TrainState, trajectories: Trajectory, batch: Batch, outputs: Outputs) -> Batch:
        """`batch` as the target networks read it (`train.target_params`; without: `train.nets`), with the values of the actions that are
        best by `train.nets`, whose `outputs` these are: `views.q_greedy` (double Q-learning, van Hasselt et al. 2016)."""
        best = tuple(g.space.mode(h, ok) for g, h, ok in zip(self.spec.groups, outputs[0], trajectories.step.legal, strict=True))
        nets = train.target_params or train.nets
        known = None if train.target_params else outputs
        views = self.views(nets, train.seen, train.targets, trajectories, greedy=best, outputs=known)
        return replace(batch, views=views, credit=self.asked(nets))

    # ---- what stays within a parameter set
    def observe(self, train: TrainState, trajectories: Trajectory) -> tuple[ObservationNormalizer, ObservationNormalizer]:
        """Observation moments with this batch in them, for the next update on, and those to learn by now: the first batch's are used at
        once, since acting knew none."""
        absorbed = self.sets.absorb(train.seen, trajectories)
        return absorbed, jax.tree.map(lambda a, b: jnp.where(train.version == 0, a, b), absorbed, train.seen)

    def standardized(self, x: Array, mask: Array) -> Array:
        """`x [b t n]` with mean 0 and deviation 1 over each parameter set's masked elements."""
        return self.sets.standardized(x, mask)

    def rescaled(self, train: TrainT, targets: LearningTargets, trajectories: Trajectory) -> TrainT:
        """The scales of values moved towards these targets, and heads of critics rescaled so that what they predict stays the same
        (PopArt, van Hasselt et al. 2016)."""
        old, sets = train.targets, self.sets
        moved = lambda t, x, mask: update_moments(t, x, mask, sets.members, VALUE_RATE, sets.psum)
        gap = old.gap if targets.gap is None else moved(old.gap, targets.gap, trajectories.acts)
        cost = None if targets.cost is None or old.cost is None else moved(old.cost, targets.cost, targets.predicted)
        new = Scales(moved(old.value, targets.target, targets.predicted), gap, cost)
        return replace(train, nets=sets.preserved(train.nets, old, new), targets=new)

    def clipped(self, grads: Nets, limit: float) -> tuple[Nets, Array]:
        """Gradients, summed over devices, clipped to `limit` per network and parameter set; and the mean norm of the policies'."""
        return self.sets.clipped(self.psum(grads), limit)

    def psum(self, tree: Any) -> Any:
        """A sum over the devices that share a batch."""
        return self.sets.psum(tree)

    def count(self, trajectories: Trajectory, predicted: Array) -> tuple[Array, Array, Array]:
        """Over all devices: how many decisions and predictions each parameter set has in a batch, `[k]` each, and how many steps it has."""
        count = self.sets.count
        counts = count(trajectories.acts), count(predicted), trajectories.real.sum().astype(jnp.float32)
        acts, values, steps = jax.tree.map(lambda x: jnp.maximum(x, 1), self.psum(counts))
        return acts, values, steps

    def objective(
        self, train: TrainState, trajectories: Trajectory, batch: Batch, losses: Losses, predicted: Array, counts: Any, weight: Array
    ) -> tuple[Array, Array | None]:
        """This device's share of the loss: `losses`, each mean within a parameter set (by `counts`), weighted by environment
        (`weight [b]`), and what the credit method must learn itself; and that part alone, `[b t]`."""
        sets, asked, (acts, values, real) = self.sets, batch.credit, counts
        assert isinstance(asked, Asked)
        weigh = lambda x: x * weight[:, None, None]
        share = sets.mean(weigh(losses.deciding), trajectories.acts, acts) + sets.mean(weigh(losses.predicting), predicted, values)
        if losses.gap is not None:
            share = share + sets.mean(weigh(losses.gap / self._scales(train)[1] ** 2), trajectories.acts, acts)
        if losses.costs is not None:
            share = share + sets.mean(weigh(losses.costs), predicted, values)
        if self.speech is not None and batch.views.bits is not None:
            cost = self.speech.cost(train.price, batch.views.bits, trajectories)  # type: ignore[attr-defined]
            share = share + sets.mean(weigh(cost), trajectories.acts, acts)
        views, encoded, total = batch.views, batch.trajectory, None
        for own in (asked.loss(views, encoded), asked.meta(views, encoded, self._lookahead(train, trajectories, acts, asked, batch))):
            if own is not None:
                share = share + jnp.where(trajectories.real, own, 0).sum() / real
                total = own if total is None else total + own
        return share, total

    def _lookahead(self, train: TrainState, trajectories: Trajectory, acts: Array, asked: Asked, batch: Batch) -> BatchLookahead:
        beyond = asked.beyond(batch.views, batch.trajectory)
        return BatchLookahead(
            self.spec, self.architecture, self.learner, self.sets, train.nets.actor, train.seen, trajectories, acts, beyond
        )
