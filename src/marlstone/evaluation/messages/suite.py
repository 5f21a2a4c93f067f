"""`marlstone evaluate RUN --suite messages`: what messages cost as deployed, what each link is worth, and who asks instead of acting."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.acting import Act
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.evaluation.messages.chatter import chatter_record
from marlstone.evaluation.messages.links import LinkJudge, Tell
from marlstone.evaluation.messages.traffic import by_budget, refused_share, traffic_record
from marlstone.play.action_selectors import Alone, Chance
from marlstone.play.counted import Counted
from marlstone.play.episodes import LINKS
from marlstone.play.evaluator import Episodes
from marlstone.play.judging import refuse_none
from marlstone.rollout.state import State
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.directory import RunDirectory
from marlstone.stats.intervals import interval
from marlstone.training.backend import Backend
from marlstone.training.record import name_of
from marlstone.training.trained import judged_record, trained


def evaluate_messages(config: RunConfig, checkpoint: Checkpoint, episodes: int, tell: Tell = lambda name: None) -> dict[str, Any]:
    """The record of a finished run: the return fields and those of `messages_record`. Alarms become events of the run's store. Raises
    `UserError` where nobody talks and no group declares requests."""
    with trained(config, checkpoint) as (runtime, state):
        refuse_silence(config, runtime.algorithm.spec)
        tell("undisturbed")
        record, act = judged_record(runtime, state, config, checkpoint, episodes)
        record |= messages_record(runtime, state, config, episodes, act, tell)
        seeds = runtime.seeds
    with RunDirectory(checkpoint.path.parent.parent).store() as store:
        for words in record["chatter_alarms"]:
            store.event(checkpoint.step, seeds[0], "chatter", words, 1)
        for name, values in _by_seed(record):
            for seed, x in zip(seeds, values, strict=True):
                store.add(checkpoint.step, seed, {f"deployed/{name}": x})
    return record


def _by_seed(record: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """What the store keeps: messages and bits per joint step, in all and, of teams that are not too large, by link; a value per seed."""
    for name in ("messages_per_step", "bits_per_step"):
        if f"{name}_per_seed" in record:
            yield name, record[f"{name}_per_seed"]
            for x in record["sent"] if len(record["agents"]) <= LINKS else ():
                yield f"{name}/{x['sender']}>{x['recipient']}", x[f"{name}_per_seed"]


def refuse_silence(config: RunConfig, spec: Spec) -> None:
    """Raises `UserError` where there is nothing to count: no channel, and no requests."""
    if not config.comms.speaks and not any(g.requests for g in spec.groups):
        raise UserError(
            "--suite messages: nobody talks in this run, and no group declares requests: train with --comms broadcast, or declare which "
            "actions ask instead of acting (docs: messages)"
        )


def messages_record(runtime: Backend, state: State, config: RunConfig, episodes: int, act: Act, tell: Tell) -> dict[str, Any]:
    """`comms`; where agents talk `messages_per_step bits_per_step bits_p95 agents refused unenforced budgets sent` and the fields of
    `LinkJudge.record`; and of `chatter_record`."""
    tell("messages as deployed")
    agents, channel = runtime.algorithm.spec.team.agents, runtime.algorithm.channel
    played = counted(runtime, state, episodes, act)
    out: dict[str, Any] = {"comms": name_of(config.comms), "budget_bits": list(channel.budget_bits)}
    if channel.speaks:
        sent = _sent(played, agents)
        out |= traffic_record(played, agents)
        for name, of in (("messages_per_step", "messages"), ("bits_per_step", "bits")):
            out[f"{name}_per_seed"] = _per_seed(played, of).sum((-1, -2)).tolist()
        out |= {"refused": 0.0, "unenforced": None, "budgets": by_budget(played, channel.budget_bits), "sent": sent}
        if channel.budget_bits and channel.enforce:
            tell("without enforcing the budget")
            out |= _unenforced(runtime, state, episodes, act, played, agents)
        tell("chance")
        chance = runtime.evaluate(state, episodes, decider=Chance(runtime.algorithm)).ended_only()
        judge = LinkJudge(runtime, state, episodes, act, played.ended_only(), chance, tell).record()
        mean = {(x["sender"], x["recipient"]): x for x in sent}
        figures = ("messages_per_step", "bits_per_step")
        judge["links"] = [x | {k: mean[x["sender"], x["recipient"]][k] for k in figures} for x in judge["links"]]
        judge["senders"] = [x | {k: out["agents"][x["sender"]][k] for k in figures} for x in judge["senders"]]
        out |= judge
    return out | chatter_record(played, agents, config.evaluate.chatter)


def counted(runtime: Backend, state: State, episodes: int, act: Act) -> Episodes:
    """Whole episodes as deployed, with what `play.counted` counts of them."""
    played: Episodes = runtime.evaluate(state, episodes, act, decider=Counted(Alone(runtime.algorithm)))
    refuse_none(played)
    return played


def _per_seed(played: Episodes, name: str) -> np.ndarray:
    """Per joint step, seed by seed, `[seeds ...]`."""
    pairs = zip(played.per_seed(played.told[name]), played.per_seed(played.length), strict=True)
    return np.stack([(x / t.reshape(-1, *(1,) * (x.ndim - 1))).mean(0) for x, t in pairs])


def _sent(played: Episodes, agents: tuple[str, ...]) -> list[dict[str, Any]]:
    """Of every link `sender recipient`, messages and bits per joint step, and by training seed."""
    each = {"messages_per_step": _per_seed(played, "messages"), "bits_per_step": _per_seed(played, "bits")}
    return [
        {"sender": s, "recipient": r, **{k: float(x[:, i, j].mean()) for k, x in each.items()},
         **{f"{k}_per_seed": x[:, i, j].tolist() for k, x in each.items()}}
        for i, s in enumerate(agents) for j, r in enumerate(agents) if i != j
    ]  # fmt: skip


def _unenforced(runtime: Backend, state: State, episodes: int, act: Act, enforced: Episodes, agents: tuple[str, ...]) -> dict[str, Any]:
    """What the policy sends where nobody holds it to its budget, and the share of messages that enforcing refuses (None where the channel
    keeps messages back by itself: then nobody knows which of the two it was)."""
    algorithm = runtime.algorithm
    free: Any = replace(runtime, algorithm=replace(algorithm, channel=replace(algorithm.channel, enforce=False)))  # type: ignore[type-var]
    played = counted(free, state, episodes, act)
    refused, each = refused_share(enforced)
    known = not algorithm.channel.random
    traffic = traffic_record(played, agents)
    return {
        "refused": refused if known else None,
        "refused_by_agent": dict(zip(agents, each, strict=True)) if known else None,
        "unenforced": {
            **traffic,
            "return": float(interval(played.per_seed())[0]),
            "budgets": by_budget(played, algorithm.channel.budget_bits),
        },
    }
