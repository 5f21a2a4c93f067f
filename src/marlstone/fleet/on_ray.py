"""Actors on the nodes of a Ray cluster. Ray places one `Node` on each and carries a few words; trajectories and weights do not pass through
it.

A node's processes are those of the local fleet, held by `Node` as the supervisor holds its own; each speaks to the broker over a
TCP connection on which both ends have proven that they know the fleet's token (`handshake`). One thread speaks with Ray: however long
Ray takes, the supervisor does not wait.
"""

import contextlib
import os
import queue
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marlstone.fleet.handshake import admit, introduce
from marlstone.fleet.launcher import Attach, Order, Process, plain
from marlstone.fleet.ray_cluster import joined
from marlstone.fleet.status_page import BEFORE, Facts

TURN = 0.1  # seconds between looks at the nodes
NODES = 2.0  # seconds between looks at which nodes there are
SETTLE = 30.0  # seconds that Ray may take to start a process of its own
GREET = 10.0  # seconds in which a connection must say who it is


class Node:
    """What runs on each node, as a Ray actor: starts processes there, looks at them, ends them; they end when it does."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.broker, self.token = (host, port), token
        self.lives: dict[str, tuple[int, Process]] = {}
        self.stacks: dict[str, int] = {}

    def start(self, name: str, life: int, program: str, threads: int | None) -> None:
        """Begin a life here, with a connection to the broker on which the token was proven; an earlier one of that name ends."""
        self.end(name)
        link = socket.create_connection(self.broker, GREET)
        try:
            introduce(link, self.token, {"name": name, "life": life})
        except BaseException:
            link.close()
            raise
        link.settimeout(None)
        fd, path = tempfile.mkstemp(prefix="marlstone")
        os.unlink(path)
        self.stacks[name] = os.dup(fd)
        self.lives[name] = life, Process(Order(name, life, program, threads=threads), [link], fd)

    def look(self) -> dict[str, dict[str, Any]]:
        """What each process here is at, by name."""
        return {name: {"life": life, **plain(process)} for name, (life, process) in self.lives.items()}

    def end(self, name: str) -> None:
        """Kill a process here, if there is one of that name."""
        if name in self.lives:
            self.lives.pop(name)[1].end()
            os.close(self.stacks.pop(name))

    def dump(self, name: str) -> str:
        """Stacks of all threads of one process, as they are within a second."""
        fd, (_, process) = self.stacks[name], self.lives[name]
        before, deadline = os.fstat(fd).st_size, time.monotonic() + 1.0
        process.dump(Path())
        while time.monotonic() < deadline and os.fstat(fd).st_size == before:
            time.sleep(0.02)
        time.sleep(0.05)
        return os.pread(fd, os.fstat(fd).st_size - before, before).decode()

    def close(self) -> None:
        """Kill all of them."""
        for name in list(self.lives):
            self.end(name)


@dataclass
class RayLife:
    """A life on some node, as its node last told; before that, as it was ordered."""

    order: Order
    ask: Callable[..., None]
    pid: int | None = None
    node: str | None = "no node yet"
    ordered: float = field(default_factory=time.monotonic)
    heard: float | None = None
    last: Facts = BEFORE
    why: str | None = None
    stopped: bool = False

    def facts(self) -> Facts:
        """As its node last told; before that, as long as it has been ordered."""
        return self.last if self.pid is not None else BEFORE.later(time.monotonic() - self.ordered)

    def unheard(self) -> float:
        """Seconds since its node last told."""
        return 0.0 if self.heard is None else time.monotonic() - self.heard

    def ended(self) -> str | None:
        """How it ended, as far as its node told."""
        return self.why

    def held(self) -> bool:
        """Whether a signal has stopped it there."""
        return self.stopped

    def end(self) -> None:
        """Have its node kill it; nobody waits for that."""
        self.ask("end", self)

    def dump(self, into: Path) -> None:
        """Have its node fetch its stacks into a file here."""
        self.ask("dump", self, into)

    def told(self, message: dict[str, Any]) -> None:
        """What its node tells of it."""
        self.pid, self.last, self.heard = message["pid"], Facts(**message["facts"]), time.monotonic()
        self.why, self.stopped = message["ended"], message["held"]


@dataclass
class Station:
    """A node of the cluster with our `Node` on it. `look`: what was asked last and not answered yet, `until`: by when it must be."""

    id: str
    name: str
    actor: Any
    until: float
    lives: dict[str, RayLife] = field(default_factory=dict)
    look: Any = None
    dumps: dict[Any, Path] = field(default_factory=dict)
    starts: dict[Any, RayLife] = field(default_factory=dict)


class OnRay:
    """A place for actors: a cluster at `address`, or one of our own on this machine. A node silent for `patience` seconds is given up."""

    def __init__(self, address: str | None, attach: Attach, patience: float) -> None:
        self.attach, self.patience, self.token = attach, patience, secrets.token_hex(16)
        self.ray, self.mine = joined(address)
        self.listener = socket.create_server((self.ray.util.get_node_ip_address(), 0), backlog=512)
        self.orders: queue.SimpleQueue[tuple[str, RayLife, Any]] = queue.SimpleQueue()
        self.stations: dict[str, Station] = {}
        self.known: list[dict[str, Any]] = []
        self.known_at = -NODES
        self.over = threading.Event()
        threading.Thread(target=self._listen, daemon=True, name="broker's door").start()
        self.thread = threading.Thread(target=self._tend, daemon=True, name="Ray")
        self.thread.start()

    # ---- what the supervisor asks
    def start(self, order: Order) -> RayLife:
        """Order a life; the thread that speaks with Ray finds it a node."""
        life = RayLife(order, lambda what, it, more=None: self.orders.put((what, it, more)))
        self.orders.put(("start", life, None))
        return life

    def close(self) -> None:
        """End all nodes' processes, and the cluster if it is our own."""
        self.over.set()
        self.listener.close()
        self.thread.join(self.patience)
        if self.mine:
            self.ray.shutdown()

    # ---- connections
    def _listen(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._greet, args=(link,), daemon=True).start()

    def _greet(self, link: socket.socket) -> None:
        """Let in who knows the token."""
        try:
            link.settimeout(GREET)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            who = admit(link, self.token)
            link.settimeout(None)
            self.attach(str(who["name"]), int(who["life"]), link)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            link.close()

    # ---- the one thread that speaks with Ray
    def _tend(self) -> None:
        while not self.over.wait(TURN):
            with contextlib.suppress(self.ray.exceptions.RayError, ConnectionError):
                self._turn()
        for station in self.stations.values():
            with contextlib.suppress(self.ray.exceptions.RayError, ConnectionError):
                self.ray.get(station.actor.close.remote(), timeout=5.0)
            self.ray.kill(station.actor)

    def _turn(self) -> None:
        if time.monotonic() - self.known_at > NODES:
            self.known, self.known_at = [n for n in self.ray.nodes() if n["Alive"]], time.monotonic()
        waiting = []
        while not self.orders.empty():
            what, life, more = self.orders.get()
            if not getattr(self, f"_{what}")(life, more):
                waiting.append((what, life, more))
        for order in waiting:
            self.orders.put(order)
        for station in list(self.stations.values()):
            try:
                self._visit(station)
            except self.ray.exceptions.RayError as error:
                self._lost(station, f"Ray lost {station.name}: {str(error).splitlines()[0]}")

    def _start(self, life: RayLife, more: Any) -> bool:
        """On the node with the fewest per CPU; whether there is one."""
        free = [n for n in self.known if n["Resources"].get("CPU", 0) > 0]
        if not free:
            return False
        load = lambda n: len(self.stations[n["NodeID"]].lives) if n["NodeID"] in self.stations else 0
        node = min(free, key=lambda n: (load(n) + 1) / n["Resources"]["CPU"])
        station = self.stations.get(node["NodeID"]) or self._settle(node)
        life.node, order = station.name, life.order
        station.lives[order.name] = life
        station.starts[station.actor.start.remote(order.name, order.life, order.program, order.threads)] = life
        return True

    def _settle(self, node: dict[str, Any]) -> Station:
        """Put our `Node` on a node."""
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        made = self.ray.remote(Node).options(num_cpus=0, scheduling_strategy=strategy, max_restarts=0)
        host, port = self.listener.getsockname()[:2]
        actor, until = made.remote(host, port, self.token), time.monotonic() + SETTLE + self.patience
        station = self.stations[node["NodeID"]] = Station(node["NodeID"], node["NodeManagerAddress"], actor, until)
        return station

    def _end(self, life: RayLife, more: Any) -> bool:
        for station in self.stations.values():
            if station.lives.get(life.order.name) is life:
                del station.lives[life.order.name]
                station.actor.end.remote(life.order.name)
        return True

    def _dump(self, life: RayLife, into: Path) -> bool:
        for station in self.stations.values():
            if station.lives.get(life.order.name) is life:
                station.dumps[station.actor.dump.remote(life.order.name)] = into
        return True

    def _visit(self, station: Station) -> None:
        """Take what a node has answered; ask it again."""
        done = lambda refs: self.ray.wait(list(refs), num_returns=len(refs), timeout=0)[0] if refs else []
        for ref in done(station.starts):
            begun = station.starts.pop(ref)
            try:
                self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                begun.why = f"node {station.name} could not start it: {str(error).splitlines()[-1]}"
        for ref in done(station.dumps):
            into = station.dumps.pop(ref)
            with contextlib.suppress(self.ray.exceptions.RayTaskError, OSError), into.open("a") as file:
                file.write(self.ray.get(ref))
        if station.look is not None:
            if not done([station.look]):
                if time.monotonic() > station.until:
                    self._lost(station, f"{station.name} has not answered for {self.patience:g} s")
                return
            for name, message in self.ray.get(station.look).items():
                life = station.lives.get(name)
                if life is not None and life.order.life == message.pop("life"):
                    life.told(message)
            station.until = time.monotonic() + self.patience
        station.look = station.actor.look.remote()

    def _lost(self, station: Station, why: str) -> None:
        """A node is given up: whatever lived there has ended; a later life may settle there anew."""
        del self.stations[station.id]
        for life in station.lives.values():
            life.why = life.why or why
        self.known_at = -NODES
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(station.actor)
