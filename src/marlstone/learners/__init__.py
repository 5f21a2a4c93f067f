"""How signals become parameters. A learner of your own needs `Learner`, and what it is built from; an optimizer `Optimizer`."""

from marlstone.core.types import Trajectory, Views
from marlstone.learners.contract import Learner
from marlstone.learners.gradient_step import gradient_step
from marlstone.learners.lambda_returns import lambda_returns
from marlstone.learners.minibatches import update_in_epochs
from marlstone.learners.optimizer import Adam, Optimizer, RAdam, RmsProp, Sgd
from marlstone.learners.policy_gradient import PolicyGradient
from marlstone.learners.problem import Batch, LearningTargets, Losses, Problem
from marlstone.learners.q_learning import Pqn, QLearning
from marlstone.learners.replay import Replay
from marlstone.learners.replayed import update_from_replay

__all__ = [
    "Adam", "Batch", "Learner", "LearningTargets", "Losses", "Optimizer", "PolicyGradient", "Pqn", "Problem", "QLearning", "RAdam",
    "Replay", "RmsProp", "Sgd", "Trajectory", "Views", "gradient_step", "lambda_returns", "update_from_replay", "update_in_epochs",
]  # fmt: skip
