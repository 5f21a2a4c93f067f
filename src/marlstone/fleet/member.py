"""One place in a fleet, an actor's or the learner's, and the process that holds it now."""

import socket
from dataclasses import dataclass, field

from marlstone.fleet.actor import Post
from marlstone.fleet.launcher import Life, Place
from marlstone.fleet.status_page import BEFORE, Facts


@dataclass
class Member:
    """One place in the fleet, through all its lives.

    Fields: `post`, None for the learner; `child`, the process of this life (None: between two lives); `life`, how many there were before;
    `due`, when to start the next one; `lived`, whether any did more than start; `retry`, seeds of episodes that the next begins with;
    `rate`, joint steps a second, and `last`, when they were counted and how many.
    """

    name: str
    program: str
    place: Place
    post: Post | None = None
    child: Life | None = None
    life: int = 0
    last_facts: Facts = BEFORE
    due: float = 0.0
    lived: bool = False
    quick_deaths: int = 0
    held_since: float | None = None
    retry: tuple[int, ...] = ()
    sockets: list[socket.socket] = field(default_factory=list)
    rate: float = 0.0
    last: tuple[float, int] = (0.0, 0)

    def facts(self) -> Facts:
        """What its process is at; between two lives, what the last one was at."""
        return self.last_facts if self.child is None else self.child.facts()

    @property
    def seed(self) -> int | None:
        """The training seed that an actor acts for."""
        return None if self.post is None else self.post.seed
