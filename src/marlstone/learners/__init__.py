"""How signals become parameters."""

from marlstone.learners.contract import Fixed, Learner, Losses
from marlstone.learners.policy_gradient import PolicyGradient
from marlstone.learners.q_learning import Pqn, QLearning
from marlstone.learners.replay import Replay

__all__ = ["Fixed", "Learner", "Losses", "PolicyGradient", "Pqn", "QLearning", "Replay"]
