"""Where a process of the fleet runs and how its supervisor holds it there: here on this machine; `on_ray` on the nodes of a cluster."""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from marlstone.core.machine import is_stopped
from marlstone.fleet.status_page import Facts, Page
from marlstone.rollout.process import Child
from marlstone.rollout.shared_memory import anonymous

Attach = Callable[[str, int, socket.socket], None]
"""Told the name, the life and our end of a connection to it; owns that end from then on."""


@dataclass(frozen=True)
class Order:
    """A life to be started. `program`: what it runs, with the descriptors of its connection, its page, its file for stacks, and of `ends`
    more connections; `threads`: how many NumPy's products may use (None: all)."""

    name: str
    life: int
    program: str
    ends: int = 0
    threads: int | None = 1


class Life(Protocol):
    """One life of a member, wherever it is. No method waits."""

    pid: int | None
    node: str | None  # None: this machine

    def facts(self) -> Facts:
        """As last known."""

    def unheard(self) -> float:
        """Seconds since they were known."""

    def ended(self) -> str | None:
        """How it ended, as far as is known; None while it lives."""

    def held(self) -> bool:
        """Whether a signal has stopped it."""

    def end(self) -> None:
        """Kill it, if it lives."""

    def dump(self, into: Path) -> None:
        """Have the stacks of all its threads added to a file, soon."""


class Place(Protocol):
    """Where lives are started."""

    def start(self, order: Order) -> Life:
        """Begin a life; its connection is handed to the supervisor by `Attach`."""

    def close(self) -> None:
        """End whatever still lives there."""


class Process:
    """A life on this machine. `links`: its ends of connections, `stacks`: where SIGUSR1 has it write; both are its own from here on."""

    node: str | None = None

    def __init__(self, order: Order, links: list[socket.socket], stacks: int) -> None:
        page = anonymous()
        try:
            self.page = Page(page, create=True)
            first, *more = links
            ends = tuple(x.fileno() for x in more)
            self.child = Child(order.program, (page, stacks, *ends), threads=order.threads, theirs=first)
        finally:
            os.close(page)
            os.close(stacks)
            for link in links:
                link.close()
        self.pid: int | None = self.child.process.pid

    def facts(self) -> Facts:
        """What its shared page says now."""
        return self.page.facts()

    def unheard(self) -> float:
        """0: its page is memory of this machine."""
        return 0.0

    def ended(self) -> str | None:
        """Its exit status in words; None while it lives."""
        status = self.child.process.poll()
        return None if status is None else f"its process ended with status {status}"

    def held(self) -> bool:
        """Whether a signal has stopped it."""
        return is_stopped(self.child.process.pid)

    def end(self) -> None:
        """Kill it and its children."""
        self.child.end()

    def dump(self, into: Path) -> None:
        """Have it write the stacks of its threads to the file it was given; `into` is known to it already."""
        self.child.process.send_signal(signal.SIGUSR1)  # it knows the file


@dataclass(frozen=True)
class Local:
    """This machine. `stacks`: a folder with one file per member."""

    attach: Attach
    stacks: Path

    def start(self, order: Order) -> Process:
        """A process with a socket pair for each connection."""
        pairs = [socket.socketpair() for _ in range(1 + order.ends)]
        for ours, _ in pairs:
            self.attach(order.name, order.life, ours)
        file = os.open(self.stacks / f"{order.name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        return Process(order, [theirs for _, theirs in pairs], file)

    def close(self) -> None:
        """Nothing: the supervisor ends each life itself."""


def plain(life: Life) -> dict[str, Any]:
    """One look at a life, to be sent."""
    return {"pid": life.pid, "facts": life.facts().json, "ended": life.ended(), "held": life.held()}
