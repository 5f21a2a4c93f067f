"""A tool of an MCP server (Model Context Protocol), by the package `mcp`: one connection for each environment, kept open."""

import asyncio
import json
import threading
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from typing import Any, ClassVar

from marlstone.core.errors import UserError
from marlstone.tools.calls import Call, WrongResult
from marlstone.tools.contract import Tool
from marlstone.tools.function import refuse_wait

CONNECTING = 30.0  # seconds until a server must have answered


@dataclass(frozen=True)
class McpTool(Tool):
    """Calls a tool of an MCP server with `{argument_name: argument}` and the leaves that are sent. The result is its structured
    content, `{"result": ...}`, or its first text, read as JSON: numbers, or a symbol's number.

    Fields:
      command: what starts a server that is spoken to over its standard streams, such as `["python", "server.py"]`; or
      url: of one that is spoken to over HTTP.
      calls_tool: the tool's name there; "": this one's name.
      argument_name: as which it takes the argument; "": it takes none.
      sends, wait: as of a function; leaves are sent under their own names.
    """

    kind: ClassVar[str] = "mcp"
    real: ClassVar[bool] = True
    command: tuple[str, ...] = ()
    url: str = ""
    calls_tool: str = ""
    argument_name: str = ""
    sends: tuple[str, ...] = ()
    wait: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_wait(self.name, self.wait)
        if bool(self.command) == bool(self.url):
            raise ValueError(f"tools.{self.name} needs either a command, which starts a server, or the url of one: give one of them")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"tools.{self.name}.url is {self.url!r}: give http://host:port/mcp or https://...")
        if self.arguments > 1 and not self.argument_name:
            raise ValueError(f"tools.{self.name} has {self.arguments} arguments, and no argument_name: say how the server calls it")

    def caller(self) -> "_Connection":
        """A connection, made by the first call."""
        try:
            import mcp  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(f"tools.{self.name} is of an MCP server, which needs the package mcp: pip install 'marlstone[mcp]'") from error
        return _Connection(self)


class _Connection:
    """One client on an event loop and a thread of its own."""

    def __init__(self, tool: McpTool) -> None:
        self.tool = tool
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, call: Call) -> Any:
        """Asks; connects anew where there is no connection."""
        client = self._connected()
        given: dict[str, Any] = dict(call.observation)
        if self.tool.argument_name:
            given[self.tool.argument_name] = call.argument
        asked = client.call_tool(self.tool.calls_tool or self.tool.name, given, read_timeout_seconds=call.timeout)
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            answer = future.result(call.timeout)
        except Late as error:
            future.cancel()
            raise TimeoutError(f"the MCP server did not answer within {call.timeout:g} s") from error
        if answer.is_error:
            raise WrongResult(f"the MCP server says: {_text(answer)[:200]}")
        if answer.structured_content is not None and "result" in answer.structured_content:
            return answer.structured_content["result"]
        try:
            return json.loads(_text(answer))
        except ValueError as error:
            raise WrongResult(f"the MCP server answered {_text(answer)[:80]!r}: expected JSON") from error

    def _connected(self) -> Any:
        from marlstone.cost.retries import CallFailed

        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                ready, failed = threading.Event(), list[str]()
                self._thread = threading.Thread(target=self._run, args=(ready, failed), name=f"mcp {self.tool.name}", daemon=True)
                self._thread.start()
                if not ready.wait(CONNECTING) or failed:
                    raise CallFailed(f"no MCP server: {failed[0] if failed else 'it did not answer'}")
            return self._client

    def _run(self, ready: threading.Event, failed: list[str]) -> None:
        from mcp import Client, StdioServerParameters

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            tool = self.tool
            server = StdioServerParameters(command=tool.command[0], args=list(tool.command[1:])) if tool.command else tool.url
            async with Client(server) as client:
                self._client = client
                ready.set()
                await self._stop.wait()

        try:
            asyncio.run(serve())
        except (OSError, RuntimeError, ExceptionGroup) as error:
            failed.append(f"{type(error).__name__}: {error}")
        finally:
            ready.set()

    def close(self) -> None:
        """End the connection, and a server that was started for it."""
        if self._loop is not None and self._stop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(5)


def _text(answer: Any) -> str:
    return next((str(part.text) for part in answer.content if getattr(part, "type", "") == "text"), "")
