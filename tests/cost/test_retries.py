"""Retries: what one call does, what bounds all of them together, and that every one of them is counted."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.cost.deadlines import DeadlinePassed, left, within
from marlstone.cost.retries import Attempt, AttemptsUsedUp, CallFailed, Retrier, RetryPolicy
from marlstone.cost.retry_budget import RetryBudget, RetryTokens
from marlstone.cost.retry_counts import RetryCounter
from marlstone.cost.root_requests import root_request
from tests.cost.clock import Clock

QUICK = RetryPolicy(wait_initial=0.0, wait_jitter=0.0, timeout=None)


class Down:
    """A service that fails `times` times, and remembers who asked."""

    def __init__(self, times: int = 10**9) -> None:
        self.times, self.asked = times, list[Attempt]()

    def __call__(self, attempt: Attempt) -> str:
        self.asked.append(attempt)
        if len(self.asked) <= self.times:
            raise CallFailed("down")
        return "up"


def layers(bottom: Down, *retriers: Retrier) -> str:
    """Calls inside calls, the last retrier's nearest to the service."""
    first, *rest = retriers
    return first.call(lambda attempt: layers(bottom, *rest) if rest else bottom(attempt))


def test_a_call_is_retried_under_one_key_until_it_succeeds() -> None:
    service, retrier = Down(2), Retrier(QUICK)
    assert retrier.call(service) == "up"
    assert [a.number for a in service.asked] == [1, 2, 3] and len({a.key for a in service.asked}) == 1
    counts = retrier.counter.counts()
    assert (counts.requests, counts.attempts, counts.retries, counts.failures, counts.successes) == (1, 3, 2, 2, 1)


def test_the_last_failure_itself_is_raised_with_the_rule_that_refused() -> None:
    with pytest.raises(CallFailed) as caught:
        Retrier(QUICK).call(Down())
    assert caught.value.__notes__ == ["attempt 4 of a call was not retried: the policy's attempts are used up"]
    retrier = Retrier(QUICK)
    with pytest.raises(KeyError):
        retrier.call(lambda attempt: {}["nothing"])
    assert retrier.counter.counts().refused == {"kind": 1} and retrier.counter.counts().attempts == 1


@pytest.mark.parametrize("shared", [True, False])
def test_three_layers_of_four_attempts_are_four_calls_not_sixty_four(shared: bool) -> None:
    bottom = Down()
    with pytest.raises(CallFailed), root_request() if shared else within(None):
        layers(bottom, *(Retrier(QUICK) for _ in range(3)))
    assert len(bottom.asked) == 4
    alone = Down()
    loose = RetryPolicy(wait_initial=0.0, wait_jitter=0.0, root_retries=10**6, root_attempts=10**6, retry_settled=True)
    with pytest.raises(CallFailed):
        layers(alone, *(Retrier(loose) for _ in range(3)))
    assert len(alone.asked) == 64


def test_at_total_failure_a_root_request_costs_no_more_than_its_share_of_retries() -> None:
    clock, bottom, roots = Clock(), Down(), 400
    budget = RetryBudget(ratio=0.2, minimum=0.5)
    retriers = [Retrier(QUICK, RetryTokens(budget, clock), clock=clock) for _ in range(3)]
    for _ in range(roots):
        clock.now += 0.05
        with pytest.raises(CallFailed):
            layers(bottom, *retriers)
    assert 1.2 * roots <= len(bottom.asked) <= 1.2 * roots + budget.minimum * (clock.now + budget.ttl)
    assert sum(r.counter.counts().retries for r in retriers[:2]) == 0  # nobody above retries what was retried below


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=120),
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.sampled_from([0.0, 0.3, 2.0]),
)
def test_retries_within_any_life_span_are_at_most_their_share_of_requests(
    events: list[tuple[float, bool]], ratio: float, minimum: float
) -> None:
    clock = Clock()
    tokens = RetryTokens(RetryBudget(ratio, minimum, ttl=5.0), clock)
    requests, retries = list[float](), list[float]()
    for wait, request in events:
        clock.now += wait
        if request:
            tokens.deposit()
            requests.append(clock.now)
        elif tokens.withdraw():
            retries.append(clock.now)
            since = clock.now - 5.0
            counted = sum(t > since for t in retries)
            assert counted <= ratio * sum(t > since - 0.5 for t in requests) + minimum * 5.0 + 1e-6


def test_a_request_inside_a_retry_puts_nothing_into_the_budget() -> None:
    clock = Clock()
    outer, inner = (RetryTokens(RetryBudget(ratio=1.0, minimum=0.0), clock) for _ in range(2))
    policy = RetryPolicy(wait_initial=0.0, wait_jitter=0.0, retry_settled=True, attempts=2, root_retries=9)
    with pytest.raises(CallFailed):
        layers(Down(), Retrier(policy, outer, clock=clock), Retrier(policy, inner, clock=clock))
    assert outer.balance() == 0 and inner.balance() == 0  # one each, spent: the second request inside added none
    both = RetryTokens(RetryBudget(ratio=0.5, minimum=0.0), clock)
    Retrier(QUICK, both, clock=clock).call(lambda _: Retrier(QUICK, both, clock=clock).call(Down(0)))
    assert both.balance() == 0.5


