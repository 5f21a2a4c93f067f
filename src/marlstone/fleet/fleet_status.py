"""What is known of a fleet: its status as JSON, its figures in the metrics store and in the record, and why nothing moves."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from marlstone.fleet.member import Member
from marlstone.runs.store import SUPERVISION

HELD = 1.0  # seconds after which a lock's holder is what others wait for
STILL = 5.0  # seconds without any progress that need a reason
Json = dict[str, Any]


def lag(m: Member, seeds: Sequence[Json]) -> int | None:
    """Versions that an actor's policy is behind; None before it has one. `seeds`: the broker's facts."""
    version = m.facts().version
    return max(0, seeds[m.post.index]["version"] - version) if m.post and version >= 0 else None


def straggling(rates: np.ndarray) -> float:
    """How much longer the slowest actors take for a step than the usual one: p99 over median of seconds per step."""
    seconds = 1 / rates[rates > 0]
    return float(np.quantile(seconds, 0.99) / np.median(seconds)) if seconds.size else 1.0


def member_status(m: Member, seeds: Sequence[Json]) -> Json:
    """One member's line in the status."""
    facts = m.facts()
    return {
        "name": m.name, "seed": m.seed, "node": m.child and m.child.node, "pid": m.child and m.child.pid,
        "doing": facts.doing if m.child else f"down, starts in {max(0.0, m.due - time.monotonic()):.1f} s",
        "since_seconds": facts.seconds, "heartbeat_seconds": facts.silent + (m.child.unheard() if m.child else 0.0),
        "held": m.held_since is not None, "version": facts.version, "lag": lag(m, seeds), "steps": facts.steps,
        "steps_per_second": m.rate, "lives": m.life + 1, "environment": facts.env, "episode_seed": facts.scenario,
    }  # fmt: skip


def why_still(still: float, members: Sequence[Json], locks: Sequence[Json]) -> str:
    """Why nothing has moved for `still` seconds, in one sentence; empty where things do. `members`: as `member_status` gives them, the
    learner first."""
    if still < STILL:
        return ""
    learner, *actors = members
    reason = f"nothing has moved for {still:.0f} s because "
    for lock in locks:
        if (held := lock["held_seconds"]) > HELD:
            return f"{reason}{lock['holder']} holds the lock of {lock['name']} since {held:.0f} s; {len(lock['waiters'])} wait for it"
    if learner["doing"] != "waiting for trajectories":
        return reason + f"the learner is {learner['doing']} since {learner['since_seconds']:.0f} s"
    down = [a for a in actors if a["pid"] is None or a["held"]]
    longest = max(actors, key=lambda a: a["since_seconds"])
    return reason + (
        f"the learner waits for trajectories, {len(down)} of {len(actors)} actors are down or held, and "
        f"{longest['name']} is {longest['doing']} (environment {longest['environment']}) since {longest['since_seconds']:.0f} s"
    )


def figures(facts: Json, actors: Sequence[Member], locks: Sequence[Json], restarts: int) -> dict[str, float]:
    """What the metrics store keeps of one training seed's part of the fleet. `facts`: the broker's, of that seed."""
    row = {
        "queue_depth": facts["depth"], "queue_seconds": facts["oldest_seconds"], "chunks_dropped": facts["dropped"],
        "chunks_rolled_back": facts["rolled_back"], "actors": sum(m.child is not None for m in actors),
        "straggler_ratio": straggling(np.array([m.rate for m in actors])), "restarts": restarts,
        "lock_waiters": sum(len(x["waiters"]) for x in locks), "lock_held_seconds": max(x["held_seconds"] for x in locks),
        "lock_waited_seconds": sum(x["waited_seconds"] for x in locks),
    }  # fmt: skip
    for m in actors:
        behind = max(0, facts["version"] - version) if (version := m.facts().version) >= 0 else 0
        row |= {f"{m.name}/steps_per_second": m.rate, f"{m.name}/lag": behind, f"{m.name}/lives": m.life + 1}
    return {f"fleet/{k}": float(v) for k, v in row.items()}


def supervision_events(counts: Mapping[tuple[str, Any], int]) -> dict[str, int]:
    """How often each kind of event of supervision happened, of those that did. `counts`: the store's, by name and detail."""
    events = dict.fromkeys(SUPERVISION, 0)
    for (name, _), count in counts.items():
        if name in events:
            events[name] += count
    return {k: n for k, n in events.items() if n}


def totals(seeds: Sequence[Json], staleness: Sequence[Sequence[float]]) -> Json:
    """The record's counts of trajectories over all seeds, and how stale those were that were trained on (`staleness`, per seed)."""
    total = lambda k: sum(f[k] for f in seeds)
    ages = np.array([x for per_seed in staleness for x in per_seed] or [0], float)
    return {
        "chunks_accepted": total("accepted"), "chunks_trained": total("trained") + total("unsaved"),
        "chunks_dropped": total("dropped"), "chunks_rolled_back": total("rolled_back"), "chunks_refused": total("refused"),
        "chunks_left": total("depth") + total("in_hand"),
        "staleness_mean": float(ages.mean()), "staleness_p99": float(np.quantile(ages, 0.99)),
    }  # fmt: skip
