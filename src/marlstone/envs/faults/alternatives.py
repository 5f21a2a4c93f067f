"""One of several faults, where which one is data: a single compiled program then plays every edge case."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.core.types import Array, Spec, Step
from marlstone.envs.faults.contract import Draws, Fault


@dataclass(frozen=True)
class Alternatives(Fault):
    """`faults[which]`, equal bit for bit to that fault alone; `which` may be traced, so environments must be JAX's. Each remembers its
    own."""

    kind: ClassVar[str] = "alternatives"
    faults: tuple[Fault, ...]
    which: Any

    def refuses(self, spec: Spec) -> str:
        """The first reason among all faults, with the fault's name."""
        for fault in self.faults:
            if reason := fault.refuses(spec):
                return f"{fault.kind!r}: {reason}"
        return ""

    def begin(self, spec: Spec, step: Step, draw: Draws) -> tuple[Any, ...]:
        """What each fault remembers, whichever is played."""
        return tuple(fault.begin(spec, step, copy.copy(draw)) for fault in self.faults)

    def action(self, spec: Spec, memory: tuple[Any, ...], action: tuple[Array, ...], draw: Draws) -> tuple[Any, tuple[Array, ...]]:
        """As `faults[which]` alone would change the action."""
        return self._one(memory, action, lambda fault, mine, x: fault.action(spec, mine, x, copy.copy(draw)))

    def step(self, spec: Spec, memory: tuple[Any, ...], step: Step, draw: Draws) -> tuple[Any, Step]:
        """As `faults[which]` alone would change the step."""
        return self._one(memory, step, lambda fault, mine, x: fault.step(spec, mine, x, copy.copy(draw)))

    def _one(self, memory: tuple[Any, ...], x: Any, of: Callable[[Fault, Any, Any], tuple[Any, Any]]) -> tuple[Any, Any]:
        from jax import lax

        def branch(i: int) -> Callable[[Any, Any], tuple[Any, Any]]:
            def run(memory: tuple[Any, ...], x: Any) -> tuple[Any, Any]:
                mine, after = of(self.faults[i], memory[i], x)
                return (*memory[:i], mine, *memory[i + 1 :]), after

            return run

        return lax.switch(self.which, [branch(i) for i in range(len(self.faults))], memory, x)
