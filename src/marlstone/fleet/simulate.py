"""What a fleet of 1 to 100,000 actors would do: the loop of actors and learner as a discrete-event model, in which time is a number.

**Asynchronous.** Every actor is a process of its own, and so is the learner.

    actor    fetch the weights, where newer ones exist; unroll; send `envs` trajectories; wait, and only here, for room in the queue
    learner  take `batch` trajectories that are no staler than `max_staleness`, dropping others; update; version + 1

**Synchronous.** A round begins when its weights are out. Let f_i be the times at which actors have unrolled, after any failures, in order,
and s the seconds a put holds the link. Put i is through at d_i = max(d_{i-1}, f_i) + s, and the barrier waits for the last. Then the
learner updates for `update_seconds` x max(1, actors x envs / batch): per trajectory as fast as the other one. Rounds meet only at barriers,
so arrays are enough.

Times:

- A trajectory takes the sum of `length` rows, each lognormal with mean `row_seconds` and sigma `row_spread`. That sum is drawn at once, as
  the lognormal with its mean and variance (Fenton and Wilkinson): mean = length x row_seconds,
  sigma^2 = ln(1 + (exp(row_spread^2) - 1) / length). So events are a trajectory's, never a row's.
- The link is a line at the learner's end for each direction: a transfer begins when those before it are through, holds it for
  bytes / bandwidth, and arrives `latency` later. Weights cross it once for every actor that fetches them, and are those that are newest
  when their transfer begins.
- Actors fail at exponential times, at a rate of (`stalled_fraction` + `death_fraction_per_minute`) / 60 per second. What was being unrolled
  is lost; a trajectory already sent is not. A dead actor is back after `restart` seconds, a stalled one after `deadline` more; `restart`
  doubles with every failure since the last trajectory. Without a supervisor nobody comes back, and `stalled_fraction` of the actors stand
  still from the beginning: a fleet that dies so has no steady state, and its answer is about the time it was measured for.

Departures from a real fleet: steps do not depend on each other; one learner, whose `get` and `publish` take no time of their own; a link
gives its transfers one after another, not all at once; the supervisor never fails, and restarts any number at a time.

What is measured begins with the end of an update, a quarter of the way into the simulation, and ends after `seconds`, or earlier, where the
declared number of events is spent: a large fleet is watched for a shorter time. `Outcome.seconds` says for how long.
"""

import math
from collections import Counter, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from marlstone.fleet.scenario import Scenario, Service

SECONDS = 3600.0
"""Simulated time to measure for, where the events suffice."""
EVENTS = 1_000_000
"""Events of one simulation, unless an actor would get fewer than `EVENTS_PER_ACTOR`; a synchronous round counts one per actor."""
EVENTS_PER_ACTOR = 20
_DRAWN = 4096
_Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Outcome:
    """What a fleet did while it was measured. Steps count as they are trained: dropped trajectories are none."""

    steps_per_second: float
    staleness_p99: float
    """Versions, of trained trajectories; NaN where there were none, as with the next."""
    queue_seconds: float
    """Mean time from a put's arrival at the learner's end until it is taken."""
    learner_busy: float
    """Share of the time the learner updates."""
    dropped_fraction: float
    """Share of trajectories dropped as too stale."""
    updates_per_second: float
    bytes_per_second: float
    """Over the link, both ways."""
    seconds: float
    """Simulated time this was measured for."""


def simulate(
    service: Service, scenario: Scenario, seconds: float = SECONDS, seed: int = 0, *, synchronous: bool = False, events: int = EVENTS
) -> Outcome:
    """Run a fleet for `seconds` of simulated time, or `events`, after a warm-up. The same seed gives the same answer."""
    events = max(events, EVENTS_PER_ACTOR * scenario.actors)
    run = _synchronous if synchronous else _asynchronous
    return run(service, scenario, seconds, np.random.default_rng(seed), events)


def trajectory_law(service: Service, scenario: Scenario) -> tuple[float, float]:
    """`(mean seconds, sigma)` of the lognormal that a trajectory takes."""
    return scenario.length * service.row_seconds, math.sqrt(math.log1p(math.expm1(service.row_spread**2) / scenario.length))


def chunk_seconds(service: Service, scenario: Scenario, noise: Any) -> np.ndarray:
    """From standard normal noise to the seconds of trajectories."""
    mean, sigma = trajectory_law(service, scenario)
    return mean * np.exp(sigma * noise - sigma**2 / 2)


