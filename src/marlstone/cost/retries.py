"""Retries of one call, and the rules across calls that say when there is none.

    retrier = Retrier(RetryPolicy(attempts=4), RetryTokens(RetryBudget()))
    answer = retrier.call(lambda attempt: ask(timeout=attempt.timeout, key=attempt.key))

A failed attempt is tried again (`stamina`: the loop, exponential backoff with jitter, sleeping; plain or `asyncio`) unless a rule refuses:

| rule | refused because |
|---|---|
| `kind` | this failure is none that trying again could help |
| `settled` | a call inside has retried it, or the retry budget refused to: only the layer nearest to a failure retries |
| `attempts` | the policy's attempts are used up |
| `deadline` | the wait would pass the time left |
| `root` | the root request's allowance is used up (`cost.root_requests`) |
| `budget` | retries of all callers have reached their share of requests (`cost.retry_budget`) |

What is raised then is the last failure itself, with a note that names the rule. Retries are counted when they are granted, so those that
still sleep count. Everything that a retry carries is that of the first attempt: its idempotency key, its root request, its deadline.
"""

import logging
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import stamina

from marlstone.cost.deadlines import Clock, DeadlinePassed, current_deadline, left, within
from marlstone.cost.retry_budget import RetryTokens
from marlstone.cost.retry_counts import RetryCounter
from marlstone.cost.retry_policy import RetryPolicy
from marlstone.cost.root_requests import Frame, RootRequest, current_frame, entered, inside

T = TypeVar("T")
SETTLED = "_marlstone_settled"


