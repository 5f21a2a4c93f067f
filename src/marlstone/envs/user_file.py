"""A user's own environment: a function in a Python file, named `path/file.py:make_env?x=1`.

The function is called with the options and returns a PettingZoo ParallelEnv or AEC environment, a Gymnasium environment
with Tuple spaces, or one of this package's own protocols: a `HostEnv`, or, named `jax:path/file.py:make_env`, a JAX `Env`.
"""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from marlstone.core.types import Spec
from marlstone.envs.names import UnknownEnvironment, suggestion
from marlstone.envs.protocol import Env, HostEnv


def load(path: str) -> ModuleType:
    """The module in a file, imported once per process and path. Its folder is searched for its own imports."""
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise UnknownEnvironment(f"environment file {path!r} does not exist: write its path from {Path.cwd()}, or in full")
    name = f"marlstone_user_{abs(hash(str(file))):x}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UnknownEnvironment(f"environment file {path!r} is not a Python file: name one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def make(path: str, factory: str, options: Mapping[str, Any], jax: bool = False) -> Env | HostEnv:
    """Call `factory(**options)` of the file and bring what it returns to this package's protocol.

    Raises `UnknownEnvironment` for a file, function or option that does not exist, `NonConforming` for a result that is
    no environment; errors of the user's own code pass through.
    """
    where = f"{path}:{factory}"
    module = load(path)
    function = getattr(module, factory, None)
    if not callable(function):
        functions = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", None) == module.__name__]
        raise UnknownEnvironment(f"{where}: no function {factory!r} in that file: {suggestion(factory, functions)}")
    try:
        env = function(**options)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself did not fit
            raise UnknownEnvironment(f"{where} does not take these options {dict(options)}: {error}") from error
        raise
    made = adapt(env, where)
    if hasattr(made, "reset") == jax:
        other = f"stepped by Python: name it {where}" if jax else f"written in JAX: name it jax:{where}"
        raise UnknownEnvironment(f"{where} returns {type(made).__name__}, an environment {other}")
    return made


def adapt(env: Any, where: str) -> Env | HostEnv:
    """Whatever a factory returned, as an `Env` or a `HostEnv`."""
    if isinstance(getattr(env, "spec", None), Spec) and hasattr(env, "step") and (hasattr(env, "init") or hasattr(env, "reset")):
        return env
    if hasattr(env, "observation_space") and not callable(env.observation_space):
        from marlstone.envs.gymnasium import GymnasiumEnv

        return GymnasiumEnv(env, where)
    from marlstone.envs.pettingzoo import PettingZooEnv

    return PettingZooEnv(env, where)
