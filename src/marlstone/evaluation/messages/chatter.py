"""Do agents ask more than they act? The share of each agent's steps, and of its time, that goes to requests (`play.counted`).

    steps_i = requests_i / decisions_i,     time_i = (requests_i + steps of waiting_i) / decisions_i      per episode

An alarm is raised where the lower end of the 95% interval of some agent's `steps` exceeds the declared bound, `evaluate.chatter`. The
intervals hold for all agents together: of agents that keep to the bound, less than one evaluation in twenty alarms. With one training
seed the episodes are the unit: that speaks of this policy, which is what is deployed.
"""

from typing import Any

import numpy as np

from marlstone.evaluation.messages.links import known
from marlstone.play.evaluator import Episodes
from marlstone.stats.families import alpha_each
from marlstone.stats.intervals import interval


def chatter_record(played: Episodes, agents: tuple[str, ...], bound: float) -> dict[str, Any]:
    """`chatter` (per agent `steps time ci95`), `chatter_bound`, `alarm`, and in words `chatter_alarms`: who exceeds it."""
    level = 1 - alpha_each(len(agents))
    found = {a: _agent(played, i, level) for i, a in enumerate(agents)}
    over = {a: x for a, x in found.items() if x["ci95"][0] is not None and x["ci95"][0] > bound}
    words = [f"{a} spends {x['steps']:.0%} of its steps on requests, at least {x['ci95'][0]:.0%}; the bound is {bound:.0%}"
             for a, x in over.items()]  # fmt: skip
    return {"chatter": found, "chatter_bound": bound, "alarm": bool(over), "chatter_alarms": words}


def _agent(played: Episodes, i: int, level: float) -> dict[str, Any]:
    shares = {name: _shares(played, name, i) for name in ("requests", "asking")}
    if not all(x.size for x in shares["requests"]):
        return {"steps": None, "time": None, "ci95": [None, None]}
    steps, ends = interval(_units(shares["requests"]), level, (0.0, 1.0))
    return {"steps": steps, "time": interval(_units(shares["asking"]), level)[0], "ci95": known(ends)}


def _units(shares: list[np.ndarray]) -> list[np.ndarray]:
    """Seeds, with episodes in them; of one seed, its episodes."""
    return shares if len(shares) > 1 else list(shares[0][:, None])


def _shares(played: Episodes, name: str, i: int) -> list[np.ndarray]:
    """Agent i's share in every episode in which it decided anything, seed by seed."""
    counts = [zip(*x, strict=True) for x in zip(_of(played, name, i), _of(played, "decisions", i), strict=True)]
    return [np.array([a / b for a, b in pairs if b > 0]) for pairs in counts]


def _of(played: Episodes, name: str, i: int) -> list[np.ndarray]:
    return played.per_seed(np.asarray(played.told[name])[..., i])
