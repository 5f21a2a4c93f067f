"""A lock that can be looked at: who holds it and since when, who waits for it. Looking takes no lock, so that a stuck one is seen too.

Held and free cost an attribute write each; only who finds it taken writes more.
"""

import threading
import time
from typing import Any

NOW = time.monotonic


class Lock:
    """As `threading.Lock`, under a `name`; a `threading.Condition` may be made of it. Threads are called by their names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._held: tuple[int, float] | None = None
        self._waiting: dict[int, float] = {}
        self._waited = 0.0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`, noting who holds it and who waits."""
        me = threading.get_ident()
        if not self._lock.acquire(blocking=False) and not (blocking and self._wait(me, timeout)):
            return False
        self._held = me, NOW()
        return True

    def _wait(self, me: int, timeout: float) -> bool:
        began = self._waiting[me] = NOW()
        try:
            return self._lock.acquire(timeout=timeout)
        finally:
            del self._waiting[me]
            self._waited += NOW() - began

    def release(self) -> None:
        """As `threading.Lock.release`."""
        self._held = None
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def facts(self) -> dict[str, Any]:
        """`holder` (None: free), `held_seconds`, `waiters` with the `seconds` of each, and `waited_seconds`, of all threads so far."""
        names, now, held = {t.ident: t.name for t in threading.enumerate()}, NOW(), self._held
        who = lambda ident: names.get(ident, "a thread that has ended")
        return {
            "name": self.name, "holder": None if held is None else who(held[0]), "held_seconds": 0.0 if held is None else now - held[1],
            "waiters": [{"name": who(k), "seconds": now - since} for k, since in self._waiting.copy().items()],
            "waited_seconds": self._waited,
        }  # fmt: skip
