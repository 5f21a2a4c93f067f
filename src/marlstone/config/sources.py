"""Where a configuration comes from: a TOML file, then what the command line changes in it."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from marlstone.config import kinds
from marlstone.config.paths import found, resolved
from marlstone.config.schema import Evaluation, RunConfig
from marlstone.config.stages import flattened
from marlstone.config.structure import Word, build, fields_of, table, wrong
from marlstone.config.toml import dump, part_table
from marlstone.core.acting import Acting
from marlstone.core.errors import UserError, suggest
from marlstone.envs.names import read_options, with_options
from marlstone.envs.own_metrics import Info

__all__ = ["built", "load", "not_toml", "parse", "resolved", "with_cases"]

SHORTCUTS = {
    "body": "architecture.body", "encoder": "architecture.encoders.all", "sharing": "architecture.sharing",
    "stop.return": "stop.at_return",
}  # fmt: skip
"""Short names of fields that newcomers look for; `return` is no name of a field in Python."""


def load(file: str | Path | None = None, overrides: Mapping[str, str] | None = None) -> RunConfig:
    """The configuration in `file` (None: all defaults) with `overrides`, dotted field -> what was typed, laid over it.

    `overrides = {"architecture": "ctde", "learner.lr": "1e-3"}`: naming a part gives its kind and keeps its other
    fields. Raises `UserError`: unreadable file, unknown key, bad choice, bad type, value out of range.
    """
    values = {} if file is None else read(Path(file), (overrides or {}).get("env"))
    return built(values, overrides or {})


def with_cases(config: RunConfig, file: str | Path) -> RunConfig:
    """The configuration with the edge cases of `file`, a TOML of `[evaluate]` with `cases` and `graceful` alone, instead of its own."""
    values = read(Path(file))
    checks = values.get("evaluate", {})
    if set(values) != {"evaluate"} or not isinstance(checks, dict) or not checks or set(checks) - {"cases", "graceful"}:
        raise UserError(f"{file} is to hold edge cases alone: write [[evaluate.cases]] tables, and evaluate.graceful if you like")
    known = fields_of(Evaluation)
    built = {name: build(known[name], value, f"evaluate.{name}") for name, value in checks.items()}
    try:
        return dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, **built))
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error


def parse(text: str, source: str = "configuration") -> RunConfig:
    """The configuration that TOML `text` says; `source` names it in errors."""
    return built(_parsed(text, source), {})


def built(values: dict[str, Any], overrides: Mapping[str, str]) -> RunConfig:
    """The configuration that a table (as TOML reads) says, `overrides` laid over it. The table is used up."""
    for short in SHORTCUTS.keys() & values.keys():
        word = values.pop(short)
        *above, last = SHORTCUTS[short].split(".")
        at: Any = values
        for name in above:
            at = at.get(name) if isinstance(at, dict) else None
        if isinstance(at, dict) and last in at:
            raise UserError(f"{short} and {SHORTCUTS[short]} are both given; give one")
        _lay(values, SHORTCUTS[short], word)
    if isinstance(stop := values.get("stop"), dict) and "return" in stop:
        if "at_return" in stop:
            raise UserError("stop.return and stop.at_return are both given; give one")
        stop["at_return"] = stop.pop("return")
    overrides = with_listed(values, with_metrics(values, with_acting(values, overrides)), "sink")
    overrides = with_opponents(values, overrides)
    laid = {SHORTCUTS.get(path, path): Word(word) for path, word in overrides.items()}
    for path in sorted(laid, key=lambda p: p.count(".")):  # parts before what is in them
        _lay(values, path, laid[path])
    if isinstance(ramps := values.get("ramps"), dict):
        values["ramps"] = flattened(ramps)
    _places(values)
    if isinstance(values.get("env"), dict):
        values["env"] = _environment(values["env"])
    if "env" not in values:
        raise UserError("env is missing; name an environment: --env jumanji:LevelBasedForaging?task=8x8-2p-2f-coop (all: marlstone envs)")
    config: RunConfig = table(RunConfig, values, "")
    for i in range(len(config.stages)):
        staged(config, i)
    return config


def staged(config: RunConfig, number: int) -> RunConfig:
    """The configuration of one of its stages: its own with what that stage sets. Raises `UserError` naming stage and field."""
    values = tomllib.loads(dump(dataclasses.replace(config, stages=())))
    try:
        return built(given(values, config.stages[number].set), {})
    except UserError as error:
        raise UserError(f"stages[{number}].set: {error}") from error


def _environment(given: dict[str, Any]) -> str:
    """The name that a table says: `[env]` with `name` and `options`, whose types are TOML's."""
    if stray := [key for key in given if key not in ("name", "options")]:
        raise UserError(f"unknown key 'env.{stray[0]}'; {suggest(stray[0], ('name', 'options'))}")
    name, options = given.get("name"), given.get("options", {})
    if not isinstance(name, str):
        raise UserError('env.name is missing: write [env] with name = "file.py:make_env", and options in [env.options]')
    if not isinstance(options, dict):
        raise wrong("env.options", options, "a table: [env.options]")
    return with_options(str(name), {k: v.read() if isinstance(v, Word) else v for k, v in options.items()})


