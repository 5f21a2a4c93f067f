"""`marlstone trim RUN --loss 0.01 --out RUN`: what a finished run can do without, proven, and the run that does without it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.cost.prices import PriceTable
from marlstone.evaluation.episode_log import Log, open_log
from marlstone.evaluation.messages.traffic import per_step
from marlstone.evaluation.paired.players import keys_of
from marlstone.evaluation.trim import candidates as could_go
from marlstone.evaluation.trim.activity import importance, unmeasured
from marlstone.evaluation.trim.candidates import Candidate, observed_bytes, own_leaves
from marlstone.evaluation.trim.from_log import Logged
from marlstone.evaluation.trim.loss import loss_of
from marlstone.evaluation.trim.networks import Networks
from marlstone.evaluation.trim.new_run import acting, acting_flops, refuse_taken, write_run
from marlstone.evaluation.trim.prices import shares, spent
from marlstone.evaluation.trim.removals import KINDS, Removals, config_without
from marlstone.evaluation.trim.search import FINAL, Found, Search, Tell, largest, whole_of
from marlstone.evaluation.trim.trials import Masked, Trials
from marlstone.play.counted import Counted
from marlstone.play.episodes import together
from marlstone.play.judging import refuse_none, resolve
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.directory import RunDirectory
from marlstone.training.backend import Backend
from marlstone.training.trained import trained

FIRST_ROUND, ROUNDS = 1000, 3  # of paired episodes; each trim of a trimmed run plays others
TOLD = ("removed", "saved_share", "return_difference", "return_difference_ci95", "loss", "loss_ci95")  # in the new run's record
LOOKED_AT = 16  # episodes of each seed on which units are judged important


def trim(
    config: RunConfig, checkpoint: Checkpoint, *, bound: float, episodes: int, out: Path | None = None,
    kinds: Sequence[str] = KINDS, log: Path | None = None, prices: PriceTable | None = None, tell: Tell = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """The record: what could go (`candidates`), what went (`removed`), and what that saves and loses. Writes the run `out` where anything
    went (None: writes nothing).

    Args: `bound`: the share of what was learned (as deployed less chance) that may be lost, at the interval's worse end; `episodes`: of
    each training seed and round; `kinds` of removals; `log`: episodes on which candidates change no decision, or are none (`logged`, and
    without `out` that is all: nothing is played); `prices`: what is saved is weighed by.
    Raises `UserError` for a log of another run, or an `out` that is there already.
    """
    run, prices = RunDirectory(checkpoint.path.parent.parent), prices or PriceTable.shipped()
    if out is not None:
        refuse_taken(out)
    before = (run.record() or {}).get("trimmed_from") or {}
    first, times = FIRST_ROUND + ROUNDS * before.get("times", 0), before.get("times", 0)
    with ExitStack() as opened:
        runtime, state = opened.enter_context(trained(config, checkpoint))
        act = resolve(runtime, state, config, run.path)
        logs = None if log is None else open_log(log)
        networks, notes = _networks(runtime, state, config, act, kinds, logs, tell)
        record: dict[str, Any] = {
            "run": str(run.path), "env": config.env, "step": checkpoint.step, "acting": act, "seeds": list(runtime.seeds), "bound": bound,
            "episodes": episodes, "kinds": list(kinds), "notes": notes,
            "prices": prices.identity,
        }  # fmt: skip
        unchanged = None
        if logs is not None:
            tell(f"deciding once more on {log}")
            logged = Logged.of(runtime.algorithm, networks, logs, runtime.seeds, act)
            judged = logged.judged(_on_log(logged, config, kinds))
            record |= {"log": str(log), "logged": judged}
            if out is None:
                return record | _nothing("judged on logged episodes alone: give --out, and what changed no decision is played")
            unchanged = {(x["kind"], x["name"]) for x in judged if not x["changed"]}
        trials = Trials(runtime, networks, episodes, act, lambda nth: keys_of(len(runtime.seeds), nth), config.toolbox)
        search = Search(trials, bound, prices, tell, first, _coarsely(config, networks, trials, kinds, opened), _leaves(networks, config))
        tell("as deployed")
        refuse_none(trials.whole(first))
        listed = [c for c in _candidates(trials, config, kinds, first) if unchanged is None or (c.kind, c.name) in unchanged]
        found = search.alone(listed)
        kept = search.together(found)
        kept += search.coarser(kept)
        whole, chance = trials.whole(first + FINAL), trials.chance(first + FINAL)
        flops = acting_flops(runtime, state)
        observed = observed_bytes([a.fuse for a in networks.actors], config)
    record["candidates"] = [f.record() for f in found]
    if not kept:
        return record | _nothing("nothing that could go was found" if not found else _why(found))
    removed, gone = largest(kept), whole_of(kept)
    changed = config_without(config, gone)
    tell("the whole as it would be deployed, on episodes that selected nothing")
    with acting(changed, networks.cut(gone), checkpoint.step // config.steps_per_update) as (after, smaller):
        play = after.evaluator(episodes, act, decider=Counted(Masked(after.algorithm, changed.toolbox)))
        played = play(_unmasked(after, smaller), keys_of(len(after.seeds), first + FINAL), act)
        loss = loss_of(whole.ended_only(), played.ended_only(), chance.ended_only(), bound)
        actors = after.algorithm.architecture.actors(after.algorithm.spec)
        left = spent(played, acting_flops(after, smaller), observed_bytes([a.fuse for a in actors], changed))
        record |= {**loss.record(), **shares(spent(whole, flops, observed), left, prices)}
        if not loss.within(bound):
            tried = ", ".join(f.candidate.name for f in removed)
            return record | _nothing(f"together ({tried}) the loss is not shown to be within {bound:.3g}: raise --episodes, or --loss")
        record |= {"removed": [f.record() for f in removed], "why": "", "out": None}
        if out is not None:
            tell(f"writing {out}")
            told = {"run": str(run.path), "step": checkpoint.step, "times": times + 1, "bound": bound}
            told |= {k: record[k] for k in TOLD}
            new = write_run(out, changed, run, checkpoint, after, smaller, act, told)
            record |= {"out": new["run"], "returns_after": {k: new[k] for k in ("return_iqm", "return_ci95", "return_worst_seed")}}
    return record


def _unmasked(runtime: Backend, state: State) -> Any:
    """A state's policies, as `Masked` takes them, with nothing masked."""
    each = len(runtime.seeds)
    never = tuple(np.zeros((each, g.count, g.space.width), bool) for g in runtime.algorithm.spec.groups)
    return state.train.policy, runtime.placement.pad(never)


