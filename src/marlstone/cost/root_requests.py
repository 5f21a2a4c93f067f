"""A root request: what came from outside, with everything that is called in its name, which shares one allowance.

Layers that each retry multiply: three of four attempts are 64 calls at the bottom. Here they all spend from the root's allowance
of retries, and of attempts (first ones included: what fan-out multiplies), so the whole tree has a limit:

    attempts at the bottom of a chain <= 1 + retries,     attempts in the whole tree <= attempts

A context variable carries the root through plain calls, `asyncio` tasks, and threads started in a copy of the context. To another
process a part of the allowance is lent (`lend`), as headers (`cost.propagation`); what was lent is gone here until the answer
says what of it was used, so that no two branches spend the same retry. An answer that never comes counts as all used.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from marlstone.cost.deadlines import Clock, within

RETRIES = 3
ATTEMPTS = 64


@dataclass(frozen=True)
class Loan:
    """A part of a root's allowance, handed to another process.

    Attributes:
      retries, attempts: how many of each.
    """

    retries: int
    attempts: int


class RootRequest:
    """The allowance of one root request: thread-safe, only ever spent.

    Attributes:
      id: the same in every process that works for this root.
    """

    def __init__(self, retries: int = RETRIES, attempts: int = ATTEMPTS, id: str | None = None) -> None:
        if retries < 0 or attempts < 0:
            raise ValueError(f"RootRequest has {retries} retries and {attempts} attempts: give 0 or more of each")
        self.id = id or uuid.uuid4().hex
        self._lock = threading.Lock()
        self._retries, self._attempts = retries, attempts
        self._used = Loan(0, 0)

    @property
    def left(self) -> Loan:
        """What is not spent and not lent."""
        with self._lock:
            return Loan(self._retries, self._attempts)

    @property
    def used(self) -> Loan:
        """What was spent, here and by those who were lent a part."""
        with self._lock:
            return self._used

    def spend_attempt(self) -> bool:
        """One first attempt; False, and nothing spent, where none is left."""
        return self._spend(Loan(0, 1))

    def spend_retry(self) -> bool:
        """One retry, which is an attempt too; False, and nothing spent, where either is used up."""
        return self._spend(Loan(1, 1))

    def _spend(self, much: Loan) -> bool:
        with self._lock:
            if self._retries < much.retries or self._attempts < much.attempts:
                return False
            self._retries -= much.retries
            self._attempts -= much.attempts
            self._used = Loan(self._used.retries + much.retries, self._used.attempts + much.attempts)
            return True

    def lend(self, fan_out: int = 1) -> Loan:
        """Hand a part over: one retry is kept and the rest divided among `fan_out` callees, for those nearest to a failure retry it
        most cheaply; of the attempts, equal parts go to each and to this process."""
        if fan_out < 1:
            raise ValueError(f"lend(fan_out={fan_out}): give how many callees work at once, 1 or more")
        with self._lock:
            loan = Loan(max(0, self._retries - 1) // fan_out, self._attempts // (fan_out + 1))
            self._retries -= loan.retries
            self._attempts -= loan.attempts
            return loan

    def settle(self, loan: Loan, used: Loan | None) -> None:
        """A loan comes back: what was `used` of it stays spent. None: nobody knows, so all of it was."""
        spent = loan if used is None else Loan(min(max(used.retries, 0), loan.retries), min(max(used.attempts, 0), loan.attempts))
        with self._lock:
            self._retries += loan.retries - spent.retries
            self._attempts += loan.attempts - spent.attempts
            self._used = Loan(self._used.retries + spent.retries, self._used.attempts + spent.attempts)


@dataclass(frozen=True)
class Frame:
    """Where in a root request's tree of calls this code runs.

    Attributes:
      root: whose allowance is spent.
      depth: calls around this one, 0 outside of any.
      again: whether any call around this one is a retry, so that requests made here are none of the caller's own.
      budgets: token buckets that calls around this one have put their request into.
    """

    root: RootRequest
    depth: int = 0
    again: bool = False
    budgets: frozenset[object] = frozenset()


_FRAME: ContextVar[Frame | None] = ContextVar("marlstone_root_request", default=None)


def current_frame() -> Frame | None:
    """Where this code runs, or None outside of any root request."""
    return _FRAME.get()


@contextmanager
def entered(frame: Frame) -> Iterator[Frame]:
    """What runs inside runs in `frame`."""
    token = _FRAME.set(frame)
    try:
        yield frame
    finally:
        _FRAME.reset(token)


def inside(frame: Frame, again: bool, budget: object | None) -> Frame:
    """The frame of an attempt made in `frame`: one level deeper."""
    budgets = frame.budgets if budget is None else frame.budgets | {budget}
    return replace(frame, depth=frame.depth + 1, again=frame.again or again, budgets=budgets)


@contextmanager
def root_request(
    retries: int = RETRIES, attempts: int = ATTEMPTS, seconds: float | None = None, clock: Clock | None = None
) -> Iterator[RootRequest]:
    """What is called inside spends from one allowance, and has `seconds` together.

    Inside another root request this is a part of it: its allowance goes on, and only `seconds` may be less. Raises ValueError for
    a negative allowance or a limit that is no number of seconds above 0.
    """
    outer = _FRAME.get()
    frame = outer or Frame(RootRequest(retries, attempts))
    with within(seconds, clock), entered(frame):
        yield frame.root
