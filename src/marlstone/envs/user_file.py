"""A user's own environment: a function in a Python file, named `path/file.py:make_env?x=1`.

The function is called with the options and returns an environment of any kind that `host.recognize` knows, or one of this package's own
protocols: a `HostEnv`, or, named `jax:path/file.py:make_env`, a JAX `Env`.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marlstone.core.errors import suggest
from marlstone.core.user_code import failed, load, member
from marlstone.envs.host.recognize import adapt
from marlstone.envs.host.rllib import called, takes_config
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.protocol import Env, HostEnv

__all__ = ["adapt", "load", "make"]


def make(path: str, factory: str, options: Mapping[str, Any], jax: bool = False) -> Env | HostEnv:
    """Call `factory(**options)` of the file and bring what it returns to this package's protocol.

    Raises `UnknownEnvironment` for a file, function or option that does not exist, `UserError` for a file that does not load, and for
    whatever the function raises, `NonConforming` for a result that is no environment.
    """
    where = f"{path}:{factory}"
    function = member(path, factory, f"environment {where!r}", "function", callable)
    if not takes_config(function, options):
        _fit(where, function, options)
    try:
        env = called(function, options)
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in options.items())
        raise failed(error, Path(path).expanduser().resolve(), f"{factory}({given:.200})") from error
    made = adapt(env, where)
    if hasattr(made, "reset") == jax:
        other = f"stepped by Python: name it {where}" if jax else f"written in JAX: name it jax:{where}"
        raise UnknownEnvironment(f"{where} returns {type(made).__name__}, an environment {other}")
    return made


def _fit(where: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raises `UnknownEnvironment` for options that the function does not take, and for those that it must have."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return  # written in C: calling it shows
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key, value in options.items():
            if key not in named:
                hint = suggest(key, sorted(named)) if named else "it takes none"
                raise UnknownEnvironment(f"{where} does not take these options: there is no {key!r} (given {value!r}): {hint}")
    if missing := [name for name, p in named.items() if p.default is p.empty and name not in options]:
        raise UnknownEnvironment(f"{where} needs the option {missing[0]!r}: write {where}?{missing[0]}=...")
