"""Every agent is paid what the environment pays it."""

from dataclasses import dataclass
from typing import ClassVar

from marlstone.credit.contract import Credit


@dataclass(frozen=True)
class Individual(Credit):
    """The agent's own reward, until its own end: every neutral answer."""

    kind: ClassVar[str] = "individual"
