"""What a run is asked to do. Each part is its own configuration; this names the parts and the budget."""

from dataclasses import dataclass, field, fields, replace
from math import lcm
from typing import Any, Literal, cast

from marlstone.architectures import Architecture, Decentralized
from marlstone.comms import Channel, NoMessages
from marlstone.comms.disturbed import under_faults
from marlstone.config.case import Case
from marlstone.config.stages import Stage
from marlstone.config.stopping import Stop
from marlstone.core.acting import Acting
from marlstone.core.machine import cores
from marlstone.core.seeds import REPORTING, Purpose, purpose_of, seeds_of
from marlstone.cost.budgets import Budget
from marlstone.credit import Credit, Individual
from marlstone.envs.faults import Fault
from marlstone.envs.guards import Guards
from marlstone.envs.make import is_jax, one_per_process
from marlstone.envs.own_metrics import TrueMetric
from marlstone.learners import Learner, PolicyGradient
from marlstone.learners.constraint import Constraint
from marlstone.runs.sinks.contract import Sink
from marlstone.tools import ExternalMemory, Tool, Toolbox


def _at_least(part: str, values: dict[str, int | None], least: int = 1) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{part}.{name} is {value}: give at least {least}")


@dataclass(frozen=True)
class Rollout:
    """What is gathered for one update, per seed: `length` steps from each of `envs` environments. `envs` 0: 32, or for environments that
    only Python can step what the cores bear (`default_envs`); a run's own configuration holds the number.

    `workers`: processes that step an environment only Python can step, per seed; one written in JAX needs none.
    `shards`: devices (on a CPU: cores) that share each seed's environments, if written in JAX: for fewer seeds than cores.
    """

    envs: int = 0
    length: int = 128
    workers: int = 2
    shards: int = 1

    def __post_init__(self) -> None:
        _at_least("rollout", {"envs": self.envs}, 0)
        _at_least("rollout", {"length": self.length, "workers": self.workers, "shards": self.shards})


