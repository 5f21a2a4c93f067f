"""The team's credit, until some update in which it hangs or raises, once."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.credit import Credit, Trajectory, Views


@dataclass(frozen=True)
class Failing(Credit):
    """From the call `after` on, where file `mark` is not there yet, it is made, and the call `how`s: never returns, or raises."""

    mark: str = ""
    after: int = 40
    how: str = "hang"

    def _strike(self, pay: Any) -> Any:
        CALLS.append(1)
        if len(CALLS) > self.after and not Path(self.mark).exists():
            Path(self.mark).touch()
            if self.how == "hang":
                time.sleep(1000)
            raise RuntimeError("a cosmic ray")
        return pay

    def reward(self, p: Any, views: Views, trajectory: Trajectory) -> Any:
        pay, discount = super().reward(p, views, trajectory)
        like = jax.ShapeDtypeStruct(pay.shape, pay.dtype)
        return jax.pure_callback(self._strike, like, pay, vmap_method="sequential"), jnp.asarray(discount)


CALLS: list[int] = []