def with_acting(values: dict[str, Any], overrides: Mapping[str, str]) -> Mapping[str, str]:
    """`acting` as people write it, `temperature=0.5` or one word, in a table or over it: as the fields of `[acting]`."""

    def fields(text: str) -> dict[str, Any]:
        try:
            acting = Acting.parse(text)
        except ValueError as error:
            raise UserError(str(error)) from error
        return {"kind": acting.kind, "temperature": "none" if acting.temperature is None else acting.temperature}

    if isinstance(values.get("acting"), str):
        values["acting"] = fields(values["acting"])
    if "acting" not in overrides:
        return overrides
    rest = {k: v for k, v in overrides.items() if k != "acting"}
    return {**{f"acting.{k}": str(v) for k, v in fields(overrides["acting"]).items()}, **rest}


def with_metrics(values: dict[str, Any], overrides: Mapping[str, str]) -> Mapping[str, str]:
    """`metric`, a JSON list of `file.py:Name` and `name=up` from the command line, beside the table's own `metrics`; one that is there
    stays as it is. A table of `metrics` by name (`delivered = "up"`) becomes the list that says the same."""
    if isinstance(values.get("metrics"), dict):
        values["metrics"] = [_from_info(name, how) for name, how in values["metrics"].items()]
    read = lambda kind: _from_info(*kind.split("=", 1)) if "=" in kind and ".py:" not in kind else kind
    return with_listed(values, overrides, "metric", read)


def with_listed(
    values: dict[str, Any], overrides: Mapping[str, str], one: str, read: Callable[[str], Any] = lambda kind: kind
) -> Mapping[str, str]:
    """`metric` or `sink`, a JSON list of kinds from the command line, each as `read` has it, beside the table's own `metrics` or `sinks`;
    one that is there stays as it is."""
    if one not in overrides:
        return overrides
    there = values.setdefault(f"{one}s", [])
    if not isinstance(there, list):
        raise wrong(f"{one}s", there, f"a list of tables, [[{one}s]]" + (", or a table by name" if one == "metric" else ""))
    known = [_key(x) for x in there]
    there += [x for x in map(read, json.loads(overrides[one])) if _key(x) not in known]
    return {k: v for k, v in overrides.items() if k != one}


def _from_info(name: str, how: Any) -> dict[str, Any]:
    """The table of a metric that infos have: `how` is `up`, `down`, either with a way to reduce (`down:mean`), or a table of both."""
    if isinstance(how, str):
        better, _, reduce = how.partition(":")
        how = {"better": better} | ({"reduce": reduce} if reduce else {})
    if not isinstance(how, dict):
        raise wrong(f"metrics.{name}", how, 'which way is better: "up" or "down"')
    return {"kind": Info.kind, "name": name, **how}


def _key(part: Any) -> Any:
    """What two entries of `metrics` or `sinks` have in common that are the same one."""
    if isinstance(part, dict) and part.get("kind") == Info.kind:
        return part.get("name")
    file, _, name = str(part.get("kind", "") if isinstance(part, dict) else part).rpartition(":")
    return str(Path(file).expanduser().resolve()) if file else "", name


def with_opponents(values: dict[str, Any], overrides: Mapping[str, str]) -> Mapping[str, str]:
    """`opponent`, a JSON table of patterns and who plays them from the command line, over the table's own `opponents`."""
    if "opponent" not in overrides:
        return overrides
    there = values.setdefault("opponents", {})
    if not isinstance(there, dict):
        raise wrong("opponents", there, "a table: [opponents]")
    there |= json.loads(overrides["opponent"])
    return {k: v for k, v in overrides.items() if k != "opponent"}


