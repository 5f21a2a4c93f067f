"""What a candidate is put through once it is trained: edge cases, and teammates from other seeds."""

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.envs.make import is_jax
from marlstone.evaluation.credit.audit import audit
from marlstone.evaluation.robustness.edge_cases import edge_cases, standard_cases
from marlstone.evaluation.stability.cross_play import cross_play, losses
from marlstone.evaluation.stability.disagreement import action_disagreement
from marlstone.play.player import Player
from marlstone.rollout.state import State

DECISIONS = 128  # of each seed, that credit is audited on
Tell = Callable[[str, int, int], None]


def stressed(
    runtime: Player, state: State, config: RunConfig, measured: dict[str, Any], chance: float, tell: Tell = lambda *_: None
) -> dict[str, Any]:
    """`cases` (see `edge_cases`), played from the same keys as the returns that were `measured`; per pair of seeds `cross_play_loss`, in
    returns, and `action_disagreement`, `[seeds seeds]`; None where a team cannot be mixed; `credit_judgement`, whether what credit claims
    is right here; "" where it claims nothing, or shares, and in an environment stepped by Python.

    Args: `tell`: told what is played next, and which of how many parts that is, from 0 on.
    """
    record, act = measured["record"], measured["record"]["acting"]
    nominal = np.array(record["episode_returns"], float)
    episodes, spec = nominal.shape[1], runtime.algorithm.spec
    nth, parts = count(), len(standard_cases(spec)) + len(config.evaluate.cases) + 1
    out: dict[str, Any] = {
        "cases": edge_cases(
            runtime,
            state,
            config,
            episodes,
            act,
            nominal=nominal,
            chance=np.full((len(nominal), 1), chance),
            tell=lambda x: tell(x, next(nth), parts),
        ),
        "cross_play_loss": None,
        "action_disagreement": None,
        "credit_judgement": "",
    }
    if runtime.algorithm.claims and is_jax(config.env):
        tell("credit", parts - 1, parts)
        out["credit_judgement"] = audit(runtime, state, config, DECISIONS, act)["judgement"]
    if len(nominal) > 1:
        tell("teams of different seeds", parts - 1, parts)
        out["action_disagreement"] = np.asarray(action_disagreement(runtime, state)).tolist()
        if len(set(spec.agents) - set(spec.opponents)) > 1:
            out["cross_play_loss"] = losses(cross_play(runtime, state, episodes, act)).tolist()
    return out
