"""What may go wrong with messages between agents. The channel over an environment takes these on (`comms.talking`); what lies below it
knows nothing of them.

Each changes some fields of the channel's link (`comms.Link`), so that several add up, or cuts links: a message on one of these is refused
before it is sent, as if its sender had been silent towards that recipient.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marlstone.core.errors import UserError, suggest
from marlstone.core.types import Spec
from marlstone.envs.faults.by_agent import check_limits
from marlstone.envs.faults.contract import Fault

EVERYBODY = "*"


@dataclass(frozen=True)
class MessageFault(Fault):
    """A fault of messages: neutral below the channel, refused where nobody talks."""

    @property
    def link(self) -> Mapping[str, Any]:
        """Fields of the channel's link that change, by name."""
        return {}

    def cut(self, agents: tuple[str, ...]) -> np.ndarray:
        """Links that carry nothing, `[n n]` booleans (recipient, sender), of the talking `agents`."""
        return np.zeros((len(agents), len(agents)), bool)

    def refuses(self, spec: Spec) -> str:
        """Needs a channel."""
        if any(leaf.kind == "message" for g in spec.groups for leaf in g.observation.values()):
            return ""
        return "nobody talks here, so no message can be lost, late or refused: add --comms broadcast, or leave it out"


@dataclass(frozen=True)
class MessageLoss(MessageFault):
    """Messages get lost: every link is good or bad by a Markov chain (Gilbert 1960; Elliott 1963), and loses a message with probability
    `loss` while it is bad. It is bad for 1 / `to_good` steps at a time, and to_bad / (to_bad + to_good) of the time: 30% as it stands."""

    kind: ClassVar[str] = "message_loss"
    to_bad: float = 3 / 28
    to_good: float = 0.25
    loss: float = 1.0

    def __post_init__(self) -> None:
        check_limits(self, to_bad=(0, 1), to_good=(0, 1), loss=(0, 1))

    @property
    def link(self) -> Mapping[str, Any]:
        """Its chain, and what is lost while it is bad."""
        return {"to_bad": self.to_bad, "to_good": self.to_good, "loss": self.loss}


@dataclass(frozen=True)
class MessageDelay(MessageFault):
    """Messages come 0 to `rows` steps late, drawn for each: later ones may overtake earlier ones."""

    kind: ClassVar[str] = "message_delay"
    rows: int = 3

    def __post_init__(self) -> None:
        check_limits(self, rows=(0, 16))

    @property
    def link(self) -> Mapping[str, Any]:
        """Its delay."""
        return {"delay": self.rows}


@dataclass(frozen=True)
class MessageCopies(MessageFault):
    """Messages come twice, with probability `rate`, the copy after the original."""

    kind: ClassVar[str] = "message_copies"
    rate: float = 0.3

    def __post_init__(self) -> None:
        check_limits(self, rate=(0, 1))

    @property
    def link(self) -> Mapping[str, Any]:
        """Its copies."""
        return {"copies": self.rate}


@dataclass(frozen=True)
class MessageCut(MessageFault):
    """Links that carry nothing, each written `"sender>recipient"`, by agents' names or `*`, everybody: what would be said on them is
    refused before it is sent, costs nothing and is not counted."""

    kind: ClassVar[str] = "message_cut"
    links: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.links:
            raise UserError("links is empty: name links as 'sender>recipient', such as 'scout>worker' or 'scout>*'")
        if bad := next((x for x in self.links if x.count(">") != 1 or not all(map(str.strip, x.split(">")))), None):
            raise UserError(f"links has {bad!r}: write a link as 'sender>recipient', such as 'scout>worker' or 'scout>*'")

    def _ends(self) -> list[tuple[str, str]]:
        ends = (x.split(">") for x in self.links)
        return [(sender.strip(), recipient.strip()) for sender, recipient in ends]

    def cut(self, agents: tuple[str, ...]) -> np.ndarray:
        """As `MessageFault.cut`."""
        found = np.zeros((len(agents), len(agents)), bool)
        at = lambda name: slice(None) if name == EVERYBODY else slice(agents.index(name), agents.index(name) + 1)
        for sender, recipient in self._ends():
            found[at(recipient), at(sender)] = True
        return found

    def refuses(self, spec: Spec) -> str:
        """Needs a channel, and agents of these names."""
        return super().refuses(spec) or self.unknown(spec.team.agents)

    def unknown(self, known: tuple[str, ...]) -> str:
        """Why these links are not between the agents that are `known`; empty where they are."""
        unknown = [x for pair in self._ends() for x in pair if x not in (*known, EVERYBODY)]
        return f"links names {unknown[0]!r}, who does not talk; {suggest(unknown[0], known)}" if unknown else ""


@dataclass(frozen=True)
class LinksCut(MessageFault):
    """As `MessageCut`, of links `which [n n]` (recipient, sender) that are known only when a program runs: one judges every link."""

    kind: ClassVar[str] = "links_cut"
    which: Any = None

    def cut(self, agents: tuple[str, ...]) -> Any:
        """These."""
        return self.which


def neutral(fault: Fault) -> Fault:
    """What is left of a fault below the channel: itself, or nothing."""
    return Fault() if is_message_fault(fault) else fault


def is_message_fault(fault: Fault) -> bool:
    """Whether a channel takes it on: one of these, or a user's own with a `link`."""
    return hasattr(fault, "link")
