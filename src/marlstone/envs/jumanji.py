"""`jumanji:` environments under the names the field uses: `LevelBasedForaging?task=8x8-2p-2f-coop`, `RobotWarehouse?task=tiny-2ag`.

Conventions, chosen to compare with Mava: time limits 100 (foraging) and 500 (warehouse), agents' levels up to 2, vector
observations as float32 without agent ids (networks add those) and without the step count (Mava shows neither policy the
clock); `return` is the sum over agents and steps, at most 1 in foraging, and one per delivery in the warehouse.
"""

from collections.abc import Callable, Mapping
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.jumanji_lbf import foraging
from marlstone.envs.jumanji_rware import warehouse
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.protocol import Env

NAMES: dict[str, Callable[[Mapping[str, Any]], Env]] = {"LevelBasedForaging": foraging, "RobotWarehouse": warehouse}


def make(name: str, options: Mapping[str, Any]) -> Env:
    """The environment `jumanji:name` with `options` (strings already typed); raises `UnknownEnvironment` with a suggestion."""
    if name not in NAMES:
        raise UnknownEnvironment(f"jumanji has no environment {name!r}: {suggest(name, sorted(NAMES))}")
    return NAMES[name](options)
