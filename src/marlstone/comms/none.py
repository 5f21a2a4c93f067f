"""Nobody speaks."""

from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.comms.contract import Channel


@dataclass(frozen=True)
class NoMessages(Channel):
    """No channel: environments and networks are as they are. Other fields than `kind` are refused, since nothing would read them."""

    kind: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        changed = [name for name, f in type(self).__dataclass_fields__.items() if getattr(self, name) != _default(f)]
        if changed:
            raise ValueError(f"comms.{changed[0]} is given, but nobody speaks: add --comms broadcast, or targeted")

    @property
    def speaks(self) -> bool:
        """Nobody does."""
        return False

    def over(self, env: Any) -> Any:
        """`env` itself."""
        return env


def _default(field: Any) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default
