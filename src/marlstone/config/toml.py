"""A configuration as TOML text, which reads back as the same configuration."""

import dataclasses
import json
import tomllib
from collections.abc import Callable
from typing import Any, get_args, get_origin

from marlstone.config import kinds
from marlstone.config.structure import fields_of
from marlstone.core.errors import UserError

Named = Callable[[str], str]


def dump(config: Any, named: Named = lambda name: name) -> str:
    """The TOML text of a dataclass: every field, defaults too, so that a later version's defaults change nothing. None is `"none"`.
    `named`: how the name of a user's file is written, given it with its absolute path."""
    return "\n".join(_table(config, (), named)) + "\n"


def part_table(part: Any) -> dict[str, Any]:
    """A part as the table that names it: its `kind` and its fields."""
    return tomllib.loads("\n".join(_table(part, (), lambda name: name, is_part=True)))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, where: str) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v, where) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v, where)}" for k, v in value.items()) + "}"
    raise UserError(f"{where} is a {type(value).__name__}, which TOML cannot hold; use numbers, texts, lists or dataclasses")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _text(name)


def _table(value: Any, path: tuple[str, ...], named: Named, is_part: bool = False, of: Any = None) -> list[str]:
    """Own values first, then tables within, as TOML wants it; of a part, its `kind` comes first. `of`: the type of a mapping's values."""
    if dataclasses.is_dataclass(value):
        types = fields_of(type(value))
        items = {name: getattr(value, name) for name in types}
    else:
        types, items = dict.fromkeys(value, of), {k: named(v) if isinstance(v, str) else v for k, v in value.items()}
    within = {k: v for k, v in items.items() if dataclasses.is_dataclass(v) or isinstance(v, dict) or _is_parts(v)}
    lines = [f"kind = {_text(named(kinds.name_of(value)))}"] if is_part else []
    if not path and isinstance(items.get("env"), str):
        items["env"] = named(items["env"])
    lines += [f"{_key(k)} = {_value(v, '.'.join((*path, k)))}" for k, v in items.items() if k not in within]
    for name, inner in within.items():
        head, kind = (*path, name), types.get(name)
        header = ".".join(map(_key, head))
        if _is_parts(inner):
            for entry in inner:
                lines += ["", f"[[{header}]]", *_table(entry, head, named, get_args(kind)[0] in kinds.PARTS)]
        else:
            of = get_args(kind)[1] if get_origin(kind) is dict else None
            lines += ["", f"[{header}]", *_table(inner, head, named, kind in kinds.PARTS, of)]
    return lines


def _is_parts(value: Any) -> bool:
    """Whether it is a list of dataclasses, which TOML calls an array of tables."""
    return isinstance(value, tuple) and bool(value) and all(dataclasses.is_dataclass(v) for v in value)
