"""Who is better than whom, how surely, and what is recommended, in words that say the doubt too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marlstone.evaluate.statistics import difference, interval, seeds_needed, worst_seed

ORDER = {"High": 0, "Moderate": 1, "Low": 2, "unrated": 3}
USES = {
    "decentralized": "agents that are many, far apart or nearly independent: cheap, and nobody needs a view of the whole",
    "ctde": "close cooperation, where training may see the whole and acting may not",
    "hierarchical": "tasks of many steps, paid late, that fall into sub-goals",
}
Returns = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Standing:
    """One candidate's returns: IQM over seeds, its 95% interval, the worst seed; `rank` among those that ran the whole budget, and
    `quarter` among all at a quarter of it, from 1."""

    name: str
    returns: Returns
    iqm: float
    ci95: tuple[float, float]
    worst: float
    rank: int | None
    quarter: int | None


def standings(final: Mapping[str, Returns], whole: Mapping[str, bool], quarter: Mapping[str, Returns]) -> list[Standing]:
    """Candidates by their final return, those that were stopped last. `whole`: who ran the whole budget."""
    figure = {k: interval([np.array(r) for r in v]) for k, v in final.items()}
    early = {k: interval([np.array(r) for r in v])[0] for k, v in quarter.items()}
    by = lambda centers: {k: i + 1 for i, k in enumerate(sorted(centers, key=lambda k: -centers[k]))}
    ranks, at_quarter = by({k: c for k, (c, _) in figure.items() if whole[k]}), by(early)
    out = [
        Standing(k, final[k], c, ci, worst_seed([np.array(r) for r in final[k]]), ranks.get(k), at_quarter.get(k))
        for k, (c, ci) in figure.items()
    ]
    return sorted(out, key=lambda s: (s.rank is None, s.rank, -s.iqm))


def apart(a: Standing, b: Standing) -> bool:
    """Whether the 95% interval of the difference of their IQMs, training seeds resampled, leaves out 0: the same in either order."""
    a, b = sorted((a, b), key=lambda s: s.name)
    _, (low, high) = difference([np.array(r) for r in a.returns], [np.array(r) for r in b.returns])
    return bool(low > 0 or high < 0)


def more_seeds(a: Standing, b: Standing) -> int | None:
    """About how many more seeds would tell them apart; None: not to be expected."""
    return seeds_needed([np.array(r) for r in a.returns], [np.array(r) for r in b.returns])


@dataclass(frozen=True)
class Recommendation:
    """`name`, and who is not separable from it; two sentences: the evidence and the doubt."""

    name: str
    inseparable_from: tuple[str, ...]
    evidence: str
    doubt: str


def level(rows: Sequence[Standing]) -> list[Standing]:
    """Of those that ran the whole budget: the best, and all that nobody is surely better than."""
    ran = [s for s in rows if s.rank is not None]
    return [s for i, s in enumerate(ran) if not any(apart(better, s) for better in ran[:i])]


def recommend(
    rows: Sequence[Standing], rating: Mapping[str, str], cost: Mapping[str, float], alike: Mapping[str, str] | None = None
) -> Recommendation:
    """Of those that nobody's return is surely better than: the most stable, then the cheapest to train, then the best; with one seed,
    of which nothing is sure, the best of the most stable. `rating`: of all that was measured of each, for the words; `alike`: of what
    was measured of all of them (none: the same), for the choice: who was not stressed is no more stable for it."""
    ran = [s for s in rows if s.rank is not None]
    best, judged = ran[0], rating if alike is None else alike
    order = lambda s: ORDER[judged.get(s.name, "unrated")]
    chosen = min(level(rows), key=lambda s: (order(s), cost[s.name] if len(s.returns) > 1 else 0.0, s.rank or 0))
    close = tuple(s.name for s in ran if s is not chosen and not apart(chosen, s))
    behind = [s for s in ran if s is not chosen and s.name not in close]
    stable = rating.get(chosen.name, "unrated")
    evidence = (
        f"Take {chosen.name}: return {chosen.iqm:.3g} (IQM of {len(chosen.returns)} seeds, 95% interval {chosen.ci95[0]:.3g} to "
        f"{chosen.ci95[1]:.3g}, worst seed {chosen.worst:.3g}), stability {stable}"
    )
    if behind:
        evidence += f", surely better than {_names([s.name for s in behind])}"
    if chosen is not best:
        why = "more stable" if order(chosen) < order(best) else "cheaper to train"
        evidence += f"; it is {why} than {best.name}, whose return {best.iqm:.3g} is not separable from it"
    return Recommendation(chosen.name, close, evidence + ".", _doubt(chosen, [s for s in ran if s.name in close], rows))


def _doubt(chosen: Standing, close: Sequence[Standing], rows: Sequence[Standing]) -> str:
    if len(chosen.returns) < 2:
        return "With one seed nothing is separable: give --seeds 5 or more."
    parts = []
    for s in close:
        more = more_seeds(chosen, s)
        parts.append(s.name + (f" (about {more} more seeds would tell)" if more else " (more seeds are not expected to tell)"))
    stopped = [s.name for s in rows if s.rank is None]
    nobody = "Nobody else comes near at this budget" if len(rows) > 1 else "It was the only candidate"
    said = f"Not separable from it at this budget: {'; '.join(parts)}" if parts else nobody
    if stopped:
        said += f"; {_names(stopped)} stopped early, so what they would reach is not known"
    return said + "."


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def verdict(s: Standing, chosen: Recommendation, stopped_at: int | None) -> str:
    """One line of the table."""
    if stopped_at is not None:
        return f"stopped at step {stopped_at:,}: surely far behind"
    if s.name == chosen.name:
        return "recommended"
    return "not separable from the recommended" if s.name in chosen.inseparable_from else "surely worse"
