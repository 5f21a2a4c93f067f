"""What `marlstone select` is asked: an environment, a budget, seeds, and candidates that are configurations of a run."""

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marlstone.config import RunConfig, Stop
from marlstone.config.sources import built, not_toml
from marlstone.core.errors import UserError, suggest
from marlstone.core.seeds import REPORTING
from marlstone.core.types import Spec
from marlstone.evaluation.select.prices import Prices

Settings = dict[str, Any]
OURS = ("env", "steps", "seeds", "seed", "out", "checkpoint_every")  # what the question says, and no candidate may
FEATURES = 32  # of a leaf, at most, for a manager to name one of them as a goal

POLICY = {"kind": "policy_gradient"}
VALUES = {"kind": "pqn", "explore_for": 0.3}
LAYERED = {"kind": "mlp", "norm": "layer"}  # action values without target networks want normalized layers
MANY = {"envs": 128, "length": 16}
SHORT_SIGHTED = {"lr": 1e-3, "gamma": 0.9}  # what each candidate may try beside its defaults, in its tuning budget


@dataclass(frozen=True)
class Candidate:
    """A configuration under a name. `settings` are a run's fields, as in its TOML; `tries`, settings of its learner that its tuning
    budget is spent on: the best is taken. Fewer than two: nothing is tuned."""

    name: str
    settings: Settings
    tries: tuple[Settings, ...] = ({}, SHORT_SIGHTED)

    def config(self, env: str, common: Mapping[str, str], learner: Settings, **fields: Any) -> RunConfig:
        """The run that trains it: `common` overrides from the command line, by dotted field, and `fields` of the question. Raises
        `UserError` for stages and stopping rules: candidates are compared at equal budgets, and tuned at smaller ones."""
        values = copy.deepcopy(self.settings)
        part = values.get("learner", "policy_gradient")
        values["learner"] = {**({"kind": part} if isinstance(part, str) else part), **learner}
        config = built({**values, "env": env, **fields}, common)
        if odd := [name for name, there in (("stages", config.stages), ("stop", config.stop != Stop())) if there]:
            raise UserError(
                f"candidate {self.name!r} has {odd[0]}, and candidates are compared at equal budgets in one environment: leave it "
                "out, train the recommended configuration with it, and compare the two runs"
            )
        return config


# Values of flat policy gradients start at 0, as those of `hierarchical`, so that policies stay random until they meet a reward.
CTDE, DECENTRALIZED = ({"kind": kind, "value_gain": 0.0} for kind in ("ctde", "decentralized"))

DEFAULTS: tuple[Candidate, ...] = (
    Candidate("ctde-team", {"architecture": CTDE, "credit": "team", "learner": POLICY}),
    Candidate("decentralized-team", {"architecture": DECENTRALIZED, "credit": "team", "learner": POLICY}),
    Candidate("hierarchical-team", {"architecture": "hierarchical", "credit": "team", "learner": POLICY}),
    Candidate("ctde-counterfactual", {"architecture": "ctde", "credit": "counterfactual", "learner": POLICY}),
    Candidate("decentralized-individual", {"architecture": DECENTRALIZED, "credit": "individual", "learner": POLICY}),
    Candidate("ctde-qmix", {"architecture": {"kind": "ctde", "body": LAYERED}, "credit": "qmix", "learner": VALUES, "rollout": MANY}),
    Candidate(
        "decentralized-vdn",
        {"architecture": {"kind": "decentralized", "body": LAYERED}, "credit": "vdn", "learner": VALUES, "rollout": MANY},
    ),
)
SHORTEST = ("ctde-team", "decentralized-team", "hierarchical-team")
QUICK = tuple(replace(c, tries=(SHORT_SIGHTED,)) for c in DEFAULTS if c.name in SHORTEST)
"""Of a first look: one of each architecture, set to learn fast rather than far."""


@dataclass(frozen=True)
class Budget:
    """What each candidate may use: joint `steps` per seed, or `minutes` per seed on one core, or a total `price` for all."""

    steps: int | None = None
    minutes: float | None = None
    price: float | None = None

    @classmethod
    def read(cls, text: str, prices: Prices) -> "Budget":
        """`1e6` (steps), `30m`, `2h` (time), `2.5usd` (a price, in the table's currency). Raises `UserError`."""
        low = text.strip().lower().replace("_", "")
        wrong = UserError(
            f"--budget {text}: give joint steps per seed (1e6), a time per candidate and seed (30m, 2h), "
            f"or a price for the whole selection (2.5{prices.currency.lower()})"
        )
        found = re.fullmatch(r"(\d*\.?\d+(?:e[+-]?\d+)?)([a-z]*)", low)
        if found is None:
            raise wrong
        amount, unit = float(found[1]), found[2]
        if not 0 < amount < 1e15:
            raise wrong
        if unit == "":
            return cls(steps=round(amount))
        if unit in ("m", "min", "h"):
            return cls(minutes=amount * (60 if unit == "h" else 1))
        if unit == prices.currency.lower():
            return cls(price=amount)
        raise wrong

    @property
    def words(self) -> str:
        """As a person reads it."""
        if self.steps is not None:
            return f"{self.steps:,} steps per seed"
        return f"{self.minutes:g} minutes per seed" if self.minutes is not None else f"{self.price:g} in all"


