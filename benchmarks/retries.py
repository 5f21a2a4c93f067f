"""Three layers of four attempts each, over real HTTP on loopback: calls per root request while the bottom fails, and recovery after it.

    python benchmarks/retries.py [--roots 1000] [--rate 50] [--outage 8] [--after 20]

A client calls service A, which calls B, which calls C; each of the three hops may make four attempts. `uncapped`: every hop retries on its
own (stamina, nothing else). `ours`: the defaults of `RetryBudget`, a root's allowance and deadlines handed down in headers. Waits are 10 to
20 ms on both sides, so that 64 calls take seconds and not minutes.

Calls at C per root request: C answers 503 to everything. Recovery: root requests arrive at 5 a second whatever becomes of them, C can
serve 10 a second and queues up to 64, the rest is answered 503; it fails for `--outage` seconds. Back to normal: the first second from
which on all requests that arrive succeed within their two seconds, until the end.
"""

import argparse
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from record import stamp, write

from marlstone.cost.deadlines import DeadlinePassed
from marlstone.cost.http_calls import CallRefused, post_json
from marlstone.cost.propagation import incoming
from marlstone.cost.retries import AttemptsUsedUp, CallFailed, Retrier, RetryPolicy
from marlstone.cost.retry_budget import RetryBudget, RetryTokens

SECONDS = 2.0
ARRIVALS, CAPACITY = 5, 10
OURS = RetryPolicy(attempts=4, timeout=SECONDS, attempt_timeout=0.5, wait_initial=0.01, wait_jitter=0.01)
UNCAPPED = RetryPolicy(
    attempts=4,
    timeout=60.0,
    attempt_timeout=0.5,
    wait_initial=0.01,
    wait_jitter=0.01,
    root_retries=10**6,
    root_attempts=10**6,
    retry_settled=True,
)
FAILURES = (CallFailed, CallRefused, ConnectionError, TimeoutError, AttemptsUsedUp, DeadlinePassed)


def client(ours: bool) -> Retrier:
    """One hop's client."""
    return Retrier(OURS, RetryTokens(RetryBudget())) if ours else Retrier(UNCAPPED)


class Layer:
    """One service: `work` is what it does for a request; a failure is answered 503."""

    def __init__(self, ours: bool, work: Callable[[], None]) -> None:
        layer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with layer.lock:
                    layer.asked += 1
                headers = dict(self.headers) if ours else {}
                with incoming(headers, *(() if ours else (10**6, 10**6))) as received:
                    try:
                        work()
                        status, extra = 200, received.headers()
                    except FAILURES as error:
                        status, extra = 503, received.headers(error)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": "2", **(extra if ours else {})}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(b"{}")
                except OSError:
                    pass  # the caller has given up

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            request_queue_size, daemon_threads = 512, True

            def handle_error(self, *_: Any) -> None: ...

        self.asked, self.lock = 0, threading.Lock()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Bottom:
    """What C does: fails while `down`, else takes `seconds` of its one worker, with a bounded queue."""

    def __init__(self, seconds: float = 0.0, queue: int = 64) -> None:
        self.down, self.seconds, self.worker, self.queue = True, seconds, threading.Lock(), threading.Semaphore(queue)

    def __call__(self) -> None:
        if self.down:
            raise CallFailed("down")
        if not self.queue.acquire(blocking=False):
            raise CallFailed("the queue is full")
        try:
            with self.worker:
                time.sleep(self.seconds)
        finally:
            self.queue.release()


class Services:
    """C below B below A, and the client of A."""

    def __init__(self, ours: bool, bottom: Bottom) -> None:
        self.retriers = [client(ours) for _ in range(3)]
        self.c = Layer(ours, bottom)
        self.b = Layer(ours, lambda: self.ask(2, self.c.url))
        self.a = Layer(ours, lambda: self.ask(1, self.b.url))
        self.ours = ours

    def ask(self, hop: int, url: str) -> None:
        self.retriers[hop].call(lambda attempt: post_json(url, {}, attempt, propagate=self.ours))

    def root(self) -> bool:
        """One root request from outside."""
        try:
            self.ask(0, self.a.url)
            return True
        except FAILURES:
            return False

    def close(self) -> None:
        for layer in (self.a, self.b, self.c):
            layer.server.shutdown()
            layer.server.server_close()


