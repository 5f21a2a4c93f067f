"""A candidate's stability, from what its trial left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from marlstone.evaluation.stability.rating import CUTS, Rating, Stability, stability
from marlstone.stats.intervals import iqm


@dataclass(frozen=True)
class Rated:
    """`rating`; `axes` by name, each with value, interval and rating of its own; the number of the seed that fell off the others."""

    rating: Rating
    axes: dict[str, dict[str, Any]] = field(default_factory=dict)
    off_seed: int | None = None
    note: str = ""

    def record(self) -> dict[str, Any]:
        """As records have it: the rating and the named axes."""
        return {"rating": self.rating, **self.axes, "off_seed": self.off_seed, "note": self.note}


def alike(rated: Mapping[str, Rated]) -> dict[str, Rating]:
    """Ratings on those axes alone that were rated for all: of candidates that are to be compared."""
    common = set.intersection(*({k for k, a in r.axes.items() if a["rating"] != "unrated"} for r in rated.values()))
    order = list(get_args(Rating))
    return {k: max((r.axes[a]["rating"] for a in common), key=order.index, default="unrated") for k, r in rated.items()}


def axes_of(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The axes in a record."""
    return {k: v for k, v in record.items() if isinstance(v, dict)}


def worst_axis(record: Mapping[str, Any]) -> str:
    """The axis of a record whose pessimistic end lies highest against its cut-off; empty where nothing was rated."""
    rated = {k: a["ci95"][1] / CUTS[k][0] for k, a in axes_of(record).items() if a["rating"] != "unrated"}
    return max(rated, key=lambda k: rated[k], default="")


def rated(measured: Mapping[str, Any], stressed: Mapping[str, Any] | None, chance: float, reference: float, first_seed: int) -> Rated:
    """The rating of a trial between `chance` and `reference`, a return; `first_seed`: the number of its first training seed."""
    if not reference > chance:
        return Rated("unrated", note="no candidate did better than random play")
    own = iqm([np.mean(r) for r in measured["returns"]]) - chance
    cases = {c["name"]: np.array(c["loss_per_seed"]) * own for c in (stressed or {}).get("cases", []) if c["loss_per_seed"] is not None}
    mixed, differ = ((stressed or {}).get(k) for k in ("cross_play_loss", "action_disagreement"))
    found = _stability(measured, chance, reference, edge_cases=cases or None, cross_play=mixed, disagreement=differ)
    axes = {
        k: {"value": _known(a.value), "ci95": [_known(x) for x in a.ci95], "rating": a.rating, "note": a.note}
        for k, a in found.axes.items()
    }
    return Rated(found.rating, axes, None if found.off_seed is None else first_seed + found.off_seed, found.note)


def collapse(measured: Mapping[str, Any], chance: float, reference: float) -> dict[str, Any]:
    """Whether a long training ended below its best: `collapsed`, by how much of what there is to learn, in `words`."""
    if not reference > chance:
        return {"collapsed": False, "fell_back": None, "words": "no candidate did better than random play"}
    axis = _stability(measured, chance, reference).axes.get("collapse")
    value = None if axis is None else _known(axis.value)
    if value is None:
        return {"collapsed": False, "fell_back": None, "words": "no curve to tell"}
    ended = float(iqm([np.mean(r) for r in measured["returns"]]))
    words = f"it ended {value:.0%} of what there is to learn below its best quarter; without drift the final policy returns {ended:.3g}"
    return {"collapsed": value > CUTS["collapse"][0], "fell_back": value, "return_iqm": ended, "words": words}


def _stability(measured: Mapping[str, Any], chance: float, reference: float, **more: Any) -> Stability:
    arrays: dict[str, Any] = {k: np.array(v, float) if isinstance(v, list) else v for k, v in more.items()}
    curves = np.array(measured["curve"], float).reshape(len(measured["returns"]), -1)
    return stability(measured["steps"], curves, measured["returns"], chance, reference, **arrays)


def _known(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