@dataclass(frozen=True)
class Question:
    """All that a selection is determined by.

    `seeds` from `seed` on are trained and reported; the fresh ones of the winner follow them. `tuning` is the share of the budget
    that each try of a candidate gets, on `tuning_seeds` seeds of the tuning kind; `episodes` judge each seed's final policy. `survivors`:
    how many, at most, are stressed by edge cases and each other's seeds. `confirm`: whether the winner is trained anew on fresh seeds;
    `soak`: for how many budgets it is trained once more, while its observations drift, on `soak_seeds` seeds (0: not).
    """

    env: str
    budget: Budget
    candidates: tuple[Candidate, ...]
    seeds: int = 5
    seed: int = REPORTING
    tuning: float = 0.1
    tuning_seeds: int = 2
    episodes: int = 64
    survivors: int = 4
    soak: int = 3
    soak_seeds: int = 2
    confirm: bool = True
    common: tuple[tuple[str, str], ...] = ()
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        if not self.candidates:
            raise UserError("no candidates: name at least two in [[candidates]]")
        names = [c.name for c in self.candidates]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise UserError(f"candidate {twice[0]!r} is there twice: give each a name of its own")
        for name in ("seeds", "episodes", "tuning_seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: give at least 1")
        if self.seed < REPORTING:
            raise UserError(f"seed is {self.seed}: give {REPORTING} or more, since candidates are tuned on those below")


def common_leaf(spec: Spec) -> str:
    """The smallest vector leaf that every group has with equally many features: a manager's goals raise or lower one of them. Else ""."""
    leaves = [{k: leaf.shape[0] for k, leaf in g.observation.items() if leaf.kind == "vector"} for g in spec.groups if g.clock == 1]
    shared = [k for k in leaves[0] if all(mine.get(k) == leaves[0][k] for mine in leaves) and leaves[0][k] <= FEATURES]
    return min(shared, key=lambda k: leaves[0][k], default="")


def led(candidates: Sequence[Candidate], leaf: str) -> tuple[Candidate, ...]:
    """Candidates with managers who were not told what their goals mean, told so."""

    def told(c: Candidate) -> Candidate:
        if not leaf or c.settings.get("architecture") != "hierarchical":
            return c
        return Candidate(c.name, {**c.settings, "architecture": {"kind": "hierarchical", "leaf": leaf}}, c.tries)

    return tuple(told(c) for c in candidates)


def read_candidates(file: str | Path, quick: bool = False) -> tuple[tuple[Candidate, ...], Prices]:
    """Candidates and prices of a TOML file:

        defaults = true              # beside those of the package; false: only these
        [[candidates]]
        name = "mine"                # and any field of a run but the question's own
        architecture = "ctde"
        credit = "my_credit.py:MyCredit"
        learner = { kind = "policy_gradient", lr = 1e-3 }
        tries = [{}, { lr = 3e-4 }]  # of its learner, for its tuning budget; default: the package's two
        [price]                      # see prices.py

    Raises `UserError`.
    """
    from marlstone.config.paths import beside

    path = Path(file)
    try:
        text = path.read_text()
        content = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"--candidates {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise not_toml(f"--candidates {file}", "" if isinstance(error, UnicodeDecodeError) else text, error) from error
    known = ("defaults", "candidates", "price")
    for key in content:
        if key not in known:
            raise UserError(f"--candidates {file}: unknown key {key!r}; {suggest(key, known)}")
    mine = []
    for i, table in enumerate(content.get("candidates", [])):
        table = beside(table, path.parent)
        name = table.pop("name", None)
        if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
            raise UserError(f"--candidates {file}: candidate number {i + 1} has the name {name!r}: give letters, digits, - and _")
        if stray := sorted(set(table) & set(OURS)):
            raise UserError(f"--candidates {file}: candidate {name!r} says {stray[0]}, which the question says for all: leave it out")
        tries = tuple(table.pop("tries", ({}, SHORT_SIGHTED)))
        mine.append(Candidate(name, table, tries))
    if content.get("defaults", True):
        shipped = QUICK if quick else DEFAULTS
        mine = [*(c for c in shipped if c.name not in {m.name for m in mine}), *mine]
    return tuple(mine), Prices.read(content.get("price", {}), str(file))
