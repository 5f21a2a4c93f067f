"""Tools and an external memory as actions: what agents may call beside what they do, with prices, latencies, failures and budgets.

contract   what a tool is, and the declared delay line; memory   the external memory; toolbox   both, as one value
calls      real calls on threads, with deadlines: function (Python), http, mcp
exchange   one step of it all, pure; layout   the spec, steps and actions with tools, of those without; tooled   that over an environment
"""

from marlstone.tools.contract import DelayLine, External, Tool
from marlstone.tools.function import FunctionTool
from marlstone.tools.http import HttpTool
from marlstone.tools.mcp import McpTool
from marlstone.tools.memory import ExternalMemory
from marlstone.tools.toolbox import Toolbox, toolbox_from_json, toolbox_to_json

__all__ = [
    "DelayLine",
    "External",
    "ExternalMemory",
    "FunctionTool",
    "HttpTool",
    "McpTool",
    "Tool",
    "Toolbox",
    "toolbox_from_json",
    "toolbox_to_json",
]
