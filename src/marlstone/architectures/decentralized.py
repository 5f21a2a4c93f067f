"""Decentralized training: every agent's critic sees only what the agent itself sees (independent learners, Tan 1993)."""

from dataclasses import dataclass
from typing import ClassVar

from marlstone.architectures.contract import Architecture


@dataclass(frozen=True)
class Decentralized(Architecture):
    """Independent actor-critics: IPPO with `policy_gradient` (de Witt et al. 2020). With `sharing = "none"`, one agent's
    update does not depend on another's data."""

    kind: ClassVar[str] = "decentralized"
