"""The particle worlds (MPE): cooperative and competing, ended by their time limit alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.envs.jaxmarl.game import Game, registered
from marlstone.envs.jaxmarl.lean_mpe import lean

TEAMS = {
    "MPE_simple_tag_v3": "adversary",
    "MPE_simple_world_comm_v3": "leadadversary+adversary",
    "MPE_simple_adversary_v3": "agent",
    "MPE_simple_push_v3": "agent",
    "MPE_simple_crypto_v3": "bob+alice",
    "MPE_simple_facmac_v1": "adversary",
    "MPE_simple_facmac_3a_v1": "adversary",
    "MPE_simple_facmac_6a_v1": "adversary",
    "MPE_simple_facmac_9a_v1": "adversary",
}


@dataclass(frozen=True)
class Mpe(Game):
    """JaxMARL's MPE counts so that an episode of `max_steps=25` has 26 steps; so do ours."""

    names: ClassVar[tuple[str, ...]] = (
        "MPE_simple_v3",
        "MPE_simple_spread_v3",
        "MPE_simple_speaker_listener_v4",
        "MPE_simple_reference_v3",
        *TEAMS,
    )

    def create(self, name: str, options: Mapping[str, Any]) -> Any:
        """JaxMARL's object with cheaper equal methods."""
        return lean(registered(name, options))

    def team(self, name: str) -> str:
        """The hunters or, where adversaries only disturb, the others."""
        return TEAMS.get(name, "all")

    def horizon(self, env: Any) -> int | None:
        """One more than its option says."""
        return int(env.max_steps) + 1