def test_no_call_is_given_more_time_than_its_callers_have() -> None:
    clock, seen = Clock(), list[float | None]()

    def slow(attempt: Attempt) -> None:
        seen.append(attempt.timeout)
        clock.now += 4.0
        raise CallFailed("slow")

    policy = RetryPolicy(timeout=100.0, attempt_timeout=30.0, wait_initial=0.001, wait_jitter=0.0)
    retrier = Retrier(policy, clock=clock)
    with within(6.0, clock), pytest.raises(CallFailed, match="slow"):
        retrier.call(lambda attempt: retrier.call(slow))
    assert seen == [6.0, 2.0] and retrier.counter.counts().refused["deadline"] == 1
    assert left() is None
    with within(1.0, clock):
        clock.now += 1.0
        with pytest.raises(DeadlinePassed):
            retrier.call(slow)
    assert len(seen) == 2 and retrier.counter.counts().not_begun == {"deadline": 1}


def test_fan_out_times_attempts_is_bounded_by_the_roots_attempts() -> None:
    calls, retrier = list[int](), Retrier(QUICK)

    def tree(attempt: Attempt) -> None:
        calls.append(attempt.depth)
        for _ in range(5 if attempt.depth < 4 else 0):
            retrier.call(tree)

    with root_request(attempts=20) as root, pytest.raises(AttemptsUsedUp):
        retrier.call(tree)
    assert len(calls) == 20 == root.used.attempts and retrier.counter.counts().depth == 4


def test_nothing_is_printed_by_a_retry() -> None:
    """Even where stamina would report by structlog, which prints to stdout."""
    program = (
        "import stamina, sys\n"
        "def report(details): print('retried')\n"
        "report.__module__ = 'stamina.instrumentation._structlog'\n"
        "stamina.instrumentation.set_on_retry_hooks([report])\n"
        "from marlstone.cost.retries import *\n"
        "def ask(attempt):\n"
        "    if attempt.number == 1: raise CallFailed('down')\n"
        "    return attempt.number\n"
        "assert Retrier(RetryPolicy(wait_initial=0.0, wait_jitter=0.0)).call(ask) == 2"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_and_tasks_share_one_budget_and_all_of_it_is_counted() -> None:
    clock = Clock()
    tokens = RetryTokens(RetryBudget(ratio=0.1, minimum=1.0), clock)
    retrier, agent = Retrier(QUICK, tokens, clock=clock), RetryCounter()

    def one(_: int) -> None:
        with pytest.raises(CallFailed):
            retrier.call(Down(), counter=agent)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(200)))
    counts = retrier.counter.counts()
    assert counts == agent.counts()
    assert counts.requests == 200 and counts.attempts == counts.requests + counts.retries == counts.failures
    assert 20 <= counts.retries <= 30 and counts.sleeping == 0


def test_a_retry_that_still_sleeps_is_counted_and_a_cancelled_one_is_told_apart() -> None:
    retrier = Retrier(RetryPolicy(wait_initial=60.0, wait_max=60.0, timeout=None))

    async def down(attempt: Attempt) -> None:
        raise CallFailed("down")

    async def cancelled() -> None:
        task = asyncio.create_task(retrier.call_async(down))
        while retrier.counter.counts().sleeping == 0:
            await asyncio.sleep(0)
        asleep = retrier.counter.counts()
        assert (asleep.attempts, asleep.retries, asleep.failures) == (2, 1, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    after = retrier.counter.counts()
    assert (after.sleeping, after.abandoned, after.attempts) == (0, 1, 2)


def test_coroutines_are_retried_and_nested_as_plain_calls_are() -> None:
    retriers, bottom = [Retrier(QUICK) for _ in range(3)], Down()

    async def nested(k: int, attempt: Attempt) -> str:
        if k == 3:
            return bottom(attempt)
        return await retriers[k].call_async(lambda a: nested(k + 1, a))

    with pytest.raises(CallFailed):
        asyncio.run(retriers[0].call_async(lambda a: nested(1, a)))
    assert len(bottom.asked) == 4


def test_a_service_says_how_long_to_wait() -> None:
    retrier = Retrier(RetryPolicy(timeout=30.0))

    def busy(attempt: Attempt) -> None:
        raise CallFailed("busy", retry_after=60.0)

    with pytest.raises(CallFailed):
        retrier.call(busy)
    assert retrier.counter.counts().refused == {"deadline": 1}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.floats(0, 1))
def test_waits_grow_with_jitter_and_never_beyond_their_maximum(n: int, u: float) -> None:
    policy = RetryPolicy(wait_initial=0.1, wait_base=2.0, wait_jitter=1.0, wait_max=5.0)
    wait = policy.wait(n, lambda a, b: a + u * (b - a))
    assert wait == pytest.approx(min(5.0, 0.1 * 2.0 ** (n - 1) + u))


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"timeout": 0.0}, {"attempt_timeout": -1.0}, {"wait_max": float("nan")}, {"wait_base": 0.5}, {"root_retries": -1}],
)
def test_a_policy_that_cannot_be_is_refused_with_a_remedy(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"RetryPolicy.{next(iter(wrong))} is .*: give "):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"RetryBudget\.ratio is 1\.5: give"):
        RetryBudget(ratio=1.5)


def test_a_thread_in_a_copy_of_the_context_spends_from_the_same_root() -> None:
    with root_request(retries=3) as root:
        contexts = [contextvars.copy_context() for _ in range(8)]
        failed = list[BaseException]()

        def work(context: contextvars.Context) -> None:
            with pytest.raises(CallFailed) as caught:
                context.run(Retrier(QUICK).call, Down())
            failed.append(caught.value)

        threads = [threading.Thread(target=work, args=(c,)) for c in contexts]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(failed) == 8 and root.used.retries == 3 and root.used.attempts == 11
