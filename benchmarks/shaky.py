"""MPE's spread in which a step raises now and then, for `chaos.py`."""

import random
from typing import Any

from mpe2 import simple_spread_v3


def make(every: int = 4000) -> Any:
    """One step in `every` raises; which, nobody knows."""
    env, chance = simple_spread_v3.parallel_env(), random.SystemRandom()
    step = env.step

    def risky(actions: dict[str, Any]) -> Any:
        if every and chance.random() < 1 / every:
            raise RuntimeError("the simulator lost its mind")
        return step(actions)

    env.step = risky
    return env
