"""What a candidate is put through once it is trained: edge cases, and teammates from other seeds."""

from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.evaluate.edge_cases import edge_cases


def stressed(runtime: Any, state: Any, config: RunConfig, measured: dict[str, Any], chance: float) -> dict[str, Any]:
    """`cases` (see `edge_cases`), played from the same keys as the returns that were `measured`."""
    nominal = np.array(measured["returns"])
    cases = edge_cases(runtime, state, config, nominal.shape[1], nominal=nominal, chance=np.full((len(nominal), 1), chance))
    return {"cases": cases}
