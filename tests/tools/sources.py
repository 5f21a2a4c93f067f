"""Functions that tests use as tools."""

import threading
from typing import Any

ASKED: list[Any] = []
OPEN = threading.Event()
FAILS = [0]


def double(call: Any) -> list[float]:
    """Twice what was seen, and the argument."""
    ASKED.append(call)
    return [2 * call.observation["obs"][0], float(call.argument)]


def shaky(call: Any) -> list[float]:
    """Fails as often as it is told, then gives the attempt's number."""
    if FAILS[0] > 0:
        FAILS[0] -= 1
        raise ConnectionError("down")
    return [float(call.number), 0.0]


def slow(call: Any) -> list[float]:
    """Takes until it is let go."""
    OPEN.wait(20)
    return [1.0, 1.0]


def wrong(call: Any) -> Any:
    """Gives what was not declared."""
    return ["a", "b", "c"] if call.argument == 0 else [float("nan"), 0.0]


def raises(call: Any) -> Any:
    """A user's mistake."""
    raise KeyError("no such thing")
