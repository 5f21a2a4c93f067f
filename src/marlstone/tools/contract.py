"""What a tool is: something an agent may call beside its action. The call at step t is an action with a log-probability; its result is an
observation of a later step, with its age. The world goes on meanwhile, and waiting is no action.

    none | tool_1(argument) | tool_2(argument) | ...     one choice per agent and step
    result, valid, age, failed, pending, left            what an agent sees of every tool, in the leaf `tools`

A tool that is pending for an agent cannot be called by it again until its result is there: such calls are masked, not queued.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

MOST_ATTEMPTS, MOST_STEPS = 16, 1000


def levels_of(price: float | tuple[float, ...]) -> tuple[float, ...]:
    """The prices that an episode may have."""
    return price if isinstance(price, tuple) else (price,)


def refuse_price(where: str, price: float | tuple[float, ...], changes: float) -> None:
    """Raises ValueError for prices that are none, and changes of what cannot change."""
    if not levels_of(price) or not all(0 <= p < math.inf for p in levels_of(price)):
        raise ValueError(f"{where}.price is {price}: give a number from 0 up, or several, of which every episode draws one")
    if not 0 <= changes <= 1:
        raise ValueError(f"{where}.changes is {changes}: give the probability per step that the price changes, from 0 to 1")
    if changes and len(set(levels_of(price))) < 2:
        raise ValueError(f"{where}.changes is {changes}, and there is one price: give several, price = [1.0, 4.0], or leave changes out")


@dataclass(frozen=True)
class Tool:
    """The contract, and what tools share. Subclass as a frozen dataclass, in one file, and name it `kind = "file.py:Class"`.

    Fields:
      name: unique among the tools.
      agents: who has it, by name, type or group (`envs.teams`), `scout+worker_*`; "": everybody of the team.
      size: numbers of a result; with `symbols`, how many symbols there are, of which a result is one, seen one-hot.
      symbols: whether a result is a symbol.
      arguments: how many different arguments a call may have; each is a call of its own among an agent's choices.
      price: of one attempt, in the currency of the run's prices; several: every episode draws one of them, and agents see it (`prices`).
      changes: the probability per step that the price becomes another of them.
      latency: steps from the call to its result, at least 1; of a delay line also `[low, high]`, drawn for every attempt.
      failure: the probability that an attempt fails (delay lines; real tools fail by themselves).
      timeout: steps (of real tools: seconds) after which an attempt is given up; 0: never (real tools: 30 s).
      attempts: how often a call is tried before it fails. Every attempt is paid for.
      calls: calls that each agent may make in an episode; 0: any number.
      team_calls: calls that all agents together may make in an episode; 0: any number. Where agents call at once and not all may, they
        come in turn, and the others' calls are refused: they cost nothing and are seen as failed.

    Raises:
      ValueError: a field out of range.
    """

    kind: ClassVar[str] = ""
    real: ClassVar[bool] = False  # whether something outside is called, by Python, on threads
    name: str = ""
    agents: str = ""
    size: int = 1
    symbols: bool = False
    arguments: int = 1
    price: float | tuple[float, ...] = 0.0
    changes: float = 0.0
    latency: int | tuple[int, int] = 1
    failure: float = 0.0
    timeout: float = 0.0
    attempts: int = 1
    calls: int = 0
    team_calls: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"tools.name is {self.name!r}: give every tool a name of letters, digits, - and _")
        where = f"tools.{self.name}"
        for field, least, most in (("size", 1, 4096), ("arguments", 1, 4096), ("attempts", 1, MOST_ATTEMPTS)):
            if not least <= getattr(self, field) <= most:
                raise ValueError(f"{where}.{field} is {getattr(self, field)}: give {least} to {most}")
        for field in ("calls", "team_calls"):
            if getattr(self, field) < 0:
                raise ValueError(f"{where}.{field} is {getattr(self, field)}: give how many calls an episode allows, or 0 for any number")
        low, high = self.latencies
        if not 1 <= low <= high <= MOST_STEPS:
            raise ValueError(f"{where}.latency is {self.latency}: give steps from 1 to {MOST_STEPS}, one number or [low, high]")
        if not 0 <= self.failure <= 1:
            raise ValueError(f"{where}.failure is {self.failure}: give a probability")
        if not 0 <= self.timeout < math.inf:
            raise ValueError(f"{where}.timeout is {self.timeout}: give a number from 0 up")
        refuse_price(where, self.price, self.changes)

    @property
    def latencies(self) -> tuple[int, int]:
        """The least and the most steps of one attempt."""
        return self.latency if isinstance(self.latency, tuple) else (self.latency, self.latency)

    def caller(self) -> Any:
        """What a real tool is called by, on many threads: `caller()(tools.calls.Call(...))` returns numbers or a symbol, or raises; after
        `cost.retries.CallFailed`, `ConnectionError` and `TimeoutError` another attempt may help. A fresh one for each environment; it may
        keep a connection until its `close()`, if it has that."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is called: write `caller`")


@dataclass(frozen=True)
class DelayLine(Tool):
    """A declared stochastic delay line: a call reads an observation leaf at the step of the call, and what it read is seen `latency` steps
    later, unless it fails. So any leaf of an environment becomes a sensor that is paid for. Written for JAX and NumPy.

    Fields:
      reads: the observation leaf, a vector of `arguments * size` numbers; an argument picks its `size` numbers of it.
      hidden: whether agents that have the tool no longer see the leaf otherwise.
    """

    kind: ClassVar[str] = "delay_line"
    reads: str = ""
    hidden: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reads:
            raise ValueError(f"tools.{self.name}.reads is empty: name the observation leaf that it reads")
        if self.timeout != int(self.timeout):
            raise ValueError(f"tools.{self.name}.timeout is {self.timeout}: a delay line takes whole steps")


@dataclass(frozen=True)
class External(Tool):
    """A real tool as a policy's folder knows it: what its results look like. Whoever deploys the policy says what is called, since nothing
    that is received may call anything (`Policy.with_tools`). Fields as of `FunctionTool`."""

    kind: ClassVar[str] = "external"
    real: ClassVar[bool] = True
    sends: tuple[str, ...] = ()
    wait: float = 0.0
