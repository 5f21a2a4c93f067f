"""One worker process: it builds a few environments from their name and steps them into shared memory. It never imports JAX.

Started by `workers.Workers` as `python -c "...; serve(...)"`. It ends when its parent does, however that ends: an idle
worker reads the end of its socket; a busy one is signaled by the kernel when the parent's end of the lifeline closes.
"""

import fcntl
import gc
import os
import signal
import socket
import traceback
from typing import Any

import numpy as np

from marlstone.core.types import Step
from marlstone.envs.guards import FAULTS, BadRow, Guards, name_fault, refuse, sanitize, sound
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.protocol import HostEnv
from marlstone.runtime import wire
from marlstone.runtime.row_block import RowBlock, map_step
from marlstone.runtime.spec_json import spec_to_json

TRIES = 3  # resets in a row that may fail before an environment is given up
BROKEN = (Exception, SystemExit)  # whatever a user's environment raises is recorded, counted and answered


def seed_of(base: int, episode: int) -> int:
    """Seed of an environment's episode, 31 bits: of base and episode alone, so that workers do not matter."""
    return int(np.random.SeedSequence([base, episode]).generate_state(1)[0] >> 1)


def _tie_to(lifeline: int) -> None:
    """Have the kernel end this process when the other end of `lifeline` closes, even if Python never runs again."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        if os.read(lifeline, 1) == b"":
            os._exit(0)  # it had closed before we listened
    except BlockingIOError:
        pass


def serve(link_fd: int, memory_fd: int, lifeline: int) -> None:
    """The whole life of a worker process."""
    os.dup2(2, 1)  # what environments print must not mix with a command's one line of JSON
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us
    _tie_to(lifeline)
    link = socket.socket(fileno=link_fd)
    try:
        setup = _setup(link)
        try:
            worker = _Worker(link, setup)
            worker.introduce()
        except wire.Closed:
            return
        except BROKEN as error:
            wire.tell(link, wire.ERROR, _described(error, setup["low"]))
            return
        worker.attach(memory_fd)
        gc.freeze()  # environments make garbage at every step; a collection each 700 objects costs a quarter of the time
        gc.set_threshold(20_000, 20, 100)
        worker.run()
    except wire.Closed:
        pass


def _setup(link: socket.socket) -> dict[str, Any]:
    wire.exactly(link, 1)
    return wire.content(link)


def _described(error: BaseException, env: int, fault: str = "raised") -> dict[str, Any]:
    ours = type(error).__module__.startswith("marlstone.") or (isinstance(error, ModuleNotFoundError) and error.name is None)
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return {
        "fault": getattr(error, "fault", fault),
        "env": env,
        "text": text,
        "mistake": ours and isinstance(error, ValueError | ModuleNotFoundError),  # ours names no module: Python's own does
        "trace": "".join(traceback.format_exception(error)),
    }


class _Worker:
    """The environments `low` to `high - 1` of the parent's `b`."""

    def __init__(self, link: socket.socket, setup: dict[str, Any]) -> None:
        self.link, self.setup = link, setup
        bounds = setup["guards"].pop("reward_bounds")
        self.guards = Guards(**setup["guards"], reward_bounds=None if bounds is None else tuple(bounds))
        self.survive = self.guards.on_bad == "survive"
        self.low, self.high, self.w = setup["low"], setup["high"], setup["worker"]
        self.counts = np.zeros(len(FAULTS), np.int64)
        self.envs: list[HostEnv] = [self.build() for _ in range(self.low, self.high)]
        self.over = [True] * len(self.envs)

    def build(self) -> HostEnv:
        env: Any = make(self.setup["name"], self.setup["options"])
        if not hasattr(env, "reset"):
            raise UnknownEnvironment(f"{self.setup['name']} is a JAX environment: only the fused runtime steps those")
        if hasattr(env, "report"):
            env.report = self.report if self.survive else refuse
        return env if self.setup["managers"] is None else Managers(**self.setup["managers"]).over(env)

    def report(self, fault: str, agent: str, field: str, value: Any) -> None:
        """A bad value that its adapter replaced by 0: count it, and say so once per kind."""
        k = FAULTS.index(fault)
        if self.counts[k] == 0:
            text = f"agent {agent!r}, {field}, got {value!s:.200}: counted, 0 put there"
            wire.tell(self.link, wire.NOTE, {"fault": fault, "env": self.at, "text": text})
        self.counts[k] += 1

    @property
    def at(self) -> int:
        return int(self.progress[1]) if hasattr(self, "progress") else self.low

    def introduce(self) -> None:
        """Say what is stepped here, and for which groups rows carry `legal`: one reset tells."""
        spec = self.envs[0].spec
        masked = self.setup["masked"]
        if masked is None:
            masked = [x is not None for x in self.envs[0].reset(0).legal]
        self.spec, self.masked = spec, tuple(masked)
        wire.tell(self.link, wire.HELLO, {"spec": spec_to_json(spec), "masked": masked})
        wire.exactly(self.link, 1)
        self.masked = tuple(wire.content(self.link)["masked"])

    def attach(self, fd: int) -> None:
        block = RowBlock(fd, self.spec, self.setup["b"], self.masked, self.setup["workers"], create=False)
        self.block, self.progress = block, block.progress[self.w]
        block.counts[self.w][:] += self.counts
        self.counts = block.counts[self.w]
        self.mine = map_step(lambda x: x[self.low : self.high], block.step)
        floats = [x for leaves in self.mine.obs for x in leaves.values() if x.dtype.kind == "f"]
        self.watched = [*floats, self.mine.state, self.mine.reward, self.mine.team_reward, *self.mine.metrics.values()]

    def run(self) -> None:
        while True:
            command = wire.exactly(self.link, 1)
            if command == wire.QUIT:
                for env in self.envs:
                    env.close()
                return
            if command == wire.RESET:
                self.over = [True] * len(self.envs)
            try:
                for k in range(len(self.envs)):
                    self.progress[1:] = self.low + k, 0
                    self.progress[0] += 1
                    self.advance(k)
                self.check()
            except BROKEN as error:
                wire.tell(self.link, wire.ERROR, _described(error, self.at))
                return
            wire.tell(self.link, wire.DONE)

    def advance(self, k: int) -> None:
        """One row of one environment: a step, or a reset where its episode is over. Errors end the episode at its last good row."""
        i = self.low + k
        failed = 0
        if not self.over[k]:
            try:
                row = self.envs[k].step(tuple(a[i] for a in self.block.action))
                self.put(k, row)
                return
            except BROKEN as error:
                self.endure(k, error)
                failed = 1
        while True:
            try:
                self.progress[2] = 1  # guards.start_timeout holds
                if failed:
                    self.envs[k] = self.build()
                episode = int(self.block.episode[i])
                self.block.episode[i] = episode + 1
                self.put(k, self.envs[k].reset(seed_of(int(self.block.seed[i]), episode)))
                return
            except BROKEN as error:
                failed += 1
                if failed > TRIES:
                    raise
                self.endure(k, error)

    def put(self, k: int, row: Step) -> None:
        self.block.write(self.low + k, row)
        self.over[k] = bool(row.last)

    def endure(self, k: int, error: BaseException) -> None:
        """Record what an environment raised, and throw the environment away. Under `refuse`, raise it instead."""
        if not self.survive:
            raise error
        note = _described(error, self.low + k)
        self.counts[FAULTS.index(note["fault"])] += 1
        wire.tell(self.link, wire.NOTE, note)
        try:
            self.envs[k].close()
        except BROKEN as second:
            wire.tell(self.link, wire.NOTE, {"fault": "raised", "env": self.low + k, "text": f"close() raised {second!r}"})

    def check(self) -> None:
        """NaN, infinities and bounds over all rows at once; the clean case costs a few microseconds."""
        bounds = self.guards.reward_bounds
        paid = self.mine.reward
        if all(sound(x).all() for x in self.watched) and (bounds is None or (paid.min() >= bounds[0] and paid.max() <= bounds[1])):
            return
        if not self.survive:
            fault = name_fault(self.mine, self.spec, self.guards)
            raise fault if fault is not None else BadRow("nan_observation", "team", "row", "not finite")
        clean, counts = sanitize(self.mine, self.guards)
        for name, found in counts.items():
            self.counts[FAULTS.index(name)] += int(found)
        for mine, good in zip(self.mine.obs, clean.obs, strict=True):
            for k in mine:
                mine[k][...] = good[k]
        for k in ("state", "reward", "team_reward"):
            getattr(self.mine, k)[...] = getattr(clean, k)
        for k, x in clean.metrics.items():
            self.mine.metrics[k][...] = x
