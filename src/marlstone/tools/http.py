"""An HTTP endpoint as a tool: JSON in, JSON out, bounded in size and time; redirects are not followed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from marlstone.core.errors import UserError
from marlstone.tools.calls import Call, WrongResult
from marlstone.tools.contract import Tool
from marlstone.tools.function import refuse_wait

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class HttpTool(Tool):
    """`POST url` with `{"tool", "agent", "argument", "attempt", "observation"}` and the header `Idempotency-Key`; the answer is
    `{"result": [numbers]}`, or a symbol's number. A call fails by any other answer; statuses 408, 425, 429 and 5xx are tried again.

    Fields:
      url: `http://` or `https://`.
      sends, wait: as of a function.
      token_env: an environment variable that holds a bearer token; "": none.
    """

    kind: ClassVar[str] = "http"
    real: ClassVar[bool] = True
    url: str = ""
    sends: tuple[str, ...] = ()
    wait: float = 0.0
    token_env: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_wait(self.name, self.wait)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"tools.{self.name}.url is {self.url!r}: give http://host:port/path or https://...")
        if parts.username or parts.password:
            raise ValueError(f"tools.{self.name}.url holds a password, which runs would keep: put a token into a variable, token_env")

    def caller(self) -> Callable[..., Any]:
        """Makes a connection for every attempt."""
        if self.token_env and self.token_env not in os.environ:
            raise UserError(f"tools.{self.name}.token_env is {self.token_env!r}, and there is no such environment variable: set it")
        return self._call

    def _call(self, call: Call) -> Any:
        from marlstone.cost.http_calls import ask_json
        from marlstone.cost.idempotency import HEADER

        body = {"tool": call.tool, "agent": call.agent, "argument": call.argument, "attempt": call.number}
        headers = {"Accept": "application/json", HEADER: call.key}
        if self.token_env:
            headers["Authorization"] = f"Bearer {os.environ[self.token_env]}"
        answer = ask_json(self.url, {**body, "observation": dict(call.observation)}, call.timeout, headers, MOST_BYTES)
        found = answer.body
        if answer.status != 200:
            raise WrongResult(f"{self.url} answered {answer.status}: expected 200")
        if not isinstance(found, dict) or "result" not in found:
            raise WrongResult(f"{self.url} answered {str(found)[:80]}: expected an object with a result")
        return found["result"]
