"""RLlib's environments by name: the class in a module, made as RLlib makes it.

    rllib:my_package.games:RockPaperScissors?max_steps=10        RockPaperScissors({"max_steps": 10})

Ray itself is not needed, unless the module imports it. How agents are recognized, act, wait and end is in `dictionaries`.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.protocol import HostEnv

CONFIGS = ("config", "env_config", "env_context", "cfg")
"""What the one parameter of an RLlib environment is called, into which all options go."""


def takes_config(function: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    """Whether options go into one dictionary, as RLlib gives them: the function has one parameter, of such a name, and no option has it."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C
        return False
    named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    return len(named) == 1 and named[0] in CONFIGS and named[0] not in options


def called(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What the function, or class, gives for these options: by name, or in one dictionary (`takes_config`)."""
    return function(dict(options)) if takes_config(function, options) else function(**options)


def make(target: str, options: Mapping[str, Any]) -> HostEnv:
    """`module:Class` with `options`.

    Raises: `UnknownEnvironment` for a module, class or option that does not exist, `ModuleNotFoundError` for a package that the module
    needs and is not installed.
    """
    from marlstone.envs.host.recognize import adapt

    where = f"rllib:{target}"
    module, colon, name = target.partition(":")
    if not colon or not name:
        raise UnknownEnvironment(f"{where}: names no class: write rllib:{module}:Class, or path/file.py:Class for one in a file")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise ModuleNotFoundError(f"{where} needs the package {error.name!r}: pip install {error.name}") from error
        raise UnknownEnvironment(
            f"{where}: no module {error.name!r}: install the package that has it, or name a file: path/file.py:{name}"
        ) from error
    made = getattr(found, name, None)
    if not callable(made):
        known = [k for k, x in vars(found).items() if inspect.isclass(x) and x.__module__ == found.__name__]
        raise UnknownEnvironment(f"{where}: {module} has no class {name!r}; {suggest(name, known)}")
    try:
        env = called(made, options)
    except TypeError as error:
        raise UnknownEnvironment(f"{where} does not take these options {dict(options)}: {error}") from error
    adapted: Any = adapt(env, where)
    return adapted
