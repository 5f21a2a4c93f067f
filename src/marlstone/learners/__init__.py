"""How signals become parameters."""

from marlstone.learners.contract import Fixed, Learner, Losses
from marlstone.learners.policy_gradient import PolicyGradient

__all__ = ["Fixed", "Learner", "Losses", "PolicyGradient"]
