"""Real tools in environments that Python steps: called on threads, counted by attempt, and never waited for longer than allowed."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.core.usage import LEAF
from marlstone.core.user_code import load
from marlstone.envs.make import make
from marlstone.tools import DelayLine, FunctionTool, HttpTool, McpTool, Toolbox, toolbox_from_json, toolbox_to_json
from marlstone.tools.layout import TOOLS

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).parent / "sources.py"
LINE = f"{ROOT / 'tests' / 'twin.py'}:make?length=8"
SOURCES: Any = load(FILE)


def tool(function: str, **more: Any) -> FunctionTool:
    return FunctionTool(function, function=f"{FILE}:{function}", size=2, **{"wait": 5.0, "sends": ("obs",), **more})


def over(*tools: Any) -> Any:
    return Toolbox(tools).over(make(LINE))


def act(env: Any, choices: tuple[int, int]) -> Any:
    """A step in which everybody pushes nothing and calls something; what each sees of tools, and what was used."""
    step = env.step((np.array([[1, choices[0]], [1, choices[1]]], np.int32),))
    return step, step.obs[0][TOOLS], step.obs[0][LEAF]


def test_a_function_is_called_with_what_the_agent_sees() -> None:
    """And its answer is seen at the next step where the step waits for it."""
    SOURCES.ASKED.clear()
    env = over(tool("double", arguments=3, price=0.5))
    first = env.reset(0)
    assert SOURCES.ASKED == []
    _, seen, used = act(env, (0, 3))
    (call,) = SOURCES.ASKED
    assert (call.agent, call.argument, call.number, call.tool) == ("pusher", 2, 1, "double") and call.key
    own = float(first.obs[0]["obs"][1, 0])
    np.testing.assert_allclose(seen[1], [2 * own, 2, 1, 1, 0, 0, 1], rtol=1e-6)
    assert seen[0].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert used.tolist() == [[0] * 6, [1, 1, 0, 0, 0, 0.5]]
    _, seen, used = act(env, (0, 0))
    assert seen[1, 3] == 0.5 and not used.any()
    env.close()


def test_attempts_are_counted_and_paid_for() -> None:
    """Retries as they are made, in whatever step that is known; the sum is exact."""
    SOURCES.FAILS[0] = 2
    env = over(tool("shaky", attempts=3, price=1.0))
    env.reset(0)
    total = np.zeros(6)
    for t in range(3):
        _, seen, used = act(env, (1 if t == 0 else 0, 0))
        total += used[0]
    assert total.tolist() == [1, 3, 2, 0, 0, 3] and seen[0, :3].tolist() == [3, 0, 1]
    SOURCES.FAILS[0] = 9
    total[:] = 0
    for t in range(3):
        _, seen, used = act(env, (1 if t == 0 else 0, 0))
        total += used[0]
    assert total.tolist() == [1, 3, 2, 0, 0, 3] and seen[0, 4] == 1 and seen[0, :3].tolist() == [3, 0, 1]  # failed; the old result stays
    env.close()


def test_a_slow_tool_keeps_nobody_waiting() -> None:
    """Steps go on while it is pending, and cannot call it again; past its deadline it has failed; the next episode knows nothing of it."""
    SOURCES.OPEN.clear()
    env = over(tool("slow", wait=0.0, timeout=0.2))
    step = env.reset(0)
    step, seen, _ = act(env, (1, 0))
    assert seen[0, 5] == 1 and not step.legal[0][0, 4] and step.legal[0][1, 4]
    time.sleep(0.3)
    step, seen, _ = act(env, (0, 0))
    assert seen[0].tolist() == [0, 0, 0, 0, 1, 0, 1] and step.legal[0][0, 4]
    act(env, (1, 0))
    env.reset(1)
    SOURCES.OPEN.set()
    time.sleep(0.1)
    _, seen, _ = act(env, (0, 0))
    assert not seen[:, :6].any()
    env.close()


def test_what_was_not_declared_is_a_failure() -> None:
    """Other results, and errors in a function, fail once, without another attempt."""
    for name, choice in (("wrong", 1), ("wrong", 2), ("raises", 1)):
        env = over(tool(name, arguments=2, attempts=3))
        env.reset(0)
        _, seen, used = act(env, (choice, 0))
        assert seen[0].tolist() == [0, 0, 0, 0, 1, 0, 1] and used[0, :3].tolist() == [1, 1, 0]
        env.close()


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """Answers by path, on the loopback; keeps what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body, self.headers["Idempotency-Key"]))
            answers = {
                "/good": (200, json.dumps({"result": [body["observation"]["obs"][0], 7]})),
                "/busy": (503 if body["attempt"] == 1 else 200, json.dumps({"result": [body["attempt"], 0]})),
                "/moved": (302, ""), "/text": (200, "hello"), "/large": (200, '{"result": "' + "x" * (1 << 21) + '"}'),
                "/bare": (200, "[1, 2]"), "/not": (404, "{}"),
            }  # fmt: skip
            status, text = answers[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            if status == 302:
                self.send_header("Location", "/good")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", asked
    served.shutdown()
    served.server_close()


def test_an_endpoint_is_asked_in_json(server: Any) -> None:
    """With the same idempotency key for every attempt; a busy one is asked again, any other answer fails."""
    url, asked = server
    ask = lambda path, **more: HttpTool("ask", url=url + path, size=2, wait=5.0, sends=("obs",), attempts=2, timeout=5.0, **more)
    env = over(ask("/good"))
    first = env.reset(0)
    _, seen, _ = act(env, (1, 0))
    assert seen[0, :3].tolist() == [first.obs[0]["obs"][0, 0], 7, 1]
    path, body, _ = asked.pop()
    assert path == "/good" and (body["tool"], body["agent"], body["argument"], body["attempt"]) == ("ask", "puller", 0, 1)
    env.close()
    env = over(ask("/busy"))
    env.reset(0)
    total = np.zeros(6)
    for t in range(2):
        _, seen, used = act(env, (int(t == 0), 0))
        total += used[0]
    assert seen[0, :3].tolist() == [2, 0, 1] and total[:3].tolist() == [1, 2, 1]
    assert len({key for _, _, key in asked}) == 1 and len(asked) == 2
    env.close()
    for path in ("/moved", "/text", "/large", "/bare", "/not"):
        asked.clear()
        env = over(ask(path))
        env.reset(0)
        _, seen, _ = act(env, (1, 0))
        assert seen[0, 4] == 1 and seen[0, 2] == 0 and [p for p, _, _ in asked] == [path], path
        env.close()


def test_delay_lines_run_beside_real_tools() -> None:
    """In environments that Python steps, seeds give the same play."""
    line = DelayLine("line", size=3, reads="obs", latency=(1, 3), failure=0.3, price=(1.0, 2.0), changes=0.3)
    played = []
    for _ in range(2):
        env = over(line, tool("double"))
        env.reset(5)
        rows = [np.concatenate([np.ravel(x) for x in act(env, (1, 2))[1:]]) for _ in range(7)]
        played.append(np.stack(rows))
        assert "obs" not in env.spec.groups[0].observation
        env.close()
    assert (played[0] == played[1]).all() and played[0].any()


def test_tools_survive_json_and_say_what_is_wrong() -> None:
    """For worker processes; a policy's folder says nothing of what is called."""
    box = Toolbox((tool("double"), HttpTool("ask", url="https://example.org/x", size=2)))
    assert toolbox_from_json(toolbox_to_json(box)) == box
    plain = toolbox_to_json(box, deployed=True)
    assert plain is not None and [t["kind"] for t in plain["tools"]] == ["external"] * 2 and "example.org" not in json.dumps(plain)
    with pytest.raises(UserError, match="written in JAX"):
        Toolbox((tool("double", sends=()),)).over(make("proving:match", {}))
    for url in ("ftp://x", "http://", "http://a:b@c/"):
        with pytest.raises(ValueError, match="url"):
            HttpTool("ask", url=url)
    with pytest.raises(ValueError, match="function"):
        FunctionTool("f", function="nothing")
    with pytest.raises(UserError, match="no function"):
        FunctionTool("f", function=f"{FILE}:missing", size=2).caller()


@pytest.mark.slow
def test_an_mcp_server_is_asked_over_its_streams() -> None:
    """Started for the environment, and ended with it; an error of its tool is a failure."""
    pytest.importorskip("mcp")
    command = (sys.executable, str(Path(__file__).parent / "mcp_server.py"))
    ask = McpTool("look", command=command, arguments=2, argument_name="which", size=2, sends=("obs",), wait=20.0)
    env = over(ask, McpTool("broken", command=command, arguments=2, argument_name="which", size=2, wait=20.0))
    first = env.reset(0)
    _, seen, _ = act(env, (2, 4))
    assert seen[0, :3].tolist() == [2 * first.obs[0]["obs"][0, 0], 1, 1]
    assert seen[1, 7:].tolist() == [0, 0, 0, 0, 1, 0, 1]
    threads = [t for t in threading.enumerate() if t.name.startswith("mcp ")]
    assert threads
    env.close()
    assert not any(t.is_alive() for t in threads)
    for more, says in (({}, "either"), ({"url": "ftp://x"}, "url"), ({"command": ("x",), "arguments": 2}, "argument_name")):
        with pytest.raises(ValueError, match=says):
            McpTool("look", **more)
