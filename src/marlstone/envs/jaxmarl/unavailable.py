"""Names that JaxMARL registers and that cannot be had here, each refused in one sentence."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.envs.jaxmarl.game import Game, registered
from marlstone.envs.names import UnknownEnvironment


@dataclass(frozen=True)
class LearnedEnemy(Game):
    """SMAX against a trained network: JaxMARL wants the network and its parameters as objects."""

    names: ClassVar[tuple[str, ...]] = ("LearnedPolicyEnemySMAX",)

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """Raises `UnknownEnvironment`."""
        raise UnknownEnvironment(
            f"jaxmarl:{name} takes its enemy's network as a Python object, which no option can name: take jaxmarl:HeuristicEnemySMAX, or "
            "jaxmarl:SMAX, in which both sides are agents"
        )


@dataclass(frozen=True)
class Robotarium(Game):
    """JaxRobotarium: in a package of its own, which JaxMARL takes as a submodule of its sources and does not install."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"JaxRobotarium_{task}"
        for task in (
            "navigation",
            "discovery",
            "material_transport",
            "warehouse",
            "arctic_transport",
            "foraging",
            "rware",
            "predator_prey",
        )
    )

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """Raises `UnknownEnvironment` where the package is missing."""
        if importlib.util.find_spec("jaxrobotarium") is None:
            raise UnknownEnvironment(
                f"jaxmarl:{name} needs the package jaxrobotarium, which no package index has: install it from its repository "
                "(https://github.com/GT-STAR-Lab/JaxRobotarium), or choose another environment"
            )
        return registered(name, options)
