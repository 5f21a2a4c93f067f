"""Learning from each rollout and forgetting it: targets once, then epochs over permuted environments."""

from typing import TYPE_CHECKING, Any

import jax
from jax import lax

from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.learners.gradient_step import StepReport, averaged, gradient_step, learning_rates
from marlstone.learners.problem import Problem, TrainT

if TYPE_CHECKING:
    from marlstone.learners.contract import Learner

Array = Any


def update_in_epochs(
    learner: "Learner", problem: Problem, train: TrainT, trajectories: Trajectory, progress: Array, key: Array
) -> tuple[TrainT, dict[str, Array]]:
    """One update from a rollout, `[b ...]`: `learner.targets` once, by the networks it was played with; then `learner.epochs` passes of
    `learner.minibatches` gradient steps, each on as many whole environments, permuted anew in each pass. Returns figures to record."""
    absorbed, seen = problem.observe(train, trajectories) if learner.normalize_observations else (train.seen, train.seen)
    now = replace(train, seen=seen)
    targets = learner.compute_targets(problem, now, trajectories)
    if targets.charged is not None:
        targets = replace(targets, advantage=targets.advantage - targets.charged)
    if learner.normalize_advantages:
        targets = replace(targets, advantage=problem.standardized(targets.advantage, trajectories.acts))
    if learner.normalize_values:
        now = problem.rescaled(now, targets, trajectories)
    scaled, rates, b = problem.scaled(now), learning_rates(learner, now.nets, progress, problem), trajectories.logp.shape[0]
    order = jax.vmap(lambda k: jax.random.permutation(k, b))(jax.random.split(key, learner.epochs))
    parts = order.reshape(learner.epochs * learner.minibatches, b // learner.minibatches)

    def minibatch(carry: tuple[Any, Any], environments: Array) -> tuple[tuple[Any, Any], StepReport]:
        nets, opt = carry
        part, fixed = jax.tree.map(lambda x: x[environments], (trajectories, targets))
        after, report = gradient_step(learner, scaled, replace(now, nets=nets, opt=opt), part, fixed, progress, rates)
        return (after.nets, after.opt), report

    (nets, opt), reports = lax.scan(minibatch, (now.nets, now.opt), parts)
    return replace(now, nets=nets, opt=opt, seen=absorbed), averaged(problem, reports)
