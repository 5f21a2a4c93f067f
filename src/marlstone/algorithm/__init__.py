"""The only place where architecture, credit and learner meet."""

from marlstone.algorithm.algorithm import Algorithm
from marlstone.algorithm.state import Nets, Policy, Train

__all__ = ["Algorithm", "Nets", "Policy", "Train"]
