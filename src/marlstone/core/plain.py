"""Values of a part's fields as plain JSON and back: for processes that load no configuration."""

from typing import Any

from marlstone.core.errors import UserError


def to_plain(value: Any, where: str) -> Any:
    """Numbers, texts, truths and None as they are, tuples as lists. Raises `UserError`, naming `where`, for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [to_plain(v, where) for v in value]
    raise UserError(f"{where} is a {type(value).__name__}, which cannot be sent to worker processes: use numbers, texts and tuples of them")


def from_plain(value: Any) -> Any:
    """The inverse; lists become tuples again."""
    return tuple(map(from_plain, value)) if isinstance(value, list) else value
