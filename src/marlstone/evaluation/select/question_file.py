"""What was asked, kept in a selection's (or a sweep's) folder: the same command goes on there, another question is refused."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from marlstone.config.paths import portable
from marlstone.core.errors import UserError
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line, plain

QUESTION = "question.json"


def remembered(folder: Path, question: Any, what: str = "selection") -> None:
    """Keep what is asked (a dataclass), so that another question is never answered by this one's runs. `what`: the word for it in messages.
    Raises `UserError`."""
    asked = portable(plain(asdict(question)), folder.resolve())
    file = folder / QUESTION
    if file.is_file():
        before = portable(json.loads(file.read_text()), folder.resolve())
        if before != json.loads(one_line(asked)):
            other = next(k for k in asked if before.get(k) != json.loads(one_line({k: asked[k]}))[k])
            raise UserError(f"out = {str(folder)!r} holds a {what} with another {other}: name another directory, or ask the same")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"out = {str(folder)!r} is not empty and holds no {what}: name another directory")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(file, (one_line(asked) + "\n").encode())
