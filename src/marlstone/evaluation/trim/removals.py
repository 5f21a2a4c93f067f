"""A set of removals, and how a run is configured without them.

| kind | how a deployed run does without |
|---|---|
| link, sender | `comms.cut`: refused before it is sent; a sender without any link keeps its gate shut |
| call, look-up | `cut_calls`: no choice of that agent any more; of declared requests the fault `withheld`: illegal for it |
| leaf | the fault `withheld`: not observed, and none of the network's arrays is for it |
| numbers | `comms.size`: messages of fewer numbers, smaller matrices on both sides |
| step | `comms.step`: messages that are quantized more coarsely |
| units | `architecture.body`: layers of fewer units, smaller matrices |
"""

from dataclasses import dataclass, field
from typing import Any

from marlstone.architectures import Gru, Mlp
from marlstone.config import RunConfig
from marlstone.core.records import replace
from marlstone.envs.faults import Withheld

KINDS = ("links", "calls", "leaves", "messages", "units")
"""What may be asked for: `messages` are numbers and step of what is sent."""


@dataclass(frozen=True)
class Removals:
    """What goes. `links`: (sender, recipient); `calls`: `"agent:choice"` (`trials.calls_of`); `leaves`: `"group:leaf"`; `units`: of
    every layer by name, how many; `numbers`: how many of a message's; `coarser`: by what quantization steps are multiplied."""

    links: frozenset[tuple[str, str]] = frozenset()
    calls: frozenset[str] = frozenset()
    leaves: frozenset[str] = frozenset()
    units: dict[str, int] = field(default_factory=dict, hash=False)
    numbers: int = 0
    coarser: float = 1.0

    def __or__(self, other: "Removals") -> "Removals":
        """Both: of layers, numbers and steps the larger removal."""
        units = {k: max(self.units.get(k, 0), other.units.get(k, 0)) for k in {**self.units, **other.units}}
        return Removals(
            self.links | other.links,
            self.calls | other.calls,
            self.leaves | other.leaves,
            units,
            max(self.numbers, other.numbers),
            max(self.coarser, other.coarser),
        )

    def __bool__(self) -> bool:
        return self != Removals()


def config_without(config: RunConfig, gone: Removals) -> RunConfig:
    """The configuration of a run that does without these."""
    changes: dict[str, Any] = {}
    if gone.links or gone.numbers or gone.coarser != 1:
        channel = config.comms
        links = tuple(dict.fromkeys((*channel.cut, *(f"{s}>{r}" for s, r in sorted(gone.links)))))
        step = channel.step * gone.coarser
        changes["comms"] = replace(channel, cut=links, size=channel.size - gone.numbers, step=step)
    tools = frozenset(x for x in gone.calls if x.partition(":")[2] in config.toolbox.names)
    if tools:
        changes["cut_calls"] = tuple(dict.fromkeys((*config.cut_calls, *sorted(tools))))
    if gone.calls - tools or gone.leaves:
        already = [f for f in config.faults if isinstance(f, Withheld)]
        leaves = dict.fromkeys((*(x for f in already for x in f.leaves), *sorted(gone.leaves)))
        actions = dict.fromkeys((*(x for f in already for x in f.actions), *sorted(gone.calls - tools)))
        others = tuple(f for f in config.faults if not isinstance(f, Withheld))
        changes["faults"] = (*others, Withheld(tuple(leaves), tuple(actions)))
    if gone.units:
        changes["architecture"] = replace(config.architecture, body=_narrower(config.architecture.body, gone.units))
    return replace(config, **changes)


def layers_of(body: Any) -> dict[str, int]:
    """Layers of hidden units by name, in order, and their widths; none of a body of a user's own, or with norms, by which units share what
    one of them leaves."""
    if getattr(body, "norm", "none") != "none":
        return {}
    if type(body) is Mlp:
        return {f"hidden {i}": w for i, w in enumerate(body.hidden)}
    if type(body) is Gru:
        return {"before": body.before, "recurrent": body.hidden, **{f"after {i}": w for i, w in enumerate(body.after)}}
    return {}


def _narrower(body: Any, gone: dict[str, int]) -> Any:
    left = [w - gone.get(name, 0) for name, w in layers_of(body).items()]
    if type(body) is Mlp:
        return replace(body, hidden=tuple(left))
    return replace(body, before=left[0], hidden=left[1], after=tuple(left[2:]))
