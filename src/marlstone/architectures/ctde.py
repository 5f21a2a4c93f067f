"""Centralized training, decentralized execution: critics see the global state, actors only their own observation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from marlstone.architectures.contract import Architecture
from marlstone.core.types import Group, Spec
from marlstone.encoders.contract import encoders_of
from marlstone.encoders.fuse import Fuse


@dataclass(frozen=True)
class Ctde(Architecture):
    """Central critics: MAPPO with `policy_gradient` (Yu et al. 2022).

    `critic_sees`: the global state alone, or beside the agent's own observation (their "agent-specific" state).
    """

    kind: ClassVar[str] = "ctde"
    critic_sees: Literal["state", "state_and_observation"] = "state_and_observation"

    provides: ClassVar[frozenset[str]] = Architecture.provides | {"central", "joint_q"}
    central: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_sees not in ("state", "state_and_observation"):
            raise ValueError(f"Ctde.critic_sees is {self.critic_sees!r}: choose one of state, state_and_observation")
        if self.trunk == "shared":
            raise ValueError("Ctde.trunk is 'shared', but a central critic sees more than its actor: use trunk = 'separate'")

    def refuses(self, spec: Spec) -> str | None:
        """Environments without a global state."""
        if spec.state == 0:
            return "Ctde needs a global state and this environment has none: give it `state()`, or use architecture = 'decentralized'"
        return super().refuses(spec)

    def critic_fuse(self, group: Group, spec: Spec) -> Fuse:
        """The global state, and the group's own observations where `critic_sees` says so."""
        leaves = group.seen if self.critic_sees == "state_and_observation" else ()
        encoders = encoders_of(group, self.encoders, self.image)
        return Fuse(group, self.body_of(group).intake, self.owners(group), encoders, leaves, spec.state, self.agent_ids)
