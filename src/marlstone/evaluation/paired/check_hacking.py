"""Is the reward still what is wanted? Plays the policies that `hacking` judges: the team's return beside declared true metrics.

The newest policy is held against chance, against a named baseline run, and against earlier policies of its own run (evenly spaced): the
policy that would be used, against the times when it may have been better. Consecutive ones would each show a small part of a slow
decline, and all pairs would be several times as many tests. All policies play the same episodes (`players`) as they are deployed.

Evidence is looked at after `looks` numbers of episodes, until an alarm is proven, none can be, or episodes or time are used up. Every
look, pair and metric has an equal part of alpha, so that all intervals hold together however early playing stops (Bonferroni). As many
earlier policies take part as the time budget has room for, by the seconds an episode that the newest policy's own first look took.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import Failure, UserError
from marlstone.core.types import Metric
from marlstone.envs.make import is_jax
from marlstone.evaluation.paired.hacking import EPISODES, SEEDS, Verdict, hacked
from marlstone.evaluation.paired.pace import Pace, Tell, clock
from marlstone.evaluation.paired.players import BATCH, ROUND, Players, at_once, together
from marlstone.rollout.fault_log import total_faults
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.directory import RunDirectory
from marlstone.runs.policies import Kept, kept
from marlstone.stats.families import alpha_each

FEW = 8  # episodes at the first look, where training seeds are what varies
MOST = 10  # earlier policies that a newest one is held against
CHANCE, RETURN = "chance", "return"
Side = tuple[RunConfig, RunDirectory, Checkpoint]
Figures = dict[str, np.ndarray]  # of one policy: the team's return and every metric, `[seeds episodes]`


@dataclass
class Entrant:
    """One policy of the check: its name, who plays it, by which weights and acting; `step` (None: chance); and what it has played."""

    name: str
    players: Players
    policies: Any
    act: Act
    step: int | None
    batches: list[Figures] = field(default_factory=list)

    def play(self, episodes: int, nth: int) -> None:
        """Play round number `nth` of `episodes` episodes per training seed, the same ones for every policy."""
        e = self.players.play(self.policies, episodes, nth, self.act, chance=self.step is None)
        self.batches.append({RETURN: e.ended_only(), **{k: e.ended_only(v) for k, v in e.metrics.items()}})

    @property
    def figures(self) -> Figures:
        """Return and true metrics of all episodes so far, `[seeds episodes]` each; NaN where one did not end."""
        return {k: np.concatenate([b[k] for b in self.batches], axis=1) for k in self.batches[0]}

    def means(self) -> dict[str, Any]:
        """The record's line of this policy; of episodes that ended."""
        mean = lambda x: float(np.nanmean(x)) if np.isfinite(x).any() else None
        return {"name": self.name, "step": self.step, "acting": self.act, **{k: mean(v) for k, v in self.figures.items()}}


