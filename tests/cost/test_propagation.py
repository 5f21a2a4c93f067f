"""Between processes: a root's allowance is lent and never doubled, deadlines only shrink, and what was served is not done twice."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.cost.deadlines import DeadlinePassed, left, within
from marlstone.cost.idempotency import KeyReused, Served
from marlstone.cost.propagation import incoming, outgoing
from marlstone.cost.retries import Attempt, CallFailed, Retrier, RetryPolicy
from marlstone.cost.retry_budget import RetryBudget, RetryTokens
from marlstone.cost.root_requests import RootRequest, current_frame, root_request
from tests.cost.clock import Clock

QUICK = RetryPolicy(wait_initial=0.0, wait_jitter=0.0)


class Layer:
    """A process as far as headers go: it forgets its caller's context, and calls the next one with a client of its own."""

    def __init__(self, below: "Layer | None", retrier: Retrier | None = None) -> None:
        self.below, self.retrier, self.asked = below, retrier or Retrier(QUICK), 0

    def serve(self, headers: dict[str, str]) -> tuple[bool, dict[str, str]]:
        """Whether it worked, and the headers of the answer."""
        self.asked += 1
        with ThreadPoolExecutor(1) as elsewhere:  # a thread without the caller's context variables
            return elsewhere.submit(self._serve, headers).result()

    def _serve(self, headers: dict[str, str]) -> tuple[bool, dict[str, str]]:
        with incoming(headers) as received:
            try:
                self.work()
            except CallFailed as error:
                return False, received.headers(error)
            return True, received.headers()

    def work(self) -> None:
        """Ask the layer below, or fail if there is none."""
        if self.below is None:
            raise CallFailed("down")
        self.retrier.call(self.ask)

    def ask(self, attempt: Attempt) -> None:
        """One attempt, over headers."""
        assert self.below is not None
        with outgoing(attempt) as sent:
            worked, headers = self.below.serve(sent.headers)
            sent.answered(headers)
            if not worked:
                raise CallFailed("down", settled=sent.settled)


def test_three_processes_of_four_attempts_are_four_calls_not_sixty_four() -> None:
    bottom = Layer(None)
    top = Layer(Layer(Layer(bottom)))
    with pytest.raises(CallFailed), root_request() as root:
        top.work()
    assert bottom.asked <= 4
    assert root.used.retries <= 3


def test_at_total_failure_three_processes_keep_to_one_share_of_retries() -> None:
    clock, budget, roots = Clock(), RetryBudget(ratio=0.2, minimum=0.5), 200
    client = lambda: Retrier(QUICK, RetryTokens(budget, clock))
    bottom = Layer(None)
    top = Layer(Layer(Layer(bottom, client()), client()), client())
    for _ in range(roots):
        clock.now += 0.1
        with pytest.raises(CallFailed):
            top.work()
    assert 1.15 * roots <= bottom.asked <= 1.2 * roots + budget.minimum * (clock.now + budget.ttl)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_lent_is_never_spent_twice_whatever_answers_are_lost(data: st.DataObject) -> None:
    retries, attempts = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 30))
    real = Counter[str]()

    def process(root: RootRequest, depth: int) -> None:
        for _ in range(data.draw(st.integers(0, 3))):
            if not root.spend_attempt():
                return
            real["attempts"] += 1
            if root.spend_retry():
                real["retries"] += 1
                real["attempts"] += 1
            loan = root.lend(data.draw(st.integers(1, 3)))
            there = RootRequest(loan.retries, loan.attempts)
            if depth < 3:
                process(there, depth + 1)
            root.settle(loan, there.used if data.draw(st.booleans()) else None)

    root = RootRequest(retries, attempts)
    process(root, 0)
    assert real["retries"] <= root.used.retries <= retries and real["attempts"] <= root.used.attempts <= attempts