def _split(name: str) -> dict[str, Any]:
    """The table that says the same as an environment's name."""
    head, _, query = name.partition("?")
    return {"name": head, "options": read_options(name, query)}


def read(file: Path, env: str | None = None) -> dict[str, Any]:
    """The table in a TOML file, its users' files found (`env`: named otherwise). Raises `UserError`."""
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not valid TOML: it is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; give a TOML file, or flags alone") from error
    return found(_parsed(text, str(file)), file.parent, env)


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a date that no calendar has, a number with too many digits
        raise not_toml(source, text, error) from error


def not_toml(source: str | Path, text: str, error: Exception) -> UserError:
    """The message for a text that does not read, with its line where that is known."""
    reason = str(error)
    if place := re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", reason):
        line = place[1] or max(1, len(text.splitlines()))
        return UserError(f"{source} line {line}: not valid TOML: {reason[: place.start()]}{f' (column {place[2]})' if place[2] else ''}")
    return UserError(f"{source}: not valid TOML: {reason}")


def given(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A table with Python's `settings` laid over it: dotted fields or nested mappings, of numbers, texts, lists, or parts themselves
    (`credit=Counterfactual()`, `metrics=[WorstOff()]`). The table is changed and returned."""
    for path, value in settings.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            _lay(values, path, part_table(value))
        elif isinstance(value, Mapping):
            given(values, {f"{path}.{k}": v for k, v in value.items()})
        else:
            plain = list(value) if isinstance(value, tuple) else value
            if isinstance(plain, list):
                plain = [part_table(x) if dataclasses.is_dataclass(x) and not isinstance(x, type) else x for x in plain]
            _lay(values, path, plain)
    return values


def _lay(values: dict[str, Any], path: str, word: Any) -> None:
    """Set a dotted path; a part given by its name alone becomes a table on the way. Another kind of part keeps the fields it has too."""
    whole = values
    *above, last = path.split(".")
    if not all((*above, last)):
        raise UserError(f"--set {path}={word}: an empty name; write --set learner.lr=1e-3")
    for i, name in enumerate(above):
        inner = values.setdefault(name, {})
        if isinstance(inner, str):
            inner = values[name] = _split(inner) if values is whole and name == "env" else {"kind": inner}
        if not isinstance(inner, dict):
            raise UserError(f"--set {path}={word}: {'.'.join(above[: i + 1])} = {inner!r} is no table")
        values = inner
    if isinstance(values.get(last), dict) and isinstance(word, str) and path != "env":
        values[last] = _switched(whole, path, values[last], str(word))
    else:
        values[last] = word


def _switched(whole: dict[str, Any], path: str, old: dict[str, Any], kind: str) -> dict[str, Any]:
    """A part's table under another kind: fields that only the old one has are left out."""
    cls: Any = RunConfig
    contract, at = None, whole
    for name in path.split("."):
        if get_origin(cls) is dict:
            contract = get_args(cls)[1]
        else:
            contract = fields_of(cast(type, cls)).get(name) if dataclasses.is_dataclass(cls) else None
        at = at.get(name, {}) if isinstance(at, dict) else {}
        if contract in kinds.PARTS and isinstance(at, dict):
            cls = kinds.find(contract, at.get("kind", next(iter(kinds.names(contract)))), path)
        else:
            cls = contract
    if contract not in kinds.PARTS:
        return {**old, "kind": kind}
    mine, its = fields_of(cast(type, cls)), fields_of(kinds.find(contract, kind, path))
    return {"kind": kind, **{k: v for k, v in old.items() if k != "kind" and (k not in mine or mine[k] == its.get(k))}}


def _places(values: dict[str, Any]) -> None:
    """Refuse a top-level name that belongs into a part, saying which (`lr` -> `learner.lr`)."""
    known = fields_of(RunConfig)
    for key in values:
        if key in known:
            continue
        default = RunConfig(env="any")
        homes = [f"{part}.{key}" for part in known if key in getattr(getattr(default, part, None), "__dataclass_fields__", ())]
        if homes:
            raise UserError(f"unknown key {key!r}; did you mean {' or '.join(map(repr, homes))}?")
