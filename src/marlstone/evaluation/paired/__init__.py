"""Policies on the same episodes: which returns more, and whether the reward is hacked."""
