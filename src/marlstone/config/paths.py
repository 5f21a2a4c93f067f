"""Where the files that a configuration names lie: users' environments and parts, and the run that checks compare with.

A run's `config.toml` names them relative to the run, so that a folder with runs and the files they use may be moved, or copied to another
machine. Where each lay, and the hashes of it and of the modules it imports, stand beside it in `files.json`.
"""

import dataclasses
import inspect
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marlstone.config.schema import RunConfig
from marlstone.config.toml import dump
from marlstone.core.fingerprints import changed_fingerprints, fingerprints
from marlstone.envs.make import absolute
from marlstone.envs.names import with_files
from marlstone.runs.directory import RunDirectory
from marlstone.tools import FunctionTool, Tool

FILES = "files.json"
OWN = re.compile(r"(jax:)?([^:?]+\.py)(?=:)")
"""A user's file at the beginning of a name: `my_credit.py:MyCredit`, `jax:games/mine.py:make?x=1`."""


# ---- reading
def found(values: dict[str, Any], folder: Path, env: str | None = None) -> dict[str, Any]:
    """What a TOML in `folder` says, with the files it names by paths that hold from here.

    A file is looked for beside the TOML that names it. If that is a run's, it is else taken from where it lay when the run was made, or
    from where it lay then beside the environment, which is `env` now; other TOML files may also name it from the working directory. What
    is nowhere stays named, for whatever needs it to refuse.
    """
    entries = recorded_files(folder)
    lies = (
        None if entries is None else {entry["file"]: place for entry in entries.values() for place in _places(entry, entries, folder, env)}
    )
    values = beside(values, folder, lies)
    checks = values.get("evaluate")
    if isinstance(checks, dict) and isinstance(run := checks.get("baseline"), str) and (folder / run).is_dir():
        checks["baseline"] = str(_plain(folder / run))
    opponents = values.get("opponents")
    if isinstance(opponents, dict):
        for pattern, who in opponents.items():
            if isinstance(who, str) and (folder / who).is_dir():
                opponents[pattern] = str(_plain(folder / who))
    return values


def beside(value: Any, folder: Path, lies: Mapping[str, Path] | None = None) -> Any:
    """`value` with the users' files in it found from `folder`. `lies`: where those of a run are, by their names in it."""
    if isinstance(value, dict):
        return {k: beside(v, folder, lies) for k, v in value.items()}
    if isinstance(value, list):
        return [beside(v, folder, lies) for v in value]
    if not isinstance(value, str):
        return value

    def from_here(name: str) -> str:
        file = folder / name
        if not file.is_file():
            if lies is None:
                return name
            file = lies.get(name, file)
        return str(_plain(file))

    if not (own := OWN.match(value)):
        return with_files(value, from_here)
    return f"{own[1] or ''}{from_here(own[2])}{value[own.end() :]}"


def missing(folder: Path, env: str | None = None) -> Iterator[tuple[str, Path]]:
    """What the run in `folder` was made of and is nowhere to be found: what each is, and where it should be, seen from the run."""
    entries = recorded_files(folder) or {}
    for what, entry in entries.items():
        if not _places(entry, entries, folder, env) and (what.partition("[")[0] != "env" or env is None):
            yield what, (folder / entry["file"]).resolve()


def _places(entry: dict[str, Any], entries: dict[str, Any], folder: Path, env: str | None) -> list[Path]:
    """Where a run's file is: the first place of those where it may be, or none."""
    places = [folder / entry["file"], Path(entry["at"])]
    if env is not None and (own := OWN.match(env)) and "env" in entries:
        place = os.path.relpath(entry["at"], Path(entries["env"]["at"]).parent)
        places.append(Path(own[2]).expanduser().resolve().parent / place)
    return [place for place in places if place.is_file()][:1]


def _plain(path: Path) -> Path:
    """Without `..`, so that one file has one name."""
    return path.resolve() if ".." in path.parts else path


def recorded_files(folder: Path) -> dict[str, Any] | None:
    """What a run's `files.json` says of the files it was made of, by what they are (`env`, `credit`); None where there is none."""
    try:
        entries = json.loads((folder / FILES).read_text())
    except (OSError, ValueError):
        return None
    return (
        entries
        if isinstance(entries, dict) and all(isinstance(e, dict) and {"file", "at", "sha256"} <= set(e) for e in entries.values())
        else None
    )


def trained_env(run: RunDirectory) -> str | None:
    """The name of the environment that a run was trained in, as its own configuration has it; None where it has none."""
    return tomllib.loads(run.config.read_text())["env"] if run.config.is_file() else None


# ---- writing
def resolved(config: RunConfig) -> RunConfig:
    """The same configuration for another process on this machine: a user's own environment, functions, opponents, account and prices by
    their absolute paths, without `out`."""
    opponents = {pattern: str(_folder(who) or who) for pattern, who in config.opponents.items()}
    place = lambda file: None if file is None else str(Path(file).expanduser().absolute())
    account, prices, tools = place(config.account), place(config.prices), _with_functions(config, absolute)
    return dataclasses.replace(config, out=None, env=absolute(config.env), opponents=opponents, tools=tools, account=account, prices=prices)


