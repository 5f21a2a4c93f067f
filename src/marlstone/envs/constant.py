"""Fields that are 1 on every step of an environment: loops over steps neither carry nor record them, and they are put back after."""

from collections.abc import Iterable
from typing import Any

from marlstone.core.records import replace
from marlstone.core.types import Array, Step

EVERYBODY = frozenset({"present", "deciding"})
"""Everybody is there and decides on every step."""
ENDLESS = frozenset({"discount", "team_discount"})
"""Nothing terminates: episodes end by truncation alone."""


def without(step: Step, fields: Iterable[str]) -> Step:
    """`step` with None in place of these fields, which JAX takes for no array at all."""
    nothing: dict[str, Any] = dict.fromkeys(fields)
    return replace(step, **nothing)


def filled(step: Step, fields: Iterable[str]) -> Step:
    """`step` with ones (or true) in these fields; its leading axes and its agents are those of the rewards."""
    xp = step.reward.__array_namespace__()
    like: dict[str, Array] = {
        "present": step.reward.astype(bool),
        "deciding": step.reward.astype(bool),
        "discount": step.reward,
        "team_discount": step.team_reward,
    }
    return replace(step, **{name: xp.ones_like(like[name]) for name in fields})
