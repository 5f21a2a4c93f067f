"""Evaluators that are made once for many evaluations: the one implementation of `Player.evaluate`, for every backend."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from marlstone.core.acting import Act
from marlstone.envs.faults import Fault
from marlstone.play.action_selectors import Decider
from marlstone.play.evaluator import Episodes
from marlstone.play.player import Player
from marlstone.play.used import Meter
from marlstone.rollout.state import State, policies_of


@dataclass(frozen=True)
class KeptEvaluators:
    """Of policies that act alone, without faults, by number of episodes: compiled once for any number of checkpoints, rounds and ways of
    acting. Others are made for one evaluation. `meter`: what all of them used."""

    alone: dict[int, Callable[..., Episodes]] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)

    def evaluate(
        self, player: Player, state: State | None, episodes: int, act: Act,
        decider: Decider | None, faults: tuple[Fault, ...], policies: Any, keys: tuple[int, ...] | None,
    ) -> Episodes:  # fmt: skip
        """As `Player.evaluate`, by the `evaluator` of `player`."""
        if decider is not None or faults:
            play = player.evaluator(episodes, decider=decider, faults=faults)
        else:
            play = self.alone.get(episodes) or self.alone.setdefault(episodes, player.evaluator(episodes))
        with self.meter.admit(episodes):
            played = play(policies_of(state) if policies is None else policies, keys, act)
            self.meter.episodes(played.used, player.algorithm.spec.agents)
        return played
