"""A fleet: its processes started, watched, ended and started anew; its broker, which outlives them all.

    supervisor (this process)    broker, one thread per connection; no device, no environment
      learner                    one process, all seeds, on this machine
      actors                     `fleet.actors` processes per seed, on this machine or on Ray's nodes (`launcher`)

A member that dies, is stopped, or stays at one thing for longer than allowed is killed and started again after a backoff. An
actor begins its next life with the episode it died in; the seed of an episode that has killed `fleet.poison_after` lives is put
in quarantine. A learner resumes from its newest good checkpoint; actors go on meanwhile and notice nothing but older weights.
"""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from marlstone.config import RunConfig, dump
from marlstone.config.sources import resolved
from marlstone.core.errors import Failure, UserError
from marlstone.envs.make import is_jax
from marlstone.fleet.actor import Post, setup_of
from marlstone.fleet.broker import Broker
from marlstone.fleet.deadlines import deadline
from marlstone.fleet.events import Events
from marlstone.fleet.fleet_status import figures, member_status, straggling, supervision_events, totals, why_still
from marlstone.fleet.frames import MOST
from marlstone.fleet.inspection import DUMP, SIZE, STACKS, STATUS, asked_for
from marlstone.fleet.launcher import Local, Order, Place
from marlstone.fleet.lifecycle import ACTOR, LEARNER
from marlstone.fleet.member import Member
from marlstone.fleet.on_ray import OnRay
from marlstone.fleet.status_page import Facts
from marlstone.fleet.transport import answers, serve
from marlstone.runs.checkpoint import Checkpoint, latest_good
from marlstone.runs.directory import RunDirectory
from marlstone.runs.lifetime import Lifetime
from marlstone.runs.progress import Progress

LOOK, WRITE = 0.1, 1.0  # seconds between looks at the members, and between status files
LOOKS = 0.001  # seconds between two members' looks, where there are many: they must not take what members need
STOPPED = 5.0  # seconds that a process may be held (SIGSTOP) before it is ended
STOPPING = 10.0  # seconds that the learner may take to write a checkpoint once an end is asked for
STILLBORN = 4  # first lives of a member that may end before anything is done


