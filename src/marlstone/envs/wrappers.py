"""An environment as agents meet it: measured, opponents in it, managers over it, then what goes wrong between it and them, then tools, then
messages."""

from collections.abc import Sequence
from typing import Any, Protocol

from marlstone.envs.faults import Fault, is_message_fault, with_faults
from marlstone.envs.managed import Managers
from marlstone.envs.own_metrics import measured


class Over(Protocol):
    """What is put over environments from above this layer: teams and frozen opponents (`rollout.sides.Sides`), tools, channels
    (`comms`)."""

    def over(self, env: Any) -> Any:
        """`env`, an `Env` or a `HostEnv`, with it. Raises `UserError`."""


def wrap_env(
    env: Any, managers: Managers | None = None, faults: Sequence[Fault] = (), metrics: Sequence[Any] = (), sides: Over | None = None,
    channel: Over | None = None, tools: Over | None = None,
) -> Any:  # fmt: skip
    """`env`, an `Env` or a `HostEnv`, with what is put over it: the one order in which every runtime does. Raises `UserError`."""
    env = measured(env, metrics)
    env = env if sides is None else sides.over(env)
    below = [f for f in faults if not is_message_fault(f)]
    env = with_faults(below, env if managers is None else managers.over(env))
    env = env if tools is None else tools.over(env)
    env = env if channel is None else channel.over(env)
    return with_faults([f for f in faults if is_message_fault(f)], env)
