"""What a run is asked to do. Each part is its own configuration; this names the parts and the budget."""

from dataclasses import dataclass, field

from marlstone.architectures import Architecture, Decentralized
from marlstone.core.seeds import REPORTING, Purpose, purpose_of, seeds_of
from marlstone.credit import Credit, Individual
from marlstone.envs.guards import Guards
from marlstone.learners import Learner, PolicyGradient


def _at_least(part: str, values: dict[str, int | None], least: int = 1) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{part}.{name} is {value}: give at least {least}")


@dataclass(frozen=True)
class Rollout:
    """What is gathered for one update, per seed: `length` rows from each of `envs` environments.

    `workers`: processes that step an environment only Python can step, per seed; one written in JAX needs none.
    `shards`: devices (on a CPU: cores) that share each seed's environments, if written in JAX: for fewer seeds than cores.
    """

    envs: int = 32
    length: int = 128
    workers: int = 2
    shards: int = 1

    def __post_init__(self) -> None:
        _at_least("rollout", {"envs": self.envs, "length": self.length, "workers": self.workers, "shards": self.shards})


@dataclass(frozen=True)
class Evaluation:
    """How the final policy is judged: `episodes` per seed, acting by mode.

    `logged`: episodes per seed that the store keeps one by one at every checkpoint, played by the policy as it trains, with what
    credit says of every agent. None: up to 16, as many as fit 2% of the steps between checkpoints, at least one. 0: none.
    """

    episodes: int = 32
    logged: int | None = None

    def __post_init__(self) -> None:
        _at_least("evaluation", {"episodes": self.episodes})
        _at_least("evaluation", {"logged": self.logged}, 0)


@dataclass(frozen=True)
class RunConfig:
    """A run. Defaults are independent PPO, which serves every environment: cooperative or not, with a global state or without.

    Fields:
      env: `source:name?option=value`, as `marlstone envs` lists them.
      architecture, credit, learner: the three parts; each has its own fields.
      rollout, evaluation, guards: how experience is gathered, policies are judged, and faults are met.
      steps: joint environment steps per seed.
      seeds, seed: how many training seeds, from which on; below 1000 they are for tuning, else for reporting.
      checkpoint_every: joint steps per seed between checkpoints; none: ten over the run.
      out: the run's directory; none: a new one under `runs/`.
    """

    env: str
    architecture: Architecture = field(default_factory=Decentralized)
    credit: Credit = field(default_factory=Individual)
    learner: Learner = field(default_factory=PolicyGradient)
    rollout: Rollout = field(default_factory=Rollout)
    evaluation: Evaluation = field(default_factory=Evaluation)
    guards: Guards = field(default_factory=Guards)
    steps: int = 1_000_000
    seeds: int = 5
    seed: int = REPORTING
    checkpoint_every: int | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        _at_least("run", {"steps": self.steps, "seeds": self.seeds, "checkpoint_every": self.checkpoint_every})
        _at_least("run", {"seed": self.seed}, 0)
        if self.seed + self.seeds > 2**32:
            raise ValueError(f"run.seed is {self.seed} with {self.seeds} seeds: they must stay below {2**32}")
        if not self.env.strip():
            raise ValueError("run.env is empty: name an environment, such as jumanji:LevelBasedForaging?task=8x8-2p-2f-coop")
        seeds_of(self.seed, self.seeds)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The training seeds."""
        return seeds_of(self.seed, self.seeds)

    @property
    def purpose(self) -> Purpose:
        """`tuning` or `reporting`, by the seeds used."""
        return purpose_of(self.seed)

    @property
    def steps_between_checkpoints(self) -> int:
        """`checkpoint_every`, or a tenth of the run."""
        return self.checkpoint_every or max(1, self.steps // 10)