def arrivals(
    services: Services, seconds: float, rate: float, at: Callable[[float], None] = lambda _: None
) -> list[tuple[float, bool, float]]:
    """Requests that arrive at `rate`, whatever becomes of earlier ones: when each arrived, whether in time, its seconds."""
    done: list[tuple[float, bool, float]] = []
    lock, threads, began = threading.Lock(), [], time.monotonic()

    def one(arrived: float) -> None:
        good = services.root()
        took = time.monotonic() - began - arrived
        with lock:
            done.append((arrived, good and took <= SECONDS, took))

    for k in range(int(seconds * rate)):
        time.sleep(max(0.0, began + k / rate - time.monotonic()))
        at(time.monotonic() - began)
        threads.append(threading.Thread(target=one, args=(time.monotonic() - began,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(max(0.1, began + seconds + 5 - time.monotonic()))
    with lock:
        return sorted(done)


def calls_per_root(ours: bool, roots: int, rate: float) -> dict[str, Any]:
    """Calls at each layer while C fails."""
    services = Services(ours, Bottom())
    if ours:
        arrivals(services, roots / rate, rate)
    else:
        for _ in range(roots):
            services.root()
    asked = {name: getattr(services, name).asked for name in "abc"}
    counts = [r.counter.counts() for r in services.retriers]
    services.close()
    return {
        "roots": roots,
        "calls_per_root": asked["c"] / roots,
        "asked": asked,
        "retries": [c.retries for c in counts],
        "refused": [c.refused for c in counts],
        "slept_us": [c.slept_us for c in counts],
        "requests_per_second": rate if ours else None,
    }


def recovery(ours: bool, before: float, outage: float, after: float) -> dict[str, Any]:
    """Seconds from the outage's end until all goes well again."""
    bottom = Bottom(seconds=1 / CAPACITY)
    bottom.down = False
    services = Services(ours, bottom)

    def at(now: float) -> None:
        bottom.down = before <= now < before + outage

    done = arrivals(services, before + outage + after, ARRIVALS, at)
    asked = services.c.asked
    services.close()
    ends, whole = before + outage, before + outage + after
    good = [[g for t, g, _ in done if s <= t < s + 1] for s in range(int(whole))]
    share = [sum(g) / ARRIVALS for g in good]
    failed = [t for t, g, _ in done if not g and t >= ends]
    unfinished = int(whole * ARRIVALS) - len(done)
    last = max(failed, default=ends) - ends
    return {
        "normal_after_seconds": None if unfinished or last > after - 2 else round(last, 2),
        "succeeded_before": sum(g for t, g, _ in done if t < before) / (before * ARRIVALS),
        "succeeded_by_second": share,
        "calls_at_c": asked,
        "unfinished": unfinished,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roots", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0, help="root requests a second")
    parser.add_argument("--before", type=float, default=4.0, help="seconds before the outage")
    parser.add_argument("--outage", type=float, default=8.0, help="seconds")
    parser.add_argument("--after", type=float, default=20.0, help="seconds watched after it")
    flags = parser.parse_args()
    logging.getLogger("stamina").setLevel(logging.ERROR)  # it tells every retry
    failing = {"uncapped": calls_per_root(False, 20, 0), "ours": calls_per_root(True, flags.roots, flags.rate)}
    print(json.dumps({k: v["calls_per_root"] for k, v in failing.items()}), file=sys.stderr)
    recovered = {
        "ours": recovery(True, flags.before, flags.outage, flags.after),
        "uncapped": recovery(False, flags.before, flags.outage, flags.after),
    }
    print(json.dumps({k: v["normal_after_seconds"] for k, v in recovered.items()}), file=sys.stderr)
    write("retries", {"failing": failing, "recovery": recovered, "outage_seconds": flags.outage, "watched_seconds": flags.after, **stamp()})
    seconds = recovered["ours"]["normal_after_seconds"]
    return 0 if failing["ours"]["calls_per_root"] <= 1.25 and seconds is not None and seconds <= 10 else 3


if __name__ == "__main__":
    sys.exit(main())
