"""Names and options as people type them: how an option's value is read, and the error every adapter raises for one it does not know.

?x=3&speed=0.5&deep=true      whole numbers, decimal numbers, true and false; anything else is text: 007, nan, [1,2]
?points:=[1,2]&x:="3"         after `:=`, JSON: any type; a TOML table `[env.options]` is written so
"""

import importlib.util
import json
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from marlstone.core.errors import suggest

NUMBER = re.compile(r"-?(0|[1-9]\d*)?(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
WORDS = ("none", "null", "nil", "yes", "no", "on", "off")


class UnknownEnvironment(ValueError):
    """A source, an environment, a task or an option that does not exist; the message says which, and what to write instead."""


def resolve_options(where: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults overridden by `options`; the type of a default is the type of the option (an int may stand for a float).

    Raises `UnknownEnvironment` naming the environment, the option, its value and the remedy.
    """
    chosen = dict(defaults)
    for key, value in options.items():
        if key not in defaults:
            raise UnknownEnvironment(f"{where} has no option {key!r} (given {value!r}): {suggest(key, sorted(defaults))}")
        expected = type(defaults[key])
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise UnknownEnvironment(
                f"{where}: option {key!r} is {value!r}, of type {type(value).__name__}: "
                f"give {expected.__name__}, for example {key}={defaults[key]}"
            )
        chosen[key] = value
    return chosen


# ---- options in the text of a name
def option_value(text: str) -> bool | int | float | str:
    """What the text of an option means: true or false, a whole number without leading zeros, a finite decimal number, else itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if (number := NUMBER.fullmatch(text)) and (number[1] or number[2]) and len(text) < 1000:
        value = float(text) if number[2] or number[3] else int(text)
        return value if math.isfinite(value) else text
    return text


def is_ambiguous(text: str) -> bool:
    """Whether text stays text that some reader might take for a number, a list or nothing: `007`, `nan`, `1_000`, `[1,2]`, `none`."""
    if not isinstance(option_value(text), str):
        return False
    try:
        float(text)
    except ValueError:
        return text[:1] in tuple("[{(\"'") or text.lower() in WORDS or re.fullmatch(r"[+-]?0[xob]\w+", text) is not None
    return True


def read_options(name: str, query: str) -> dict[str, Any]:
    """The options after the `?` of an environment's `name`. Raises `UnknownEnvironment`, naming what does not read and how to write it."""
    options: dict[str, Any] = {}
    for item in query.split("&") if query else ():
        key, equals, text = item.partition("=")
        typed = key.endswith(":")
        key, text = unquote(key.removesuffix(":")), unquote(text)
        if not equals or not key:
            raise UnknownEnvironment(f"environment {name!r}: option {item!r} does not read: write ?option=value&option=value")
        if key in options:
            raise UnknownEnvironment(f"environment {name!r}: option {key!r} is given twice: give it once")
        try:
            options[key] = json.loads(text) if typed else option_value(text)
        except (ValueError, RecursionError) as error:
            raise UnknownEnvironment(
                f"environment {name!r}: {key}:={text:.200} is no JSON ({error}): write {key}=... for text, or {key}:=[1, 2]"
            ) from error
    return options


def with_options(name: str, options: Mapping[str, Any]) -> str:
    """An environment's name with `options` written into it so that they read back with their types. Raises `UnknownEnvironment` where one
    has no text, or is in the name already."""
    items, there = [], read_options(name, name.partition("?")[2])
    for key, value in options.items():
        if key in there:
            raise UnknownEnvironment(f"environment {name!r}: option {key!r} is in its name and in the table of options: give it once")
        try:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise UnknownEnvironment(
                f"environment {name!r}: option {key!r} is a {type(value).__name__}: give a number, text, true or false, or lists and "
                "tables of them"
            ) from error
        plain = value if isinstance(value, str) else text
        same = (
            type(option_value(plain)) is type(value)
            and option_value(plain) == value
            and not (isinstance(value, str) and is_ambiguous(plain))
        )
        escape = lambda t: quote(t, safe="[]{}(),:\"' /+*!$;@")
        named = escape(key).replace(":", "%3A")  # a colon before the equals sign announces JSON
        items.append(f"{named}={escape(plain)}" if same else f"{named}:={escape(text)}")
    if not items:
        return name
    text = "&".join(items)
    kept = text.rstrip(" ")  # spaces around a name mean nothing, at the end of the last value they do
    return f"{name}{'&' if '?' in name else '?'}{kept}{'%20' * (len(text) - len(kept))}"


def ambiguous_options(name: str) -> list[str]:
    """One note for each option of a name that was read as text and may have been meant otherwise."""
    notes = []
    for item in filter(None, name.partition("?")[2].split("&")):
        key, _, text = item.partition("=")
        if not key.endswith(":") and is_ambiguous(unquote(text)):
            remedy = f"for another type write {key}:=... (JSON), or a table [env.options]"
            notes.append(f"option {unquote(key)} = {unquote(text)!r} is taken as text; {remedy}")
    return notes


# ---- files in the text of a name
SUMO = "sumo:"
SUMO_FILES = (".net.xml", ".net.xml.gz", ".sumocfg", ".xml", ".xml.gz")


def is_sumo_file(text: str) -> bool:
    """Whether what stands behind `sumo:` is a file, rather than the name of a network that comes with sumo-rl."""
    return "/" in text or text.endswith(SUMO_FILES)


def with_files(name: str, change: Callable[[str], str]) -> str:
    """The name of a SUMO environment with each file in it changed: its net or configuration file, `net`, `route` (several are joined by
    commas), and the user's own `reward` and `observation`. Another name stays as it is."""
    if not name.startswith(SUMO):
        return name
    head, mark, query = name.partition("?")
    target, items = head.removeprefix(SUMO), []
    for item in query.split("&") if mark else ():
        key, equals, text = item.partition("=")
        if key in ("net", "route"):
            text = ",".join(_escaped(change(part.strip())) for part in unquote(text).split(","))
        elif key in ("reward", "observation") and ".py:" in text:
            file, _, member = unquote(text).rpartition(":")
            text = f"{_escaped(change(file))}:{member}"
        items.append(f"{key}{equals}{text}")
    return f"{SUMO}{change(target) if is_sumo_file(target) else target}{mark}{'&'.join(items)}"


def _escaped(path: str) -> str:
    return quote(path, safe="/:~ +@()[]")


def installed_versions(paths: Iterable[str], prefix: str = "") -> list[str]:
    """Installed modules that are these in another version, oldest first, without `prefix`: `sisl.pursuit_v5` for `sisl.pursuit_v4`."""
    found: dict[str, int] = {}
    for path in paths:
        parent, _, leaf = path.rpartition(".")
        versioned = re.fullmatch(r"(.+)_v\d+", leaf)
        if not (parent and versioned):
            continue
        try:
            package = importlib.util.find_spec(parent)
        except ModuleNotFoundError:
            continue
        for module in pkgutil.iter_modules(package.submodule_search_locations if package else None):
            if same := re.fullmatch(re.escape(versioned[1]) + r"_v(\d+)", module.name):
                found[f"{parent}.{module.name}".removeprefix(prefix)] = int(same[1])
    return sorted(found, key=lambda name: found[name])
