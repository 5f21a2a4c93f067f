"""A run small enough to be played in a test."""

from typing import Any

from marlstone.config import RunConfig, load
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.records import replace


def config(env: str, **changes: Any) -> RunConfig:
    """Two seeds of 4 environments."""
    words = {"env": env, "seed": "0", "seeds": "2", "learner.minibatches": "2", "architecture.body.hidden": "[8]", "credit": "team"}
    return replace(load(None, words), **{"rollout": Rollout(4, 8, 1), "evaluate": Evaluation(4, 0), "steps": 64, **changes})
