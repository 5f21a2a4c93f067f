"""Pictures written whole or not at all."""

import os
from pathlib import Path
from typing import Any

from marlstone.runs.files import PARTIAL


def saved(figure: Any, path: Path) -> Path:
    """A Matplotlib figure as a PNG at `path`, atomically; the path."""
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    figure.savefig(partial, format="png", dpi=130)
    os.replace(partial, path)
    return path
