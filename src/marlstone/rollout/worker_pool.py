"""`Workers`: `b` Python environments in a few processes, stepped together: the host runtime's `VectorEnv`.

Observations, rewards and actions live in shared memory; a byte over a socket wakes a worker, a byte back means that its steps are
there. Every wait has a deadline. A worker that dies or hangs is ended and started anew, and its environments begin new
episodes: the last good step of the old one stays what it was, so learners bootstrap there, as after a truncation. Workers
know environments by name only, hold NumPy arrays only, and end with this process, however it ends.
"""

import select
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from marlstone.comms import Channel, NoMessages
from marlstone.comms.plain import channel_to_json
from marlstone.core.errors import UserError
from marlstone.core.spec_json import spec_from_json
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults import Fault, fault_to_json
from marlstone.envs.guards import FAULTS, Guards
from marlstone.envs.make import one_per_process
from marlstone.envs.managed import Managers
from marlstone.envs.own_metrics import metric_to_json
from marlstone.rollout import messages
from marlstone.rollout.env_stepper import NOTICE, episode_seed
from marlstone.rollout.fault_log import EnvironmentFailed, FaultLog, Health, note_text
from marlstone.rollout.process import WorkerProcess, end_workers
from marlstone.rollout.shared_memory import StepBlock, anonymous, map_step
from marlstone.rollout.sides import Sides
from marlstone.tools import Toolbox, toolbox_to_json

_PROBED: set[str] = set()  # environments that kept their interface in this process's first look at them
NOTES = 100  # latest reports of faults that are kept, in words


