"""Messages and bits of policies as they are deployed: by sender and recipient, per joint step."""

from typing import Any

import numpy as np

from marlstone.play.evaluator import Episodes

P95 = 95


def per_step(played: Episodes, name: str) -> np.ndarray:
    """What was counted under `name` per joint step, `[...]`: the mean over seeds of the mean over the episodes that ended."""
    each = [total / length.reshape(-1, *(1,) * (total.ndim - 1)) for total, length in _ended(played, name)]
    mean: np.ndarray = np.mean([x.mean(0) for x in each], axis=0)
    return mean


def percentile(played: Episodes, name: str) -> Any:
    """The 95th percentile over episodes of what was counted under `name` per joint step, over all senders and recipients, and by sender
    `[n]`: the mean over seeds."""
    each = [total.sum(-1) / length[:, None] for total, length in _ended(played, name)]
    mean = lambda of: np.mean([np.percentile(of(x), P95, axis=0) for x in each], axis=0)
    return mean(lambda x: x.sum(-1)), mean(lambda x: x)


def _ended(played: Episodes, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(played.per_seed(played.told[name]), played.per_seed(played.length), strict=True))


def traffic_record(played: Episodes, agents: tuple[str, ...]) -> dict[str, Any]:
    """`messages_per_step bits_per_step bits_p95`, and the same by sender in `agents`."""
    messages, bits = per_step(played, "messages"), per_step(played, "bits")
    p95, by_sender = percentile(played, "bits")
    figures = lambda m, b, p: {"messages_per_step": float(m), "bits_per_step": float(b), "bits_p95": float(p)}
    own = {a: figures(messages[i].sum(), bits[i].sum(), by_sender[i]) for i, a in enumerate(agents)}
    return {**figures(messages.sum(), bits.sum(), p95), "agents": own}


def refused_share(played: Episodes) -> tuple[float, list[float]]:
    """The share of messages that the budget refused, of all and by sender; 0 where nobody tried."""
    tried, sent = per_step(played, "tried"), per_step(played, "messages").sum(-1)
    share = lambda t, s: float(max(0.0, 1 - s / t)) if t > 0 else 0.0
    return share(tried.sum(), sent.sum()), [share(t, s) for t, s in zip(tried, sent, strict=True)]


def by_budget(played: Episodes, budgets: tuple[float, ...]) -> list[dict[str, Any]]:
    """Of each budget, in bits per joint step, the `episodes` that had it, over all seeds: `bits_per_step bits_p95 return` (None where there
    was none)."""
    ended = np.asarray(played.ended, bool)
    length = np.asarray(played.length, float)[ended]
    level = np.rint(np.asarray(played.told["level"])[ended] / length)
    bits, returns = np.asarray(played.told["bits"]).sum((-1, -2))[ended] / length, np.asarray(played.team_return, float)[ended]
    out = []
    for k, budget in enumerate(budgets):
        mine = level == k
        figures = {"bits_per_step": bits[mine].mean, "bits_p95": lambda x=bits[mine]: np.percentile(x, P95), "return": returns[mine].mean}
        known = {name: float(of()) if mine.any() else None for name, of in figures.items()}
        out.append({"budget_bits": budget, "episodes": int(mine.sum()), **known})
    return out
