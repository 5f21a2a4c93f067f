"""IC3Net's two games written a second time, in plain Python: what the JAX ones are compared with, step by step."""

import numpy as np

ROADS = {
    "easy": ([3], 1, 7, 12),
    "medium": ([6], 2, 14, 56),
    "hard": ([4, 12], 2, 18, 144),
}  # first lanes, width, size, classes off the road
CARS = {"easy": 5, "medium": 10, "hard": 20}
RATES = {"easy": 0.3, "medium": 0.2, "hard": 0.05}


def road_classes(difficulty: str) -> np.ndarray:
    """The class of every cell: horizontal roads are numbered first, then vertical ones, each by rows."""
    firsts, width, size, outside = ROADS[difficulty]
    grid, number = np.full((size, size), outside), 0
    for first in firsts:
        for y in range(first, first + width):
            for x in range(size):
                grid[y, x], number = number, number + 1
    for first in firsts:
        for y in range(size):
            for x in range(first, first + width):
                grid[y, x], number = number, number + 1
    return grid


def routes_of(difficulty: str) -> list[list[list[tuple[int, int]]]]:
    """Per arrival point the routes, found by legs: driven along one lane to the crossing with the lane that is turned into."""
    firsts, width, size, _ = ROADS[difficulty]
    if width == 1:
        return [[[(i, 3) for i in range(7)]], [[(3, i) for i in range(7)]]]
    down, up = list(firsts), [f + 1 for f in firsts]  # columns
    left, right = list(firsts), [f + 1 for f in firsts]  # rows
    step = {"down": (1, 0), "up": (-1, 0), "left": (0, -1), "right": (0, 1)}
    to_right = {"down": "left", "left": "up", "up": "right", "right": "down"}
    to_left = {b: a for a, b in to_right.items()}

    def lane(cell, way):  # does a lane that leads this way pass the cell?
        return cell[1] in (down if way == "down" else up) if way in ("down", "up") else cell[0] in (left if way == "left" else right)

    def leg(cell, way):
        out = []
        while 0 <= cell[0] < size and 0 <= cell[1] < size:
            out.append(cell)
            cell = (cell[0] + step[way][0], cell[1] + step[way][1])
        return out

    def drive(cell, way, wanted):
        path, crossings = leg(cell, way), 0
        at = 0
        while True:
            crossing = [k for k in range(at, len(path) - 1) if lane(path[k], to_right[way]) or lane(path[k], to_left[way])]
            if not crossing:
                return path, crossings
            k = crossing[0]  # of two lanes that are crossed the nearer one leads to the right, the farther one to the left
            turn = wanted[crossings] if crossings < len(wanted) else "straight"
            crossings += 1
            if turn == "right":
                way, cut = to_right[way], k
            elif turn == "left":
                way, cut = to_left[way], k + 1
            else:
                at = k + 2
                continue
            path = path[:cut] + leg(path[cut], way)
            at = cut + (1 if turn == "right" else 2)

    names = ("straight", "right", "left")
    starts = {"top": [((0, c), "down") for c in down], "bottom": [((size - 1, c), "up") for c in up]}
    starts |= {"left": [((r, 0), "right") for r in right], "right": [((r, size - 1), "left") for r in left]}
    order = ("top", "bottom", "left", "right") if len(firsts) == 1 else ("top", "left", "bottom", "right")
    found = []
    for side in order:
        for cell, way in starts[side]:
            mine = []
            for one in names:
                path, crossings = drive(cell, way, [one])
                mine += [path] if crossings == 1 else [drive(cell, way, [one, two])[0] for two in names]
            found.append(mine)
    return found


