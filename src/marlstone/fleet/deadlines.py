"""How long a process of the fleet may be silent at what it is doing, before it counts as hung.

Waits have deadlines of their own, on every call; evaluating and checkpointing last as long as a run's episodes and disk do. A
learner's first updates may compile, and no later one is ended for being as slow as the others were.
"""

from marlstone.config import RunConfig
from marlstone.fleet.actor import ROOM
from marlstone.fleet.status_page import Facts

COMPILING = 30.0  # times fleet.patience that compiling may take, and a learner's first updates
SLOWER = 3.0  # times as long as the updates before it, beside fleet.patience, that one may take
UNLIMITED = ("waiting for trajectories", "waiting for room", "waiting for weights", "evaluating", "checkpointing", "done")


def deadline(config: RunConfig, facts: Facts, envs: int | None, reference: bool) -> float:
    """Seconds. `envs`: of an actor (None: a learner); `reference`: whether it acts in JAX, and a whole unroll is one step to it."""
    guards, patience = config.guards, config.fleet.patience
    match facts.doing:
        case "stepping" if not reference:
            return guards.timeout
        case "resetting":
            return guards.start_timeout
        case "starting" | "building environments" | "stepping":
            return guards.start_timeout * (envs or 1) + patience
        case "sending":
            return ROOM + patience
        case "compiling":
            return COMPILING * patience
        case "updating":
            updates = facts.trajectories // (config.seeds * config.rollout.envs)  # of every seed
            return patience + SLOWER * facts.age / updates if updates else COMPILING * patience
        case doing if doing in UNLIMITED:
            return float("inf")
    return patience
