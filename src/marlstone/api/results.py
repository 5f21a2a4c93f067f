"""Typed answers: what records hold that people ask for by name. `record` is the whole of it, as `--json` prints it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

Interval = tuple[float | None, float | None]
"""Lower and upper end; None where the seeds cannot say."""


@dataclass(frozen=True)
class Result:
    """An answer. `record`: all of it."""

    record: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The answer that a record holds; fields that a record lacks are None."""
        plain = lambda x: tuple(x) if isinstance(x, list) else x
        return cls(record, **{f.name: plain(record.get(f.name)) for f in fields(cls) if f.name != "record"})

    def to_json(self) -> str:
        """One line of JSON, as the command prints it."""
        from marlstone.runs.json_line import one_line

        return one_line(dict(self.record))


@dataclass(frozen=True)
class Returns(Result):
    """How good policies are as they are deployed: undiscounted team returns over training seeds.

    `return_iqm` with its 95% interval; `return_worst_seed`; `returns`, each seed's mean; `acting`, how they are deployed, and
    `returns_by_acting`, both ways; `true_metrics`; `messages_per_step` and `bits_per_step`, where agents talk; `acting_warning`, where they
    rely on their randomness; episodes `broken` and `unfinished`.
    """

    return_iqm: float
    return_ci95: Interval
    return_worst_seed: float
    returns: tuple[float, ...]
    acting: str
    returns_by_acting: Mapping[str, Any]
    true_metrics: Mapping[str, float]
    messages_per_step: float | None
    bits_per_step: float | None
    acting_warning: str | None
    broken: int
    unfinished: int


@dataclass(frozen=True)
class Training(Returns):
    """A finished training. Steps are joint environment steps per seed; `steps_per_second` is summed over seeds; `share_of_limit`: of what
    this machine could do at best; `policy`: the folders of the frozen policies; `stopped_by`: the rule that ended it, `steps` where its
    budget was used up; `best`: what is known of the best policies, where they are kept."""

    steps: int
    seeds: tuple[int, ...]
    steps_per_second: float | None
    share_of_limit: float | None
    wall_seconds: float
    policy: tuple[str, ...] | None
    stopped_by: str | None
    best: Mapping[str, Any] | None


@dataclass(frozen=True)
class Comparison(Result):
    """The first run less the second, per episode. `better`: 0 or 1, the run that returns more; None: not shown."""

    difference: float | None
    ci95: Interval
    better: int | None
    true_metrics: Mapping[str, Any]
    episodes: int


@dataclass(frozen=True)
class Payoff(Result):
    """Who beats whom. `cells[i][j]`: run i as the team against run j as the opponents, for `team` and `opponents` each `mean`, `ci95` and
    `episodes`; None where one of them cannot play that side, for the reason in `cannot`."""

    runs: tuple[str, ...]
    team: tuple[str, ...]
    opponents: tuple[str, ...]
    cells: tuple[Any, ...]
    cannot: Mapping[str, str]
    episodes: int

    def matrix(self, side: str = "team") -> list[list[float | None]]:
        """The mean returns of `side` (`team` or `opponents`), row by row."""
        return [[None if cell is None else cell[side]["mean"] for cell in row] for row in self.cells]


@dataclass(frozen=True)
class Selection(Result):
    """Which candidate is recommended, and which ones no significant difference separates from it. `report`: a page to show around;
    `config`: the recommended configuration, to train it by."""

    recommended: str
    inseparable_from: tuple[str, ...]
    candidates: tuple[Mapping[str, Any], ...]
    evidence: str
    doubt: str
    report: str
    config: str


@dataclass(frozen=True)
class Tuning(Result):
    """The best `settings` of a sweep over `configurations` of them: `tuning_return_iqm` on the seeds they were chosen by, `return_iqm` on
    others, which is what to expect; `difference` from the configuration as it was. `config`: the best one, to train it by."""

    settings: Mapping[str, Any]
    configurations: int
    tuning_return_iqm: float
    return_iqm: float
    return_ci95: Interval
    return_worst_seed: float
    selection_bias: float
    difference: float | None
    difference_ci95: Interval
    trials: tuple[Mapping[str, Any], ...]
    evidence: str
    report: str
    config: str


@dataclass(frozen=True)
class CreditAudit(Result):
    """What a credit method says each agent was worth (`contributions`), beside what each was worth (`truth`), by agent.

    Decisions are compared by what methods learn from, returns with the learner's `discount` from the decision on; `truth` is undiscounted,
    `truth_discounted` in units of the claims. `worth_anything`: the share of decisions that changed the return at all.
    `noise_ceiling`: the rank correlation with the measured truth that a perfect claim would have, decision by decision;
    `share_of_ceiling`: how much of it these claims reach; `calibration_slope`: what a claim of 1 was worth; of shares, episode by
    episode. `judgement`: whether the claims are right in this environment, in a sentence."""

    claims: str | None
    rank_correlation: float | None
    rank_correlation_ci95: Interval
    contributions: Mapping[str, float]
    truth: Mapping[str, float]
    truth_discounted: Mapping[str, float]
    discount: float
    worth_anything: float | None
    noise_ceiling: float | None
    share_of_ceiling: float | None
    calibration_slope: float | None
    judgement: str
