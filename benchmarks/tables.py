"""Figures and tables as the docs show them."""

from functools import lru_cache
from typing import Any

CORRELATION = (-1.0, 1.0)


def number(x: Any) -> str:
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def both(center: float | None, ci: list[float | None], bounds: tuple[float, float] | None = None, digits: int = 3) -> str:
    """A figure with its interval, within what is possible; "-" where it is not known."""
    figure = lambda x: "-" if x is None else f"{x:.{digits}f}"
    low, high = within(ci, center, bounds)
    return "-" if center is None else f"{figure(center)} ({figure(low)} to {figure(high)})"


def between(page: str, begin: str, text: str, end: str) -> str:
    """`page` with `text` between two marks in place of what stood there."""
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text}{end}{rest.split(end)[1]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)]) + "\n"


@lru_cache(maxsize=64)
def possible(env: str) -> tuple[float, float] | None:
    """The least and the greatest return of an episode, where an environment that is compiled here declares them."""
    from marlstone.envs.guards import Guards, return_bounds
    from marlstone.envs.make import is_jax, make

    return return_bounds(make(env).spec, Guards()) if is_jax(env) else None


def within(ci: list[float | None], center: float | None, bounds: tuple[float, float] | None) -> list[float | None]:
    """A recorded interval without what is impossible: some were recorded before intervals knew their bounds."""
    from marlstone.stats.intervals import clipped

    return ci if center is None or any(x is None for x in ci) else list(clipped((ci[0], ci[1]), bounds, center))
