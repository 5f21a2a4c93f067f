"""Tables that people can read: as wide as the terminal, 80 columns elsewhere; no word is broken, none is cut off.

Cells are folded before they are drawn, at spaces, then after one of `/?&=:,;_-.`. Where the columns do not fit side by side, each row
becomes a block of lines.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH, WIDEST = 80, 240
BREAKS = re.compile(r"(?<=\w[/?&=:;_\-])(?=\w)|(?<=\w[,.])(?=[^\W\d])")  # numbers stay whole
Row = Sequence[str]


def console(width: int | None = None) -> Console:
    """stdout: as wide as the terminal; elsewhere `width`, by default 80."""
    found = Console()
    return found if found.is_terminal and width is None else Console(width=width or WIDTH)


def fold(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, unless one piece that has no place to break is longer."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        elif lines[-1]:
            lines[-1] += " "
        for piece in BREAKS.split(word) if len(word) > width else [word]:
            if lines[-1] and len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _least(text: str) -> int:
    """The width below which a cell would break within a piece."""
    return max((len(piece) for word in text.split() for piece in BREAKS.split(word)), default=0)


def widths(rows: Sequence[Row], room: int) -> list[int] | None:
    """Of each column, so that together they take at most `room`; None where they cannot. The widest give way first."""
    columns = list(zip(*rows, strict=True))
    wide = [max(len(line) for cell in column for line in cell.splitlines() or [""]) for column in columns]
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    least = [max(map(_least, column)) for column in columns]
    for bottom in (words, least):  # words stay whole as long as they can
        while sum(wide) > room and (able := [j for j in range(len(wide)) if wide[j] > bottom[j]]):
            wide[max(able, key=lambda j: wide[j])] -= 1
    return wide if sum(wide) <= room else None


def show_columns(
    title: str, heads: Row, rows: Sequence[Row], *, bold: Sequence[int] = (), right: Sequence[int] = (), wide: bool = False,
    sections: Sequence[int] = (), red: Sequence[tuple[int, int]] = (), lines: bool = False,
) -> None:  # fmt: skip
    """Print a table with heads. `bold`, `sections` (a line below): rows by number; `right`: columns; `red`: cells, row and column; `lines`
    between all rows; `wide`: as wide as it takes where stdout is no terminal."""
    cells = [heads, *rows]
    out = console(WIDEST if wide and not Console().is_terminal else None)
    fitted = widths(cells, out.width - 3 * len(heads) - 1)
    if fitted is None:
        _blocks(out, title, heads, rows, bold)
        return
    _title(out, title)
    table = Table(show_lines=lines)
    folded = [["\n".join(x for line in cell.splitlines() or [""] for x in fold(line, w)) for cell, w in zip(row, fitted)] for row in cells]
    for j, (head, w) in enumerate(zip(folded[0], fitted, strict=True)):
        table.add_column(Text(head), justify="right" if j in right else "left", no_wrap=True, min_width=w, overflow="ignore")
    for i, row in enumerate(folded[1:]):
        style = lambda j, i=i: "bold red" if (i, j) in red else ""
        table.add_row(*(Text(c, style=style(j)) for j, c in enumerate(row)), style="bold" if i in bold else "", end_section=i in sections)
    out.print(table, highlight=False)


def _title(out: Console, title: str) -> None:
    for line in fold(title, out.width):
        out.print(Text(line, style="italic"), overflow="ignore", no_wrap=True, crop=False)


def _blocks(out: Console, title: str, heads: Row, rows: Sequence[Row], bold: Sequence[int]) -> None:
    """Each row as lines `head: cell`, under its first cell."""
    _title(out, title)
    for i, row in enumerate(rows):
        out.print(Text("\n".join(fold(row[0], out.width)), style="bold" if i in bold else ""))
        for head, cell in zip(heads[1:], row[1:], strict=True):
            for n, line in enumerate(fold(f"{head}: {cell}", out.width - 4)):
                out.print(Text(("  " if n == 0 else "    ") + line), overflow="ignore", no_wrap=True, crop=False)


def show_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print two columns on stdout. A path too long for its cell follows below the table, in one piece, so that it can be copied."""
    out = console()
    labels = max((len(a) for a, _ in rows), default=0)
    room = out.width - 7 - min(labels, out.width // 2)
    below = [(a, short(b)) for a, b in rows if b.startswith("/") and len(short(b)) > room]
    _title(out, title)
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True, overflow="ignore")
    table.add_column(no_wrap=True, overflow="ignore")
    for a, b in rows:
        if (a, short(b)) not in below:
            value = [x for line in b.splitlines() or [""] for x in fold(short(line), room)]
            table.add_row(Text("\n".join(fold(a, out.width // 2))), Text("\n".join(value)))
    out.print(table, highlight=False)
    for a, b in below:
        out.print(Text(f"{a}: {b}"), overflow="ignore", no_wrap=True, crop=False)


def short(path: str) -> str:
    """A path below the working directory without the latter; anything else as it is."""
    if not path.startswith("/"):
        return path
    near = os.path.relpath(path)
    return near if not near.startswith("..") and Path(path).is_absolute() else path


def say(*lines: str) -> None:
    """Print sentences, folded like the tables."""
    out = console()
    for line in lines:
        for x in fold(line, out.width):
            out.print(Text(x), overflow="ignore", no_wrap=True, crop=False)