def _with_functions(config: RunConfig, named: Callable[[str], str]) -> tuple[Tool, ...]:
    """Tools, their functions named otherwise."""
    return tuple(
        dataclasses.replace(t, function=named(t.function)) if isinstance(t, FunctionTool) and t.function else t for t in config.tools
    )


def _folder(name: str) -> Path | None:
    """The folder called `name`, by its absolute path; None where there is none."""
    path = Path(name).expanduser()
    return path.resolve() if path.is_dir() else None


def recorded(config: RunConfig, folder: Path) -> str:
    """The TOML text of a run's own `config.toml` in `folder`: everything but where that run went; users' files by their paths from it."""
    folder, checks = folder.expanduser().resolve(), config.evaluate
    if checks.baseline is not None and (run := Path(checks.baseline).expanduser()).is_dir():
        checks = dataclasses.replace(checks, baseline=_relative(run.resolve(), folder))
    config = dataclasses.replace(resolved(config), evaluate=checks)
    opponents = {pattern: _relative(lies, folder) if (lies := _folder(who)) else who for pattern, who in config.opponents.items()}
    tools = _with_functions(config, lambda name: str(portable(name, folder)))
    config = dataclasses.replace(config, opponents=opponents, tools=tools)
    return dump(config, lambda name: portable(name, folder))


def portable(value: Any, folder: Path) -> Any:
    """`value` with the users' files in it by their paths from `folder`; the inverse of `beside`."""
    if isinstance(value, dict):
        return {k: portable(v, folder) for k, v in value.items()}
    if isinstance(value, list):
        return [portable(v, folder) for v in value]
    if not isinstance(value, str):
        return value

    def from_there(name: str) -> str:
        file = Path(name).expanduser()
        return _relative(file.resolve(), folder) if file.is_file() else name

    if not (own := OWN.match(value)):
        return with_files(value, from_there)
    return f"{own[1] or ''}{from_there(own[2])}{value[own.end() :]}"


def _relative(path: Path, folder: Path) -> str:
    """From `folder`, where both lie in a tree that could be moved; in full where they share nothing but the root."""
    common = Path(os.path.commonpath([path, folder]))
    return str(path) if common == common.parent else Path(os.path.relpath(path, folder)).as_posix()


def files_of(config: RunConfig, folder: Path) -> dict[str, Any]:
    """What `files.json` in `folder` says of a configuration's files: by what each is, its name there, where it lies, and SHA-256 of it and
    of the modules beside it that it imports, by their paths from its own folder."""
    folder = folder.expanduser().resolve()
    return {
        what: {"file": _relative(file, folder), "at": str(file), "sha256": fingerprints(file)}
        for what, file in _users(config)
        if file.is_file()
    }


def _users(config: RunConfig) -> Iterator[tuple[str, Path]]:
    """What is a user's own in a configuration, by dotted field, and its file."""
    if own := OWN.match(config.env):
        yield "env", Path(own[2]).expanduser().resolve()
    simulated: list[str] = []
    with_files(config.env, lambda name: simulated.append(name) or name)  # type: ignore[func-returns-value]
    for i, name in enumerate(simulated):
        yield f"env[{i}]" if i else "env", Path(name).expanduser().resolve()
    for i, stage in enumerate(config.stages):
        if own := OWN.match(str(stage.set.get("env", ""))):
            yield f"stages[{i}].env", Path(own[2]).expanduser().resolve()
    for i, tool in enumerate(config.tools):
        if isinstance(tool, FunctionTool) and (own := OWN.match(tool.function)):
            yield f"tools[{i}].function", Path(own[2]).expanduser().resolve()
    waiting: list[tuple[str, Any]] = [(f.name, getattr(config, f.name)) for f in dataclasses.fields(config)]
    while waiting:
        where, value = waiting.pop(0)
        if isinstance(value, tuple):
            waiting += [(f"{where}[{i}]", v) for i, v in enumerate(value)]
        elif isinstance(value, dict):
            waiting += [(f"{where}.{k}", v) for k, v in value.items()]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            if type(value).__module__.partition(".")[0] != "marlstone":
                yield where, Path(inspect.getfile(type(value))).resolve()
            waiting += [(f"{where}.{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value)]


# ---- comparing
def changed_files(config: RunConfig, folder: Path) -> list[str]:
    """The users' files that are not what they were when the run in `folder` was made, or last resumed: `env.py`, `sim/core.py (new)`."""
    then, out = recorded_files(folder) or {}, list[str]()
    now = files_of(config, folder)
    for what, entry in now.items():
        if what in then:
            before, after = dict(then[what]["sha256"]), dict(entry["sha256"])
            first, second = Path(then[what]["file"]).name, Path(entry["file"]).name
            before[second] = before.pop(first, "")  # the file itself may have another name
            out += [
                name if name in before and name in after else f"{name} ({'new' if name in after else 'gone'})"
                for name in changed_fingerprints(before, after)
            ]
    return list(dict.fromkeys(out))
