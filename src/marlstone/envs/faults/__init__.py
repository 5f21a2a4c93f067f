"""Faults: what may go wrong between an environment and its agents."""

from marlstone.envs.faults.contract import Draws, Fault, under
from marlstone.envs.faults.drift import Drift

__all__ = ["Draws", "Drift", "Fault", "under"]
