"""Faults as plain JSON and back: for worker processes and actors, which load no configuration."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from marlstone.core.plain import from_plain, to_plain
from marlstone.core.user_code import load
from marlstone.envs.faults.actions import ActionDelay, ActionLoss
from marlstone.envs.faults.contract import Fault
from marlstone.envs.faults.drift import Drift
from marlstone.envs.faults.link import Volatile
from marlstone.envs.faults.messages import MessageCopies, MessageCut, MessageDelay, MessageLoss
from marlstone.envs.faults.presence import Death, LateArrival
from marlstone.envs.faults.rewards import RewardDelay, RewardNoise
from marlstone.envs.faults.sensors import Delay, Dropout, Freeze, Noise, Skew
from marlstone.envs.faults.values import Extreme
from marlstone.envs.faults.withheld import Withheld

FAULTS: tuple[type[Fault], ...] = (
    Noise, Dropout, Freeze, Delay, Skew, ActionDelay, ActionLoss, Death, LateArrival, RewardDelay, RewardNoise, Extreme, Volatile, Drift,
    MessageLoss, MessageDelay, MessageCopies, MessageCut, Withheld,
)  # fmt: skip
"""The package's own, in the order of the documentation."""


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """`{"kind": ..., field: value ...}`; a user's class by its file."""
    cls = type(fault)
    kind = cls.kind if cls in FAULTS else f"{Path(inspect.getfile(cls)).resolve()}:{cls.__name__}"
    return {"kind": kind, **{f.name: to_plain(getattr(fault, f.name), f"fault {kind!r}: {f.name}") for f in dataclasses.fields(fault)}}


def fault_from_json(plain: dict[str, Any]) -> Fault:
    """The inverse; lists become tuples again."""
    fields = {k: from_plain(v) for k, v in plain.items() if k != "kind"}
    own = {cls.kind: cls for cls in FAULTS}
    if (kind := plain["kind"]) in own:
        return own[kind](**fields)
    file, _, name = kind.rpartition(":")
    return getattr(load(file), name)(**fields)
