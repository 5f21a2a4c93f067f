"""Learning from what is remembered: each rollout joins the replay, and batches drawn from it have targets of their own."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.core.records import replace
from marlstone.core.types import Trajectory
from marlstone.learners.gradient_step import StepReport, averaged, gradient_step, learning_rates
from marlstone.learners.problem import Problem, TrainT

if TYPE_CHECKING:
    from marlstone.learners.q_learning import QLearning

Array = Any


def update_from_replay(
    learner: "QLearning", problem: Problem, train: TrainT, trajectories: Trajectory, progress: Array, key: Array
) -> tuple[TrainT, dict[str, Array]]:
    """One update after a rollout, `[b ...]`, was remembered: `learner.replay.updates` gradient steps, each on a batch that is drawn, with
    targets by the target networks as they stand, which then move (`learner.update_target`). Returns figures to record."""
    remembers = learner.replay
    absorbed, seen = problem.observe(train, trajectories) if learner.normalize_observations else (train.seen, train.seen)
    now = replace(train, seen=seen, replay=remembers.add(train.replay, trajectories))
    scaled, rates, before = problem.scaled(now), learning_rates(learner, now.nets, progress, problem), train.version * remembers.updates

    def batch(carry: tuple[Any, ...], at: tuple[Array, Array | None]) -> tuple[tuple[Any, ...], StepReport]:
        nets, opt, target_params, memory = carry
        key, step = at
        current = replace(now, nets=nets, opt=opt, target_params=target_params)
        which, weight = remembers.draw(memory, key)
        drawn = remembers.at(memory, which)
        targets = lambda train, outputs: learner.compute_targets(scaled, train, drawn, outputs)
        after, report = gradient_step(learner, scaled, current, drawn, targets, progress, rates, weight)
        memory = remembers.update_priorities(memory, which, report.error)
        taken = learner.optimizer.steps_taken(after.opt)
        taken = before + step if taken is None else taken
        return (after.nets, after.opt, learner.update_target(target_params, after.nets, taken), memory), report

    counts = learner.optimizer.steps_taken(train.opt) is not None
    steps = jax.random.split(key, remembers.updates), None if counts else jnp.arange(1, remembers.updates + 1)
    (nets, opt, target_params, memory), reports = lax.scan(batch, (now.nets, now.opt, now.target_params, now.replay), steps)
    done = replace(now, nets=nets, opt=opt, seen=absorbed, target_params=target_params, replay=memory)
    return done, averaged(problem, reports)
