"""Which of two runs' final policies returns more? Both play the same episodes as they are deployed; what counts is each difference.

    x_e = mean over training seeds i of  R(policy i of the first, episode e) - R(policy i of the second, episode e)

The interval is a confidence sequence for the mean of x (`stats.sequences`): it holds at every episode at once, so that playing goes on in
rounds until 0 lies outside, and stopping there costs nothing. It needs bounds. Declared, as the least and the greatest team return
an episode can have, they cost no evidence. Otherwise the first round shows them: no difference is taken to be wider than the widest
spread of returns met there; that round is then no evidence, and what lies outside later is clipped and counted, so that the interval
is of clipped differences. Declared true metrics are compared in the same way, and playing goes on until they are decided too; they share
an alpha of their own, as agents' own returns do. Both are always bounded by their first round.
"""

from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.types import Metric
from marlstone.evaluation.paired.pace import Pace, Tell, clock
from marlstone.evaluation.paired.players import ALPHA, Artifact, Evidence, Players, at_once, home, rounds, together
from marlstone.play.evaluator import Episodes
from marlstone.rollout.fault_log import total_faults
from marlstone.runs.checkpoint import Checkpoint
from marlstone.stats.families import alpha_each

Side = tuple[RunConfig, Checkpoint | Artifact]


class Figure:
    """One figure of both sides' episodes: evidence of its difference, and each side's mean over the episodes that ended."""

    def __init__(self, alpha: float, span: float | None = None) -> None:
        self.evidence = Evidence(alpha, span)
        self.values: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count another round: both sides' values of the same episodes, NaN where one did not end."""
        self.evidence.add(first, second)
        for kept, new in zip(self.values, (first, second), strict=True):
            kept.append(np.asarray(new, float).ravel())

    def record(self) -> dict[str, Any]:
        """Both sides' means, and the difference with its interval."""
        known = [x[np.isfinite(x)] for x in map(np.concatenate, self.values)]
        return {"means": [float(x.mean()) if x.size else None for x in known], **self.evidence.record()}

    def better(self, metric: Metric) -> int | None:
        """Which side is better, 0 or 1, by the metric's direction; None: undecided."""
        low, high = self.evidence.ci
        sign = 1 if metric.better == "up" else -1
        return 0 if sign * low > 0 and sign * high > 0 else 1 if sign * low < 0 and sign * high < 0 else None


def compare(
    first: Side, second: Side, episodes: int, bounds: tuple[float, float] | None = None,
    budget: float = float("inf"), tell: Tell = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """The record of `marlstone compare --json`: the first run less the second, per episode.

    `episodes`: at most, of each training seed; `bounds`: the least and the greatest team return; `budget`: seconds of playing; `tell` is
    told of progress. Raises `UserError` for different environments.
    """
    (a, at), (b, bt) = first, second
    a, b, seeds = together(a, b)
    side_by_side = at_once(seeds, a, b)
    count, each = rounds(episodes, a, b)
    team, pace, stopped = Figure(ALPHA, None if bounds is None else bounds[1] - bounds[0]), Pace(tell, budget), "episodes"
    with Players.of(a, seeds, side_by_side, at) as ours, Players.of(b, seeds, side_by_side, bt) as theirs:
        names = [n for n in ours.spec.team.agents if n in theirs.spec.team.agents]
        metrics = ours.spec.wanted_metrics
        own = {n: Figure(alpha_each(len(names))) for n in names}
        true = {k: Figure(alpha_each(len(metrics))) for k in metrics}
        left, right = ours.policies(at.path), theirs.policies(bt.path)
        acts = [ours.acting(a, home(at), left), theirs.acting(b, home(bt), right)]
        place = lambda side: [side.spec.agents.index(n) for n in names]
        played, pace.planned = 0, 2 * count * each
        tell(f"playing up to {count * each} episodes of both runs; the first {each} show how long that takes")
        for nth in range(count):
            if nth and 2 * each > pace.room():
                stopped = "time"
                break
            with pace.playing(each):
                x: Episodes = ours.play(left, each, nth, acts[0])
            with pace.playing(each):
                y: Episodes = theirs.play(right, each, nth, acts[1])
            played += each
            team.add(x.ended_only(), y.ended_only())
            for k, figure in true.items():
                figure.add(x.ended_only(x.metrics[k]), y.ended_only(y.metrics[k]))
            for n, i, j in zip(names, place(ours), place(theirs), strict=True):
                own[n].add(x.ended_only(x.agent_return[..., i]), y.ended_only(y.agent_return[..., j]))
            if all(f.evidence.x and f.evidence.decided for f in (team, *true.values())):
                stopped = "decided"
                break
            if nth == 0:
                left_ = (pace.planned - pace.played) * pace.each
                tell(f"{pace.each:.2g} s an episode: at most {clock(min(left_, budget))} to go, less if it is decided before")
    evidence = team.evidence
    low, high = evidence.ci
    return {
        "runs": [str(home(c)) for c in (at, bt)],
        "steps": [at.step, bt.step],
        "acting": acts,
        "env": a.env,
        "seeds": seeds,
        "episodes": played,
        "counted": int(evidence.all.size),
        "stopped": stopped,
        "seconds": pace.spent,
        "evaluation_faults": total_faults([ours.faults, theirs.faults]),
        **team.record(),
        "better": 0 if low > 0 else 1 if high < 0 else None,
        "bounds": [-float(evidence.span or 0), float(evidence.span or 0)],
        "bounds_declared": bounds is not None,
        "clipped": evidence.clipped,
        "true_metrics": {k: {**f.record(), "direction": metrics[k].better, "better": f.better(metrics[k])} for k, f in true.items()},
        "agents": {n: f.record() for n, f in own.items()},
    }