class TrafficRules:
    """One episode, played with given chances."""

    def __init__(self, difficulty: str, vision: int, rate: float | None = None) -> None:
        self.n, self.vision, self.rate = CARS[difficulty], vision, np.float32(rate or RATES[difficulty])
        self.size, self.off = ROADS[difficulty][2:]
        self.grid, self.routes = road_classes(difficulty), routes_of(difficulty)
        self.path: list = [None] * self.n  # of the car in each slot
        self.at, self.age, self.number, self.last = ([0] * self.n for _ in range(4))
        self.crashed = False

    def cell(self, i: int) -> tuple[int, int]:
        return self.path[i][self.at[i]] if self.path[i] else (0, 0)

    def step(self, action, chance):
        """`chance [3 p]` in [0, 1). Rewards `[n]`, who is there, who went on, and how many share a cell."""
        before = [p is not None for p in self.path]
        gone = [False] * self.n
        for i in range(self.n):
            if not before[i]:
                continue
            self.age[i] += 1
            if action[i] == 1:
                self.last[i] = 1
            elif self.at[i] + 1 == len(self.path[i]):
                self.path[i], self.age[i], gone[i] = None, 0, True
            else:
                self.at[i], self.last[i] = self.at[i] + 1, 0
        for point, choices in enumerate(self.routes):
            free = [i for i in range(self.n) if self.path[i] is None]
            if free and chance[0, point] <= self.rate:
                i = free[min(int(chance[1, point] * np.float32(len(free))), len(free) - 1)]
                k = min(int(chance[2, point] * np.float32(len(choices))), len(choices) - 1)
                self.path[i], self.at[i], self.number[i] = choices[k], 0, point * len(choices) + k
        cells = [self.cell(i) for i in range(self.n)]
        shares = [self.path[i] is not None and cells.count(cells[i]) > 1 for i in range(self.n)]
        self.crashed |= any(shares)
        reward = [-0.01 * self.age[i] - 10 * shares[i] if self.path[i] is not None else 0.0 for i in range(self.n)]
        here = [p is not None for p in self.path]
        return np.array(reward), np.array(here), np.array([b and not g for b, g in zip(before, gone, strict=True)]), sum(shares)

    def view(self) -> np.ndarray:
        """`[n f]`."""
        cells, v = [self.cell(i) for i in range(self.n)], self.vision
        total = sum(map(len, self.routes))
        out = []
        for i in range(self.n):
            seen = np.zeros((2 * v + 1, 2 * v + 1, self.off + 3))
            for dy in range(-v, v + 1):
                for dx in range(-v, v + 1):
                    y, x = cells[i][0] + dy, cells[i][1] + dx
                    inside = 0 <= y < self.size and 0 <= x < self.size
                    seen[dy + v, dx + v, self.grid[y, x] if inside else self.off] = 1
                    seen[dy + v, dx + v, -1] += cells.count((y, x))
            own = np.concatenate([[self.last[i], self.number[i] / (total - 1)], seen.reshape(-1)])
            out.append(own * (self.path[i] is not None))
        return np.array(out)


class HuntRules:
    """One episode of predators and one prey, from given cells."""

    def __init__(self, mode: str, dim: int, vision: int, predators, prey) -> None:
        self.mode, self.dim, self.vision = mode, dim, vision
        self.at, self.prey = [tuple(map(int, p)) for p in predators], tuple(map(int, prey))

    def step(self, action):
        """Rewards `[n]`, and whether the episode is over."""
        for i, a in enumerate(action):
            y, x = self.at[i]
            if self.at[i] == self.prey:
                continue
            y, x = {0: (y - 1, x), 1: (y, x + 1), 2: (y + 1, x), 3: (y, x - 1), 4: (y, x)}[int(a)]
            if 0 <= y < self.dim and 0 <= x < self.dim:
                self.at[i] = y, x
        there = [p == self.prey for p in self.at]
        m = sum(there)
        gain = {"mixed": 0.0, "cooperative": 0.05 * m, "competitive": 0.05 / max(m, 1)}[self.mode]
        return np.array([gain if t else -0.05 for t in there]), self.mode == "mixed" and all(there)

    def view(self) -> np.ndarray:
        """`[n f]`."""
        v, d = self.vision, self.dim
        out = np.zeros((len(self.at), 2 * v + 1, 2 * v + 1, d * d + 4))
        for seen, (cy, cx) in zip(out, self.at, strict=True):
            for dy in range(-v, v + 1):
                for dx in range(-v, v + 1):
                    y, x = cy + dy, cx + dx
                    seen[dy + v, dx + v, y * d + x if 0 <= y < d and 0 <= x < d else d * d + 1] = 1
                    seen[dy + v, dx + v, d * d + 2] += self.prey == (y, x)
                    seen[dy + v, dx + v, d * d + 3] += self.at.count((y, x))
        return out.reshape(len(self.at), -1)