def default_envs(env: str, multiple: int) -> int:
    """Environments of each seed where none are asked for. JAX environments: 32. Python's: two a core, at least 8; one a core, if each
    needs a process of its own; rounded up to a multiple of `multiple`."""
    try:
        if is_jax(env):
            return 32
        wanted = len(cores()) if one_per_process(env) else max(8, 2 * len(cores()))
    except ValueError:
        return 32  # no such environment: whoever makes it says so
    return -(-wanted // multiple) * multiple


@dataclass(frozen=True)
class Fleet:
    """Actors in processes of their own, and a learner that never waits for all of them. `kind`: `none`, `local` processes, or `ray`:
    processes on the nodes of the Ray cluster at `address` (none: RAY_ADDRESS, or else a cluster of our own on this machine).

    Per seed, `actors` of them, each with `envs` environments (none: as many as make up `rollout.envs`, at least one); `queue`: how many
    updates' trajectories may wait for the learner; `max_staleness`: trajectories acted by a policy more versions old are dropped. `actor`:
    `fast` acts in NumPy, `reference` in JAX, as environments written in JAX always do.
    `patience`: seconds that a process may take over anything but its environment, which `guards` limit, before it is ended and
    started anew, after `backoff` seconds, doubled up to `longest_backoff` while it keeps dying; `restarts`: how often in all;
    `poison_after`: deaths in the same episode before its seed is put in quarantine. `lineage`: keep, in `fleet/lineage.jsonl`, which
    trajectories each version was trained from; where a version stands twice, a learner died, and the last counts.
    """

    kind: Literal["none", "local", "ray"] = "none"
    address: str | None = None
    actors: int = 2
    envs: int | None = None
    queue: int = 2
    max_staleness: int = 8
    actor: Literal["fast", "reference"] = "fast"
    patience: float = 60.0
    backoff: float = 0.5
    longest_backoff: float = 30.0
    restarts: int = 1000
    poison_after: int = 3
    lineage: bool = False

    def __post_init__(self) -> None:
        _at_least("fleet", {k: getattr(self, k) for k in ("actors", "envs", "queue", "poison_after")})
        _at_least("fleet", {"max_staleness": self.max_staleness, "restarts": self.restarts}, 0)
        for name in ("patience", "backoff", "longest_backoff"):
            if not 0 < getattr(self, name) <= 1e6:
                raise ValueError(f"fleet.{name} is {getattr(self, name)}: give a positive number of seconds, up to 1e6")
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if self.kind == "none" and changed:
            raise ValueError(f"fleet.{changed[0]} is {getattr(self, changed[0])}, but there is no fleet: add --fleet local")
        if self.kind != "ray" and self.address is not None:
            raise ValueError(f"fleet.address is {self.address!r}, but the fleet is {self.kind}: add --fleet ray")

    def each(self, b: int) -> int:
        """Environments of each actor, where an update takes `b` trajectories."""
        return self.envs or max(1, b // self.actors)


@dataclass(frozen=True)
class Evaluation:
    """How the final policy is judged: `episodes` per seed, each played to its end.

    `max_steps`: of an evaluation episode; one that has not ended by then is left out of every figure, counted and reported. None: 10,000,
    or twice the declared horizon where that is more. Nothing an environment declares cuts an episode short.

    `logged`: episodes per seed that the store keeps one by one at every checkpoint, played by the policy as it trains, with what
    credit says of every agent. None: up to 16, as many as fit 2% of the steps between checkpoints, at least one. 0: none.
    `validation`: episodes per seed that validate policies at every checkpoint of the schedule, where `keep_best` or `[stop]` asks for it,
    drawn apart from all that is reported. None: as many as `episodes`.
    `cases`: edge cases of your own, beside the standard ones; `graceful`: how much of the way from chance to the undisturbed return a
    policy may lose in one and still be called graceful.
    `every`: joint steps per seed between checks during training, each at the first checkpoint from there on; none: no checks. A check runs
    `suites` (`edge-cases`, `credit`) on the policy as it stands. A result below the band of its baseline by more than `tolerance` (of the
    span from chance to the undisturbed return; of a correlation) is an alert. `baseline`: a run that was checked too; none: the best of
    the run's own earlier checks.
    `chatter`: the largest share of its steps that an agent may spend on requests instead of acting; more raises the alarm of
    `--suite messages`.
    """

    episodes: int = 32
    logged: int | None = None
    cases: tuple[Case, ...] = ()
    graceful: float = 0.2
    every: int | None = None
    suites: tuple[Literal["edge-cases", "credit"], ...] = ()
    tolerance: float = 0.1
    baseline: str | None = None
    max_steps: int | None = None
    validation: int | None = None
    chatter: float = 0.25

    def __post_init__(self) -> None:
        counts = {"episodes": self.episodes, "every": self.every, "max_steps": self.max_steps, "validation": self.validation}
        _at_least("evaluate", counts)
        if (self.every is None) != (not self.suites):
            lacking, there = ("every", "suites") if self.every is None else ("suites", "every")
            raise ValueError(
                f"evaluate.{there} is given without evaluate.{lacking}: checks need both, e.g. every = 100_000, suites = ['edge-cases']"
            )
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"evaluate.tolerance is {self.tolerance}: give a share, from 0 to 1")
        if self.baseline is not None and self.every is None:
            raise ValueError(f"evaluate.baseline is {self.baseline!r}, but nothing is checked: give evaluate.every and evaluate.suites")
        _at_least("evaluate", {"logged": self.logged}, 0)
        if not 0 <= self.graceful <= 1:
            raise ValueError(f"evaluate.graceful is {self.graceful}: give a part of the span, from 0 to 1")
        if not 0 <= self.chatter <= 1:
            raise ValueError(f"evaluate.chatter is {self.chatter}: give a share of an agent's steps, from 0 to 1")
        names = [case.name for case in self.cases]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"evaluate.cases names {twice[0]!r} twice: give each case a name of its own")


