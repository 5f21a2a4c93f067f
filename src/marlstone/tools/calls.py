"""Real calls: made on threads with deadlines, so that a slow tool never keeps an environment from its next step.

    desk.make(calls)        starts each on a thread of its own, by `cost.retries`
    desk.outcomes()         what has ended since, and attempts made since: to be seen at the next step

A call that outlives its deadline has failed, whatever it returns later; one of an episode that is over is forgotten. What comes back is
held to what was declared: finite numbers of the right count, or a symbol in range; anything else is a failure.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.records import record
from marlstone.cost.retry_counts import RetryCounter
from marlstone.tools.contract import Tool
from marlstone.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from marlstone.cost.retries import RetryPolicy

USUAL_TIMEOUT = 30.0  # seconds of an attempt
BROKEN = (Exception, SystemExit)  # whatever a user's function raises, the call has failed
MOST_THREADS = 256  # of one environment, calls that were given up among them


class WrongResult(RuntimeError):
    """A tool answered, but not what was declared: trying again would not help."""


@dataclass(frozen=True)
class Call:
    """One attempt, as a tool is told of it.

    Attributes:
      tool, agent: by name; `argument`: from 0.
      observation: leaves that the tool `sends`, of the agent, at the step of the call: lists of numbers.
      number: of the attempt, from 1; `key`: the same for all attempts of a call; `timeout`: seconds it has.
    """

    tool: str
    agent: str
    argument: int
    observation: Mapping[str, list[float]]
    number: int = 1
    key: str = ""
    timeout: float = USUAL_TIMEOUT


@record
class Outcomes:
    """What became of real calls, `[n T]` each: which ended (`came`), whether `good`, with what (`value [n T K]`); and `attempts` beyond
    what was counted before."""

    came: Array
    good: Array
    value: Array
    attempts: Array


@dataclass
class _Pending:
    thread: threading.Thread
    counter: RetryCounter
    made: float
    deadline: float
    counted: int = 1
    steps: int = 0
    ended: bool = False
    value: np.ndarray | None = None
    error: str = ""


def checked(tool: Tool, result: Any) -> np.ndarray:
    """A result as it is seen, `[size]` float32. Raises `WrongResult`."""
    if tool.symbols:
        if isinstance(result, bool) or not isinstance(result, int | np.integer) or not 0 <= result < tool.size:
            raise WrongResult(f"tool {tool.name!r} returned {result!r:.100}: expected a whole number from 0 to {tool.size - 1}")
        return (np.arange(tool.size) == result).astype(np.float32)
    try:
        found = np.asarray(result, np.float32).reshape(-1)
    except (ValueError, TypeError) as error:
        raise WrongResult(f"tool {tool.name!r} returned {result!r:.100}: expected {tool.size} numbers") from error
    if found.shape != (tool.size,) or not np.isfinite(found).all():
        raise WrongResult(f"tool {tool.name!r} returned {result!r:.100}: expected {tool.size} finite numbers")
    return found


@dataclass
class Desk:
    """The real tools of one environment. `agents`: names; `callers`: what is called, by tool (None: what each tool says); `notify`: told of
    the first failure of every tool, in words."""

    box: Toolbox
    agents: tuple[str, ...]
    callers: Mapping[str, Any] | None = None
    notify: Callable[[str], None] = lambda text: None
    clock: Callable[[], float] = time.monotonic
    _pending: dict[tuple[int, int], _Pending] = field(default_factory=dict)
    _left: list[threading.Thread] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        from marlstone.cost.retries import Retrier, RetryTokens  # brings packages that processes without real tools need not load

        given, tools = self.callers, self.box.tools
        self._callers: dict[int, Any] = {i: tools[i].caller() if given is None else given[tools[i].name] for i in self.box.real}
        self._retriers = {i: Retrier(self._policy(self.box.tools[i]), RetryTokens()) for i in self.box.real}

    @staticmethod
    def _policy(tool: Tool) -> "RetryPolicy":
        from marlstone.cost.retries import RetryPolicy

        each = tool.timeout or USUAL_TIMEOUT
        return RetryPolicy(tool.attempts, each * tool.attempts + 5.0 * (tool.attempts - 1), each, wait_initial=0.05, wait_jitter=0.05)

    def forget(self) -> None:
        """A new episode: what is still under way is nobody's."""
        self._left = [t for t in (*self._left, *(p.thread for p in self._pending.values())) if t.is_alive()]
        self._pending.clear()

    def make(self, called: np.ndarray, argument: np.ndarray, observation: Callable[[int, Tool], Mapping[str, list[float]]]) -> None:
        """Begin the calls `called [n T]` with `argument [n T]`. `observation(agent, tool)`: what is sent along."""
        for i in self.box.real:
            for k in np.flatnonzero(called[:, i]):
                self._begin(int(k), i, int(argument[k, i]), observation(int(k), self.box.tools[i]))

    def _begin(self, k: int, i: int, argument: int, sent: Mapping[str, list[float]]) -> None:
        tool, policy = self.box.tools[i], self._retriers[i].policy
        now = self.clock()
        mine = _Pending(threading.current_thread(), RetryCounter(), now, now + (policy.timeout or 0.0))

        def work() -> None:
            try:
                call = lambda attempt: self._callers[i](
                    Call(tool.name, self.agents[k], argument, sent, attempt.number, attempt.key, attempt.timeout or USUAL_TIMEOUT)
                )
                mine.value = checked(tool, self._retriers[i].call(call, counter=mine.counter))
            except BROKEN as error:
                mine.error = f"{type(error).__name__}: {error}"
            mine.ended = True

        self._pending[k, i] = mine
        self._left = [t for t in self._left if t.is_alive()]
        if len(self._left) + len(self._pending) > MOST_THREADS:
            mine.error, mine.ended = f"{len(self._left)} calls that were given up still run", True
            return
        here = contextvars.copy_context()  # the root request's allowance and deadline, where there are any
        mine.thread = threading.Thread(target=lambda: here.run(work), name=f"tool {tool.name}", daemon=True)
        mine.thread.start()

    def outcomes(self) -> Outcomes:
        """What has ended by now, once; waits for calls as long as their tools say (`wait`)."""
        n, t = len(self.agents), len(self.box.tools)
        came, good, attempts = np.zeros((n, t), bool), np.zeros((n, t), bool), np.zeros((n, t), np.int32)
        value = np.zeros((n, t, self.box.width), np.float32)
        for (k, i), mine in list(self._pending.items()):
            tool = self.box.tools[i]
            mine.steps += 1
            due = mine.steps >= tool.latencies[0]
            if due and not mine.ended and (patience := getattr(tool, "wait", 0.0)):
                mine.thread.join(max(0.0, mine.made + patience - self.clock()))
            made = max(mine.counter.counts().attempts, 1)
            attempts[k, i], mine.counted = made - mine.counted, made
            late = self.clock() > mine.deadline
            if not due or not (mine.ended or late):
                continue
            came[k, i] = True
            if mine.ended and mine.value is not None:
                good[k, i], value[k, i, : tool.size] = True, mine.value
            elif tool.name not in self._told:
                self._told.add(tool.name)
                self.notify(f"tool {tool.name!r} failed, which its agent sees: {mine.error or 'no answer by its deadline'}")
            if not mine.ended:
                self._left.append(mine.thread)
            del self._pending[k, i]
        return Outcomes(came, good, value, attempts)

    def close(self) -> None:
        """Free what callers hold; threads under way end by themselves, and keep no process alive."""
        self.forget()
        for caller in self._callers.values() if self.callers is None else ():
            if hasattr(caller, "close"):
                caller.close()
