"""Names and options as people type them: the error every adapter raises for one it does not know, with a suggestion."""

import difflib
import importlib.util
import pkgutil
import re
from collections.abc import Iterable, Mapping
from typing import Any


class UnknownEnvironment(ValueError):
    """A source, an environment, a task or an option that does not exist; the message says which, and what to write instead."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` when something close exists, else the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close:
        folded = {k.lower(): k for k in known}
        close = [folded[c] for c in difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.5)]
    return f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(known)}"


def settle(where: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults overridden by `options`; the type of a default is the type of the option (an int may stand for a float).

    Raises `UnknownEnvironment` naming the environment, the option, its value and the remedy.
    """
    chosen = dict(defaults)
    for key, value in options.items():
        if key not in defaults:
            raise UnknownEnvironment(f"{where} has no option {key!r} (given {value!r}): {suggestion(key, defaults)}")
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


def versions(paths: Iterable[str], prefix: str = "") -> list[str]:
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
