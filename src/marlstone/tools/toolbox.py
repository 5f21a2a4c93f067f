"""All that an environment's agents may use beside their actions: tools and a memory, in one value that travels with a configuration."""

import dataclasses
import inspect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from marlstone.core.errors import UserError
from marlstone.core.plain import from_plain, to_plain
from marlstone.core.user_code import load
from marlstone.tools.contract import DelayLine, External, Tool, levels_of
from marlstone.tools.memory import ExternalMemory

NONE = 0  # the choice of calling nothing


@dataclass(frozen=True)
class Toolbox:
    """Tools and memory. Choices of an agent at each step: `none`, every tool with every argument, every write, every look-up.

    Fields: `cut`: choices that an agent does without, each `"agent:choice"`, with the names of `names`.

    Raises:
      ValueError: two tools of one name, or a choice to be cut that there is none of.
    """

    tools: tuple[Tool, ...] = ()
    memory: ExternalMemory = dataclasses.field(default_factory=ExternalMemory)
    cut: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [t.name for t in self.tools]
        if twice := sorted({x for x in names if names.count(x) > 1}):
            raise ValueError(f"tools has {twice[0]!r} twice: give every tool a name of its own")
        if bad := next((x for x in self.cut if not x.partition(":")[0] or x.partition(":")[2] not in self.names[1:]), None):
            known = ", ".join(self.names[1:]) or "none, since there are no tools and no memory"
            raise ValueError(f"cut_calls has {bad!r}: give 'agent:choice', with one of the choices {known}")

    @property
    def any(self) -> bool:
        """Whether there is anything to use."""
        return bool(self.tools) or self.memory.slots > 0

    @property
    def real(self) -> tuple[int, ...]:
        """Which tools are called by Python, by place."""
        return tuple(i for i, t in enumerate(self.tools) if t.real)

    @cached_property
    def tool_of(self) -> np.ndarray:
        """Which tool each call among the choices is of, `[calls]`."""
        return np.repeat(np.arange(len(self.tools)), [t.arguments for t in self.tools]).astype(np.int32)

    @cached_property
    def argument_of(self) -> np.ndarray:
        """The argument of each call among the choices, `[calls]`."""
        return np.concatenate([np.zeros(0, np.int32), *(np.arange(t.arguments, dtype=np.int32) for t in self.tools)])

    @property
    def choices(self) -> int:
        """How many choices there are, `none` among them."""
        return 1 + len(self.tool_of) + self.memory.write_ways + self.memory.ways

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The choices in words, for reports."""
        calls = [f"{t.name}({a})" if t.arguments > 1 else t.name for t in self.tools for a in range(t.arguments)]
        writes, reads = range(self.memory.write_ways), range(self.memory.ways)
        return ("none", *calls, *(f"write({j})" for j in writes), *(f"read({j})" for j in reads))

    @property
    def width(self) -> int:
        """Numbers of the longest result."""
        return max([t.size for t in self.tools], default=0)

    @property
    def items(self) -> tuple[str, ...]:
        """What has a price, by name."""
        return (*(t.name for t in self.tools), *(("memory_read", "memory_write") if self.memory.slots else ()))

    # ---- prices: of every tool, of a look-up, and of a write
    @cached_property
    def levels(self) -> tuple[tuple[float, ...], ...]:
        """The prices of every item that an episode may have: of each tool; then of a look-up and of a write."""
        m = self.memory
        return (*(levels_of(t.price) for t in self.tools), *((levels_of(m.read_price), levels_of(m.write_price)) if m.slots else ()))

    @cached_property
    def changes(self) -> np.ndarray:
        """The probability per step that the price of an item changes, `[items]`."""
        p = [*(t.changes for t in self.tools), *([self.memory.changes] * 2 if self.memory.slots else [])]
        return np.array([x if len(ls) > 1 else 0.0 for x, ls in zip(p, self.levels, strict=True)], np.float32)

    @cached_property
    def table(self) -> np.ndarray:
        """Prices by item and level, `[items levels]`, the last repeated."""
        most = max(map(len, self.levels), default=1)
        return np.array([[*ls, *[ls[-1]] * (most - len(ls))] for ls in self.levels], np.float32).reshape(-1, most)

    @property
    def shown(self) -> bool:
        """Whether agents are shown prices: where these vary."""
        return any(len(ls) > 1 for ls in self.levels)

    # ---- over environments
    def over(self, env: Any) -> Any:
        """`env`, an `Env` or a `HostEnv`, whose agents have all this; itself where there is nothing. Raises `UserError`."""
        from marlstone.tools.tooled import tooled

        return tooled(self, env) if self.any else env


KINDS: dict[str, type[Tool]] = {cls.kind: cls for cls in (DelayLine, External)}


def toolbox_to_json(box: Toolbox, deployed: bool = False) -> dict[str, Any] | None:
    """Plain JSON, or None where there is nothing. `deployed`: for a policy's folder, where a real tool is `External`: what is called is not
    said, and no class of a user's is named."""
    if not box.any:
        return None
    tools = []
    for tool in box.tools:
        cls = type(tool)
        kind = cls.kind if cls in known().values() else f"{Path(inspect.getfile(cls)).resolve()}:{cls.__name__}"
        names = [f.name for f in dataclasses.fields(cls)]
        if deployed and tool.real:
            kind, names = External.kind, [f.name for f in dataclasses.fields(External) if hasattr(tool, f.name)]
        tools.append({"kind": kind, **{k: to_plain(getattr(tool, k), f"tools.{tool.name}.{k}") for k in names}})
    return {
        "tools": tools,
        "cut": list(box.cut),
        "memory": {k: to_plain(v, f"memory.{k}") for k, v in dataclasses.asdict(box.memory).items()},
    }


def toolbox_from_json(plain: dict[str, Any] | None) -> Toolbox:
    """The inverse, of what this process's parent wrote, or of a policy's folder, which names no files. Raises `UserError`."""
    if plain is None:
        return Toolbox()
    tools = []
    for given in plain["tools"]:
        fields = {k: from_plain(v) for k, v in given.items() if k != "kind"}
        tools.append(_class_of(given["kind"])(**fields))
    memory = ExternalMemory(**{k: from_plain(v) for k, v in plain["memory"].items()})
    return Toolbox(tuple(tools), memory, tuple(plain.get("cut", ())))


def received(plain: dict[str, Any] | None) -> Toolbox:
    """As `toolbox_from_json`, of something that was received: raises `UserError` for a kind that is not a delay line or `external`."""
    for given in [] if plain is None else plain["tools"]:
        if given["kind"] not in KINDS:
            raise UserError(f"this policy has a tool of kind {given['kind']!r}, and a policy calls nothing by itself: export it again")
    return toolbox_from_json(plain)


def known() -> dict[str, type[Tool]]:
    """Every kind of this package by name."""
    from marlstone.tools.function import FunctionTool
    from marlstone.tools.http import HttpTool
    from marlstone.tools.mcp import McpTool

    return {**KINDS, FunctionTool.kind: FunctionTool, HttpTool.kind: HttpTool, McpTool.kind: McpTool}


def _class_of(kind: str) -> type[Tool]:
    if kind in known():
        return known()[kind]
    file, _, name = kind.rpartition(":")
    found: type[Tool] = getattr(load(file), name)
    return found
