"""An environment as agents meet it: managers over it, then what goes wrong between it and them."""

from collections.abc import Sequence
from typing import Any

from marlstone.envs.faults import Fault, with_faults
from marlstone.envs.managed import Managers


def wrap_env(env: Any, managers: Managers | None = None, faults: Sequence[Fault] = ()) -> Any:
    """`env`, an `Env` or a `HostEnv`, with what is put over it: the one order in which every runtime does. Raises `UserError`."""
    return with_faults(faults, env if managers is None else managers.over(env))
