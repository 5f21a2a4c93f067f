"""Budgets written in a TOML file of their own, or in a configuration: `[[budgets]]`."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError, suggest
from marlstone.cost.budgets import Budget


def read_budgets(path: str | Path) -> list[Budget]:
    """The `[[budgets]]` of a TOML file, whatever else stands in it. Raises `UserError` naming entry, field, value and remedy."""
    try:
        content = tomllib.loads(Path(path).expanduser().read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; name a TOML file with [[budgets]]") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    tables = content.get("budgets", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(x, dict) for x in tables):
        raise UserError(f"{path} declares no budgets: write each as [[budgets]], with name, amount and of")
    return [_budget(table, f"{path}: budgets[{i}]") for i, table in enumerate(tables)]


def _budget(table: dict[str, Any], where: str) -> Budget:
    known = [f.name for f in fields(Budget)]
    for key, value in table.items():
        if key not in known:
            raise UserError(f"{where}: {key} is unknown; {suggest(key, known)}")
        wanted: Any = {"amount": int | float, "fiscal_start": int}.get(key, str)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise UserError(f"{where}: {key} = {value!r}: expected {'a text' if wanted is str else 'a number'}")
    for key in ("name", "amount"):
        if key not in table:
            raise UserError(f"{where}: {key} is missing")
    try:
        return Budget(**table)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
