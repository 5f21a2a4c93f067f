"""Which candidates differ significantly, and what is recommended, in words that give the uncertainty too.

Everything reported of the candidates that ran the whole budget holds together with 95% (`families.pairwise`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marlstone.stats.families import Pairwise, pairwise
from marlstone.stats.intervals import Bounds, interval, worst_seed

ORDER = {"High": 0, "Moderate": 1, "Low": 2, "unrated": 3}
PRACTICAL = 100  # more additional seeds than this: candidates count as not distinguishable in practice
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


def standings(
    final: Mapping[str, Returns], whole: Mapping[str, bool], quarter: Mapping[str, Returns], bounds: Bounds | None = None
) -> list[Standing]:
    """Candidates by their final return, those that were stopped last. `whole`: which ran it to the end; `bounds`: of returns, if known."""
    figure = {k: interval([np.array(r) for r in v], bounds=bounds) for k, v in final.items()}
    early = {k: interval([np.array(r) for r in v])[0] for k, v in quarter.items()}
    by = lambda centers: {k: i + 1 for i, k in enumerate(sorted(centers, key=lambda k: -centers[k]))}
    ranks, at_quarter = by({k: c for k, (c, _) in figure.items() if whole[k]}), by(early)
    out = [
        Standing(k, final[k], c, ci, worst_seed([np.array(r) for r in final[k]]), ranks.get(k), at_quarter.get(k))
        for k, (c, ci) in figure.items()
    ]
    return sorted(out, key=lambda s: (s.rank is None, s.rank, -s.iqm))


def compared(rows: Sequence[Standing], bounds: Bounds | None = None) -> Pairwise:
    """All pairs of those that ran the whole budget, as one family."""
    return pairwise({s.name: [np.array(r) for r in s.returns] for s in rows if s.rank is not None}, bounds=bounds)


def level(rows: Sequence[Standing], pairs: Pairwise | None = None) -> list[Standing]:
    """Of those that ran the whole budget, all that no other is significantly better than. `pairs`: `compared(rows)`, where known."""
    ran, pairs = [s for s in rows if s.rank is not None], pairs or compared(rows)
    return [s for i, s in enumerate(ran) if not any(pairs.significant(better.name, s.name) for better in ran[:i])]


@dataclass(frozen=True)
class Recommendation:
    """`name`, and the candidates with no significant difference from it; two sentences: the evidence and the doubt."""

    name: str
    inseparable_from: tuple[str, ...]
    evidence: str
    doubt: str


def recommend(
    rows: Sequence[Standing], rating: Mapping[str, str], cost: Mapping[str, float], alike: Mapping[str, str] | None = None
) -> Recommendation:
    """Among candidates not significantly beaten: the one with the best stability rating, then the cheapest to train, then the best return;
    with one seed, where nothing is significant, the best of the best rated. `rating`: of all that was measured of each, for the words;
    `alike`: of what was measured of all of them (none: the same), for the choice: what was not stressed is no more stable for it."""
    ran, pairs = [s for s in rows if s.rank is not None], compared(rows)
    best, judged = ran[0], rating if alike is None else alike
    order = lambda s: ORDER[judged.get(s.name, "unrated")]
    chosen = min(level(rows, pairs), key=lambda s: (order(s), cost[s.name] if len(s.returns) > 1 else 0.0, s.rank or 0))
    close = tuple(s.name for s in ran if s is not chosen and not pairs.significant(chosen.name, s.name))
    behind = [s for s in ran if s is not chosen and s.name not in close]
    seeds = f"{len(chosen.returns)} seeds" if len(chosen.returns) > 1 else "one seed"
    evidence = (
        f"Take {chosen.name}: return {chosen.iqm:.3g} (IQM of {seeds}, 95% interval {chosen.ci95[0]:.3g} to "
        f"{chosen.ci95[1]:.3g}, worst seed {chosen.worst:.3g}), stability {rating.get(chosen.name, 'unrated')}"
    )
    if behind:
        evidence += f", significantly better than {_names([s.name for s in behind])}"
    if chosen is not best:
        why = f"rated {judged[chosen.name]}" if order(chosen) < order(best) else "cheaper to train"
        than = f"{best.name} ({judged.get(best.name, 'unrated')})" if order(chosen) < order(best) else f"than {best.name}"
        link = ", and preferred to " if order(chosen) < order(best) else " "
        evidence += f"; it is {why}{link}{than}, whose return {best.iqm:.3g} is not significantly different"
    return Recommendation(chosen.name, close, evidence + ".", _doubt(chosen, close, rows, pairs))


def _doubt(chosen: Standing, close: Sequence[str], rows: Sequence[Standing], pairs: Pairwise) -> str:
    if len(chosen.returns) < 2:
        return "With one seed no difference can be significant: give --seeds 5 or more."
    stopped = [s.name for s in rows if s.rank is None]
    if close:
        each = (f"{k} ({_seeds(pairs.more_seeds(chosen.name, k))})" for k in close)
        words = f"No significant difference from it at this budget: {'; '.join(each)}"
    elif len(pairs.figures) > 1:
        words = "All others that ran to the end are significantly worse at this budget"
    else:
        words = "No other candidate ran to the end" if stopped else "It was the only candidate"
    if stopped:
        words += f"; {_names(stopped)} stopped early, so what they would reach is not known"
    return words + "."


def _seeds(more: int | None) -> str:
    """What more seeds could show."""
    if more is None:
        return "not distinguishable in practice: more seeds are not expected to help"
    count = f"about {more} more seed" + ("s" if more > 1 else "")
    return f"not distinguishable in practice: {count}" if more > PRACTICAL else f"{count} would show one"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def verdict(s: Standing, chosen: Recommendation, stopped_at: int | None) -> str:
    """One line of the table."""
    if stopped_at is not None:
        return f"stopped at step {stopped_at:,}: far behind by then"
    if s.name == chosen.name:
        return "recommended"
    return "no significant difference" if s.name in chosen.inseparable_from else "worse"