@dataclass
class Supervisor:
    """One fleet from its first process to its record."""

    config: RunConfig
    run: RunDirectory
    resume: Checkpoint | None
    initial: Checkpoint | None
    progress: Callable[[Progress], None]
    stop: Callable[[], bool]
    answer: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    hello: dict[str, Any] | None = None
    trained: bool = False
    restarts: int = 0
    raised_at: int = -1
    deaths: dict[tuple[int, int], int] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        c = self.config
        self.reference = c.fleet.actor == "reference" or is_jax(c.env)
        self.broker = Broker(c.seeds, c.fleet.queue * c.rollout.envs)
        self.text = dump(resolved(c))
        (self.run.path / STACKS).mkdir(parents=True, exist_ok=True)
        for asked in (SIZE, DUMP):
            self.run.within(asked).unlink(missing_ok=True)
        self.began, self.lifetime = time.monotonic(), Lifetime(self.run.seconds)
        self.here: Place = Local(self._attach, self.run.within(STACKS))
        self.there: Place = self.here if c.fleet.kind == "local" else OnRay(c.fleet.address, self._attach, c.fleet.patience)
        self.learner = Member("learner", LEARNER, self.here)
        self.posts = 0
        self.actors = [self._actor(i) for i in range(c.seeds) for _ in range(c.fleet.actors)]

    def _actor(self, index: int) -> Member:
        """A new place for an actor of one training seed."""
        c, number = self.config, self.posts
        self.posts += 1
        post = Post(index, c.seed + index, number, 0, c.fleet.each(c.rollout.envs), c.rollout.length)
        return Member(f"actor-{number}", ACTOR, self.there, post)

    # ---- processes
    def _start(self, m: Member) -> None:
        """A new life for a member."""
        if m.post is not None:
            m.post = Post(**{**asdict(m.post), "life": m.life})
        threads = 1 if m.post is not None and not self.reference else None
        m.child = m.place.start(Order(m.name, m.life, m.program, 0 if m.post else self.config.seeds, threads))

    def _attach(self, name: str, life: int, link: socket.socket) -> None:
        """Answer a member's questions over a new connection, for as long as that life lasts."""
        m = next((m for m in (self.learner, *self.actors) if m.name == name and m.life == life), None)
        if m is None:
            link.close()  # it has been given up
            return
        m.sockets.append(link)
        asked: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "setup": lambda message: self._setup(m), "hello": self._hello, "spec": lambda message: self._spec(message["patience"]),
            "progress": lambda message: self._progress(message["progress"]), "stop?": lambda message: {"stop": self.stop()},
            "trained": lambda message: self._trained(), "beside": lambda message: self._beside(),
            "record": lambda message: self._record(message), "failed": lambda message: self._failed(m, life, message),
        }  # fmt: skip
        index, envs = (0, 0) if m.post is None else (m.post.index, m.post.envs)
        damaged = lambda: self.broker.refuse(index, envs)
        most = lambda: self.broker.most(envs) if envs else MOST
        threading.Thread(target=serve, args=(link, answers(self.broker, asked), damaged, most), daemon=True, name=name).start()

    def _setup(self, m: Member) -> dict[str, Any]:
        if m.post is not None:
            skipped = frozenset(int(q["scenario"]) for q in self.quarantined)
            return setup_of(self.config, m.post, m.retry, skipped, self.text if self.reference else None)
        resume = self.resume if m.life == 0 else latest_good(self.run.checkpoints)
        path = lambda c: None if c is None else str(c.path)
        if m.life > 0 and resume is None:
            self.run.rewind(0, self.text)  # the first checkpoint was still to come: all begins anew
        return {"config": self.text, "run": str(self.run.path), "resume": path(resume), "initial": path(self.initial)}

    def _end(self, m: Member) -> None:
        """Kill its process, if there is one, and hang up."""
        if m.child is None:
            return
        m.last_facts = m.child.facts()
        m.child.end()
        for link in m.sockets:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)  # `serve`, which waits there, closes it
        m.child, m.sockets = None, []

    # ---- what members ask
    def _hello(self, message: dict[str, Any]) -> dict[str, Any]:
        with self.broker.changed:
            mine = {k: message[k] for k in ("spec", "masked")}
            if self.hello is not None and self.hello != mine:
                self.failure = {"kind": "failure", "text": "two actors built different environments: make the factory deterministic"}
            self.hello = mine
            self.broker.changed.notify_all()
        return {}

    def _spec(self, patience: float) -> dict[str, Any]:
        with self.broker.changed:
            if not self.broker.changed.wait_for(lambda: self.hello is not None, patience):
                raise TimeoutError("no actor has reported what it steps")
            return dict(self.hello or {})

    def _progress(self, message: dict[str, Any]) -> dict[str, Any]:
        self.events.step = message["step"]
        self.progress(Progress(**message))
        return {}

    def _trained(self) -> dict[str, Any]:
        self.trained = True
        return {}

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        self.answer = message
        return {}

    def _failed(self, m: Member, life: int, message: dict[str, Any]) -> dict[str, Any]:
        """A member says why it ends. A user's mistake ends the fleet, and so does a learner's error that its next life would repeat;
        others are deaths like others, also an environment that was built before and cannot be built now."""
        again = message["kind"] == "mistake" and m.post is not None and life > 0
        if again or (message["kind"] == "error" and (m.post is not None or self._passing(m))):
            self._tell("error", m, f"{m.name}: {message['text']}")
        else:
            self.failure = {k: message[k] for k in ("kind", "text", "trace")}
        return {}

    def _passing(self, learner: Member) -> bool:
        """Whether a learner's error may not come again: it had made updates, and a checkpoint since the last error."""
        newest, before = latest_good(self.run.checkpoints), self.raised_at
        self.raised_at = 0 if newest is None else newest.step
        return learner.facts().trajectories > 0 and self.raised_at > before

    def _beside(self) -> dict[str, Any]:
        """What the store keeps of the fleet, per seed."""
        of = lambda i: [m for m in self.actors if m.post and m.post.index == i]
        return {"figures": [figures(f, of(i), self._locks(), self.restarts) for i, f in enumerate(self.broker.facts())]}

    def _tell(self, what: str, m: Member | None, text: str, how: str = "") -> None:
        """An event of this member, or of the whole fleet."""
        self.events.tell(what, m.post.seed if m and m.post else self.config.seed, text, how)

    # ---- watching
    def _look(self, m: Member) -> None:
        """Notice a death, a stop or a hang, and see to the next life."""
        now = time.monotonic()
        if m.child is None:
            if now >= m.due:
                self._start(m)
            return
        facts = m.facts()
        if now - m.last[0] >= 2.0:
            m.rate, m.last = max(0, facts.steps - m.last[1]) / (now - m.last[0]), (now, facts.steps)
        m.lived |= facts.doing not in ("starting", "building environments")
        ended = m.child.ended()
        m.held_since = (m.held_since or now) if m.child.held() else None
        if ended is not None:
            self._handle_exit(m, facts, "died", ended)
        elif m.held_since is not None and now - m.held_since > STOPPED:
            self._handle_exit(m, facts, "hung", f"its process was stopped for {now - m.held_since:.0f} s")
        elif facts.silent > (limit := deadline(self.config, facts, m.post.envs if m.post else None, self.reference)):
            self._handle_exit(m, facts, "hung", f"{facts.doing} for {facts.seconds:.0f} s, {limit:g} are allowed")

    def _handle_exit(self, m: Member, facts: Facts, how: str, why: str) -> None:
        """A member is lost: count it, think about the episode it was in, and date its next life. Raises `Failure` past the budget."""
        self._end(m)
        if m.post is None and (self.answer is not None or self.failure is not None):
            return
        fleet = self.config.fleet
        where = f", {facts.doing}" + (f" environment {facts.env}, episode seed {facts.scenario}" if facts.scenario >= 0 else "")
        self._tell("actor_replaced" if m.post else "learner_restarted", m, f"{m.name}, life {m.life + 1}{where}: {why}", how)
        self.restarts += 1
        if self.restarts > fleet.restarts:
            raise Failure(
                f"the fleet lost {self.restarts} processes, more than fleet.restarts = {fleet.restarts} allows; "
                f"the last: {self.events.lines[-1]}"
            )
        m.quick_deaths = m.quick_deaths + 1 if facts.age < 10 * fleet.longest_backoff else 1
        if not m.lived and m.life + 1 >= STILLBORN:
            message = self.events.latest.get("error", "what it printed stands above")
            raise Failure(f"{m.name} ended {m.life + 1} times before it did anything: {why}; {message}")
        m.due = time.monotonic() + min(fleet.backoff * 2 ** (m.quick_deaths - 1), fleet.longest_backoff)
        m.held_since, m.life, m.rate, m.retry = None, m.life + 1, 0.0, ()
        if m.post is None:
            lost = self.broker.rollback_lost()
            self._tell("rolled_back", m, f"{lost} trajectories with the learner's life {m.life}")
        elif facts.scenario >= 0 and facts.doing in ("stepping", "resetting"):
            self._suspect(m, facts, why)

    def _suspect(self, m: Member, facts: Facts, why: str) -> None:
        """An episode that lives end in, time and again, is put in quarantine; else the next life begins with it."""
        assert m.post is not None
        key = m.post.index, facts.scenario
        self.deaths[key] = self.deaths.get(key, 0) + 1
        if self.deaths[key] < self.config.fleet.poison_after:
            m.retry = (facts.scenario,)
            return
        entry = {"scenario": facts.scenario, "actor": m.name, "environment": facts.env, "deaths": self.deaths.pop(key), "last": why}
        self.quarantined.append(entry)
        self._tell("quarantined", m, f"episode seed {facts.scenario} ended {entry['deaths']} lives, the last of {m.name}: {why}")

    def _resize(self) -> None:
        """Let actors join or leave, as `ask_for` says."""
        wanted, each = asked_for(self.run), range(self.config.seeds)
        if wanted is None or self.trained or wanted * len(each) == len(self.actors):
            return
        here = [[m for m in self.actors if m.post and m.post.index == i] for i in each]
        gone = [m for mine in here for m in mine[wanted:]]
        self.actors = [*(m for mine in here for m in mine[:wanted]), *(self._actor(i) for i in each for _ in range(wanted - len(here[i])))]
        for m in gone:
            self._end(m)
        self._tell("resized", None, f"{wanted} actors per seed")

    # ---- status
    def _dump(self) -> None:
        """Have the stacks of processes elsewhere fetched, as `dump_stacks` asks."""
        asked = self.run.within(DUMP)
        if asked.is_file():
            asked.unlink()
            for m in self.actors:
                if m.child is not None and m.child.node is not None:
                    m.child.dump(self.run.within(f"{STACKS}/{m.name}.txt"))

    def status(self) -> dict[str, Any]:
        """Everything that is known, as JSON."""
        seeds, still, locks = self.broker.facts(), self.broker.still(), self._locks()
        members = [member_status(m, seeds) for m in (self.learner, *self.actors)]
        return {
            "written": time.time(), "supervisor": os.getpid(), "seconds": time.monotonic() - self.began, "seeds": seeds,
            "members": members, "locks": locks, "restarts": self.restarts, "quarantined": self.quarantined,
            "still_seconds": still, "straggler_ratio": straggling(np.array([m.rate for m in self.actors])),
            "news": self.events.lines[-20:], "because": "" if self.trained else why_still(still, members, locks),
        }  # fmt: skip

    def _locks(self) -> list[dict[str, Any]]:
        return [lock.facts() for lock in (self.broker.lock, self.events.lock)]

    # ---- the whole
    def supervise(self) -> dict[str, Any]:
        """Run the fleet until the learner's record is there, an end is asked for, or it fails; the record.

        Raises `UserError` for a user's mistake in a member, `Failure` past the restarts allowed.
        """
        written, asked, stacks = 0.0, float("inf"), self.run.within(f"{STACKS}/supervisor.txt").open("w")
        faulthandler.register(signal.SIGUSR1, stacks, all_threads=True, chain=False)
        try:
            while self.answer is None and self.failure is None:
                if self.learner.child is None or not self.trained:
                    for m in (self.learner, *(self.actors if not self.trained else ())):
                        self._look(m)
                else:
                    for m in self.actors:
                        self._end(m)
                    self._look(self.learner)
                if self.stop():
                    asked = min(asked, time.monotonic())
                    if time.monotonic() - asked > STOPPING:
                        return self.run.stopped(self.config.env, self.config.all_seeds)
                if time.monotonic() - written >= WRITE:
                    self.lifetime.keep()
                    self.events.store(self.run)
                    self._resize()
                    self._dump()
                    self.run.write(STATUS, json.dumps(self.status()))
                    written = time.monotonic()
                time.sleep(max(LOOK, LOOKS * len(self.actors)))
            if self.failure is not None:
                self._raise(self.failure)
            assert self.answer is not None
            return self._concluded(self.answer)
        finally:
            for m in (*self.actors, self.learner):
                self._end(m)
            self.there.close()
            self.events.store(self.run)
            self.lifetime.keep(now=True)
            faulthandler.unregister(signal.SIGUSR1)
            stacks.close()
            self.run.write(STATUS, json.dumps(self.status() | {"ended": True}))

    def _raise(self, failure: dict[str, Any]) -> None:
        kind = {"mistake": UserError, "failure": Failure}.get(failure["kind"])
        if kind is not None:
            raise kind(failure["text"])
        raise RuntimeError(f"{failure['text']}\n{failure['trace']}")

    def _concluded(self, message: dict[str, Any]) -> dict[str, Any]:
        """The learner's record, with what only the supervisor knows."""
        self.run.write("fleet.json", json.dumps(message["service"]) + "\n")
        self.events.store(self.run)
        with self.run.store() as store:
            events = supervision_events(store.counts())
        return message["record"] | {
            "actors": len(self.actors), **totals(self.broker.facts(), message["staleness"]), "events": events,
            "wall_seconds": self.lifetime.seconds, "restarts": self.restarts, "quarantined": self.quarantined,
        }  # fmt: skip


def supervise(
    config: RunConfig, run: RunDirectory, *, resume: Checkpoint | None = None, initial: Checkpoint | None = None,
    progress: Callable[[Progress], None] = lambda _: None, stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Train as configured with a fleet; the record is `train`'s, with the fleet's figures."""
    return Supervisor(config, run, resume, initial, progress, stop).supervise()
