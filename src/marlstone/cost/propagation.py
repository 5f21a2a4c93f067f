"""A root request, its allowance and its deadline over HTTP: headers of a call, and of its answer.

A caller, in an attempt of `Retrier.call`:

    with outgoing(attempt) as sent:
        answer = connection.request(..., headers=sent.headers)
        sent.answered(answer.headers)

Who serves it, around all that the request does:

    with incoming(request.headers) as served:
        ...                        # calls made here spend from what the caller lent
    reply.headers.update(served.headers(error))

| header | meaning |
|---|---|
| `Idempotency-Key` | the same for every attempt of a call |
| `Marlstone-Root` | id of the root request |
| `Marlstone-Retries`, `Marlstone-Attempts` | lent to the callee; in an answer: used of that |
| `Marlstone-Depth`, `Marlstone-Again` | calls around this one; 1 where any of them is a retry |
| `Marlstone-Timeout-Ms` | milliseconds left: a time span, since clocks differ |
| `Marlstone-Settled` | in an answer: 1 where the failure was already retried below, so that nobody above should |

What is received is bounded by the server's own limits: it can only shorten a deadline and lessen an allowance.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from marlstone.cost.deadlines import Clock, left, within
from marlstone.cost.idempotency import HEADER
from marlstone.cost.retries import Attempt, is_settled
from marlstone.cost.root_requests import ATTEMPTS, RETRIES, Frame, Loan, RootRequest, current_frame, entered

ROOT, SETTLED, TIMEOUT = "Marlstone-Root", "Marlstone-Settled", "Marlstone-Timeout-Ms"
RETRIES_LENT, ATTEMPTS_LENT = "Marlstone-Retries", "Marlstone-Attempts"
DEPTH, AGAIN = "Marlstone-Depth", "Marlstone-Again"
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
DEEPEST = 64


@dataclass
class Sent:
    """One attempt on its way to another process.

    Attributes:
      headers: to send with it.
      settled: whether the answer says that the failure was already retried below; raise `CallFailed(settled=True)` then.
      used: of the loan, as the answer says; None until it came.
    """

    headers: dict[str, str]
    loan: Loan
    settled: bool = False
    used: Loan | None = None

    def answered(self, headers: Mapping[str, str]) -> None:
        """Read the headers of the answer; a service that does not know them has used nothing."""
        retries, attempts = (_number(headers, name, 0, most) for name, most in _lent(self.loan))
        self.used = Loan(retries or 0, attempts or 0)
        self.settled = _get(headers, SETTLED) == "1"


@contextmanager
def outgoing(attempt: Attempt, fan_out: int = 1) -> Iterator[Sent]:
    """Lend the callee a part of the root's allowance for as long as the attempt lasts; without an answer all of it counts as used.

    `fan_out`: how many such calls are made at once, which share what there is.
    """
    frame, time_left = current_frame(), left()
    loan = attempt.root.lend(fan_out)
    headers = {HEADER: attempt.key, ROOT: attempt.root.id, DEPTH: str(attempt.depth)}
    headers |= {name: str(value) for name, value in _lent(loan)}
    if frame is not None and frame.again:
        headers[AGAIN] = "1"
    if time_left is not None:
        headers[TIMEOUT] = str(max(1, int(1000 * time_left)))
    sent = Sent(headers, loan)
    try:
        yield sent
    finally:
        attempt.root.settle(loan, sent.used)


@dataclass
class Received:
    """One request that came from another process.

    Attributes:
      root: with the allowance that was lent.
      key: idempotency key, or None.
    """

    root: RootRequest
    key: str | None

    def headers(self, error: BaseException | None = None) -> dict[str, str]:
        """Of the answer: what was used of the allowance, and whether `error` is one that nobody above should retry."""
        used = {name: str(value) for name, value in _lent(self.root.used)}
        return used | ({SETTLED: "1"} if is_settled(error) else {})


@contextmanager
def incoming(
    headers: Mapping[str, str], retries: int = RETRIES, attempts: int = ATTEMPTS, seconds: float | None = None, clock: Clock | None = None
) -> Iterator[Received]:
    """What runs inside belongs to the caller's root request. `retries`, `attempts` and `seconds` are limits of this server's own: what
    a request without headers gets, and the most that any gets."""
    lent = [_number(headers, name, 0, most) for name, most in _lent(Loan(retries, attempts))]
    of_retries, of_attempts = (most if value is None else value for value, most in zip(lent, (retries, attempts)))
    key = _get(headers, HEADER)
    root = RootRequest(of_retries, of_attempts, _known(_get(headers, ROOT)))
    milliseconds = _number(headers, TIMEOUT, 1, 10**9)
    limits = [s for s in (seconds, None if milliseconds is None else milliseconds / 1000) if s is not None]
    frame = Frame(root, _number(headers, DEPTH, 0, DEEPEST) or 0, _get(headers, AGAIN) == "1")
    with within(min(limits) if limits else None, clock), entered(frame):
        yield Received(root, _known(None if key is None else key.strip('"')))


def _lent(loan: Loan) -> tuple[tuple[str, int], tuple[str, int]]:
    return (RETRIES_LENT, loan.retries), (ATTEMPTS_LENT, loan.attempts)


def _get(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value, however its name is spelled."""
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def _known(text: str | None) -> str | None:
    """An id or key, or None for anything that is none."""
    return text if text is not None and _ID.fullmatch(text) else None


def _number(headers: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A received number within limits; None for none, or for anything else."""
    text = _get(headers, name)
    if text is None or not re.fullmatch(r"[0-9]{1,12}", text):
        return None
    return min(max(int(text), least), most)