def test_a_deadline_shrinks_on_its_way_and_a_server_keeps_its_own_limit() -> None:
    clock = Clock()

    def serve(headers: dict[str, str], seconds: float | None) -> float | None:
        with incoming(headers, seconds=seconds, clock=clock):
            return left()

    def ask(attempt: Attempt) -> tuple[float | None, float | None]:
        clock.now += 2.0
        with outgoing(attempt) as sent, ThreadPoolExecutor(1) as elsewhere:
            return tuple(elsewhere.submit(serve, sent.headers, s).result() for s in (None, 1.0))  # type: ignore[return-value]

    with within(5.0, clock):
        assert Retrier(QUICK).call(ask) == (3.0, 1.0)
    assert serve({"Marlstone-Timeout-Ms": "99999999"}, 2.5) == 2.5 and serve({}, None) is None


@pytest.mark.parametrize("bad", ["-1", "1e9", "", "\uff19", "1" * 40, "many"])
def test_headers_that_make_no_sense_give_what_a_request_without_them_gets(bad: str) -> None:
    names = ("Marlstone-Retries", "Marlstone-Attempts", "Marlstone-Depth", "Marlstone-Timeout-Ms", "Marlstone-Root")
    with incoming(dict.fromkeys(names, bad), retries=2, attempts=9) as received:
        assert received.root.left.retries == 2 and received.root.left.attempts == 9 and left() is None
    with incoming({"marlstone-retries": "50", "MARLSTONE-ATTEMPTS": "5", "Idempotency-Key": '"k-1"'}, retries=2, attempts=9) as received:
        assert received.root.left.retries == 2 and received.root.left.attempts == 5 and received.key == "k-1"
    assert current_frame() is None


def test_a_served_call_is_not_done_twice() -> None:
    served, done = Served(), list[str]()
    charge = lambda: done.append("charged") or len(done)  # type: ignore[func-returns-value]

    def lost_answer(attempt: Attempt) -> tuple[int, bool]:
        answer = served.once(attempt.key, charge, fingerprint="order 7")
        if attempt.number < 3:
            raise ConnectionResetError("the answer was lost")
        return answer

    assert Retrier(QUICK).call(lost_answer) == (1, True) and done == ["charged"]
    with pytest.raises(KeyReused):
        served.once("k", charge, "a"), served.once("k", charge, "b")


def test_attempts_at_the_same_time_do_the_work_once_and_a_failure_is_not_kept() -> None:
    served, begun, go = Served(), list[int](), threading.Event()

    def work() -> str:
        begun.append(1)
        go.wait()
        if len(begun) == 1:
            raise CallFailed("the first one fails")
        return "done"

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(served.once, "k", work) for _ in range(8)]
        go.set()
        failed = [a for a in answers if a.exception()]
    assert len(failed) == 1 and len(begun) == 2
    assert sum(not a.result()[1] for a in answers if not a.exception()) == 1


def test_tasks_do_the_work_once_too() -> None:
    served, begun = Served(), list[int]()

    async def work() -> str:
        begun.append(1)
        await asyncio.sleep(0)
        if len(begun) == 1:
            raise CallFailed("the first one fails")
        return "done"

    async def all_at_once() -> list[object]:
        return await asyncio.gather(*(served.once_async("k", work) for _ in range(8)), return_exceptions=True)

    answers = asyncio.run(all_at_once())
    assert len(begun) == 2 and sum(isinstance(a, CallFailed) for a in answers) == 1
    assert sorted(a[1] for a in answers if isinstance(a, tuple)) == [False] + [True] * 6


def test_waiting_for_another_attempt_ends_with_the_deadline() -> None:
    served, go = Served(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(served.once, "k", go.wait)
        while not len(served):
            pass
        with within(0.01), pytest.raises(DeadlinePassed):
            served.once("k", lambda: True)
        go.set()


def test_answers_are_forgotten_by_age_and_by_number() -> None:
    clock = Clock()
    served = Served(ttl=10.0, most=2, clock=clock)
    for key in "abc":
        clock.now += 1.0
        served.once(key, lambda: 1)
    assert [served.once(k, lambda: 2)[0] for k in "cba"] == [1, 1, 2]
    clock.now += 11.0
    assert served.once("c", lambda: 3) == (3, False)
