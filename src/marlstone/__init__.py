"""Marlstone: multi-agent reinforcement learning for teams who put it into production."""

__version__ = "0.1.0"