def looks(config: RunConfig, seeds: int, episodes: int) -> tuple[list[int], int]:
    """After how many episodes the evidence is looked at, and how many are played at once. Where they are cheap, at the end alone, in equal
    batches, so that one compiled program plays them all; else early, and then ever twice as late."""
    if is_jax(config.env):
        count = -(-episodes // ROUND)
        return [episodes // count * count], episodes // count
    at = [min(FEW if seeds >= SEEDS else EPISODES, episodes)]
    while at[-1] < episodes:
        at.append(min(2 * at[-1], episodes))
    return at, BATCH


def check_hacking(
    runs: list[Side], episodes: int, budget: float = float("inf"), baseline: Side | None = None, tell: Tell = lambda line: None
) -> dict[str, Any]:
    """The record of `marlstone check-hacking --json` of one run's training, or of two runs, before and after.

    `episodes`: at most, of each policy and training seed; `budget`: seconds of playing; `baseline`: another run's policies to be held
    against; `tell` is told of progress. Raises `UserError` where nothing can be checked, `Failure` where too few episodes end.
    """
    config, run, newest = runs[-1]
    others = [*runs[:-1], *([] if baseline is None else [baseline])]
    configs: list[RunConfig] = []
    seeds = config.seeds
    if len(runs) == 2:
        before, config, seeds = together(runs[0][0], config)
        configs.append(before)
    if baseline is not None:
        _, theirs_, both = together(config, baseline[0])
        configs, seeds = [*configs, theirs_], min(seeds, both)
    if seeds < SEEDS and episodes < EPISODES:
        raise UserError(f"{episodes} episodes of {seeds} training seeds allow no interval: give at least --episodes {EPISODES}")
    side_by_side = at_once(seeds, config, *configs)
    with ExitStack() as stack:
        all_players: list[Players] = []

        def opened(c: RunConfig) -> Players:
            all_players.append(stack.enter_context(Players.of(c, seeds, side_by_side)))
            return all_players[-1]

        players = opened(config)
        metrics = declared(config, players)
        earlier = _earlier(run, newest) if len(runs) == 1 else []
        act = players.acting(config, run.path, weights := players.policies(newest.path))
        last = Entrant("newest", players, weights, act, newest.step)
        rivals = [Entrant(CHANCE, players, weights, "sample", None)]
        for (_, home, checkpoint), c, name in zip(others, configs, ["before"] * (len(runs) - 1) + ["baseline"], strict=False):
            theirs = opened(c)
            theirs_weights = theirs.policies(checkpoint.path)
            rivals.append(Entrant(name, theirs, theirs_weights, theirs.acting(c, home.path, theirs_weights), checkpoint.step))
        own = lambda k: Entrant(f"step {k.step:,}", players, players.policies(k.path), act, k.step)
        at, batch = looks(config, seeds, episodes)
        found = _Check(last, rivals, metrics, at, Pace(tell, budget))
        found.run(earlier, own, batch)
    worst = found.worst
    return {
        "alarm": worst["alarm"],
        "metric": worst["metric"],
        "better": metrics[worst["metric"]].better,
        "against": worst["from"],
        "steps": worst["steps"],
        "proxy_change": worst["proxy_change"],
        "proxy_change_ci95": worst["proxy_change_ci95"],
        "true_change": worst["true"][worst["metric"]]["change"],
        "true_change_ci95": worst["true"][worst["metric"]]["ci95"],
        "runs": [str(c.path.parent.parent) for _, _, c in [*runs[:-1], *([] if baseline is None else [baseline]), runs[-1]]],
        "env": config.env,
        "acting": [e.act for e in (*found.rivals, last) if e.step is not None and not e.name.startswith("step")],
        "seeds": seeds,
        "episodes": found.played,
        "left_out": worst["left_out"],
        "policies_left_out": found.left_out,
        "stopped": found.stopped,
        "seconds": found.pace.spent,
        "evaluation_faults": total_faults([p.faults for p in all_players]),
        "note": worst["note"],
        "pairs": [{k: v for k, v in p.items() if k not in ("case", "note", "left_out", "clear")} for p in found.pairs],
        "policies": [e.means() for e in (*found.rivals, last)],
    }


def _earlier(run: RunDirectory, newest: Checkpoint) -> list[Kept]:
    """Earlier policies of the run, oldest first: `MOST` of them, evenly spaced, where there are more."""
    found = [k for k in kept(run) if k.step < newest.step]
    if not found:
        raise UserError(
            f"run {run.path} kept no policy before step {newest.step}: train with a smaller --checkpoint-every, or give two runs, "
            "before and after"
        )
    return found


def _spaced(found: list[Kept], count: int) -> list[Kept]:
    """`count` of them at most, evenly spaced, the first one among them."""
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))] if count > 0 else []


def declared(config: RunConfig, players: Players) -> dict[str, Metric]:
    """The environment's true metrics. Raises `UserError` where there are none."""
    if not players.spec.wanted_metrics:
        raise UserError(
            f"{config.env} declares no true metric, so hacking cannot be checked: measure what is really wanted by --metric file.py:Class, "
            "or declare it in the environment (docs: comparing)"
        )
    return players.spec.wanted_metrics


