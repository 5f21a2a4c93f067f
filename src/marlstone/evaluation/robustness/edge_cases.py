"""How a finished policy does when something goes wrong: the edge cases, one by one, on the same episodes.

    span = IQM over seeds of the undisturbed return - IQM of chance's (uniform among what is legal)
    loss = IQM over seeds of (undisturbed return - return in the case) / span,   episode by episode (paired: the same keys)

The loss's 95% interval takes the span to be as uncertain as it is (`statistics.share`). A case is graceful where the interval's upper end
is at most `evaluate.graceful`, not graceful where its lower end is above, and else not shown (`graceful` null, with `note`, the reason and
the remedy): an interval across the bound, a span that is not shown to be above 0, a single seed, which has no interval. Intervals and
verdicts are of each case alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.config import Case, RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import Failure, UserError
from marlstone.core.types import Spec
from marlstone.envs.faults import (
    ActionDelay,
    ActionLoss,
    Death,
    Delay,
    Dropout,
    Extreme,
    Fault,
    Freeze,
    LateArrival,
    MessageCopies,
    MessageDelay,
    MessageLoss,
    Noise,
    Skew,
    Volatile,
)
from marlstone.envs.guards import return_bounds
from marlstone.evaluation.robustness.gate_measured import ood
from marlstone.play.action_selectors import Alone, Chance, Decider
from marlstone.play.evaluator import Episodes
from marlstone.play.inference_faults import Late
from marlstone.play.judging import judge, refuse_none, resolve, returns_record
from marlstone.play.player import Player
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import Checkpoint
from marlstone.stats.intervals import Bounds, difference, interval, share
from marlstone.training.trained import trained

UNKNOWN = 100  # steps within which agents die or arrive where an episode's length is not declared
Tell = Callable[[str], None]


def standard_cases(spec: Spec) -> tuple[Case, ...]:
    """The cases that make sense everywhere, without those this environment refuses."""
    early = max(1, (spec.horizon or UNKNOWN) // 4)

    def one(name: str, *faults: Fault, **more: Any) -> Case:
        return Case(name, faults, **more)

    cases = (
        one("sensor noise 10%", Noise(0.1)),
        one("sensor noise 30%", Noise(0.3)),
        one("sensor dropout 10%", Dropout(0.1)),
        one("sensors freeze", Freeze(0.05, 5)),
        one("observations 2 rows late", Delay(2)),
        one("clocks skewed up to 3 rows", Skew(3)),
        one("actions 1 row late", ActionDelay(1)),
        one("action loss 20%", ActionLoss(0.2)),
        one("an agent dies", Death(1, early)),
        one("an agent comes late", LateArrival(1, early)),
        one("out-of-range values 1%", Extreme(0.01)),
        one("NaN values 1%", Extreme(0.01, "nan")),
        one("volatile link", Volatile()),
        one("message loss 30%, in bursts", MessageLoss()),
        one("messages 0-3 rows late", MessageDelay(3)),
        one("messages twice 30%", MessageCopies(0.3)),
        one("inference late 10%", late=0.1),
        one("inference late 10%, in bursts", late=0.1, bursts=5.0, fallback="last"),
    )
    return tuple(case for case in cases if not any(f.refuses(spec) for f in case.faults))


def decider_of(algorithm: Algorithm, case: Case) -> Decider:
    """Who decides in a case. Raises UserError for a field out of its range."""
    return Late(Alone(algorithm), case.late, case.fallback, case.bursts) if case.late else Alone(algorithm)  # type: ignore[arg-type]


def chance_return(runtime: Player, state: State, episodes: int) -> float:
    """What is earned by acting uniformly among what is legal: IQM over the seeds, on the episodes their policies are judged by."""
    played = _by_chance(runtime, state, episodes)
    refuse_none(played)
    return float(interval(played.per_seed())[0])


def _by_chance(runtime: Player, state: State, episodes: int) -> Episodes:
    played: Episodes = runtime.evaluate(state, episodes, decider=Chance(runtime.algorithm))
    return played


def _ended(returns: np.ndarray) -> list[np.ndarray]:
    """Of `[seeds episodes]` those that are no NaN, seed by seed. Raises `Failure` where a seed has none."""
    rows = [r[~np.isnan(r)] for r in returns]
    if not all(r.size for r in rows):
        raise Failure("edge cases: of some seed not one episode ended: give the environment a time limit, or raise evaluate.max_steps")
    return rows


def edge_cases(
    runtime: Player, state: State, config: RunConfig, episodes: int, act: Act, cases: Sequence[Case] | None = None, *,
    nominal: np.ndarray | None = None, chance: np.ndarray | None = None, tell: Tell = lambda name: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """What becomes of every seed's policy in each case, acting by `act`; per case `name return_iqm return_ci95 loss loss_ci95 loss_per_seed
    graceful note`.

    `cases`: default, the standard ones and the configuration's own. `nominal` and `chance`: undisturbed and chance's returns
    `[seeds episodes]` of these same episodes, where they are known already. `tell` is told the name of each case before it is played.
    Raises UserError for a case that cannot happen in this environment.
    """
    if cases is None:
        cases = (*standard_cases(runtime.algorithm.spec), *config.evaluate.cases)
    nominal = runtime.evaluate(state, episodes, act).ended_only() if nominal is None else nominal
    chance = _by_chance(runtime, state, episodes).ended_only() if chance is None else chance
    spec, out = runtime.algorithm.spec, list[dict[str, Any]]()
    bounds = return_bounds(spec, config.guards)
    for case in cases:
        for fault in case.faults:
            if reason := fault.refuses(spec):
                raise UserError(f"case {case.name!r}, fault {fault.kind!r}: {reason}")
    in_turn = runtime.under_each(state, episodes, [case.faults[0] for case in cases if _is_one_fault(case, spec)], act)
    for case in cases:
        tell(case.name)
        if _is_one_fault(case, spec):
            played = next(in_turn)
        else:
            there = runtime.elsewhere(config.env, case.options) if case.options else runtime
            played = there.evaluate(state, episodes, act, decider=decider_of(runtime.algorithm, case), faults=case.faults)
        returns = played.ended_only()
        out.append({"name": case.name, **summary(returns, bounds), **judged(nominal, returns, chance, config.evaluate.graceful)})
    return out


def _is_one_fault(case: Case, spec: Spec) -> bool:
    """Whether it can be played by a program that plays others too."""
    return len(case.faults) == 1 and not case.options and not case.late and case.faults[0].spec(spec) == spec


def summary(returns: np.ndarray, bounds: Bounds | None = None) -> dict[str, Any]:
    """`[seeds episodes]`"""
    rows = _ended(returns)
    center, ends = interval(rows, bounds=bounds)
    return {"return_iqm": center, "return_ci95": _known(ends), "return_per_seed": [float(r.mean()) for r in rows]}


def _known(ends: Sequence[float]) -> list[float | None]:
    return [None if np.isnan(x) else float(x) for x in ends]


def judged(nominal: np.ndarray, returns: np.ndarray, chance: np.ndarray, bound: float) -> dict[str, Any]:
    """The verdict on a case from returns `[seeds episodes]` without it, in it, and by chance; NaN where an episode did not end."""
    lost, whole, none = _ended(nominal - returns), _ended(nominal), _ended(chance)
    loss, ends = share(lost, whole, none)
    low, high = ends
    graceful = True if high <= bound else False if low > bound else None
    known = np.isfinite(loss)
    span = interval(whole)[0] - interval(none)[0]
    return {
        "loss": loss if known else None,
        "loss_ci95": _known(ends),
        "loss_per_seed": [float(r.mean() / span) for r in lost] if known else None,
        "graceful": graceful,
        "note": "" if graceful is not None else _why_not_shown(len(nominal), bool(known), bool(np.isfinite(low))),
    }


def _span(nominal: np.ndarray, chance: np.ndarray) -> dict[str, Any]:
    """What was learned: undisturbed less chance."""
    center, ends = difference(_ended(nominal), _ended(chance), paired=True)
    return {"span": center, "span_ci95": _known(ends)}


def _why_not_shown(seeds: int, learned: bool, ends: bool) -> str:
    if not learned:
        return "the policy does not return more than chance: train longer"
    if seeds < 2:
        return "one seed has no interval: train with --seeds 5"
    if not ends:
        return "not shown to return more than chance: train longer, or raise evaluate.episodes"
    return "the interval holds the bound: train more seeds, or raise evaluate.episodes"


def evaluate_cases(config: RunConfig, checkpoint: Checkpoint, episodes: int, tell: Tell = lambda name: None) -> dict[str, Any]:
    """A finished run in all its edge cases: the return fields, `chance` (a return with its interval), `graceful_bound` and `cases`; and
    `ood`, how well a gate on what it sees tells what training never touched. The gate is kept in the run's directory."""
    run = checkpoint.path.parent.parent
    with trained(config, checkpoint) as (runtime, state):
        tell("undisturbed")
        act = resolve(runtime, state, config, run)
        judged = judge(runtime, state, episodes, act)
        tell("chance")
        chance, bounds = _by_chance(runtime, state, episodes).ended_only(), return_bounds(runtime.algorithm.spec, config.guards)
        return {
            "run": str(run),
            "env": config.env,
            "step": checkpoint.step,
            "episodes": episodes,
            "seeds": list(runtime.seeds),
            **returns_record(judged, runtime.algorithm.spec, bounds),
            "chance": summary(chance, bounds),
            **_span(judged.episodes.ended_only(), chance),
            "graceful_bound": config.evaluate.graceful,
            "cases": edge_cases(runtime, state, config, episodes, act, nominal=judged.episodes.ended_only(), chance=chance, tell=tell),
            "ood": _gated(runtime, state, config, run, episodes, act, tell),
            "evaluation_faults": dict(runtime.judged.counts),
        }


def _gated(runtime: Player, state: State, config: RunConfig, run: Path, episodes: int, act: Act, tell: Tell) -> dict[str, Any]:
    tell("out of distribution")
    return ood(config, runtime, state, run=run, episodes=episodes, act=act)