class CallFailed(RuntimeError):
    """A call failed and may be tried again.

    Attributes:
      retry_after: seconds that the service asked to wait, or None.
      settled: whether a layer below has already retried it, so that no layer above should.
    """

    def __init__(self, message: str, retry_after: float | None = None, settled: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.settled = settled


class AttemptsUsedUp(RuntimeError):
    """A root request has no attempt left, so a call of its was not even begun: its fan-out is larger than its allowance."""


RETRIED = (CallFailed, ConnectionError, TimeoutError)
"""Failures that are retried unless a `Retrier` says otherwise."""


@dataclass(frozen=True)
class Attempt:
    """What an attempt is told.

    Attributes:
      number: 1 for the first.
      key: idempotency key, the same for every attempt of a call.
      timeout: seconds it may take at most; None: no limit.
      root: whose allowance it spends.
      depth: calls around it, itself included.
    """

    number: int
    key: str
    timeout: float | None
    root: RootRequest
    depth: int


def is_settled(error: BaseException | None) -> bool:
    """Whether a failure, or one it was raised from, was already retried by a call inside."""
    while error is not None:
        if getattr(error, SETTLED, False) or getattr(error, "settled", False):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


class Retrier:
    """Calls of one service: a policy for each, a token bucket and counters for all. Thread-safe; one object serves plain and async calls.

    Args:
      policy: how one call is retried.
      tokens: the bucket across calls, shared by whoever calls the same service; None: no budget across calls.
      on: classes of failures that are worth another attempt.
      clock: monotonic seconds; the deadline's where there is one.
      seed: of the jitter; None: the operating system's randomness.
    """

    def __init__(
        self,
        policy: RetryPolicy = RetryPolicy(),
        tokens: RetryTokens | None = None,
        on: tuple[type[Exception], ...] = RETRIED,
        clock: Clock = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self.policy = policy
        self.tokens = tokens
        self.on = on
        self.clock = clock
        self.counter = RetryCounter()
        self.uniform = random.Random(seed).uniform
        _quiet()

    def call(self, do: Callable[[Attempt], T], key: str | None = None, counter: RetryCounter | None = None) -> T:
        """`do(attempt)`, again as the rules allow. `key`: the idempotency key, else a random one; `counter` counts too, for one agent, say.

        Raises what the last attempt raised; `DeadlinePassed` or `AttemptsUsedUp`, where not even a first one could be begun.
        """
        it = _Call(self, key, counter)
        with it.running():
            for attempt in stamina.retry_context(it.decide, attempts=None, timeout=None):
                with attempt, it.attempting() as mine:
                    return do(mine)
        raise AssertionError("stamina ended without an outcome")

    async def call_async(self, do: Callable[[Attempt], Awaitable[T]], key: str | None = None, counter: RetryCounter | None = None) -> T:
        """As `call`, for coroutines: waits give way to other tasks."""
        it = _Call(self, key, counter)
        with it.running():
            async for attempt in stamina.retry_context(it.decide, attempts=None, timeout=None):
                with attempt, it.attempting() as mine:
                    return await do(mine)
        raise AssertionError("stamina ended without an outcome")


def _quiet() -> None:
    """Keep stamina's own report of each retry off the terminal: it goes to the logger `stamina`, for whoever configures logging.

    With structlog installed it would be printed to stdout, where commands answer; that stays for programs that use structlog themselves.
    """
    if not (logger := logging.getLogger("stamina")).handlers:
        logger.addHandler(logging.NullHandler())
    if "structlog" not in sys.modules:
        hooks = stamina.instrumentation.get_on_retry_hooks()
        kept = [hook for hook in hooks if not hook.__module__.endswith("_structlog")]
        if len(kept) < len(hooks):
            stamina.instrumentation.set_on_retry_hooks([*kept, stamina.instrumentation.LoggingOnRetryHook])


class _Call:
    """One call on its way: attempts made, and whether another one follows."""

    def __init__(self, retrier: Retrier, key: str | None, counter: RetryCounter | None) -> None:
        self.retrier, self.policy = retrier, retrier.policy
        self.key = key or uuid.uuid4().hex
        self.counters = (retrier.counter,) if counter is None else (retrier.counter, counter)
        self.number = 0
        self.waiting: float | None = None  # seconds that a granted retry waits
        retries = self.policy.attempts - 1 if self.policy.root_retries is None else self.policy.root_retries
        self.frame = current_frame() or Frame(RootRequest(retries, self.policy.root_attempts))

    def tell(self, what: str, *rest: Any) -> None:
        """The same to every counter."""
        for counter in self.counters:
            getattr(counter, what)(*rest)

    def limited(self, seconds: float | None) -> AbstractContextManager[Any]:
        """A deadline by the clock of the one around it, else by the retrier's."""
        return within(seconds, self.retrier.clock if current_deadline() is None else None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The whole call: its root request, its deadline, its request in the budget."""
        tokens = self.retrier.tokens
        with self.limited(self.policy.timeout):
            if left() == 0:
                self.tell("not_begun", "deadline")
                raise DeadlinePassed("a call was not begun: the time of the calls around it is over")
            if not self.frame.root.spend_attempt():
                self.tell("not_begun", "root")
                raise AttemptsUsedUp(f"root request {self.frame.root.id} has no attempt left: give it more, or less fan-out")
            if tokens is not None and not self.frame.again and tokens not in self.frame.budgets:
                tokens.deposit()
            self.tell("begun", self.frame.depth + 1)
            try:
                yield
            finally:
                if self.waiting is not None:  # granted, and ended while it slept
                    self.tell("abandoned")

    @contextmanager
    def attempting(self) -> Iterator[Attempt]:
        """One attempt, a level deeper in the root request's tree."""
        if self.waiting is not None:
            self.tell("woken", self.waiting)
            self.waiting = None
        self.number += 1
        frame = inside(self.frame, self.number > 1, self.retrier.tokens)
        try:
            with self.limited(self.policy.attempt_timeout), entered(frame):
                if left() == 0:
                    raise DeadlinePassed("an attempt was not begun: the time of the call is over")
                yield Attempt(self.number, self.key, left(), frame.root, frame.depth)
        except BaseException:
            self.tell("failed")
            raise
        self.tell("succeeded")

    def decide(self, error: Exception) -> bool | float:
        """Seconds to wait before another attempt, or False. What is granted is spent and counted here, before it sleeps."""
        wait = self._wait(error)
        rule = self._refusal(error, wait)
        if rule is None:
            self.waiting = wait
            self.tell("granted")
            return wait
        self.tell("refused", rule)
        if rule in ("budget", "settled") or (rule != "kind" and self.number > 1):
            setattr(error, SETTLED, True)
        error.add_note(f"attempt {self.number} of a call was not retried: {_WHY[rule]}")
        return False

    def _wait(self, error: Exception) -> float:
        asked = getattr(error, "retry_after", None)
        return self.policy.wait(self.number, self.retrier.uniform) if asked is None else max(0.0, float(asked))

    def _refusal(self, error: Exception, wait: float) -> str | None:
        """The first rule that refuses; those that spend come last."""
        if not isinstance(error, self.retrier.on):
            return "kind"
        if is_settled(error) and not self.policy.retry_settled:
            return "settled"
        if self.number >= self.policy.attempts:
            return "attempts"
        time_left = left()
        if time_left is not None and wait >= time_left:
            return "deadline"
        if self.frame.root.left.retries < 1 or self.frame.root.left.attempts < 1:
            return "root"
        if self.retrier.tokens is not None and not self.retrier.tokens.withdraw():
            return "budget"
        return None if self.frame.root.spend_retry() else "root"


_WHY = {
    "kind": "it is no failure that another attempt could help",
    "settled": "a call inside has retried it, or was refused by its retry budget",
    "attempts": "the policy's attempts are used up",
    "deadline": "the wait would pass the time left",
    "root": "the root request's allowance of retries or attempts is used up",
    "budget": "the retry budget across calls is used up",
}
"""What each rule says, where a retry was refused."""