class _Link:
    """One direction of the learner's link: transfers in the order in which they were asked for."""

    def __init__(self, service: Service) -> None:
        self.service, self.free, self.bytes = service, 0.0, 0.0

    def send(self, now: float, size: float) -> tuple[float, float]:
        """When a transfer asked for now begins, and when it arrives."""
        begins = max(now, self.free)
        self.free = begins + size / self.service.bandwidth
        self.bytes += size
        return begins, self.free + self.service.latency


class _Queue:
    """The bounded queue between actors and learner, of whole puts: who finds no room waits in line."""

    def __init__(self, env: simpy.Environment, room: int) -> None:
        self.env, self.room = env, room
        self.held: deque[tuple[int, float]] = deque()  # version, arrival
        self.outside: deque[tuple[tuple[int, float], simpy.Event]] = deque()
        self.hungry: simpy.Event | None = None

    def put(self, version: int) -> simpy.Event | None:
        """What to wait for, or None where there was room."""
        item = (version, self.env.now)
        if len(self.held) >= self.room:
            waiting = self.env.event()
            self.outside.append((item, waiting))
            return waiting
        self.held.append(item)
        if self.hungry is not None:
            self.hungry.succeed()
            self.hungry = None
        return None

    def empty(self) -> simpy.Event:
        """What the learner waits for where nothing is held."""
        self.hungry = self.env.event()
        return self.hungry

    def get(self) -> tuple[int, float]:
        taken = self.held.popleft()
        if self.outside:
            item, waiting = self.outside.popleft()
            self.held.append(item)
            waiting.succeed()
        return taken


