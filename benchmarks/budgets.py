"""Do many callers at once stay within a budget, also when some are killed at random?

    python benchmarks/budgets.py [--calls 10000] [--processes 16] [--threads 4] [--kills 8]

64 callers, 16 processes of 4 threads, call an HTTP server on loopback, whose every answer says what it cost: 1 to 5 units, known
only then. The budget is nine tenths of what all calls would cost. Callers reserve 5 units in one account file and settle what the
answer says; a refused one waits while others hold something, and ends when nobody does. Processes are killed with SIGKILL at
random and replaced. The server's own sum is the truth. Beside it, the same callers check what is left and record what was spent
after each call. Written to results/budgets.json.
"""

import argparse
import http.client
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from marlstone.cost.accounts import Account, Reservation
from marlstone.cost.budgets import Budget
from marlstone.cost.spending import alerts, balances

MOST = 5  # units of a call
LATENCY = 0.004  # seconds


class Priced(BaseHTTPRequestHandler):
    """A call costs 1 to 5 units; `/` makes one, `/sum` says what all cost."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock = threading.Lock()
    total = calls = 0

    def do_GET(self) -> None:
        if self.path == "/sum":
            self._answer({"total": Priced.total, "calls": Priced.calls})
            return
        price = random.randint(1, MOST)
        with Priced.lock:
            Priced.total += price
            Priced.calls += 1
        time.sleep(LATENCY)
        self._answer({"price": price})

    def _answer(self, content: dict[str, int]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return None


def serve() -> None:
    """Until it is killed; says its port first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Priced)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # a caller that was killed
    print(server.server_port, flush=True)
    server.serve_forever()


def asked(connection: http.client.HTTPConnection, path: str = "/") -> dict[str, int]:
    connection.request("GET", path)
    return dict(json.loads(connection.getresponse().read()))


def reserving(account: Account, call: Callable[[], int]) -> bool:
    """One call within the budget; whether to go on."""
    held = account.ask({"units": MOST}, run="benchmark", begun=True)
    if isinstance(held, Reservation):
        account.settle(held, {"units": call()})
        return True
    time.sleep(0.01)
    return held.reserved > 0


def checking(account: Account, call: Callable[[], int]) -> bool:
    """The usual way: look what is left, call, write down what it was."""
    here = balances(account)[0]
    if here.spent + MOST > here.budget.units:
        return False
    price = call()
    account.settle(account.reserve({"units": price}, run="benchmark"))
    return True


def work(file: str, port: int, threads: int, calls: int, how: str) -> None:
    """So many callers, each with its share of the calls."""
    account = Account(file)
    one = {"reserve": reserving, "check": checking}[how]

    def caller() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        left = calls // threads
        while left > 0:
            made = [0]

            def call() -> int:
                made[0] += 1  # noqa: B023
                return asked(connection)["price"]

            if not one(account, call):
                return
            left -= made[0]

    each = [threading.Thread(target=caller) for _ in range(threads)]
    for t in each:
        t.start()
    for t in each:
        t.join()


def measured(how: str, calls: int, processes: int, threads: int, kills: int, seed: int) -> dict[str, Any]:
    """All of it, one way."""
    rng, me = random.Random(seed), [sys.executable, __file__]
    amount = round(0.9 * calls * (1 + MOST) / 2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "account"
        limit = "hard" if how == "reserve" else "soft"
        account = Account(file, [Budget("calls", amount, "units", scope="account", limit=limit)])
        server = subprocess.Popen([*me, "--serve"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = int(server.stdout.readline())
        start = lambda n: subprocess.Popen([*me, "--work", str(file), str(port), str(threads), str(n), how])
        begun, living = time.monotonic(), [start(calls // processes) for _ in range(processes)]
        killed, truth = 0, http.client.HTTPConnection("127.0.0.1", port)
        due = sorted(rng.uniform(0.15, 0.85) * amount for _ in range(kills))
        while any(p.poll() is None for p in living):
            time.sleep(0.05)
            if killed < len(due) and asked(truth, "/sum")["total"] >= due[killed]:
                victim = rng.choice([p for p in living if p.poll() is None])
                victim.send_signal(signal.SIGKILL)
                living.append(start(calls // processes))
                killed += 1
        took = time.monotonic() - begun
        found = asked(truth, "/sum")
        server.kill()
        for p in (*living, server):
            p.wait()
        account.sweep()
        here = balances(account)[0]
        presumed = sum(a.amount for a in alerts(account) if a.what == "presumed")
        account.close()
    return {
        "amount": amount, "spent_truly": found["total"], "calls": found["calls"], "seconds": took, "calls_per_second":
        found["calls"] / took, "overspend": max(0, found["total"] - amount), "used": found["total"] / amount,
        "spent_by_the_account": here.spent, "presumed": presumed, "reserved_at_the_end": here.reserved, "kills": killed,
    }  # fmt: skip


def pairs_per_second(processes: int, each: int = 400) -> float:
    """Reservations, made and settled, by so many processes at once, without any call."""
    program = (
        "import sys\nfrom marlstone.cost.accounts import Account\na = Account(sys.argv[1])\na.settle(a.ask({'units': 1}))\n"
        "print('ready', flush=True)\nsys.stdin.readline()\nfor _ in range(int(sys.argv[2])): a.settle(a.ask({'units': 1}, begun=True))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "account"
        with Account(file, [Budget("calls", 10**9, "units", scope="account")]):
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            all_ = [subprocess.Popen([sys.executable, "-c", program, str(file), str(each)], **pipes) for _ in range(processes)]
            for p in all_:
                p.stdout.readline()
            begun = time.monotonic()
            for p in all_:
                p.communicate("\n")
            return processes * each / (time.monotonic() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, metavar="N", help="offered in all; default: 10,000")
    parser.add_argument("--processes", type=int, default=16, metavar="N", help="of callers; default: 16")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="of each, a caller each; default: 4")
    parser.add_argument("--kills", type=int, default=8, metavar="N", help="of processes, at random; default: 8")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve()
    if flags.work:
        file, port, threads, calls, how = flags.work
        work(file, int(port), int(threads), int(calls), how)
        return 0
    from record import stamp, write

    asks = flags.calls, flags.processes, flags.threads
    result = {
        "callers": flags.processes * flags.threads, "offered": flags.calls, "reserve": measured("reserve", *asks, flags.kills, 0),
        "check": measured("check", *asks, 0, 0), "pairs_per_second": {str(n): pairs_per_second(n) for n in (1, 16, 64)},
    }  # fmt: skip
    for name, value in result.items():
        print(name, value)
    print(write("budgets", {**result, **stamp()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
