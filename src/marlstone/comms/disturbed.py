"""A channel under faults of messages: links that are changed or cut, and several alternatives of which one is chosen when a program
runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.comms.contract import Channel
from marlstone.comms.link import Link
from marlstone.core.arrays import Array
from marlstone.core.records import replace
from marlstone.envs.faults.alternatives import Alternatives
from marlstone.envs.faults.contract import Fault
from marlstone.envs.faults.messages import is_message_fault, neutral

FIELDS = ("to_bad", "to_good", "loss", "loss_good", "copies")


@dataclass(frozen=True)
class LinkAlternatives:
    """`links[which]`, where `which` may be traced: the same fates as that link alone. Of environments written in JAX. What was said is kept
    for as long as the most of them need."""

    links: tuple[Link, ...]
    which: Any

    @property
    def ideal(self) -> bool:
        """Whether all of them are."""
        return all(link.ideal for link in self.links)

    @property
    def slots(self) -> int:
        """The most of them."""
        return max(link.slots for link in self.links)

    def _one(self) -> Any:
        import jax.numpy as jnp

        link = object.__new__(Link)  # past the checks of its range: each was checked when it was made
        for name in FIELDS:
            object.__setattr__(link, name, jnp.asarray([getattr(x, name) for x in self.links], jnp.float32)[self.which])
        object.__setattr__(link, "delay", jnp.asarray([x.delay for x in self.links], jnp.int32)[self.which])
        return link

    def begin(self, u: Array) -> Array:
        """As the chosen one's."""
        import jax.numpy as jnp

        odds = jnp.asarray([x.to_bad / max(x.to_bad + x.to_good, 1e-30) for x in self.links], jnp.float32)
        return u < odds[self.which]

    def fate(self, bad: Array, u: Array) -> tuple[Array, Array, Array]:
        """As the chosen one's."""
        out: tuple[Array, Array, Array] = self._one().fate(bad, u)
        return out


def changed(link: Any, fault: Any) -> Any:
    """A link under a fault: fields that the fault names, or a whole link of its own in its place."""
    return fault.link if isinstance(fault.link, Link) else replace(link, **fault.link)


def under_faults(channel: Channel, faults: Sequence[Fault]) -> Channel:
    """A channel with what faults of messages among `faults` do to its link; what they cut is the environment's to refuse."""
    link = channel.link
    for f in filter(is_message_fault, faults):
        link = changed(link, f)
    return replace(channel, link=link)


def cut_by(fault: Any, agents: tuple[str, ...]) -> np.ndarray:
    """Links that a fault cuts, `[n n]` (recipient, sender)."""
    cut: np.ndarray = fault.cut(agents) if hasattr(fault, "cut") else np.zeros((len(agents), len(agents)), bool)
    return cut


@dataclass(frozen=True)
class Disturbed:
    """What faults make of a channel: its `link`, links that are `cut [n n]` (None: none), and the faults that are left for what lies
    below it."""

    link: Any
    cut: Any
    below: tuple[Fault, ...]


def disturbed(link: Any, cut: Any, faults: Sequence[Fault], agents: tuple[str, ...]) -> Disturbed:
    """A channel of this `link`, these links being `cut` already, under `faults`."""
    below = list[Fault]()
    for f in faults:
        if isinstance(f, Alternatives) and any(map(is_message_fault, f.faults)):
            mine = [is_message_fault(x) for x in f.faults]
            link = LinkAlternatives(tuple(changed(link, x) if m else link for x, m in zip(f.faults, mine, strict=True)), f.which)
            cuts = np.stack([cut_by(x, agents) for x in f.faults])
            if cuts.any():
                import jax.numpy as jnp

                cut = _both(cut, jnp.asarray(cuts)[f.which])
            below.append(replace(f, faults=tuple(map(neutral, f.faults))))
        elif is_message_fault(f):
            link = changed(link, f)
            more = cut_by(f, agents)
            cut = _both(cut, more) if not isinstance(more, np.ndarray) or more.any() else cut
        else:
            below.append(f)
    return Disturbed(link, cut, tuple(below))


def _both(a: Any, b: Any) -> Any:
    return b if a is None else a | b