def _nothing(why: str) -> dict[str, Any]:
    none = {"saved_share": 0.0, "return_difference_ci95": [None, None]}
    return {"removed": [], "why": why, "out": None, **none}


def _why(found: Sequence[Found]) -> str:
    if all(f.loss.record()["loss"] is None for f in found):
        return "the policies are not shown to return more than chance, so no loss can be a share of that: train longer, or raise --episodes"
    return "no removal is shown to lose so little: raise --episodes, or --loss"


def _networks(
    runtime: Backend, state: State, config: RunConfig, act: Act, kinds: Sequence[str], log: Log | None, tell: Tell
) -> tuple[Networks, list[str]]:
    """The policies' networks, and how important their units are, where that is asked and can be said; else a note why."""
    algorithm = runtime.algorithm
    policies = jax.device_get(runtime.placement.trim(state.train.policy))
    actors = algorithm.architecture.actors(algorithm.spec)
    numbers = "messages" in kinds and config.comms.speaks and config.comms.message != "symbols"
    if not (numbers or "units" in kinds):
        return Networks(actors, policies, tuple({} for _ in actors)), []
    if why := unmeasured(actors):
        return Networks(actors, policies, tuple({} for _ in actors)), [f"units and message numbers are not judged: {why}"]
    tell("which units matter")
    if log is not None:
        played = [log.trajectories[s] for s in runtime.seeds if s in log.trajectories]
        if len(played) == len(runtime.seeds):  # else it is refused as a whole
            return Networks(actors, policies, importance(actors, policies, played, config.comms)), []
    width = min(LOOKED_AT, config.rollout.envs)
    play = runtime.player(width, act)
    rounds = [play(state, nth) for nth in range(-(-LOOKED_AT // width))]
    played = [jax.device_get(together([r[i] for r in rounds])) for i in range(len(runtime.seeds))]
    return Networks(actors, policies, importance(actors, policies, played, config.comms)), []


def _candidates(trials: Trials, config: RunConfig, kinds: Sequence[str], first: int) -> list[Candidate]:
    networks, played, out = trials.networks, trials.whole(first), list[Candidate]()
    measured = all(networks.silent)
    if "links" in kinds and config.comms.speaks:
        out += could_go.links(per_step(played, "messages"), per_step(played, "bits"), trials.agents)
    if "calls" in kinds:
        out += could_go.calls(played, trials.runtime.algorithm, trials.box)
    if "leaves" in kinds:
        out += could_go.leaves(networks, config)
    if "messages" in kinds and config.comms.speaks and measured:
        out += could_go.numbers(networks, config.comms, float(per_step(played, "bits").sum()))
    if "units" in kinds and measured:
        out += could_go.units(networks)
    return out


def _on_log(logged: Logged, config: RunConfig, kinds: Sequence[str]) -> list[Candidate]:
    """As `_candidates`, of what a log shows: calls that nobody answers are in none."""
    networks, out, talks = logged.networks, list[Candidate](), config.comms.speaks
    if "links" in kinds and talks:
        out += could_go.links(logged.per_step(1), logged.per_step(2), logged.algorithm.spec.team.agents)
    if "leaves" in kinds:
        out += could_go.leaves(networks, config)
    if "messages" in kinds and talks and all(networks.silent):
        out += could_go.numbers(networks, config.comms, float(logged.per_step(2).sum()))
    if "units" in kinds and all(networks.silent):
        out += could_go.units(networks)
    return out


def _leaves(networks: Networks, config: RunConfig) -> tuple[frozenset[str], ...]:
    groups = [a.fuse.group for a in networks.actors]
    return tuple(frozenset(f"{g.name}:{k}" for k in own_leaves(g, config)) for g in groups)


def _coarsely(
    config: RunConfig, networks: Networks, trials: Trials, kinds: Sequence[str], opened: ExitStack
) -> Callable[[float], Trials] | None:
    """Trials of the same policies over messages of larger quantization steps; None where nothing is quantized."""
    if "messages" not in kinds or not config.comms.speaks or config.comms.message != "dithered":
        return None

    def made(factor: float) -> Trials:
        there = config_without(config, Removals(coarser=factor))
        runtime, _ = opened.enter_context(acting(there, networks.policies, 0))
        return Trials(runtime, networks, trials.episodes, trials.act, trials.keys, trials.box)

    return made
