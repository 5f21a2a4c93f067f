"""Configuration: TOML and command-line flags, the same names in both, become frozen dataclasses."""

from marlstone.config.case import Case
from marlstone.config.schema import Evaluation, Rollout, RunConfig
from marlstone.config.sources import load, parse
from marlstone.config.stages import Stage
from marlstone.config.stopping import Stop
from marlstone.config.toml import dump

__all__ = ["Case", "Evaluation", "Rollout", "RunConfig", "Stage", "Stop", "dump", "load", "parse"]