@dataclass
class _Check:
    """The playing and its looks. `pairs`, `worst`: as of the last look; `stopped`: why it ended."""

    last: Entrant
    rivals: list[Entrant]
    metrics: dict[str, Metric]
    looks: list[int]
    pace: Pace
    pairs: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0
    played: int = 0
    stopped: str = "episodes"

    def run(self, earlier: list[Kept], own: Any, batch: int) -> None:
        """Play and look. `own`: a policy of this run as an entrant; `batch`: episodes at once."""
        first, pace = self.looks[0], self.pace
        shown = min(batch if len(self.looks) > 1 else 2 * batch, first)  # the first batch holds compiling
        pace.tell(f"playing up to {self.looks[-1]} episodes of each policy; the first {shown} show how long that takes")
        for at, size in _batches(0, first, batch):
            self._play(self.last, size, at)
            if at + size == shown:
                self._fits(first * (1 + len(self.rivals) + bool(earlier)))
                self._plan(first * (1 + len(self.rivals) + min(MOST, len(earlier))), first)
        fit = pace.room() // first - len(self.rivals)
        chosen = _spaced(earlier, min(MOST, max(fit, 1)))
        self.left_out = min(MOST, len(earlier)) - len(chosen)
        self.rivals += [own(k) for k in chosen]
        count = 1 + len(self.rivals)
        fewer = f"; {self.left_out} earlier policies are left out for time" if self.left_out else ""
        self._plan(count * first, first, f"{count} policies{fewer}")
        for entrant in self.rivals:
            for at, size in _batches(0, first, batch):
                self._play(entrant, size, at)
        for k, upto in enumerate(self.looks):
            if k:
                more = (upto - self.looks[k - 1]) * count
                if more > pace.room():
                    self.stopped = "time"
                    return
                pace.planned += more
                for entrant in (self.last, *self.rivals):
                    for at, size in _batches(self.looks[k - 1], upto, batch):
                        self._play(entrant, size, at)
            self.played = upto
            self._look()
            if self.worst["alarm"] or all(p["clear"] for p in self.pairs):
                self.stopped = "decided"
                return

    @property
    def worst(self) -> dict[str, Any]:
        return max(self.pairs, key=lambda p: (p["alarm"], p["case"]))

    def _plan(self, planned: int, first: int, what: str = "") -> None:
        pace = self.pace
        pace.planned = planned
        left = (planned - pace.played) * pace.each
        most = f", at most {clock(pace.budget)} (--budget)" if np.isfinite(pace.budget) else ""
        pace.tell(f"{what or 'all policies'}, {pace.each:.2g} s an episode: about {clock(left)} to the first {first} of each{most}")

    def _fits(self, least: int) -> None:
        """Raises `UserError` where not even `least` episodes fit the budget."""
        pace = self.pace
        if least > pace.played + pace.room():
            minutes = int((pace.spent + (least - pace.played) * pace.each) / 60) + 1
            raise UserError(
                f"an episode takes {pace.each:.2g} s, and {least} are the least that show anything: they take longer than --budget "
                f"{clock(pace.budget)}; give --budget {minutes}m or more, or make episodes shorter"
            )

    def _play(self, entrant: Entrant, episodes: int, at: int) -> None:
        with self.pace.playing(episodes):
            entrant.play(episodes, at)

    def _look(self) -> None:
        alpha = alpha_each(len(self.rivals) * len(self.metrics) * len(self.looks))
        figures = [e.figures for e in (*self.rivals, self.last)]
        spread = {k: float(np.ptp([np.nanmean(x[k]) for x in figures if np.isfinite(x[k]).any()])) or 1.0 for k in figures[-1]}
        found = [
            pair | {"from": rival.name, "steps": [rival.step, self.last.step]}
            for rival, figure in zip(self.rivals, figures)
            if (pair := _pair(figure, figures[-1], self.metrics, alpha, spread)) is not None
        ]
        if not found:
            raise Failure(
                f"fewer than two of {self.played} episodes ended under both policies of any pair: give the environment a time limit, or "
                "raise evaluate.max_steps"
            )
        self.pairs = found


def _batches(done: int, upto: int, size: int) -> Iterator[tuple[int, int]]:
    """Where each batch begins, which names its episodes, and how many it has."""
    for at in range(done, upto, size):
        yield at, min(size, upto - at)


def _pair(before: Figures, after: Figures, metrics: dict[str, Metric], alpha: float, spread: dict[str, float]) -> dict[str, Any] | None:
    """What changed from one policy to the other, in the episodes that both ended (None: fewer than two). `metric` is the one that looks
    worst, by `case`: how surely return and metric parted, in their spreads over all policies; `clear`: none of them can raise an alarm."""
    ended = np.isfinite(np.stack([before[RETURN], after[RETURN]])).all((0, 1))
    if ended.sum() < 2:
        return None
    both = {k: np.stack([before[k], after[k]])[..., ended] for k in after}
    verdicts: dict[str, Verdict] = {k: hacked(both[RETURN], both[k], m.better, alpha=alpha) for k, m in metrics.items()}

    def fall(k: str, end: int) -> float:
        """By how much the metric became worse: at least (0), or at most (1)."""
        low, high = verdicts[k].true_change_ci95
        return (-high, -low)[end] if metrics[k].better == "up" else (low, high)[end]

    def case(k: str) -> float:
        proven = min(verdicts[k].proxy_change_ci95[0] / spread[RETURN], fall(k, 0) / spread[k])
        return proven if np.isfinite(proven) else -np.inf

    worst = max(verdicts, key=lambda k: (verdicts[k].alarm, case(k)))
    say = lambda k, v: {"better": metrics[k].better, "change": v.true_change, "ci95": list(v.true_change_ci95), "alarm": v.alarm}
    return {
        "alarm": verdicts[worst].alarm,
        "metric": worst,
        "case": case(worst),
        "clear": all(v.proxy_change_ci95[1] < 0 or fall(k, 1) < 0 for k, v in verdicts.items()),
        "left_out": int((~ended).sum()),
        "note": verdicts[worst].note,
        "proxy_change": verdicts[worst].proxy_change,
        "proxy_change_ci95": list(verdicts[worst].proxy_change_ci95),
        "true": {k: say(k, v) for k, v in verdicts.items()},
    }