class _Learner:
    """The learner, and all that is counted: trajectories by staleness, dropped ones, time spent updating and waiting in the queue."""

    def __init__(self, env: simpy.Environment, service: Service, scenario: Scenario) -> None:
        self.env, self.service, self.scenario = env, service, scenario
        self.queue = _Queue(env, scenario.queue // scenario.envs)
        self.version, self.updating_since = 0, math.inf
        self.reset()

    def reset(self) -> None:
        """Forget what was counted: measuring begins."""
        self.trained: Counter[int] = Counter()
        self.dropped = self.puts = 0
        self.busy = self.waited = 0.0
        self.began, self.first = self.env.now, self.version

    def loop(self) -> _Process:
        batch, most, queue, env = self.scenario.batch, self.scenario.max_staleness, self.queue, self.env
        version = left = 0
        while True:
            ages: Counter[int] = Counter()
            need = batch
            while need:
                if not left:
                    if not queue.held:
                        yield queue.empty()
                    (version, arrived), left = queue.get(), self.scenario.envs
                    self.puts, self.waited = self.puts + 1, self.waited + env.now - arrived
                age = self.version - version
                used = left if age > most else min(need, left)
                if age > most:
                    self.dropped += used
                else:
                    ages[age] += used
                    need -= used
                left -= used
            self.updating_since = env.now
            yield env.timeout(self.service.update_seconds)
            self.busy += env.now - max(self.updating_since, self.began)
            self.updating_since = math.inf
            self.trained.update(ages)
            self.version += 1


def _blocks(draw: Any) -> Iterator[float]:
    """Numbers one by one, drawn by the thousand."""
    while True:
        yield from draw(_DRAWN).tolist()


def _asynchronous(service: Service, scenario: Scenario, seconds: float, rng: np.random.Generator, events: int) -> Outcome:
    env = simpy.Environment()
    up, down, learner = _Link(service), _Link(service), _Learner(env, service, scenario)
    queue = learner.queue
    mean, _ = trajectory_law(service, scenario)
    trajectories = _blocks(lambda count: chunk_seconds(service, scenario, rng.standard_normal(count)))
    uniform, exponential = _blocks(rng.random), _blocks(rng.standard_exponential)
    rate = scenario.failures_per_second
    life = lambda: next(exponential) / rate if rate else math.inf
    put_bytes = scenario.envs * service.chunk_bytes

    def actor(slower: float) -> _Process:
        version, failures = -1, 0
        yield env.timeout(next(uniform) * mean * slower)  # so that they are not in step
        fails = env.now + life()
        while True:
            if version < learner.version:
                begins, arrives = down.send(env.now, service.weights_bytes)
                if begins > env.now:
                    yield env.timeout(begins - env.now)
                version = learner.version
                if arrives > env.now:
                    yield env.timeout(arrives - env.now)
            takes = next(trajectories) * slower
            if env.now + takes > fails:
                away = scenario.down(next(uniform) * rate < scenario.stalls_per_second, failures)
                if away == math.inf:
                    return
                yield env.timeout(max(fails + away - env.now, 0.0))
                version, failures, fails = -1, failures + 1, env.now + life()
                continue
            yield env.timeout(takes)
            _, arrives = up.send(env.now, put_bytes)
            if arrives > env.now:
                yield env.timeout(arrives - env.now)
            full = queue.put(version)
            if full is not None:
                yield full
            failures = 0

    env.process(learner.loop())
    slow = rng.permutation(scenario.actors) < scenario.slow
    for slower in slow[scenario.stalled :]:
        env.process(actor(scenario.straggler_factor if slower else 1.0))

    spent = _advance(env, seconds / 4, events // 4)
    version = learner.version
    while learner.version == version and spent < events // 2 and env.peek() < seconds / 2:
        env.step()
        spent += 1
    learner.reset()
    sent = up.bytes + down.bytes
    begun, until = env.now, env.now + seconds
    spent += _advance(env, until, events - spent)
    lasted = (env.now if spent >= events else until) - begun
    busy = learner.busy + max(begun + lasted - max(learner.updating_since, begun), 0.0)
    trained = sum(learner.trained.values())
    return Outcome(
        steps_per_second=trained * scenario.length / lasted,
        staleness_p99=_percentile(learner.trained, 0.99),
        queue_seconds=learner.waited / learner.puts if learner.puts else math.nan,
        learner_busy=busy / lasted,
        dropped_fraction=learner.dropped / max(learner.dropped + trained, 1),
        updates_per_second=(learner.version - learner.first) / lasted,
        bytes_per_second=(up.bytes + down.bytes - sent) / lasted,
        seconds=lasted,
    )


def _advance(env: simpy.Environment, until: float, events: int) -> int:
    """Let time pass, until then or until that many events happened; how many did."""
    for spent in range(events):
        if env.peek() > until:
            return spent
        env.step()
    return events


def _percentile(counts: Counter[int], share: float) -> float:
    """The smallest value that this share of the counts does not exceed; NaN of none."""
    seen, total = 0, sum(counts.values())
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * total:
            return float(value)
    return math.nan


def _synchronous(service: Service, scenario: Scenario, seconds: float, rng: np.random.Generator, events: int) -> Outcome:
    n = scenario.actors
    slower = np.where(rng.permutation(n) < scenario.slow, scenario.straggler_factor, 1.0)
    rate = scenario.failures_per_second

    def life(count: int) -> np.ndarray:
        return rng.standard_exponential(count) / rate if rate else np.full(count, np.inf)

    fetch, put = service.weights_bytes / service.bandwidth, scenario.envs * service.chunk_bytes / service.bandwidth
    update = service.update_seconds * max(1.0, n * scenario.envs / scenario.batch)
    turn = np.arange(1, n + 1)
    fails = life(n)
    fails[: scenario.stalled] = 0.0
    back = np.zeros(n)  # when an actor that failed is up again

    def barrier(begins: float) -> float:
        """When the last trajectory of a round is through; inf: never."""
        start = np.maximum(begins, back) + turn * fetch + service.latency
        ends = start + slower * chunk_seconds(service, scenario, rng.standard_normal(n))
        again = 0
        while (lost := np.flatnonzero(fails < ends)).size:
            if not scenario.supervised:
                return math.inf
            stalled = rng.random(lost.size) * rate < scenario.stalls_per_second
            back[lost] = fails[lost] + np.where(stalled, scenario.down(True, again), scenario.down(False, again))
            fails[lost] = back[lost] + life(lost.size)
            start = np.maximum(begins, back[lost]) + fetch + service.latency
            ends[lost] = start + slower[lost] * chunk_seconds(service, scenario, rng.standard_normal(lost.size))
            again += 1
        ends.sort()
        through = turn * put + np.maximum.accumulate(ends - (turn - 1) * put)
        return float(through[-1]) + service.latency

    most = max(events // n, 8)
    ends = [0.0]
    while len(ends) <= most and ends[-1] <= 1.25 * seconds:
        ends.append(barrier(ends[-1]) + update)
    at = np.array(ends)
    early = at[: most // 4 + 1]
    begun = float(early[early <= seconds / 4][-1])
    until = min(begun + seconds, float(at[-1]))
    done, lasted = int(np.sum((at > begun) & (at <= until))), until - begun
    unfinished = max(until - (float(at[at > until].min(initial=math.inf)) - update), 0.0)
    moved = n * (scenario.envs * service.chunk_bytes + service.weights_bytes)
    return Outcome(
        steps_per_second=done * n * scenario.envs * scenario.length / lasted,
        staleness_p99=0.0 if done else math.nan,
        queue_seconds=math.nan,
        learner_busy=(done * update + unfinished) / lasted,
        dropped_fraction=0.0,
        updates_per_second=done / lasted,
        bytes_per_second=done * moved / lasted,
        seconds=lasted,
    )
