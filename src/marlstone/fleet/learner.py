"""The learner's side: get -> update -> publish. The same questions as `Fused` and `Hosted` answer, so that one loop trains by all.

A batch is `rollout.envs` trajectories, whoever made them and by whatever policy: the acting log-probs travel with each and correct
for it (V-trace). Trajectories more than `fleet.max_staleness` versions old are dropped and counted. What a recurrent critic
remembers of an environment is kept here from one of its trajectories to the next, and begins anew where one is missing.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TextIO

import jax
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.comms.learning import sent_in
from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.episodes import EpisodeSums, init_tally
from marlstone.core.flops import Flops
from marlstone.core.records import replace
from marlstone.core.seeds import component_key
from marlstone.core.types import Spec, Trajectory
from marlstone.core.usage import used_in
from marlstone.envs.faults import Fault
from marlstone.envs.guards import BadStep
from marlstone.envs.make import is_jax
from marlstone.fleet import frames
from marlstone.fleet.payload import Parcel, Weights
from marlstone.fleet.status_page import Page
from marlstone.fleet.transport import LearnerEnd
from marlstone.play.action_selectors import Decider
from marlstone.play.evaluator import Episodes
from marlstone.play.film import Frame
from marlstone.play.used import Meter
from marlstone.policy.numpy_actor import describe, weights
from marlstone.rollout.env_stepper import NOTICE
from marlstone.rollout.fault_log import FaultLog, Health, note_text
from marlstone.rollout.shared_memory import StepBlock, anonymous
from marlstone.rollout.sides import Sides
from marlstone.rollout.state import Report, State
from marlstone.rollout.unroll import RolloutState, trajectory_shapes
from marlstone.training.fused import Fused
from marlstone.training.host import Hosted
from marlstone.training.limit import LONGEST, Limit
from marlstone.training.loop import runtime_of
from marlstone.training.memory import refuse_too_large
from marlstone.training.one_by_one import OneByOne

Array = Any
ASK = 1.0  # seconds to wait for a parcel before asking again
KEPT = 10_000  # trajectories whose staleness is remembered
NOTHING: dict[str, Any] = {"figures": []}
Counts = tuple[dict[str, Array], dict[str, Array]]


def shipped_shapes(algorithm: Algorithm, acting: RolloutState, length: int) -> Trajectory:
    """Shapes of a batch of trajectories as actors send them, `[b t ...]`: without the critics' memory."""
    like = trajectory_shapes(algorithm, acting, length)
    return replace(like, memory=replace(like.memory, critic=(), q=()))


def described(algorithm: Algorithm) -> dict[str, Any]:
    """What actors without JAX are told of a combination. Raises ValueError naming the part that they cannot run, and the remedy."""
    try:
        return describe(algorithm)
    except ValueError as error:
        raise ValueError(f"actors of a fleet act without JAX: {error}: use fleet.actor = 'reference'") from error


