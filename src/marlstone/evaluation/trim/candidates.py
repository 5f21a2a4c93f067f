"""What could go from a run: every link that carries something, every sender, every call that is made, every leaf but the last of a group,
and of messages and hidden layers growing shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.comms import Broadcast, Targeted
from marlstone.comms.contract import SAID, Channel
from marlstone.config import RunConfig
from marlstone.core.types import Group
from marlstone.encoders.fuse import Fuse
from marlstone.envs.managed import GOAL
from marlstone.evaluation.messages.links import ALL_LINKS
from marlstone.evaluation.messages.traffic import per_step
from marlstone.evaluation.trim.networks import NUMBERS, Networks
from marlstone.evaluation.trim.prices import Amounts
from marlstone.evaluation.trim.removals import Removals, layers_of
from marlstone.evaluation.trim.trials import calls_of
from marlstone.play.evaluator import Episodes
from marlstone.tools import DelayLine, Toolbox
from marlstone.tools.layout import MEMORY, PRICES, TOOLS

SHARES = tuple(k / 8 for k in range(1, 8))  # of a layer's units, or of a message's numbers


@dataclass(frozen=True)
class Candidate:
    """Something that could go. `kind`: `link`, `sender`, `call`, `leaf`, `numbers`, `step` or `units`; `saves`: per joint step; `ladder`:
    of what it is a share, where there are larger and smaller ones of the same."""

    kind: str
    name: str
    gone: Removals
    saves: Amounts
    ladder: str = ""


def links(messages: np.ndarray, bits: np.ndarray, agents: Sequence[str]) -> list[Candidate]:
    """Links that carry something and, where there are others, all of a sender's at once; of large teams (n^2 > 64) senders alone. Args:
    `messages`, `bits` per joint step `[n n]` (sender, recipient)."""
    n, out = len(agents), list[Candidate]()
    for j, sender in enumerate(agents):
        carried = [i for i in range(n) if messages[j, i] > 0]
        if n * n <= ALL_LINKS:
            for i in carried:
                saves = {"messages": float(messages[j, i]), "bits": float(bits[j, i])}
                out.append(Candidate("link", f"{sender}>{agents[i]}", Removals(frozenset({(sender, agents[i])})), saves))
        if len(carried) > 1 or (carried and n * n > ALL_LINKS):
            every = frozenset((sender, a) for a in agents if a != sender)
            saves = {"messages": float(messages[j].sum()), "bits": float(bits[j].sum())}
            out.append(Candidate("sender", f"{sender}>*", Removals(every), saves))
    return out


def calls(played: Episodes, algorithm: Algorithm, box: Toolbox) -> list[Candidate]:
    """Calls, look-ups and writes that are made, by agent and choice; what a tool charges on average is `paid`."""
    labels, out = calls_of(algorithm, box), list[Candidate]()
    prices = [float(np.mean(box.levels[i])) for i in box.tool_of]
    if box.memory.slots:
        prices += [float(np.mean(box.levels[-1]))] * box.memory.ways + [float(np.mean(box.levels[-2]))] * box.memory.ways
    for label, x in zip(labels, per_step(played, "calls") if labels else (), strict=True):
        if x > 0:
            price = prices[box.names.index(label.partition(":")[2]) - 1] if box.any else 0.0
            saves = {"calls": float(x), **({"paid": float(x) * price} if price else {})}
            out.append(Candidate("call", label, Removals(calls=frozenset({label})), saves))
    return out


def leaves(networks: Networks, config: RunConfig) -> list[Candidate]:
    """Leaves that networks see, of groups that see several."""
    out = []
    for a in networks.actors:
        g = a.fuse.group
        own = own_leaves(g, config)
        for k in own if len(own) > 1 else ():
            gone = Removals(leaves=frozenset({f"{g.name}:{k}"}))
            observed = float(g.count * int(np.prod(g.observation[k].shape)) * np.dtype(g.observation[k].dtype).itemsize)
            out.append(Candidate("leaf", f"{g.name}:{k}", gone, {"bytes": observed, "flops": _flops(networks, gone)}))
    return out


def own_leaves(g: Group, config: RunConfig) -> list[str]:
    """Leaves of a group that its environment gives and its networks see: no messages, goals, nor what tools show; and none that a channel
    or a tool reads."""
    added = (GOAL, SAID, config.comms.reach, *((TOOLS, MEMORY, PRICES) if config.toolbox.any else ()))
    read = [t.reads for t in config.tools if isinstance(t, DelayLine)]
    return [k for k in g.seen if g.observation[k].kind != "message" and k not in (*added, *read)]


def units(networks: Networks) -> list[Candidate]:
    """Growing shares of every layer."""
    body: Any = networks.actors[0].body
    out = []
    for name, width in layers_of(body).items():
        for count in _rungs(width):
            gone = Removals(units={name: count})
            out.append(Candidate("units", f"{name}: {count} of {width}", gone, {"flops": _flops(networks, gone)}, name))
    return out


def numbers(networks: Networks, channel: Channel, bits: float) -> list[Candidate]:
    """Growing shares of a message's numbers, where the package's own channels send numbers. `bits`: of all messages, per joint step."""
    if type(channel) not in (Broadcast, Targeted) or channel.message == "symbols" or channel.size < 2:
        return []
    out = []
    for count in _rungs(channel.size):
        gone = Removals(numbers=count)
        saves = {"bits": bits * count / channel.numbers, "flops": _flops(networks, gone)}
        out.append(Candidate("numbers", f"{count} of {channel.size} numbers", gone, saves, NUMBERS))
    return out


def _rungs(width: int) -> list[int]:
    return sorted({n for n in (*(int(width * share) for share in SHARES), width - 1 if width <= 8 else 0) if 0 < n < width})


def _flops(networks: Networks, gone: Removals) -> float:
    """What these save of the networks' products, in operations per joint step."""
    return 2.0 * (networks.products(Removals()) - networks.products(gone))


def observed_bytes(fuses: Sequence[Fuse], config: RunConfig) -> int:
    """Bytes of all that the environment gives to networks in one step."""
    size = lambda leaf: int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    return sum(f.group.count * size(f.group.observation[k]) for f in fuses for k in own_leaves(f.group, config))
