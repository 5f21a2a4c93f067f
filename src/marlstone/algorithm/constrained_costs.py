"""A constraint's part in learning: what a batch cost, what it is expected to cost further, and the multiplier that keeps the budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from marlstone.algorithm.parameter_sets import ParameterSets
from marlstone.architectures.contract import Architecture
from marlstone.comms.layout import PER_STEP
from marlstone.comms.learning import Speech
from marlstone.core.distributions import concat_agents
from marlstone.core.errors import suggest
from marlstone.core.ledger import SENT
from marlstone.core.multiplier import controlled, excess
from marlstone.core.records import record, replace
from marlstone.core.types import Spec, Trajectory
from marlstone.core.usage import METRICS, USAGE, records_usage, usage_of
from marlstone.learners.constraint import Constraint
from marlstone.learners.problem import CostSignal

Array = Any
KEEP = 0.9  # of what earlier updates said of an episode's cost, per update


@record
class Spending:
    """The multiplier `now`, its controller's `integral` and last `error`; and moving sums of costs `spent` and of the episodes (or steps)
    they were `over`. Scalars."""

    now: Array
    integral: Array
    error: Array
    spent: Array
    over: Array


def begin_spending() -> Spending:
    """Before training: nothing costs anything."""
    return Spending(*(jnp.zeros(()) for _ in range(5)))


@dataclass(frozen=True)
class ConstrainedCosts:
    """An active constraint in one environment. `splits`: whether credit shares the team's reward out (`Credit.splits`). Raises ValueError
    for kinds of cost that nothing here records."""

    constraint: Constraint
    spec: Spec
    architecture: Architecture
    sets: ParameterSets
    splits: bool
    speech: Speech | None = None

    def __post_init__(self) -> None:
        for kind in self.constraint.prices:
            if kind in USAGE and not records_usage(self.spec):
                raise ValueError(
                    f"cost.prices has {kind!r}, but agents have no tools and no memory that would cost it: add [[tools]], or name what "
                    f"counts in [cost.prices]: {', '.join((*SENT, *self.spec.metrics))}"
                )
            if kind in SENT and self.speech is None:
                raise ValueError(f"cost.prices has {kind!r}, but agents do not talk: add --comms broadcast, or leave it out")
            if kind not in (*USAGE, *SENT, *self.spec.metrics):
                raise ValueError(f"cost.prices has {kind!r}: {suggest(kind, (*USAGE, *SENT, *self.spec.metrics))}")
            if kind in self.spec.metrics and self.spec.metrics[kind].reduce == "last":
                raise ValueError(
                    f"cost.prices has {kind!r}, of which only an episode's last value counts: name a metric that is a sum or mean"
                )

    # ---- what was spent
    def spent(self, trajectory: Trajectory) -> tuple[Array, Array]:
        """What each agent's actions cost, `[b t n]`, and what was nobody's own, `[b t]`; 0 at resets, and of managers."""
        step, spec, real = trajectory.step, self.spec, trajectory.real
        own, common = jnp.zeros((*real.shape, spec.n)), jnp.zeros(real.shape)
        for kind, price in self.constraint.prices.items():
            if kind in USAGE:
                own = own + price * usage_of(spec, step)[:, 1:, :, USAGE.index(kind)]
            elif kind in SENT:
                assert self.speech is not None
                sent = self.speech.links(step)[1 + SENT.index(kind)][:, 1:].sum(-1)
                own = own + price * jnp.pad(sent, [(0, 0), (0, 0), (0, spec.n - spec.team.n)])
            else:
                common = common + price * step.metrics[kind][:, 1:]
        return jnp.where(real[..., None], own, 0), jnp.where(real, common, 0)

    def of_episodes(self, metrics: Mapping[str, Array], length: Array) -> Array:
        """What whole episodes cost, `[...]`, of their metrics (`play.evaluator.Episodes`); of a budget per step, each of their steps."""
        total, names = 0 * length, {**dict(zip(SENT, PER_STEP, strict=True)), **dict(zip(USAGE, METRICS, strict=True))}
        for kind, price in self.constraint.prices.items():
            name = names.get(kind, kind)
            amount = metrics[name] * length if self.spec.metrics[name].reduce == "mean" else metrics[name]
            total = total + price * amount
        return total / length if self.constraint.per == "step" else total

    # ---- what is learned from it
    def values(self, nets: Any, seen: Any, scale: Any, trajectory: Trajectory, cores: Any) -> Array:
        """Costs to come, discounted, `[b t+1 n]`, by the constraint's own critics."""
        memory = replace(trajectory.memory, critic=self.architecture.of_costs(self.spec, trajectory.memory))
        values, _ = self.architecture.value(self.spec, nets.cost, seen, trajectory.step, memory, cores)
        return self.sets.denormalized(concat_agents(list(values)), scale.cost)

    def signal(self, train: Any, trajectory: Trajectory, cores: Any) -> CostSignal:
        """A batch's costs as the learner meets them, under `train`'s networks, scales and multiplier."""
        step, (own, common) = trajectory.step, self.spent(trajectory)
        whole = self.constraint.charge == "team"
        part = 1 / self.spec.team.n if self.splits else 1.0
        spent, discount = own + part * common[..., None], step.discount[:, 1:]
        if whole:
            spent = jnp.broadcast_to((own.sum(-1) + common)[..., None], own.shape)
            discount = jnp.broadcast_to(step.team_discount[:, 1:, None], discount.shape)
        sigma, of_values = (self.sets.per_agent(x.sigma) for x in (train.targets.cost, train.targets.value))
        rate = train.cost.now * (jnp.ones_like(sigma) if self.constraint.weight else of_values / sigma)
        values = self.values(train.nets, train.seen, train.targets, trajectory, cores)
        return CostSignal(spent, discount, jnp.full_like(discount, whole, bool), values, rate, sigma)

    # ---- the multiplier
    def after(self, spending: Spending, trajectory: Trajectory, progress: Array, psum: Any) -> tuple[Spending, dict[str, Array]]:
        """The multiplier after a batch; and figures to record: `cost` per episode (or step), as the last updates had it, and `cost_weight`,
        the multiplier."""
        real, c = trajectory.real, self.constraint
        over = real if c.per == "step" else real & trajectory.step.last[:, 1:]
        own, common = self.spent(trajectory)
        spent, over = psum((own.sum() + common.sum(), over.sum().astype(jnp.float32)))
        spent, over = KEEP * spending.spent + spent, KEEP * spending.over + over
        used, opened = spent / jnp.maximum(over, 1e-6), progress >= c.opening
        if c.budget is None:
            now, integral, error = jnp.where(opened, c.weight, 0.0), spending.integral, spending.error
        else:
            error = jnp.where((over > 0) & opened, excess(used, jnp.float32(c.budget)), 0)
            now, integral = controlled(spending.integral, error, spending.error)
            now = jnp.where(opened, now, 0)
        return Spending(now, integral, error, spent, over), {"cost": used, "cost_weight": now}
