"""A Python function as a tool."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from marlstone.core.errors import UserError
from marlstone.core.user_code import member
from marlstone.tools.contract import Tool


@dataclass(frozen=True)
class FunctionTool(Tool):
    """A function of a user's, called on a thread: `look(call)` returns `size` numbers or a symbol, or raises (`tools.calls.Call`).

    Fields:
      function: `file.py:function`.
      sends: vector observation leaves that a call is given of its agent.
      wait: seconds that a step waits for a result before it goes on; 0: none, so that a fast function is seen one step later or more.
    """

    kind: ClassVar[str] = "function"
    real: ClassVar[bool] = True
    function: str = ""
    sends: tuple[str, ...] = ()
    wait: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_wait(self.name, self.wait)
        file, colon, name = self.function.rpartition(":")
        if not colon or not file.endswith(".py") or not name:
            raise ValueError(f"tools.{self.name}.function is {self.function!r}: name a function, file.py:function")

    def caller(self) -> Callable[..., Any]:
        """The function itself."""
        file, _, name = self.function.rpartition(":")
        found = member(Path(file).expanduser(), name, f"tools.{self.name}.function = {self.function!r}", "function", inspect.isfunction)
        if len(inspect.signature(found).parameters) != 1:
            raise UserError(f"tools.{self.name}.function = {self.function!r}: write a function of one argument, the call")
        called: Callable[..., Any] = found
        return called


def refuse_wait(name: str, wait: float) -> None:
    """Raises ValueError for a wait that is none."""
    if not 0 <= wait <= 3600:
        raise ValueError(f"tools.{name}.wait is {wait}: give seconds from 0 to 3600")
