"""One JSON request over real loopback HTTP: bounded in time and size, and clear about what another attempt could help."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from marlstone.core.errors import UserError
from marlstone.cost.http_calls import Answer, CallRefused, post_json
from marlstone.cost.propagation import incoming
from marlstone.cost.retries import CallFailed, Retrier, RetryPolicy
from marlstone.cost.root_requests import root_request

ONCE = RetryPolicy(attempts=1, timeout=10.0, wait_initial=0.0, wait_jitter=0.0)
QUICK = RetryPolicy(attempts=4, timeout=10.0, wait_initial=0.0, wait_jitter=0.0)


@contextmanager
def serving(work: Callable[[BaseHTTPRequestHandler, Any], None]) -> Iterator[str]:
    """A server whose every request is `work(handler, body)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            work(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x"
    finally:
        server.shutdown()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def ask(url: str, policy: RetryPolicy = ONCE, **more: Any) -> Answer:
    return Retrier(policy).call(lambda attempt: post_json(url, {"n": 1}, attempt, **more))


def test_what_is_sent_comes_back() -> None:
    with serving(lambda h, body: reply(h, 200, json.dumps([body, h.headers["Idempotency-Key"]]).encode(), X_One="1")) as url:
        answer = Retrier(ONCE).call(lambda a: post_json(url, {"n": 1}, a), key="k-7")
    assert answer.body == [{"n": 1}, "k-7"] and answer.headers["x-one"] == "1"


@pytest.mark.parametrize(("status", "attempts"), [(503, 4), (429, 4), (400, 1), (404, 1), (302, 1)])
def test_statuses_that_may_better_are_retried_and_others_are_not(status: int, attempts: int) -> None:
    asked = list[int]()
    with serving(lambda h, body: (asked.append(1), reply(h, status, b"no", Location="http://127.0.0.1:1/", Retry_After="0"))[1]) as url:  # type: ignore[func-returns-value]
        with pytest.raises((CallFailed, CallRefused), match=f"answered {status}: 'no'"):
            ask(url, QUICK)
    assert len(asked) == attempts


def test_an_answer_is_bounded_in_size_and_must_be_json() -> None:
    with serving(lambda h, body: reply(h, 200, b'"' + b"x" * 5000 + b'"')) as url:
        with pytest.raises(CallRefused, match="answered with more than 1000 bytes"):
            ask(url, most=1000)
        assert len(ask(url, most=5002).body) == 5000
    with serving(lambda h, body: reply(h, 200, b"<html>")) as url, pytest.raises(CallRefused, match="no JSON: '<html>'"):
        ask(url)


def test_an_answer_that_breaks_off_or_drips_is_a_failure_in_time() -> None:
    def short(h: BaseHTTPRequestHandler, body: Any) -> None:
        reply(h, 200, b"[1,", Content_Length="100")

    def drips(h: BaseHTTPRequestHandler, body: Any) -> None:
        h.send_response(200)
        h.end_headers()
        for _ in range(200):
            try:
                h.wfile.write(b" ")
            except OSError:
                return
            time.sleep(0.02)

    with serving(short) as url, pytest.raises(CallFailed, match="broke off"):
        ask(url)
    with serving(drips) as url, pytest.raises(TimeoutError):
        ask(url, RetryPolicy(attempts=1, timeout=0.2))


def test_allowance_and_deadline_go_down_and_what_was_used_comes_back() -> None:
    seen = list[tuple[int, int, int]]()

    def work(h: BaseHTTPRequestHandler, body: Any) -> None:
        with incoming(dict(h.headers)) as received:
            left = received.root.left
            seen.append((left.retries, left.attempts, int(h.headers["Marlstone-Timeout-Ms"])))
            assert received.root.spend_attempt() and received.root.spend_retry()
            reply(h, 503, b"down", Retry_After="0", **received.headers(CallFailed("below", settled=True)))

    with serving(work) as url, root_request(retries=3, attempts=21) as root, pytest.raises(CallFailed) as caught:
        ask(url, QUICK, propagate=True)
    assert seen[0][:2] == (2, 10) and seen[0][2] <= 10_000
    assert caught.value.settled and len(seen) == 1  # retried below, so not here
    assert (root.used.retries, root.used.attempts) == (1, 3)


def test_an_address_that_is_none_is_refused() -> None:
    for url in ("file:///etc/passwd", "127.0.0.1:80", "http://"):
        with pytest.raises(UserError, match="is no address"):
            ask(url)
