"""How signals become parameters."""

from marlstone.learners.contract import Learner, LearningTargets, Losses
from marlstone.learners.policy_gradient import PolicyGradient
from marlstone.learners.q_learning import Pqn, QLearning
from marlstone.learners.replay import Replay

__all__ = ["LearningTargets", "Learner", "Losses", "PolicyGradient", "Pqn", "QLearning", "Replay"]
