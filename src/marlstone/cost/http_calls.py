"""One JSON request over HTTP, bounded in time and in size, whose failures say whether another attempt could help.

    retrier.call(lambda attempt: post_json(url, body, attempt).body)

No redirect is followed and no proxy is read from the environment: what is asked is the address that was given.
"""

import http.client
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from marlstone.core.errors import UserError
from marlstone.cost.idempotency import HEADER
from marlstone.cost.propagation import outgoing
from marlstone.cost.retries import Attempt, CallFailed

MOST = 16 * 1024 * 1024
"""Bytes of an answer, at most."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another attempt may better."""


class CallRefused(RuntimeError):
    """A service answered that it will not do this, or with something that is no answer; asking again would not help.

    Attributes:
      status: of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
      body: the JSON value.
      headers: with names in lower case.
      bytes: of the body.
      status: of HTTP, 200 to 299.
    """

    body: Any
    headers: dict[str, str]
    bytes: int
    status: int = 200


def address(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path. Raises `UserError` for anything but http or https, and for an address with a password in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"url {url!r} is no address: give one such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise UserError("a url holds a user name or password: give the key by an environment variable")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def post_json(
    url: str,
    body: Any,
    attempt: Attempt,
    headers: Mapping[str, str] | None = None,
    propagate: bool = False,
    fan_out: int = 1,
    most: int = MOST,
) -> Answer:
    """Send `body` as JSON, within the attempt's time. `propagate` hands deadline and allowance down (`cost.propagation`), to a service
    of one's own; without, only the idempotency key goes along.

    Raises `CallFailed` for statuses that may better and for connections that break, `TimeoutError` when the time is over,
    `CallRefused` for other statuses, for answers above `most` bytes and for what is no JSON.
    """
    if not propagate:
        return ask_json(url, body, attempt.timeout, {HEADER: attempt.key, **(headers or {})}, most)
    with outgoing(attempt, fan_out) as sent:
        try:
            answer = ask_json(url, body, attempt.timeout, {**sent.headers, **(headers or {})}, most)
        except (CallFailed, CallRefused) as error:
            if (told := getattr(error, "headers", None)) is not None:
                sent.answered(told)
                if isinstance(error, CallFailed):
                    error.settled = sent.settled
            raise
        sent.answered(answer.headers)
        return answer


def ask_json(url: str, body: Any, timeout: float | None, headers: Mapping[str, str], most: int = MOST) -> Answer:
    """As `post_json`, of no attempt: within `timeout` seconds (None: no limit), with these `headers` and no others of ours."""
    scheme, host, port, path = address(url)
    ends = math.inf if timeout is None else time.monotonic() + timeout
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=timeout)
    where = f"{host}:{port}"
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", "Connection": "close", **headers})
        socket = connection.sock
        text, chunk = bytearray(), b"-"
        with connection.getresponse() as response:
            while chunk:
                left = ends - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{where} did not finish its answer in {timeout} s")
                if math.isfinite(left) and socket is not None:
                    socket.settimeout(left)
                chunk = response.read1(min(65536, most + 1 - len(text)))
                text += chunk
                if len(text) > most:
                    raise CallRefused(f"{where} answered with more than {most} bytes", response.status)
            whole = response.getheader("Content-Length", "")
            if whole.isdigit() and len(text) < int(whole):
                raise CallFailed(f"{where} broke off in the middle of its answer")
    except http.client.HTTPException as error:
        raise CallFailed(f"{where} gave no valid HTTP answer ({type(error).__name__})") from error
    finally:
        connection.close()
    received = {name.lower(): value for name, value in response.getheaders()}
    said = _short(text, headers.get("Authorization", ""))
    if response.status in AGAIN:
        raise _with_headers(CallFailed(f"{where} answered {response.status}: {said}", _retry_after(received)), received)
    if not 200 <= response.status < 300:
        raise _with_headers(CallRefused(f"{where} answered {response.status}: {said}", response.status), received)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CallRefused(f"{where} answered with what is no JSON: {said}", response.status) from error
    return Answer(value, received, len(text), response.status)


def _with_headers(error: Any, headers: dict[str, str]) -> Any:
    error.headers = headers
    return error


def _short(text: bytes | bytearray, secret: str) -> str:
    """The beginning of a body, printable, without the key that the request carried should the service repeat it."""
    key = secret.removeprefix("Bearer ")
    words = bytes(text).decode("utf-8", "replace")
    return repr((words.replace(key, "[key]") if key else words)[:200])


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a service asked to wait; dates, which need a common clock, are left aside."""
    text = headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else None
