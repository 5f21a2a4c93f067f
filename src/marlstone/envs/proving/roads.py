"""Where the cars of `traffic_junction` may drive: the grid's cells, their classes, and every route, by IC3Net's layout."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from marlstone.envs.proving.grid_view import windows

Cell = tuple[int, int]

DOWN, UP, RIGHT, LEFT = (1, 0), (-1, 0), (0, 1), (0, -1)
STRAIGHT, TURN_RIGHT, TURN_LEFT = 0, 1, 2


@dataclass(frozen=True)
class Layout:
    """Figures of one difficulty, as IC3Net trains it.

    Attributes:
      size: cells along each side of the grid.
      dim: IC3Net's `dim`, of which classes of cells are counted; one less than `size` where that is odd.
      cars: how many there may be at once, the number of agents.
      rate: the full chance per step and arrival point that a car enters.
      start: the add rate with which IC3Net's curriculum begins.
      horizon: steps of an episode.
      lanes: first row, or column, of each road, and its width.
    """

    size: int
    dim: int
    cars: int
    rate: float
    start: float
    horizon: int
    lanes: tuple[tuple[int, int], ...]


LAYOUTS = {
    "easy": Layout(7, 6, 5, 0.3, 0.1, 20, ((3, 1),)),
    "medium": Layout(14, 14, 10, 0.2, 0.05, 40, ((6, 2),)),
    "hard": Layout(18, 18, 20, 0.05, 0.02, 80, ((4, 2), (12, 2))),
}


@dataclass(frozen=True)
class Roads:
    """The grid of a difficulty and the routes through it; traffic keeps to the right."""

    layout: Layout

    @cached_property
    def base(self) -> int:
        """IC3Net's BASE: the class of cells off the road. Road cells have the classes before it, numbered road by road."""
        return sum(2 * width * self.layout.dim for _, width in self.layout.lanes)

    @cached_property
    def grid(self) -> np.ndarray:
        """`[size size]`: each cell's class. Where roads cross, the later one's numbers stand; IC3Net counts `dim` cells to an easy road of
        7, so that the last two cells of its column have the class of a cell off the road, and one class of their own."""
        size = self.layout.size
        grid, number = np.full((size, size), self.base), 0
        for across in (True, False):
            for first, width in self.layout.lanes:
                block = grid[first : first + width, :] if across else grid[:, first : first + width]
                block[:] = np.arange(number, number + block.size).reshape(block.shape)
                number += block.size
        return grid

    def near(self, vision: int) -> np.ndarray:
        """`[size^2 k]`: classes of the cells around every cell (`grid_view.windows`); beyond the grid it is off the road."""
        return windows(self.grid, vision, self.base)

    @cached_property
    def arrivals(self) -> tuple[tuple[Cell, Cell], ...]:
        """Where cars enter roads of two lanes and in which direction, in the order in which IC3Net asks for new ones."""
        end, first = self.layout.size - 1, [at for at, _ in self.layout.lanes]
        top = [((0, a), DOWN) for a in first]
        left = [((a + 1, 0), RIGHT) for a in first]
        bottom = [((end, a + 1), UP) for a in first]
        right = [((a, end), LEFT) for a in first]
        return (*top, *bottom, *left, *right) if len(first) == 1 else (*top, *left, *bottom, *right)

    def _in_junction(self, cell: Cell) -> bool:
        return all(any(first <= x < first + width for first, width in self.layout.lanes) for x in cell)

    def _drive(self, start: Cell, heading: Cell, turns: tuple[int, ...]) -> tuple[list[Cell], int]:
        """The cells from an arrival point to where the grid ends, by the turn taken at each junction in order (straight on once `turns`
        are used up), and how many junctions were met."""
        path, met = [start], 0
        inside = lambda c: 0 <= min(c) and max(c) < self.layout.size

        def ahead() -> Cell:
            return path[-1][0] + heading[0], path[-1][1] + heading[1]

        while inside(ahead()):
            path.append(ahead())
            if self._in_junction(path[-1]):
                turn = turns[met] if met < len(turns) else STRAIGHT
                met += 1
                dy, dx = heading
                if turn == TURN_RIGHT:
                    heading = (dx, -dy)
                else:
                    path.append(ahead())
                if turn == TURN_LEFT:
                    heading = (-dx, dy)
                    path.append(ahead())
        return path, met

    @cached_property
    def routes(self) -> tuple[tuple[tuple[Cell, ...], ...], ...]:
        """Per arrival point its routes: straight on, right, left at the first junction, and likewise at the second where the first turn
        does not lead out; whoever has made two goes straight on."""
        if self.layout.lanes[0][1] == 1:  # one lane down and one to the right: cars cross, none turns
            line = range(self.layout.size)
            middle = self.layout.lanes[0][0]
            return ((tuple((i, middle) for i in line),), (tuple((middle, i) for i in line),))
        found = []
        for start, heading in self.arrivals:
            mine: list[tuple[Cell, ...]] = []
            for turns in product((STRAIGHT, TURN_RIGHT, TURN_LEFT), repeat=2):
                path, met = self._drive(start, heading, turns)
                if met == 1 and turns[1] != STRAIGHT:
                    continue
                mine.append(tuple(path))
            found.append(tuple(mine))
        return tuple(found)

    @cached_property
    def table(self) -> np.ndarray:
        """`[routes longest]`: the cell, row by row, at each place of each route; 0, which no route passes, beyond its end."""
        every = [route for point in self.routes for route in point]
        table = np.zeros((len(every), max(map(len, every))), np.int32)
        for at, route in zip(table, every, strict=True):
            at[: len(route)] = [y * self.layout.size + x for y, x in route]
        return table

    @cached_property
    def lengths(self) -> np.ndarray:
        """`[routes]`: how many cells each route has."""
        return np.array([len(route) for point in self.routes for route in point], np.int32)
