"""Few combinations that hold every pair: most of what combinations break, two of their parts break together."""

import itertools
from collections.abc import Iterable
from typing import Any


def pairwise(combinations: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Of some combinations, a few in which every pair of values that occurs together in any of them occurs; chosen greedily, so that
    the same ones are chosen every time."""
    listed = list(combinations)
    pairs = lambda c: {(i, j, repr(c[i]), repr(c[j])) for i, j in itertools.combinations(range(len(c)), 2)}
    left, cover = set().union(*map(pairs, listed)), []
    while left:
        best = max(listed, key=lambda c: len(pairs(c) & left))
        cover.append(best)
        left -= pairs(best)
    return cover
