"""From plain values (TOML tables, words of the command line) to frozen dataclasses, with one clear message where it fails.

Every message names the field by its dotted path, the value, what was expected, and a remedy.
"""

import dataclasses
import math
import tomllib
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from marlstone.config import kinds
from marlstone.core.errors import UserError, suggest

LARGEST = 2**53
"""Whole numbers beyond this are no longer exact as floats, and none of ours are meant to be there."""


class Word(str):
    """A value from the command line, whose type is decided by the field it is for."""

    __slots__ = ()

    def read(self) -> Any:
        """The value it spells in TOML, or itself."""
        try:
            found = tomllib.loads(f"x = {self}")
        except (ValueError, RecursionError):  # no TOML, or a date that no calendar has, or a number with too many digits
            return str(self)
        return found["x"] if set(found) == {"x"} else str(self)


def fields_of(cls: type) -> dict[str, Any]:
    """The fields of a dataclass and their types."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def wrong(where: str, value: Any, expected: str) -> UserError:
    """The error for a value that is not of the kind expected."""
    shown = str(value) if isinstance(value, Word) and value.isprintable() else repr(value)
    return UserError(f"{where} = {shown:.200}: expected {expected}")


def build(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`. Raises `UserError`."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in kinds.PARTS:
        return part(kind, value, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return table(kind, value, where)
    if origin in (Union, types.UnionType):
        return _union(args, value, where)
    if origin is Literal:
        return _choice(args, value, where)
    if origin is tuple:
        return _tuple(args, value, where)
    if origin is dict:
        return _mapping(args[1], value, where)
    if kind is Any:
        return value.read() if isinstance(value, Word) else value
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is str:
        if isinstance(value, Word):
            read = value.read()
            return read if isinstance(read, str) else str(value)
        if isinstance(value, str):
            return value
        raise wrong(where, value, 'a text, in quotes: "..."')
    given = value.read() if isinstance(value, Word) else value
    if kind is bool:
        if isinstance(given, bool):
            return given
        raise wrong(where, value, "true or false")
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if kind is int:
        if number and math.isfinite(given) and given == int(given) and abs(given) <= LARGEST:
            return int(given)
        large = number and abs(given) > LARGEST
        raise wrong(where, value, f"a whole number up to {LARGEST}" if large else "a whole number, such as 1000 or 1e6")
    if kind is float:
        if number and abs(given) <= 1e300:
            return float(given)
        raise wrong(where, value, "a finite number" if number else "a number, such as 0.5 or 5e-4")
    raise UserError(f"{where}: fields of type {kind} cannot be configured; use numbers, texts, tuples or dataclasses")


def _union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """None is written `none`; of several other types, the first that takes the value."""
    others = [a for a in args if a is not type(None)]
    if len(others) < len(args) and isinstance(value, str) and value.lower() == "none":
        return None
    errors = []
    for other in others:
        try:
            return build(other, value, where)
        except UserError as error:
            errors.append(str(error))
    raise UserError(errors[0] + (", or none" if len(others) < len(args) else ""))


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    given = value.read() if isinstance(value, Word) else value
    for choice in choices:
        if type(given) is type(choice) and given == choice:
            return choice
        if isinstance(value, Word) and str(value) == choice:
            return choice
    hint = suggest(str(value), map(str, choices))
    listed = "" if hint.startswith("choose") else f" (choices: {', '.join(map(str, choices))})"
    raise UserError(f"{where} = {given!r:.200}: no such choice; {hint}{listed}")


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    given = value.read() if isinstance(value, Word) else value
    if not isinstance(given, list | tuple):
        raise wrong(where, value, "a list, such as [64, 64]")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(build(args[0], v, f"{where}[{i}]") for i, v in enumerate(given))
    if len(given) != len(args):
        raise wrong(where, value, f"a list of {len(args)}")
    return tuple(build(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, given, strict=True)))


def _mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(where, value, f"a table: [{where}]")
    return {k: build(kind, v, f"{where}.{k}") for k, v in value.items()}


def part(contract: Any, value: Any, where: str) -> Any:
    """A part by its `kind`, alone (`"ctde"`) or in a table with fields of its own (`kind = "ctde"`, `sharing = "all"`)."""
    given = {"kind": value} if isinstance(value, str) else value
    if not isinstance(given, dict):
        raise wrong(where, value, f"a name or a table; {suggest('', kinds.names(contract))}")
    if "kind" not in given and where.endswith("]"):  # a field has a default kind, an entry of a list has none
        known = kinds.names(contract)
        raise UserError(f"{where}.kind is missing; {suggest('', known)}; yours is written file.py:Class")
    name = given.get("kind", next(iter(kinds.names(contract)), None))
    if not isinstance(name, str):
        raise wrong(f"{where}.kind", name, f"a name; {suggest('', kinds.names(contract))}")
    cls = kinds.find(contract, str(name), where)
    return table(cls, {k: v for k, v in given.items() if k != "kind"}, where, f" ({name})")


def table(cls: type, value: Any, where: str, note: str = "") -> Any:
    """A dataclass from a table of its fields."""
    if not isinstance(value, dict):
        raise wrong(where, value, f"a table: [{where}]")
    known = fields_of(cls)
    path = f"{where}." if where else ""
    for key in value:
        if key not in known:
            raise UserError(f"unknown key {path + key!r}{f' in {where}{note}' if where else ''}; {suggest(key, known)}")
    built = {key: build(known[key], v, path + key) for key, v in value.items()}
    for f in dataclasses.fields(cls):
        if f.init and f.name not in built and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise UserError(f"{path + f.name} is missing{note}; give it in the file, or by --set {path + f.name}=...")
    try:
        return cls(**built)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}{note}: {error}" if where else str(error)) from error
