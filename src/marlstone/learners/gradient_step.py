"""One gradient step of any learner: losses of a batch, averaged within parameter sets, clipped, and taken by the optimizer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.records import record, replace
from marlstone.core.types import Trajectory
from marlstone.learners.problem import LearningTargets, Networks, Problem, TrainT

if TYPE_CHECKING:
    from marlstone.learners.contract import Learner

Array = Any
Targets = LearningTargets | Callable[[Any, Any], LearningTargets]


@record
class StepReport:
    """Of one gradient step: sums of figures over decisions and how many there were, the policies' gradient norm, and the root mean squared
    error of each environment's predictions, `[b]`."""

    sums: dict[str, Array]
    count: Array
    norm: Array
    error: Array


def learning_rates(learner: "Learner", nets: Networks, progress: Array, problem: Problem | None = None) -> Any:
    """One learning rate per array, as `nets`: the first of `learner.rate` for actors and critics, the second for the rest. `problem`: whose
    groups may have rates of their own (`learner.group_lr`), which fall with the first."""
    lr, credit_lr = learner.rate(progress)
    parts = {"actor": lr, "critic": lr, "q": credit_lr, "credit": credit_lr, "cost": lr}
    rates = {name: jax.tree.map(lambda _, r=r: r, getattr(nets, name)) for name, r in parts.items()}
    if problem is not None and (own := getattr(learner, "group_lr", None)):
        factors = [own[g.name] / learner.lr if g.name in own else 1.0 for g in problem.spec.groups]
        for name in ("actor", "critic", "cost"):
            groups = zip(rates[name], factors, strict=False)  # nobody's critics are fewer
            rates[name] = tuple(jax.tree.map(lambda r, f=f: r * f, net) for net, f in groups)
    return replace(nets, **rates)


def gradient_step(
    learner: "Learner",
    problem: Problem,
    train: TrainT,
    trajectories: Trajectory,
    targets: Targets,
    progress: Array,
    rates: Any,
    weight: Any = None,
) -> tuple[TrainT, StepReport]:  # fmt: skip
    """Networks and optimizer after one step on `trajectories [b t ...]`.

    Args: `targets`, or `targets(train, outputs)`, which makes them from what the actors say here anyway; `rates`, one learning rate per
    array (`learning_rates`); `weight [b]` of each environment.
    """
    weight = jnp.ones(trajectories.logp.shape[:1]) if weight is None else weight

    def loss(nets: Any) -> tuple[Array, Any]:
        now = replace(train, nets=nets)
        outputs = problem.outputs(now, trajectories)
        batch = problem.read(now, trajectories, outputs)
        fixed = lax.stop_gradient(targets(now, lax.stop_gradient(outputs))) if callable(targets) else targets
        counts = problem.count(trajectories, fixed.predicted)
        losses, metrics = learner.loss(batch, fixed, progress)
        share, of_credit = problem.objective(now, trajectories, batch, losses, fixed.predicted, counts, weight)
        if of_credit is not None:
            metrics = metrics | {"credit_loss": jnp.broadcast_to(of_credit[..., None], trajectories.acts.shape)}
        error = jnp.where(fixed.predicted, losses.predicting, 0).sum((1, 2)) / jnp.maximum(fixed.predicted.sum((1, 2)), 1)
        return share, ({k: jnp.where(trajectories.acts, v, 0).sum() for k, v in metrics.items()}, jnp.sqrt(error))

    grads, (sums, error) = jax.grad(loss, has_aux=True)(train.nets)
    grads, norm = problem.clipped(grads, learner.max_grad_norm)
    nets, opt = learner.optimizer.step(grads, train.opt, train.nets, rates)
    return replace(train, nets=nets, opt=opt), StepReport(sums, trajectories.acts.sum(), norm, error)


def averaged(problem: Problem, reports: StepReport) -> dict[str, Array]:
    """Figures of several steps, `[steps]` each, as one number each: mean over decisions, then over steps."""
    sums, count = problem.psum((reports.sums, reports.count))
    return {k: jnp.mean(v / jnp.maximum(count, 1)) for k, v in sums.items()} | {"gradient_norm": jnp.mean(reports.norm)}