@dataclass(frozen=True)
class Learning:
    """Trains `seeds` from what their actors send. `inner`, which never trains, judges: the runtime that would train without a fleet.

    `ends`: one per seed, since each waits on its own thread. `trained()` is called when the last update is made; `beside()` tells what
    the supervisor counted: `figures` to record, per seed. `lineage` is told which trajectories each
    version was trained from.
    """

    consumes: ClassVar[bool] = False
    algorithm: Algorithm
    inner: Any
    b: int
    length: int
    total: int
    seeds: tuple[int, ...]
    max_staleness: int
    actors: int
    actor: str
    blank: RolloutState
    ends: tuple[LearnerEnd, ...]
    page: Page
    trained: Callable[[], Any] = lambda: None
    beside: Callable[[], dict[str, Any]] = lambda: NOTHING
    lineage: TextIO | None = None
    name: str = "the environment"
    most_bad: float = 0.5
    staleness: tuple[deque[int], ...] = ()
    met: list[dict[str, int]] = field(default_factory=list)
    words: list[dict[str, str]] = field(default_factory=list)
    remembered: list[dict[int, tuple[int, int, Any]]] = field(default_factory=list)
    times: dict[str, deque[float]] = field(
        default_factory=lambda: {k: deque(maxlen=KEPT) for k in ("row", "update", "trajectory", "weights")}
    )

    @classmethod
    def of(cls, config: RunConfig, ends: tuple[LearnerEnd, ...], page: Page, spec: Callable[[], tuple[Spec, tuple[bool, ...]]],
           trained: Callable[[], Any] = lambda: None, beside: Callable[[], dict[str, Any]] = lambda: NOTHING,
           lineage: TextIO | None = None) -> "Learning":  # fmt: skip
        """`spec()` waits for an actor to say what it steps; environments written in JAX are asked here."""
        b, length, seeds = config.rollout.envs, config.rollout.length, config.all_seeds
        total = config.updates
        inner: Any
        fleet = config.fleet
        if is_jax(config.env):
            inner = runtime_of(config)
            algorithm = inner.algorithm
            shape = jax.eval_shape(lambda key: inner.env.init(jax.random.split(key, b))[1], jax.random.key(0))
            step: Any = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shape)
        else:
            declared, masked = spec()
            refuse_too_large(config, declared, len(seeds), copies=1 + fleet.queue)  # those in training, and those that wait
            algorithm = Algorithm(
                declared, config.architecture, config.credit, config.learner, ramps=config.ramped, channel=config.channel,
                constraint=config.cost,
            )  # fmt: skip
            inner = Hosted(
                config.env, algorithm, b, length, config.rollout.workers, total, seeds, config.guards, [], config.faults,
                most=config.evaluate.max_steps, metrics=config.metrics, sides=Sides.of(config),
            )  # fmt: skip
            step = StepBlock(anonymous(), declared, b, masked, 1, create=True).step
        blank = RolloutState(None, step, jax.tree.map(np.asarray, algorithm.memory(b)))
        ages: tuple[deque[int], ...] = tuple(deque(maxlen=KEPT) for _ in seeds)
        fresh: Callable[[], list[Any]] = lambda: [{} for _ in seeds]
        return cls(
            algorithm, inner, b, length, total, seeds, fleet.max_staleness, fleet.actors, fleet.actor, blank, ends, page, trained, beside,
            lineage, config.env, config.guards.most_bad, ages, fresh(), fresh(), fresh(),
        )  # fmt: skip

    @cached_property
    def placement(self) -> OneByOne:
        """Seeds one by one, each on a thread: they wait for their own actors."""
        return OneByOne(len(self.seeds))

    @cached_property
    def _about(self) -> dict[str, Any]:
        return {} if isinstance(self.inner, Fused) or self.actor == "reference" else described(self.algorithm)

    # ---- one seed
    def begin(self, i: int) -> State:
        """As the runtime that trains without a fleet makes it, so that each reads the other's checkpoints; where environments stand is
        the actors' own affair."""
        if isinstance(self.inner, Fused):
            return jax.jit(self.inner.begin)(np.uint32(self.seeds[i]))
        keys = {c: component_key(self.seeds[i], c) for c in ("init", "act", "learner")}
        train = jax.jit(lambda key: self.algorithm.init(key, trajectory_shapes(self.algorithm, self.blank, self.length)))(keys["init"])
        return State(train, self.blank, init_tally(self.b, self.algorithm.spec.metrics), keys["act"], keys["learner"])

    @cached_property
    def _shapes(self) -> Trajectory:
        return shipped_shapes(self.algorithm, self.blank, self.length)

    @cached_property
    def _learn(self) -> Callable[..., Any]:
        def learn(train: Any, trajectories: Trajectory, key: Array) -> tuple[Any, Any, dict[str, Array], Array, Counts]:
            memory = self.algorithm.remember(train, trajectories, trajectories.memory)
            after, losses = self.algorithm.update(train, trajectories, train.version / self.total, jax.random.fold_in(key, train.version))
            sent = sent_in(self.algorithm.channel, self.algorithm.spec, trajectories)
            used = used_in(self.algorithm.spec, trajectories)
            return after, (memory.critic, memory.q), losses, trajectories.real.sum(), (sent, used)

        return jax.jit(learn)

    def publish(self, i: int, state: State) -> None:
        """Let actors act by this state's policy."""
        self.page.doing("publishing")
        arrays = weights(jax.device_get(state.train.policy))
        self.times["weights"].append(sum(x.nbytes for x in arrays))
        version = int(state.train.version)
        self.page.acts_by(version)
        self.ends[i].publish(i, Weights(version, arrays, self._about))

    def unfit(self, parcel: Parcel) -> str | None:
        """Why a parcel is none of ours."""
        wanted = jax.tree.leaves(self._shapes)
        if len(parcel.arrays) != len(wanted):
            return f"{len(parcel.arrays)} arrays instead of {len(wanted)}"
        for k, (x, like) in enumerate(zip(parcel.arrays, wanted, strict=True)):
            shape = (parcel.envs, *like.shape[1:])
            if x.shape != shape or x.dtype != like.dtype:
                return f"array {k} is {x.dtype}{list(x.shape)} instead of {like.dtype}{list(shape)}"
        return None

    def gather(self, i: int, version: int) -> list[Parcel]:
        """Parcels of one batch, the stale and the unfit dropped and counted."""
        taken: list[Parcel] = []
        while sum(p.envs for p in taken) < self.b:
            self.page.still("waiting for trajectories")
            parcel = self.ends[i].take(i, ASK)
            if parcel is None:
                continue
            age = abs(version - parcel.version)  # of a policy that a killed learner took with it: as far ahead
            if (why := self.unfit(parcel)) is not None or age > self.max_staleness:
                self.ends[i].settle(i, 0, parcel.envs)
                name = "unfit_chunk" if why is not None else "stale_chunk"
                self.met[i][name] = self.met[i].get(name, 0) + parcel.envs
                self.words[i][name] = f"actor {parcel.actor}: " + (
                    why or f"acted {age} versions ago, fleet.max_staleness is {self.max_staleness}"
                )
                continue
            self.staleness[i].extend([age] * parcel.envs)
            for fault, count in parcel.message["faults"].items():
                self.met[i][fault] = self.met[i].get(fault, 0) + count
            for note in parcel.message["notes"]:
                if note["fault"] == NOTICE:
                    self.log.notice(f"{self.name}: {note['text']}")
                    continue
                self.words[i][note["fault"]] = self.health[i].latest = f"actor {parcel.actor}, {note_text(note)}"
                self.log.report(note["fault"], self.words[i][note["fault"]])
            message, whole = parcel.message, int(parcel.message["finished"]["episodes"])
            steps, broken = message["steps"], message.get("broken_episodes", 0)
            self.health[i].add(steps, min(steps, message.get("faulty_steps", 0)), whole, broken, self.met[i])
            taken.append(parcel)
        return taken

    def batch(self, i: int, parcels: list[Parcel]) -> Trajectory:
        """One batch of trajectories from parcels, with what critics remember of each environment."""
        columns = [np.concatenate(xs) for xs in zip(*(p.arrays for p in parcels), strict=True)]
        trajectories = jax.tree.unflatten(jax.tree.structure(self._shapes), columns)
        if not self.algorithm.architecture.recurrent_critic():
            fresh = self.algorithm.memory(self.b)
            return replace(trajectories, memory=replace(trajectories.memory, critic=fresh.critic, q=fresh.q))
        parts = []
        for p in parcels:
            life, seq, kept = self.remembered[i].get(p.actor, (-1, -1, None))
            fresh = self.algorithm.memory(p.envs)
            parts.append(kept if (life, seq) == (p.life, p.seq) else jax.tree.map(np.asarray, (fresh.critic, fresh.q)))
        critic, q = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
        return replace(trajectories, memory=replace(trajectories.memory, critic=critic, q=q))

    def remember(self, i: int, parcels: list[Parcel], memory: Any) -> None:
        """Keep recurrent critics' memory after these parcels, for each actor's next one."""
        if not self.algorithm.architecture.recurrent_critic():
            return
        memory, at = jax.device_get(memory), 0
        for p in parcels:
            self.remembered[i][p.actor] = p.life, p.seq + 1, jax.tree.map(lambda x: x[at : at + p.envs], memory)  # noqa: B023
            at += p.envs

    def cycle(self, i: int, state: State) -> tuple[State, Report]:
        """One batch, one update, one policy published."""
        parcels, began = self.gather(i, int(state.train.version)), time.perf_counter()
        self.page.doing("updating")
        train, memory, losses, steps, (sent, used) = jax.block_until_ready(
            self._learn(state.train, self.batch(i, parcels), state.learn_key)
        )
        self.remember(i, parcels, memory)
        state = replace(state, train=train)
        self.page.count(int(steps), self.b)
        self.publish(i, state)
        self.times["update"].append(time.perf_counter() - began)
        self.times["row"].extend(p.message["seconds"] / self.length for p in parcels)
        self.times["trajectory"].extend(p.bytes / p.envs for p in parcels)
        self.ends[i].settle(i, self.b, 0)
        if self.lineage is not None:
            trajectories = [[p.actor, p.life, p.seq] for p in parcels]
            self.lineage.write(json.dumps({"seed": i, "version": int(train.version), "trajectories": trajectories}) + "\n")
            self.lineage.flush()
        sums = [p.message["finished"] for p in parcels]
        total = lambda get: np.float32(sum(get(s) for s in sums))
        metrics = {k: total(lambda s, k=k: s["metrics"][k]) for k in self.algorithm.spec.metrics}
        finished = EpisodeSums(total(lambda s: s["episodes"]), total(lambda s: s["team_return"]), total(lambda s: s["length"]), metrics)
        return state, Report(finished, np.asarray(steps), losses, sent, used)

    # ---- all seeds
    def start(self) -> State:
        """The state before the first update, of all seeds."""
        return self.placement.stacked(self.placement.apart(self.begin))

    def restored(self, state: State) -> State:
        """A loaded state, ready to go on: where environments stand is the actors' affair."""
        return state

    def entered(self, state: State) -> State:
        """A fleet trains without stages (refused by the configuration): as it is."""
        return state

    def compile(self, state: State, most: int) -> Callable[[State, int], tuple[State, Report]]:
        """Publish the policy, so that actors begin, and compile learning on a blank batch; `advance(state, n)` then makes n updates of
        every seed."""
        self.ends[0].expect(sum(-(-x.size * x.dtype.itemsize // self.b) + frames.ALIGN for x in jax.tree.leaves(self._shapes)))
        self.placement.apart(self.publish, state)
        self.page.doing("compiling")
        one = jax.tree.map(lambda x: x[0], state)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), trajectory_shapes(self.algorithm, self.blank, self.length))
        jax.block_until_ready(self._learn(one.train, zeros, one.learn_key))

        def advance(state: State, n: int) -> tuple[State, Report]:
            state, reports = self.placement.advance(self.cycle, state, n)
            if int(state.train.version[0]) >= self.total:
                self.trained()
            return state, reports

        return advance

    def saved(self) -> None:
        """A checkpoint holds all that was trained so far."""
        self.ends[0].saved()

    def ended(self) -> None:
        """Training ended before its steps were used up: actors may go."""
        self.trained()

    def figures(self) -> list[dict[str, float]]:
        """Of the latest trajectories, and of the fleet, per seed."""
        out = []
        for ages, more in zip(self.staleness, self.beside()["figures"] or [{}] * len(self.seeds), strict=True):
            x = np.array(ages or [0], float)
            out.append({"fleet/staleness_mean": float(x.mean()), "fleet/staleness_p99": float(np.quantile(x, 0.99)), **more})
        return out

    def service(self) -> dict[str, float]:
        """How long things took and what they weighed, as `marlstone fleet simulate --run` reads it. `row_spread`: were a trajectory's rows
        independent and lognormal, the sigma that its time's spread comes from."""
        mean = lambda k: float(np.mean(self.times[k] or [0.0]))
        rows = np.array(self.times["row"] or [0.0])
        varied = (rows.std() / max(rows.mean(), 1e-12)) ** 2 * self.length
        return {
            "row_seconds": mean("row"), "row_spread": float(np.sqrt(np.log1p(min(varied, 1e3)))), "update_seconds": mean("update"),
            "chunk_bytes": mean("trajectory"), "weights_bytes": mean("weights"),
        }  # fmt: skip

    def refusal(self, state: State) -> BadStep | None:
        """Actors refuse on the spot."""
        return None

    def faults(self, state: State) -> list[dict[str, int]]:
        """Faults that actors have met so far, by name, per seed."""
        return [dict(x) for x in self.met]

    @cached_property
    def log(self) -> FaultLog:
        """Reports faults that actors met."""
        return FaultLog()

    @cached_property
    def health(self) -> list[Health]:
        """Of each seed's environments."""
        return [Health(self.name, self.most_bad) for _ in self.seeds]

    @property
    def judged(self) -> FaultLog:
        """Counts faults of environments made to judge."""
        return self.inner.judged

    def most_faults(self) -> dict[str, int]:
        """As `Fused.most_faults`: parcels are judged as they come."""
        return {}

    def notes(self) -> list[dict[str, str]]:
        """What is known of the latest fault of each name, per seed."""
        return [dict(x) for x in self.words]

    # ---- judging
    def evaluate(self, state: State | None, episodes: int, act: Act = "mode", **how: Any) -> Episodes:
        """`how`: as `Fused.evaluate` takes it."""
        self.page.doing("evaluating")
        return self.inner.evaluate(None if state is None else self._for_inner(state), episodes, act, **how)

    @property
    def meter(self) -> Meter:
        """As `Player.meter`."""
        return self.inner.meter

    @property
    def wiring(self) -> Mapping[str, Any] | None:
        """As of the backend that judges."""
        return self.inner.wiring

    def evaluator(self, episodes: int, act: Act = "mode", **how: Any) -> Callable[..., Episodes]:
        """`how`: as `Fused.evaluator` takes it."""
        play = self.inner.evaluator(episodes, act, **how)
        return lambda policies, *more, **named: play(self.inner.placement.pad(policies), *more, **named)

    def under_each(self, state: State, episodes: int, faults: Sequence[Fault], act: Act = "mode") -> Iterator[Episodes]:
        """As `Player.under_each`, by the backend that judges."""
        self.page.doing("evaluating")
        return self.inner.under_each(self._for_inner(state), episodes, faults, act)

    def variants(self, episodes: int, act: Act = "mode", decider: Decider | None = None) -> Callable[..., Episodes]:
        """As `Player.variants`, by the backend that judges."""
        play = self.inner.variants(episodes, act, decider)
        return lambda policies, *more, **named: play(self.inner.placement.pad(policies), *more, **named)

    def elsewhere(self, name: str, options: Mapping[str, Any] | None = None) -> "Learning":
        """As `Player.elsewhere`: only what judges is moved."""
        return replace(self, inner=self.inner.elsewhere(name, options))

    def player(self, episodes: int, act: Act | None = None) -> Callable[..., list[Trajectory]]:
        """As `Player.player`, by the backend that judges."""
        play = self.inner.player(episodes, act)
        return lambda state, nth=0: play(self._for_inner(state), nth)

    def _for_inner(self, state: State) -> State:
        return replace(state, train=self.inner.placement.pad(state.train))

    def film(self, state: State, episodes: int, act: Act, shown: int) -> Iterator[Frame]:
        """As `Player.film`, by the backend that judges."""
        return self.inner.film(self._for_inner(state), episodes, act, shown)

    def limit(self, flops: Flops, seconds: float = LONGEST) -> Limit:
        """Of as many processes as there are actors, which step while the learner learns."""
        inner = self.inner if isinstance(self.inner, Fused) else replace(self.inner, workers=min(self.actors, self.b))
        return replace(inner.limit(flops, seconds), overlapped=True, is_estimate=True)

    def close(self) -> None:
        """End the processes of the backend that judges; actors are the supervisor's."""
        self.inner.close()
