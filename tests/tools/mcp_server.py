"""An MCP server with two tools, over its standard streams."""

from mcp.server import MCPServer

server = MCPServer("tests")


@server.tool()
def look(which: int, obs: list[float]) -> list[float]:
    """What is seen, doubled, and the argument."""
    return [2 * obs[0], float(which)]


@server.tool()
def broken(which: int) -> list[float]:
    """Fails."""
    raise ValueError(f"no {which}")


if __name__ == "__main__":
    server.run()
