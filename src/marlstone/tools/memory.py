"""An external memory that agents write to and look up in, beside their actions: slots of a few numbers, or of a symbol each.

    write(slot)   stores the action's part `content`, or what an observation leaf shows; read from the next step on
    look up       by slot: its content; by attention: softmax(key . slots / sqrt(width)) over written slots; seen at the next step

Look-ups see what was stored before the step's own writes. Where agents that share a memory write to one slot at once, the last in the order
of agents counts.
"""

from dataclasses import dataclass
from typing import Literal

from marlstone.tools.contract import refuse_price


@dataclass(frozen=True)
class ExternalMemory:
    """`slots` of 0: there is none. Emptied at every episode's beginning.

    Fields:
      slots: how many.
      width: numbers of each; with `symbols`, how many symbols there are, of which a slot holds one.
      symbols: whether a slot holds a symbol.
      stores: the observation leaf of `width` numbers that a write stores; "": what the action's part `content` holds, so that agents learn
        what to write.
      automatic: whether what `stores` names is written by itself, in every step in which it is not all zeros, to the slots in turn; agents
        then only look up.
      shared: whether there is one memory for all agents that have it; else each has its own.
      agents: who has it, as a tool's `agents`.
      lookup: by `slot`, each a choice of its own, or by `attention`: writes go to the slots in turn, and the action holds a key.
      read_price, write_price: as a tool's `price`; `changes`: the probability per step that each of them becomes another.
      reads, writes: look-ups and writes that each agent may make in an episode; 0: any number.

    Raises:
      ValueError: a field out of range, or one that is given where there is no memory.
    """

    slots: int = 0
    width: int = 4
    symbols: bool = False
    stores: str = ""
    automatic: bool = False
    shared: bool = False
    agents: str = ""
    lookup: Literal["slot", "attention"] = "slot"
    read_price: float | tuple[float, ...] = 0.0
    write_price: float | tuple[float, ...] = 0.0
    changes: float = 0.0
    reads: int = 0
    writes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.slots <= 1024:
            raise ValueError(f"memory.slots is {self.slots}: give 0 (no memory) to 1024")
        if not self.slots:
            fields = type(self).__dataclass_fields__
            if given := [k for k, f in fields.items() if getattr(self, k) != f.default]:
                raise ValueError(f"memory.{given[0]} is given, but there is no memory: add memory.slots")
        if not 1 <= self.width <= 1024:
            raise ValueError(f"memory.width is {self.width}: give 1 to 1024")
        for name in ("reads", "writes"):
            if getattr(self, name) < 0:
                raise ValueError(f"memory.{name} is {getattr(self, name)}: give how many an episode allows, or 0 for any number")
        if self.automatic and (not self.stores or self.writes):
            raise ValueError(
                "memory.automatic writes what a leaf shows, without a limit: name it, memory.stores, and leave memory.writes out"
            )
        if self.symbols and self.stores:
            raise ValueError(f"memory.symbols and memory.stores = {self.stores!r}: a slot holds what the leaf shows; leave symbols out")
        if self.symbols and self.lookup == "attention":
            raise ValueError("memory.symbols and memory.lookup = 'attention': a key compares numbers; look symbols up by slot")
        refuse_price("memory.read", self.read_price, 0.0)
        refuse_price("memory.write", self.write_price, 0.0)
        if self.changes:
            both = self.read_price if isinstance(self.read_price, tuple) else self.write_price
            refuse_price("memory", both, self.changes)

    @property
    def parts(self) -> int:
        """How many parts an action has for the memory, beside the choice: content, and a key."""
        return 0 if not self.slots else (not self.stores) + (self.lookup == "attention")

    @property
    def ways(self) -> int:
        """How many different look-ups an agent may choose from."""
        return 0 if not self.slots else self.slots if self.lookup == "slot" else 1

    @property
    def write_ways(self) -> int:
        """How many different writes."""
        return 0 if self.automatic else self.ways
