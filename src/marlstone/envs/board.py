"""Pictures of what happens: a grid of cells for games on grids, and what agents observe for every other one. Needs Pillow."""

from typing import Any

import numpy as np

from marlstone.core.types import Spec, Step

CELL = 36  # pixels
PAPER, LINE, INK = (250, 250, 248), (222, 222, 218), (30, 34, 40)
TEAM = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (120, 94, 240), (90, 90, 90))
"""Colors of agents, told apart by color-blind people too (Okabe & Ito 2008)."""
Color = tuple[int, int, int]


class Board:
    """A grid of `rows` x `columns` cells to draw on; `pixels` is the picture."""

    def __init__(self, rows: int, columns: int, cell: int = CELL) -> None:
        from PIL import Image, ImageDraw

        self.cell = cell
        self._image = Image.new("RGB", (columns * cell + 1, rows * cell + 1), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        for r in range(rows + 1):
            self._draw.line((0, r * cell, columns * cell, r * cell), fill=LINE)
        for c in range(columns + 1):
            self._draw.line((c * cell, 0, c * cell, rows * cell), fill=LINE)

    def _box(self, row: int, column: int, inset: float) -> tuple[float, float, float, float]:
        a = self.cell * inset
        return column * self.cell + a, row * self.cell + a, (column + 1) * self.cell - a, (row + 1) * self.cell - a

    def square(self, row: int, column: int, color: Color, label: str = "", inset: float = 0.08) -> None:
        """A square in a cell, with a text in it."""
        self._draw.rectangle(self._box(row, column, inset), fill=color)
        self._label(row, column, label)

    def disc(self, row: int, column: int, color: Color, label: str = "", inset: float = 0.16) -> None:
        """A disc in a cell, with a text in it."""
        self._draw.ellipse(self._box(row, column, inset), fill=color, outline=INK)
        self._label(row, column, label)

    def heading(self, row: int, column: int, down: int, right: int) -> None:
        """A line from a cell's center towards where whoever is there looks."""
        x, y, reach = (column + 0.5) * self.cell, (row + 0.5) * self.cell, 0.44 * self.cell
        self._draw.line((x, y, x + right * reach, y + down * reach), fill=INK, width=max(2, self.cell // 12))

    def _label(self, row: int, column: int, text: str) -> None:
        if text:
            at = ((column + 0.5) * self.cell, (row + 0.5) * self.cell)
            self._draw.text(at, text, fill=(255, 255, 255), anchor="mm", font_size=self.cell * 0.45)

    def pixels(self) -> np.ndarray:
        """`[h w 3]` uint8."""
        return np.asarray(self._image)


def color_of(agent: int) -> Color:
    """The color of agent number `agent`."""
    return TEAM[agent % len(TEAM)]


def observations(spec: Spec, step: Step, width: int = 480) -> np.ndarray:
    """What every agent observes, `[h w 3]` uint8: a line of cells for each, blue below 0, white at 0, red above. Of a step without leading
    axes; for environments that draw no picture of their own."""
    from PIL import Image, ImageDraw

    rows = list[tuple[str, np.ndarray]]()
    for g, leaves in zip(spec.groups, step.obs, strict=True):
        flat = np.concatenate([np.asarray(x, float).reshape(g.count, -1) for x in leaves.values()], 1)
        rows += list(zip(g.agents, flat, strict=True))
    longest, margin, height = max(len(x) for _, x in rows), 110, 14
    cell = max(1, min(24, width // longest))
    pixels = np.full((len(rows) * height, margin + max(longest * cell, 160), 3), 250, np.uint8)
    for i, (_, x) in enumerate(rows):
        shade = np.tanh(np.nan_to_num(x))
        tint = np.stack([1 - np.maximum(-shade, 0), 1 - np.abs(shade), 1 - np.maximum(shade, 0)], -1)
        pixels[i * height : (i + 1) * height - 1, margin : margin + len(x) * cell] = np.repeat(255 * tint, cell, 0).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for i, (name, _) in enumerate(rows):
        draw.text((2, i * height), name[:18], fill=INK, font_size=10)
    return np.asarray(image)


def is_picture(x: Any) -> bool:
    """Whether `x` is a picture as environments render it: `[h w 3]`, uint8."""
    return isinstance(x, np.ndarray) and x.ndim == 3 and x.shape[-1] == 3 and x.dtype == np.uint8
