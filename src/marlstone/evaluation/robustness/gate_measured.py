"""What a gate is good for, measured: alarms on fresh familiar episodes, alarms on what training never touched, and what either costs.

Everything is counted per episode, over all agents: an alarm is an episode in which anybody was outside in any decision. With
and without the gate the same episodes are played, by one compiled program (`gated.off`), so that returns compare in pairs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.records import replace
from marlstone.envs.faults import Fault
from marlstone.evaluation.robustness.gate import RATE, figures_of, fit_gate, kept_at, kept_gate
from marlstone.evaluation.robustness.novelty import NOVELTIES
from marlstone.play.action_selectors import Alone, Decider
from marlstone.play.gated import Gated, Guarded
from marlstone.play.player import Player
from marlstone.policy.gate import Fallback, Gate, off
from marlstone.rollout.state import State
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line
from marlstone.stats.intervals import interval

EPISODES = 64  # of each seed, for each figure


def alarm_rate_ci95(alarms: np.ndarray) -> list[float]:
    """Clopper & Pearson's (1934) exact interval over all episodes: for these gates, not for gates calibrated anew."""
    from scipy import stats  # a second to import

    found = stats.binomtest(int(alarms.sum()), alarms.size).proportion_ci()
    return [float(found.low), float(found.high)]


def measure_gate(
    runtime: Player, state: State, gate: Gate, *, novel: Mapping[str, tuple[Fault, ...]] | None = None,
    shifted: Mapping[str, str] | None = None, fallback: Fallback = "default", baseline: tuple[Decider, Any] | None = None,
    episodes: int = EPISODES, act: Act = "mode",
) -> dict[str, Any]:  # fmt: skip
    """The figures of `gate`, stacked `[seeds ...]`, on fresh episodes, then under `novel` faults (default `NOVELTIES`) and in `shifted`
    environments, name -> `source:name?option=value`, of the same groups.

    `baseline`: who decides in its place, and by what, stacked `[seeds ...]`. Returns `false_alarm_rate` and its `ci95`, `outside` (the part
    of decisions taken by the fallback) and `asked` (questions per episode) there, `return_gated`, `return_ungated` (IQM over seeds),
    `detection_rate`, the mean over `kinds`, and of each of those the same figures. Raises `UserError` where an environment does not fit.
    """
    novel = NOVELTIES if novel is None else novel
    policies = runtime.placement.trim(state.train.policy)
    by, with_ = (None, ()) if baseline is None else baseline
    decider = Gated(Alone(runtime.algorithm), fallback, by)
    pad, guarded = runtime.placement.pad, Guarded(policies, gate, with_)

    def tried(where: Any, faults: tuple[Fault, ...] = ()) -> dict[str, Any]:
        play = where.evaluator(episodes, act, decider=decider, faults=faults)
        on, without = play(pad(guarded)), play(pad(replace(guarded, gate=off(gate))))
        alarms = np.asarray(on.told["outside"]) > 0
        decisions = float(np.sum(on.length)) * runtime.algorithm.spec.n
        center = lambda played: interval(played.per_seed())[0]
        return {
            "rate": float(alarms.mean()),
            "rate_ci95": alarm_rate_ci95(alarms),
            "rate_per_seed": alarms.mean(1).tolist(),
            "outside": float(np.sum(on.told["outside"])) / max(decisions, 1),
            "asked": float(np.mean(on.told["asked"])),
            "return_gated": center(on),
            "return_ungated": center(without),
        }

    familiar = tried(runtime)
    kinds = {name: tried(runtime, faults) for name, faults in novel.items()}
    kinds |= {name: tried(runtime.elsewhere(env)) for name, env in (shifted or {}).items()}
    named = lambda prefix, found: {k.replace("rate", prefix): v for k, v in found.items() if k.startswith("rate")}
    rest = lambda found: {k: v for k, v in found.items() if not k.startswith("rate")}
    return {
        **named("false_alarm_rate", familiar),
        **rest(familiar),
        "detection_rate": float(np.mean([k["rate"] for k in kinds.values()])) if kinds else None,
        "kinds": {name: {**named("detection_rate", found), **rest(found)} for name, found in kinds.items()},
    }


def ood(
    config: RunConfig,
    runtime: Player,
    state: Any,
    *,
    run: Path | None = None,
    rate: float = RATE,
    episodes: int | None = None,
    act: Act = "mode",
    **more: Any,
) -> dict[str, Any]:
    """The record's `ood`: gates fitted to a run's policies, measured; `declared_rate` beside. `run`: the directory that keeps gates and
    figures, from which `gate.gated` gives them to policy artifacts. `more`: as `measure_gate` takes it."""
    gate = fit_gate(runtime, state, rate=rate, act=act) if run is None else kept_gate(run, runtime, state, rate=rate, act=act)
    measured = measure_gate(runtime, state, gate, episodes=episodes or config.evaluate.episodes, act=act, **more)
    found = {"declared_rate": rate, **measured}
    if run is not None:
        write_atomic(figures_of(kept_at(run, runtime, state, rate=rate, act=act)), f"{one_line(found)}\n".encode())
    return found
