"""`jumanji:` environments under the names the field uses: `LevelBasedForaging?task=8x8-2p-2f-coop`, `RobotWarehouse?task=tiny-2ag`.

Level-based foraging and robot warehouse are written here, to be fast, and need no package. Conventions, chosen to compare with Mava: time
limits 100 (foraging) and 500 (warehouse), agents' levels up to 2, vector observations as float32 without agent ids (networks add those)
and without the step count (Mava shows neither policy the clock); `return` is the sum over agents and steps, at most 1 in foraging, and one
per delivery in the warehouse. The other tasks are the package's own, through one adapter (`package.py`).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.jumanji.lbf import foraging
from marlstone.envs.jumanji.package import TASKS, packaged
from marlstone.envs.jumanji.rware import warehouse
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.protocol import Env

NAMES: dict[str, Callable[[Mapping[str, Any]], Env]] = {
    "LevelBasedForaging": foraging,
    "RobotWarehouse": warehouse,
    **{name: partial(packaged, name) for name in TASKS},
}


def make(name: str, options: Mapping[str, Any]) -> Env:
    """The environment `jumanji:name` with `options` (strings already typed); raises `UnknownEnvironment` with a suggestion."""
    if name not in NAMES:
        raise UnknownEnvironment(f"jumanji has no environment {name!r}: {suggest(name, sorted(NAMES))}")
    return NAMES[name](options)
