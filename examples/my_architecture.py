"""An architecture of your own, in one file: critics that leave out what is dear to look at.

Policies see everything, cameras too; critics see the global state and a few of the observations. Critics are not deployed, and a state
often says what a camera shows.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from marlstone.architectures import Ctde


@dataclass(frozen=True)
class MyArchitecture(Ctde):
    """`critic_leaves`: the observations that critics see beside the global state, by name; by default none. All else is `Ctde`'s."""

    kind: ClassVar[str] = "my_architecture"
    critic_leaves: tuple[str, ...] = ()

    def refuses(self, spec: Any) -> str | None:
        known = {name for group in spec.groups for name in group.observation}
        if unknown := sorted(set(self.critic_leaves) - known):
            return f"MyArchitecture.critic_leaves names {unknown[0]!r}, which nobody observes: choose from {', '.join(sorted(known))}"
        return super().refuses(spec)

    def critic_fuse(self, group: Any, spec: Any) -> Any:
        return replace(super().critic_fuse(group, spec), leaves=tuple(k for k in group.observation if k in self.critic_leaves))
