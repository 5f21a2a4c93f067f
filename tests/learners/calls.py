"""A metric of the user's: how many agents did anything but their default."""

from typing import Any


def calls(transition: Any) -> Any:
    return sum((action != 0) * 1.0 for action in transition.actions.values())
