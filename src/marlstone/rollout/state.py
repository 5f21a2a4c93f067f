"""What training carries from update to update, and what an update reports."""

from dataclasses import field
from typing import Any

from marlstone.algorithm import Policy, Train
from marlstone.core.arrays import Array
from marlstone.core.episodes import EpisodeSums, Tally
from marlstone.core.records import record
from marlstone.rollout.unroll import RolloutState


@record
class State:
    """Everything one training seed carries: enough to go on as if it had never stopped.

    Attributes:
      train: parameters, optimizer, normalization, replay.
      acting: where its environments are.
      tally: statistics of their unfinished episodes.
      act_key: key of acting and of the environments.
      learn_key: key of updates.
      league: past policies that it plays against (`rollout.self_play`); () without self-play.
    """

    train: Train
    acting: RolloutState
    tally: Tally
    act_key: Array
    learn_key: Array
    league: Any = ()


@record
class Report:
    """One update's figures.

    Attributes:
      finished: sums over the episodes that ended.
      steps: joint environment steps.
      losses: by name.
      sent: messages and bits by sender and recipient, `[n n]` each; {} where nobody talks.
      used: decisions, and what tools and memories were used, by agent (`core.usage.used_in`), `[n]` each.
    """

    finished: EpisodeSums
    steps: Array
    losses: dict[str, Array]
    sent: dict[str, Array] = field(default_factory=dict)
    used: dict[str, Array] = field(default_factory=dict)


def policies_of(state: State | None) -> Policy:
    """What acts, of all seeds. Raises ValueError for no state."""
    if state is None:
        raise ValueError("neither a state nor policies: give one of them to be played")
    return state.train.policy
