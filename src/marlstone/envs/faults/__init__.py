"""Faults: what may go wrong between an environment and its agents."""

from marlstone.envs.faults.contract import Draws, Fault, under

__all__ = ["Draws", "Fault", "under"]
