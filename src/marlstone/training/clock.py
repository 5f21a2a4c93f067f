"""Where the time of a run went, by phase; what takes long can be given up."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from marlstone.core.interruptible import interruptible


@dataclass
class Clock:
    """Seconds by phase: where the time went; `processor`: of this process's processors. `stop()`: whether to end; then what is being timed
    is given up. `began`, `used`: wall and processor time when it was made."""

    stop: Callable[[], bool] = lambda: False
    seconds: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    used: float = field(default_factory=time.process_time)

    def time(self, phase: str, f: Callable[[], Any], patience: float = 0.0) -> Any:
        """`f()`, on a thread of its own. Raises `Abandoned` where `stop()` says True and it takes longer than `patience` from then on."""
        start, used = time.perf_counter(), time.process_time()
        out = interruptible(lambda: jax.block_until_ready(f()), self.stop, patience)
        self.processor[phase] = self.processor.get(phase, 0.0) + time.process_time() - used
        self.add(phase, time.perf_counter() - start)
        return out

    def add(self, phase: str, seconds: float) -> None:
        """Count seconds of a phase that were timed elsewhere."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
