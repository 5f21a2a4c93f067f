"""Seeds that are trained side by side, each on a thread of its own: of environments that only Python can step."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.rollout.placement import SeedPlacement


@dataclass(frozen=True)
class OneByOne(SeedPlacement):
    """Seeds in a stack, without empty slots: threads take them apart."""

    def pad(self, tree: Any) -> Any:
        """As it is: there are no empty slots."""
        return tree

    def apart(self, f: Callable[..., Any], *stacks: Any) -> list[Any]:
        """`f(i, entry ...)` for every seed, on its own thread."""
        entry = lambda i: [jax.tree.map(lambda x: x[i], s) for s in stacks]
        with ThreadPoolExecutor(self.seeds) as threads:
            return list(threads.map(lambda i: f(i, *entry(i)), range(self.seeds)))

    @staticmethod
    def stacked(entries: list[Any]) -> Any:
        """Entries of all seeds, along a leading axis."""
        return jax.tree.map(lambda *xs: jnp.stack(xs), *entries)

    def advance(self, cycle: Callable[[int, Any], tuple[Any, Any]], state: Any, n: int) -> tuple[Any, Any]:
        """`n` times `cycle(i, state) -> state, report` for every seed: states and reports, stacked."""

        def run(i: int, state: Any) -> tuple[Any, Any]:
            reports = []
            for _ in range(n):
                state, report = cycle(i, state)
                reports.append(report)
            return state, together(reports)

        out = self.apart(run, state)
        return self.stacked([s for s, _ in out]), together([r for _, r in out])


def together(reports: list[Any]) -> Any:
    """Reports stacked on the host: on a device, each number of them would be a program of its own."""
    return jax.tree.map(lambda *xs: np.stack(xs), *jax.device_get(reports))
