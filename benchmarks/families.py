"""How often does `select` report something false of equal candidates, and how often does it find one that is worse?

    python benchmarks/families.py [--selections 1000]

Returns are drawn, not trained: candidates with the same IQM over all seeds, of several kinds of noise over seeds, 16 evaluation episodes
each. Every selection goes through the real ranking (`ranking.standings`, `level`, `recommend`, `verdict`). A selection is wrong
where it reports anything of equal candidates: a verdict "worse", or one left out of those not significantly beaten. For the power one of
seven is planted 10% below the others. `per pair at 95%` is what was done before: every pair by `statistics.difference` alone.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from record import stamp, write

from marlstone.evaluation.select.ranking import Standing, level, recommend, standings, verdict
from marlstone.stats.intervals import difference, iqm

EPISODES = 16
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def centered(draw: Draw) -> Draw:
    """Moved so that the IQM over all seeds there could be is 0: what candidates are compared by."""
    at = float(iqm(draw(np.random.default_rng(0), (1_000_001,))))
    return lambda random, shape: draw(random, shape) - at


DEAD: Draw = lambda r, s: 1.0 * (r.uniform(size=s) < 0.8) + 0.02 * r.normal(size=s)
HALF: Draw = lambda r, s: 1.0 * (r.uniform(size=s) < 0.5) + 0.02 * r.normal(size=s)
NORMAL: Draw = lambda r, s: 0.03 * r.normal(size=s)
TIGHT: Draw = lambda r, s: 0.005 * r.normal(size=s)
WIDE: Draw = lambda r, s: 0.3 * r.normal(size=s)
SKEWED: Draw = lambda r, s: r.exponential(0.1, s)
LEFT: Draw = lambda r, s: -r.exponential(0.1, s)
HEAVY: Draw = lambda r, s: 0.03 * r.standard_t(2, s)
SHAPES: dict[str, tuple[Draw, ...]] = {  # candidates take turns
    "normal": (NORMAL,),
    "one seed in five dead": (DEAD,),
    "every other seed dead": (HALF,),
    "skewed (exponential)": (SKEWED,),
    "heavy tails (t, 2 degrees of freedom)": (HEAVY,),
    "unequal variances": (TIGHT, NORMAL, WIDE),
    "one unstable among stable ones": (NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, WIDE),
    "one stable among unstable ones": (WIDE, WIDE, WIDE, WIDE, WIDE, WIDE, TIGHT),
    "normal, skewed either way, dead seeds": (NORMAL, SKEWED, LEFT, DEAD),
}


def drawn(random: np.random.Generator, shape: tuple[Draw, ...], candidates: int, seeds: int, planted: float = 0.0) -> dict[str, Any]:
    """One selection's returns, `[seeds episodes]` by name, around 1; the last candidate is worth `planted` less."""
    out = {}
    for k in range(candidates):
        center = 1.0 + shape[k % len(shape)](random, (seeds, 1)) - (planted if k == candidates - 1 else 0.0)
        out[f"c{k}"] = (center + 0.02 * random.normal(size=(seeds, EPISODES))).tolist()
    return out


def reported(returns: dict[str, Any]) -> tuple[set[str], str]:
    """Of which candidates a selection reports that they are worse, and which it recommends."""
    rows: list[Standing] = standings(returns, dict.fromkeys(returns, True), {})
    chosen = recommend(rows, dict.fromkeys(returns, "High"), {name: float(i) for i, name in enumerate(returns)})
    worse = {s.name for s in rows if verdict(s, chosen, None) == "worse"}
    beaten = set(returns) - {s.name for s in level(rows)}
    return worse | beaten, chosen.name


def before(returns: dict[str, Any]) -> bool:
    """Whether any pair was apart at 95%."""
    each = [[np.array(x) for x in r] for r in returns.values()]
    ends = (difference(a, b)[1] for i, a in enumerate(each) for b in each[:i])
    return any(low > 0 or high < 0 for low, high in ends)


def measure(selections: int, seeds: int = 5, candidates: int = 7) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        random, even = np.random.default_rng(13), tuple(centered(d) for d in shape)
        each = [drawn(random, even, candidates, seeds) for _ in range(selections)]
        wrong = sum(bool(reported(x)[0]) for x in each)
        old = sum(before(x) for x in each[: min(selections, 200)])
        out[name] = {"wrong": wrong / selections, "per_pair": old / min(selections, 200)}
        print(f"{name}: {out[name]}", file=sys.stderr)
    return out


def power(selections: int, seeds: int = 5, candidates: int = 7) -> dict[str, float]:
    out = {}
    for spread in (0.01, 0.02, 0.03, 0.05):
        random, shape = np.random.default_rng(17), (lambda r, s, spread=spread: spread * r.normal(size=s),)
        named = sum(f"c{candidates - 1}" in reported(drawn(random, shape, candidates, seeds, 0.1))[0] for _ in range(selections))
        out[f"{spread:g}"] = named / selections
        print(f"planted 10% worse, seeds vary by {spread:.0%}: {out[f'{spread:g}']:.1%}", file=sys.stderr)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selections", type=int, default=1000)
    flags = parser.parse_args()
    began = time.perf_counter()
    record = {
        "selections": flags.selections, "candidates": 7, "seeds": 5, "episodes": EPISODES,
        "equal": measure(flags.selections), "planted": power(flags.selections),
        "ten_seeds": {"equal": measure(flags.selections // 4, 10), "planted": power(flags.selections // 4, 10)},
    }  # fmt: skip
    print(write("families", record | stamp() | {"seconds": round(time.perf_counter() - began)}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