class Workers:
    """`b` environments called `name` over a few processes: a `VectorEnv` whose state is None.

    Environment i's episode e has the same seed however many workers there are. The first construction for a name in this process probes
    one step (`EnvStepper.probe`).

    Args:
      name: as on the command line.
      b: how many environments.
      options: more options.
      guards: what is a fault and what follows.
      num_workers: processes, at most b; exactly b for environments that need a process each.
      managers: put over each environment.
      faults: that each environment is stepped under.
      state: whether anybody reads the environment's own state (central critics do, and metrics may).
      log: reports the first fault of each kind, and is given the counts on closing.
      metrics: the user's own, that each environment is measured by.
      sides: whose team it is, and who is played by frozen policies.

    Attributes:
      spec: of each environment.
      counts: faults by name so far.
      notes: the latest faults, as notes.
      restarts: of processes.

    Raises:
      UserError: an environment that cannot be built as named or breaks its interface.
      EnvironmentFailed: an environment that fails for good.
    """

    def __init__(
        self, name: str, b: int, *, options: Mapping[str, Any] | None = None, guards: Guards | None = None, num_workers: int = 2,
        managers: Managers | None = None, faults: Sequence[Fault] = (), state: bool = True, log: FaultLog | None = None,
        metrics: Sequence[Any] = (), sides: Sides | None = None, channel: Channel | None = None,
        tools: Toolbox | None = None,
    ) -> None:  # fmt: skip
        if b < 1 or num_workers < 1:
            raise ValueError(f"Workers(b={b}, num_workers={num_workers}): both must be at least 1")
        self.name, self.b, self.guards = name, b, guards or Guards()
        self._options, self._managers, self._faults = dict(options or {}), managers, [fault_to_json(f) for f in faults]
        self._state, self._metrics = state or bool(metrics), [metric_to_json(m) for m in metrics]
        self._sides, self._channel = (sides or Sides()).plain(), channel_to_json(channel or NoMessages())
        self._tools = toolbox_to_json(tools or Toolbox())
        self.workers = b if one_per_process(name) else min(num_workers, b)
        self.notes: deque[dict[str, Any]] = deque(maxlen=NOTES)
        self.restarts = 0
        self.log, self._health, self._judged = log or FaultLog(), Health(name, self.guards.most_bad), (0, 0)
        self._parent_counts = dict.fromkeys(FAULTS, 0)
        self._waiting: dict[int, list[float]] = {}
        ends = [round(b * w / self.workers) for w in range(self.workers + 1)]
        self._ranges = list(pairwise(ends))
        self._memory = anonymous()
        self._descriptors = [self._memory]
        self._processes: list[WorkerProcess] = []
        self._finalizer = weakref.finalize(self, end_workers, self._processes, self._descriptors)
        self._masked: list[bool] | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def spec(self) -> Spec:
        """The spec of each environment, as its first worker reported it."""
        return self._spec

    @property
    def counts(self) -> dict[str, int]:
        """How often each fault of `guards.FAULTS` happened since construction."""
        found = np.sum(self._block.counts, axis=0)
        return {k: int(x) + self._parent_counts[k] for k, x in zip(FAULTS, found, strict=True)}

    def init(self, keys: Array) -> tuple[None, Step]:
        """Fresh episodes everywhere. `keys`, `[b]`: JAX keys, raw key data `[b, 2]`, or whole numbers."""
        for i, words in enumerate(_words(keys, self.b)):
            self._block.seed[i] = _base_seed(words)
        self._block.episode[...] = 0
        self._command(messages.RESET)
        return None, self.receive()

    def step(self, state: None, action: tuple[Array, ...], keys: Array | None = None) -> tuple[None, Step]:
        """One step each. `action` is per group, emitted, `[b n_g ...]`; `keys` is not needed: environments drew theirs at `init`."""
        self.send(action)
        return None, self.receive()

    def send(self, action: tuple[Array, ...]) -> None:
        """Start one step everywhere and return at once; `receive` must follow before the next `send`."""
        for g, (mine, given) in enumerate(zip(self._block.action, action, strict=True)):
            given = np.asarray(given)
            if given.shape != mine.shape:
                name = self._spec.groups[g].name
                raise ValueError(f"Workers.send: action of group {name!r} has shape {given.shape}: expected {mine.shape}")
            np.copyto(mine, given, casting="same_kind")
        self._command(messages.STEP)

    def receive(self) -> Step:
        """Wait for the steps of the last `send`, `[b ...]`: copies, safe to keep. Raises `EnvironmentFailed`."""
        while self._waiting:
            self._collect()
        self._judge()
        return map_step(np.copy, self._block.step)

    def _judge(self) -> None:
        """Whether most of what these environments do is faulty."""
        lost = self._parent_counts["hung"] + self._parent_counts["died"]
        bad, broken = (lost + sum(int(p[i]) for p in self._block.progress) for i in (3, 4))
        (bad_before, broken_before), self._judged = self._judged, (bad, broken)
        self._health.add(self.b, bad - bad_before, int(self._block.step.last.sum()), broken - broken_before, self.counts)

    def close(self) -> None:
        """End the workers. Safe to call twice; also happens when this object is collected or Python ends."""
        if self._finalizer.alive and hasattr(self, "_block"):
            self.log.add(self.counts)
        self._finalizer()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self, w: int) -> WorkerProcess:
        low, high = self._ranges[w]
        process = WorkerProcess(low, high, self._memory)
        messages.send(process.link, messages.HELLO, {
            "name": self.name, "options": self._options, "low": low, "high": high, "worker": w, "workers": self.workers,
            "b": self.b, "guards": asdict(self.guards), "managers": self._managers and asdict(self._managers),
            "faults": self._faults, "state": self._state, "metrics": self._metrics, "sides": self._sides,
            "channel": self._channel, "tools": self._tools,
            "masked": self._masked if self._masked is not None or w == 0 else [],
        })  # fmt: skip
        return process

    def _start(self) -> None:
        for w in range(self.workers):
            self._processes.append(self._spawn(w))
        hello = self._hello(self._processes[0])
        self._masked = hello["masked"]
        self._spec, self.wiring = spec_from_json(hello["spec"]), hello["wiring"]
        self._block = StepBlock(self._memory, self._spec, self.b, tuple(self._masked), self.workers, create=True)
        for w, process in enumerate(self._processes):
            received = hello if w == 0 else self._hello(process)
            self._agree(received, process)
        self._probe()

    def _probe(self) -> None:
        """Have the first worker play one step under refusal, once per environment and process."""
        what = f"{self.name} {sorted(self._options.items())} {self.guards.on_bad}"  # the probe plays what is below managers and opponents
        if what in _PROBED:
            return
        self._waiting[0] = [time.monotonic(), float(self._block.progress[0][0]), self.guards.timeout]
        messages.send(self._processes[0].link, messages.PROBE)
        while self._waiting:
            self._collect()
        _PROBED.add(what)

    def _agree(self, received: dict[str, Any], process: WorkerProcess) -> None:
        if spec_from_json(received["spec"]) != self._spec:
            raise EnvironmentFailed(f"{self.name}: two workers built different environments: make the factory deterministic in its spaces")
        messages.send(process.link, messages.HELLO, {"masked": self._masked})

    def _hello(self, process: WorkerProcess) -> dict[str, Any]:
        """What a fresh worker reports of itself."""
        process.link.settimeout(self.guards.start_timeout * (process.high - process.low))
        try:
            while (kind := messages.receive_exactly(process.link, 1)) == messages.NOTE:
                self._note(messages.receive_json(process.link))
            received = messages.receive_json(process.link)
        except TimeoutError as error:
            remedy = "raise guards.start_timeout, or look into its constructor"
            raise EnvironmentFailed(f"{self.name} was not built within {process.link.gettimeout():.0f} s: {remedy}") from error
        except messages.Closed as error:
            raise EnvironmentFailed(f"{self.name}: its process ended while building it, with status {process.end(1.0)}") from error
        process.link.settimeout(None)
        if kind == messages.ERROR:
            raise self._failure(received)
        return received

    def _note(self, note: dict[str, Any]) -> None:
        """A fault was met, or something settled while building that a person should know."""
        self.notes.append(note)
        if note["fault"] == NOTICE:
            self.log.notice(f"{self.name}: {note['text']}")
            return
        self._health.latest = note_text(note)
        self.log.report(note["fault"], f"{self.name}, {note_text(note)}")

    def _failure(self, received: dict[str, Any]) -> Exception:
        self.notes.append(received)
        if received["mistake"]:
            return UserError(received["text"])
        return EnvironmentFailed(f"{self.name}, environment {received['env']}: {received['text']}\n{received['trace']}")

    def _command(self, command: bytes) -> None:
        if not self._processes:
            raise RuntimeError("Workers is closed: make a new one")
        if self._waiting:
            raise RuntimeError("Workers.send: the steps of the previous send were not received: call receive() first")
        now = time.monotonic()
        for w, process in enumerate(self._processes):
            limit = self.guards.start_timeout if command == messages.RESET else self.guards.timeout
            self._waiting[w] = [now, float(self._block.progress[w][0]), limit]
            try:
                messages.send(process.link, command)
            except messages.Closed:
                continue  # found, counted and restarted where its steps are awaited

    def _collect(self) -> None:
        """Take in the workers' next messages, or notice who has been silent for too long."""
        links = {self._processes[w].link.fileno(): w for w in self._waiting}
        poller = select.poll()
        for fd in links:
            poller.register(fd, select.POLLIN)
        soonest = min(since + self._allowed(w) for w, (since, _, _) in self._waiting.items()) - time.monotonic()
        ready = poller.poll(1000 * max(0.0, min(soonest, 1.0)))
        for fd, _ in ready:
            self._receive_from(links[fd])
        now = time.monotonic()
        for w, (since, begun, limit) in list(self._waiting.items()):
            latest, allowed = float(self._block.progress[w][0]), self._allowed(w)
            if latest != begun:  # it has gone on to its next environment: a new deadline
                self._waiting[w] = [now, latest, limit]
            elif now - since > allowed:
                allow = "guards.timeout is how long a step may take, guards.start_timeout a reset"
                text = f"no step within {allowed:g} s: its process is ended ({allow})"
                self._lost(w, "hung", text)

    def _allowed(self, w: int) -> float:
        """Seconds that worker w's present environment may take: longer where an episode is begun."""
        return max(self._waiting[w][2], self.guards.start_timeout if self._block.progress[w][2] else 0.0)

    def _receive_from(self, w: int) -> None:
        link = self._processes[w].link
        try:
            kind = messages.receive_exactly(link, 1)
            received: dict[str, Any] = {} if kind == messages.DONE else messages.receive_json(link)
        except (messages.Closed, OSError):
            status = self._processes[w].end(1.0)
            self._lost(w, "died", f"its process ended with status {status}")
            return
        if kind == messages.DONE:
            del self._waiting[w]
        elif kind == messages.NOTE:
            self._note(received)
            if received["fault"] == "raised":
                self._spend()
        else:
            raise self._failure(received)

    def _lost(self, w: int, fault: str, text: str) -> None:
        """A worker hung or died: count it, and start it anew with fresh episodes; or stop, by `guards`."""
        env = int(self._block.progress[w][1])
        if not self._finalizer.alive:
            raise RuntimeError("Workers is closed: its processes were ended")
        note = {"fault": fault, "env": env, "text": text, "trace": "", "mistake": False}
        self._processes[w].end()
        self._parent_counts[fault] += 1
        if self.guards.on_bad == "refuse":
            raise self._failure({**note, "text": f"{fault}: {text}: fix the environment, or set guards on_bad=survive"})
        self._note(note)
        self.restarts += 1
        self._spend()
        self._processes[w] = self._spawn(w)
        self._agree(self._hello(self._processes[w]), self._processes[w])
        messages.send(self._processes[w].link, messages.RESET)
        self._waiting[w] = [time.monotonic(), float(self._block.progress[w][0]), self.guards.start_timeout]

    def _spend(self) -> None:
        """Use up one of the restarts that guards allow."""
        spent = sum(self.counts[k] for k in ("raised", "hung", "died"))
        if spent > self.guards.restarts:
            last = self.notes[-1]["text"] if self.notes else ""
            raise EnvironmentFailed(
                f"{self.name} broke {spent} times, more than guards.restarts={self.guards.restarts} allows; the last time: {last}"
            )


def _base_seed(words: list[int]) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def first_seeds(keys: Array, b: int) -> list[int]:
    """The seeds of the first episodes of `b` environments that are begun with `keys`, as `Workers.init` takes them."""
    return [episode_seed(_base_seed(words), 0) for words in _words(keys, b)]


def _words(keys: Array, b: int) -> list[list[int]]:
    """The entropy in each environment's key, as whole numbers."""
    if not isinstance(keys, np.ndarray | list | tuple | range):
        import jax

        if jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.key_data(keys)
    data = np.asarray(keys)
    if data.shape[:1] != (b,):
        raise ValueError(f"Workers.init got keys of shape {data.shape} for b={b} environments: give one per environment")
    return [[int(x) % 2**64 for x in np.atleast_1d(row).reshape(-1)] for row in data]