@dataclass(frozen=True)
class SelfPlay:
    """Opponents that are the learning policy's own past (`rollout.self_play`); in environments written in JAX.

    `opponents`: the agents that are played so, by name, type or group; "": no self-play. Every `every` joint steps per seed a snapshot
    joins the league, which keeps the last `keep`. At an episode's beginning the opponent is the policy as it stands, in a share
    `current` of episodes, else one of the league, by `sampling`: `uniform`, the `latest`, or `prioritized`: who is seldom beaten is
    met often (Vinyals et al. 2019).
    """

    opponents: str = ""
    every: int = 20_000
    keep: int = 16
    sampling: Literal["uniform", "latest", "prioritized"] = "uniform"
    current: float = 0.2

    def __post_init__(self) -> None:
        _at_least("self_play", {"every": self.every, "keep": self.keep})
        if not 0 <= self.current <= 1:
            raise ValueError(f"self_play.current is {self.current}: give a share of episodes, from 0 to 1")
        changed = [f.name for f in fields(self) if getattr(self, f.name) != f.default]
        if changed and not self.opponents:
            raise ValueError(f"self_play.{changed[0]} is given, but nobody is played: name the agents, self_play.opponents = 'blue*'")


@dataclass(frozen=True)
class RunConfig:
    """A run. Defaults are independent PPO, which serves every environment: cooperative or not, with a global state or without.

    Fields:
      env: `source:name?option=value`, as `marlstone envs` lists them.
      architecture, credit, learner: the three parts; each has its own fields.
      comms: how agents talk to each other, if they do.
      cost: what play may cost, as a constraint on learning; never a part of the reward.
      account: the file of the account that the run spends from, whose budgets hold for all who name it; none: the run's own.
      budgets: limits that are declared in that account: what may be spent, of what, in which periods.
      prices: a table of prices (TOML) by which spending becomes money; none: the package's, which only gives a scale.
      tools, memory: what agents may call, look up and store beside their actions.
      acting: how policies act when they are judged and deployed.
      rollout, evaluate, guards: how experience is gathered, policies are judged, and faults are met.
      fleet: actors in processes of their own, without a barrier.
      cut_calls: calls, look-ups and writes that an agent does without, each `"agent:choice"`: illegal, in training, judged and deployed.
      metrics: true metrics of your own, beside those that the environment declares: what the team really wants.
      sinks: services that are told what the run measures, beside its own store.
      faults: what goes wrong between the environment and its agents, in training and whenever the run is judged; in this order.
      team: whose rewards are the team's, agents by name, type or group (`envs.teams`); "": as the environment declares.
      opponents: agents, by such a pattern, that do not learn, and who plays them: a run, a policy's folder, `random` or `default`.
      self_play: agents that are played by past policies of the run itself.
      steps: joint environment steps per seed, rounded up to whole updates (`whole_steps`).
      seeds, seed: how many training seeds, from which on; below 1000 they are for tuning, else for reporting.
      ramps: fields of the learner that move linearly from one number to another over the run: `{"learner.entropy" = [0.01, 0.001]}`.
      stages: settings that hold for the first parts of the run, in order: a curriculum.
      stop: rules that end a training before its steps are used up.
      keep_best: whether the best policies on validation episodes are kept beside the final ones, which stay what is deployed.
      checkpoint_every: joint steps per seed between checkpoints; none: ten over the run.
      checkpoint_minutes: of wall time after which the state is kept in between, to be resumed from alone; none: never.
      out: the run's directory; none: a new one under `runs/`.
    """

    env: str
    architecture: Architecture = field(default_factory=Decentralized)
    credit: Credit = field(default_factory=Individual)
    learner: Learner = field(default_factory=PolicyGradient)
    rollout: Rollout = field(default_factory=Rollout)
    evaluate: Evaluation = field(default_factory=Evaluation)
    guards: Guards = field(default_factory=Guards)
    fleet: Fleet = field(default_factory=Fleet)
    comms: Channel = field(default_factory=NoMessages)
    cost: Constraint = field(default_factory=Constraint)
    account: str | None = None
    budgets: tuple[Budget, ...] = ()
    prices: str | None = None
    tools: tuple[Tool, ...] = ()
    memory: ExternalMemory = field(default_factory=ExternalMemory)
    cut_calls: tuple[str, ...] = ()
    metrics: tuple[TrueMetric, ...] = ()
    faults: tuple[Fault, ...] = ()
    team: str = ""
    opponents: dict[str, str] = field(default_factory=dict)
    self_play: SelfPlay = field(default_factory=SelfPlay)
    sinks: tuple[Sink, ...] = ()
    acting: Acting = field(default_factory=Acting)
    steps: int = 1_000_000
    seeds: int = 5
    seed: int = REPORTING
    ramps: dict[str, tuple[float, float]] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    stop: Stop = field(default_factory=Stop)
    keep_best: bool = False
    checkpoint_every: int | None = None
    checkpoint_minutes: float | None = 10.0
    out: str | None = None

    def __post_init__(self) -> None:
        _at_least("run", {"steps": self.steps, "seeds": self.seeds, "checkpoint_every": self.checkpoint_every})
        _at_least("run", {"seed": self.seed}, 0)
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            raise ValueError(f"run.checkpoint_minutes is {self.checkpoint_minutes}: give a positive number of minutes, or none")
        if self.seed + self.seeds > 2**32:
            raise ValueError(f"run.seed is {self.seed} with {self.seeds} seeds: they must stay below {2**32}")
        if nobody := [pattern for pattern, who in self.opponents.items() if not who.strip() or not pattern.strip()]:
            raise ValueError(f"opponents.{nobody[0]} is empty: name a run, a policy's folder, random or default")
        if not self.env.strip():
            raise ValueError("run.env is empty: name an environment, such as jumanji:LevelBasedForaging?task=8x8-2p-2f-coop")
        seeds_of(self.seed, self.seeds)
        _ = self.toolbox
        self._refuse_budgets()
        if self.stop.plateau is not None and self.seeds < 2:
            raise ValueError(
                f"stop.plateau is {self.stop.plateau} with one seed, which has no interval: give --seeds 2 or more, or at_return"
            )
        validated = self.keep_best or self.stop.validates
        if self.evaluate.validation is not None and not validated:
            raise ValueError(
                f"evaluate.validation is {self.evaluate.validation}, but nothing asks for it: set keep_best, stop.at_return or stop.plateau"
            )
        self._refuse_ramps()
        if not self.rollout.envs:
            own = self.fleet.envs or (self.fleet.actors if self.fleet.kind != "none" and self.fleet.actors <= 32 else 1)
            envs = default_envs(self.env, lcm(self.learner.minibatches, own))
            object.__setattr__(self, "rollout", replace(self.rollout, envs=envs))
        if self.self_play.opponents:
            if self.toolbox.any:
                raise ValueError(
                    "self_play plays past policies inside the environment, where they have no tools: leave [[tools]] and [memory] out, or "
                    "play a finished run, --opponent AGENTS=RUN"
                )
            if self.stages:
                raise ValueError(
                    "self_play and stages are both given, but a league does not pass from one stage to the next: leave one out"
                )
            if self.fleet.kind != "none":
                raise ValueError(
                    "self_play keeps its league where the policy learns, which a fleet's actors never see: leave the fleet out"
                )
            if self.rollout.shards > 1:
                raise ValueError(
                    f"rollout.shards is {self.rollout.shards}, but self_play keeps one league per seed: use rollout.shards = 1"
                )
        if self.credit.measures is not None:
            self._refuse_measuring(type(self.credit).__name__)
        if self.fleet.kind != "none":
            if self.stages:
                raise ValueError("stages are given, but a fleet's actors step one environment: train without --fleet")
            if self.evaluate.every is not None:
                remedy = "leave it out, and run marlstone evaluate RUN --suite edge-cases"
                raise ValueError(f"evaluate.every is {self.evaluate.every}, but a fleet's learner makes no checks: {remedy}")
            if self.rollout.envs % (each := self.fleet.each(self.rollout.envs)):
                raise ValueError(f"rollout.envs is {self.rollout.envs}, no multiple of {each} environments an actor: set fleet.envs")
            if self.rollout.shards > 1:
                raise ValueError(
                    f"rollout.shards is {self.rollout.shards}, but a fleet's environments are its actors': use rollout.shards = 1"
                )

    def _refuse_budgets(self) -> None:
        """Raises ValueError for budgets that training and evaluation could not keep."""
        names = [b.name for b in self.budgets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"budgets names {twice[0]!r} twice: give each budget a name of its own")
        for b in self.budgets:
            if b.scope == "account" and self.account is None:
                raise ValueError(
                    f"budget {b.name!r} is of a whole account, and the run has only its own: name one, account = 'team.sqlite'"
                )
            if b.limit == "hard" and b.fallback != "stop":
                raise ValueError(
                    f"budget {b.name!r}: fallback is {b.fallback!r}, but training and evaluation can only stop: fallback = 'stop'"
                )

    def _refuse_measuring(self, credit: str) -> None:
        """Raises ValueError where nothing can be played on from a state that is trained in."""
        try:
            goes_back = is_jax(self.env)
        except ValueError:
            return  # no such environment: whoever makes it says so
        if not goes_back:
            raise ValueError(
                f"{credit} plays states on a second time, and {self.env} is stepped in worker processes, which cannot go back: use an "
                "environment written in JAX, or credit = 'counterfactual'"
            )
        if self.fleet.kind != "none":
            raise ValueError(
                f"{credit} plays states on a second time, which a fleet's actors do not: train without --fleet, or use "
                "credit = 'counterfactual'"
            )

    def _refuse_ramps(self) -> None:
        """Raises ValueError for a ramp of what cannot move, or cannot be where it begins or ends."""
        for name, ends in self.ramps.items():
            part, _, field_ = name.partition(".")
            if part != "learner" or field_ not in self.learner.rampable:
                known = ", ".join(f"learner.{x}" for x in self.learner.rampable)
                raise ValueError(f"ramps has {name!r}: {known or 'nothing of this learner'} may move; for anything else use [[stages]]")
            if any(name in stage.set for stage in self.stages):
                raise ValueError(f"ramps and stages both set {name!r}: give one")
            if field_ == "entropy" and getattr(self.learner, "entropy_end", None) is not None:
                raise ValueError("ramps has 'learner.entropy', and learner.entropy_end is set, which is a ramp too: give one")
            for end in ends:
                replace(cast(Any, self.learner), **{field_: end})

    @property
    def ramped(self) -> tuple[tuple[str, float, float], ...]:
        """The learner's fields that move, as `Algorithm` takes them: `(field, from, to)`."""
        return tuple((name.partition(".")[2], start, end) for name, (start, end) in self.ramps.items())

    @property
    def toolbox(self) -> Toolbox:
        """What agents may call, look up and store: `tools` and `memory`."""
        return Toolbox(self.tools, self.memory, self.cut_calls)

    @property
    def channel(self) -> Channel:
        """The channel as learning meets it: `comms` with the link that `faults` make of it. A policy is deployed with `comms` itself."""
        return under_faults(self.comms, self.faults) if self.comms.speaks else self.comms

    @property
    def validation_episodes(self) -> int:
        """Episodes per seed that validate policies at a checkpoint of the schedule; 0: nothing asks for it."""
        return (self.evaluate.validation or self.evaluate.episodes) if self.keep_best or self.stop.validates else 0

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The training seeds."""
        return seeds_of(self.seed, self.seeds)

    @property
    def measured_steps(self) -> int:
        """Joint steps per update that are played to measure what actions were worth, where credit asks for that."""
        return 0 if self.credit.measures is None else self.rollout.envs * self.credit.measures.steps(self.rollout.length)

    @property
    def steps_per_update(self) -> int:
        """Joint steps per seed that an update takes: `rollout.envs` x `rollout.length`, and those that are played to measure credit."""
        return self.rollout.envs * self.rollout.length + self.measured_steps

    @property
    def updates(self) -> int:
        """Updates that `steps` take, the last of them whole."""
        return -(-self.steps // self.steps_per_update)

    @property
    def whole_steps(self) -> int:
        """`steps` rounded up to whole updates of `steps_per_update`: what is trained."""
        return self.updates * self.steps_per_update

    @property
    def purpose(self) -> Purpose:
        """`tuning` or `reporting`, by the seeds used."""
        return purpose_of(self.seed)

    @property
    def steps_between_checkpoints(self) -> int:
        """`checkpoint_every`, or that of its checks (`evaluate.every`), or a tenth of the run."""
        return self.checkpoint_every or self.evaluate.every or max(1, self.steps // 10)
