"""What could go from a run: every link that carries something, every sender, every call that is made, every leaf but the last of a group,
and of messages and hidden layers growing shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.comms import Broadcast, Targeted
from marlstone.comms.contract import SAID, Channel
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
from marlstone.play.player import Player

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


def calls(played: Episodes, runtime: Player) -> list[Candidate]:
    """Calls that are made, by agent and option."""
    labels = calls_of(runtime.algorithm)
    if not labels:
        return []
    made = per_step(played, "calls")
    return [Candidate("call", k, Removals(calls=frozenset({k})), {"calls": float(x)}) for k, x in zip(labels, made, strict=True) if x > 0]


def leaves(networks: Networks, channel: Channel) -> list[Candidate]:
    """Leaves that networks see, of groups that see several; messages, goals and who is within reach are not among them."""
    out = []
    for a in networks.actors:
        g = a.fuse.group
        own = own_leaves(g, channel)
        for k in own if len(own) > 1 else ():
            gone = Removals(leaves=frozenset({f"{g.name}:{k}"}))
            observed = float(g.count * int(np.prod(g.observation[k].shape)) * np.dtype(g.observation[k].dtype).itemsize)
            out.append(Candidate("leaf", f"{g.name}:{k}", gone, {"bytes": observed, "flops": _flops(networks, gone)}))
    return out


def own_leaves(g: Group, channel: Channel) -> list[str]:
    """Leaves of a group that its environment gives and its networks see."""
    return [k for k in g.seen if g.observation[k].kind != "message" and k not in (GOAL, SAID, channel.reach)]


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


def observed_bytes(fuses: Sequence[Fuse], channel: Channel) -> int:
    """Bytes of all that the environment gives to networks in one step."""
    size = lambda leaf: int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    return sum(f.group.count * size(f.group.observation[k]) for f in fuses for k in own_leaves(f.group, channel))
