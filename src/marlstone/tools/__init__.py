"""Tools and an external memory as actions: what agents may call beside what they do, with prices, latencies, failures and budgets.

contract   what a tool is, and the declared delay line; memory   the external memory; toolbox   both, as one value
exchange   one step of it all, pure; layout   the spec, steps and actions with tools, of those without; tooled   that over an environment
"""

from marlstone.tools.contract import DelayLine, External, Tool
from marlstone.tools.memory import ExternalMemory
from marlstone.tools.toolbox import Toolbox, toolbox_from_json, toolbox_to_json

__all__ = ["DelayLine", "External", "ExternalMemory", "Tool", "Toolbox", "toolbox_from_json", "toolbox_to_json"]
