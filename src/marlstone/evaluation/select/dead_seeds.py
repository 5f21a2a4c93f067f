"""Training seeds that learned nothing where others did: an IQM over five seeds hides one, and training anew may draw another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SHARE = 0.1  # of what the best seed of all candidates gained over random play: up to here a seed counts as dead
REMEDY = (
    "explore more (learner.entropy, architecture.value_gain = 0), set goals (architecture hierarchical), reward steps on the way, or train "
    "more seeds and deploy the best"
)


@dataclass(frozen=True)
class DeadSeeds:
    """Of one candidate's seeds: `dead`, which learned nothing, and those of them that were `unrewarded` in all their training."""

    dead: int
    unrewarded: int


def dead_seeds(returns: Mapping[str, Sequence[Sequence[float]]], curves: Mapping[str, Any], chance: float) -> dict[str, DeadSeeds]:
    """By candidate. A seed is dead where its final policy's return lies no further than a tenth of the way from random play's return
    (`chance`) to the best seed's of all candidates; unrewarded, where besides its training return was one number all along.

    Args:
      returns: the final policies' episodes, seed by seed.
      curves: the training returns over steps, `[seeds k]`; empty where they are not known.
    """
    mean = {name: np.array([np.mean(seed) for seed in each]) for name, each in returns.items()}
    bar = chance + SHARE * max(max(x.max() for x in mean.values()) - chance, 0.0)
    out = {}
    for name, means in mean.items():
        dead, curve = means <= bar, np.array(curves[name], float)
        flat = [len(set(row[np.isfinite(row)])) == 1 for row in curve] if curve.size else [False] * len(means)
        out[name] = DeadSeeds(int(dead.sum()), int((dead & np.array(flat)).sum()))
    return out


def unlearned(record: Mapping[str, Any]) -> list[str]:
    """What a selection's record says of dead seeds: nothing where there are none, else one sentence."""
    ran = [row for row in record["candidates"] if row.get("dead_seeds") is not None]
    found = [row for row in ran if row["dead_seeds"]]
    if not found:
        return []
    if all(row["dead_seeds"] == len(row["returns"]) for row in ran):
        return [f"No seed of any candidate learned more than random play returns ({record['chance_return']:.3g}): {REMEDY}."]
    return [f"Dead seeds, which learned nothing while others did: {', '.join(map(_words, found))}; {REMEDY}."]


def _words(row: Mapping[str, Any]) -> str:
    never = f" ({row['unrewarded_seeds']} never met a reward)" if row["unrewarded_seeds"] else ""
    return f"{row['dead_seeds']} of {len(row['returns'])} of {row['name']}{never}"
