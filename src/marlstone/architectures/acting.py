"""What actors put out: one forward for training and for processes without JAX.

Layers ask their arrays for the namespace, so the same lines run on JAX's arrays and on NumPy's. Which layers there are is
plain data, and parameters stay apart: neither ever travels as code.
"""

from dataclasses import dataclass
from typing import Any

from marlstone.architectures.body import Body
from marlstone.architectures.network import Network
from marlstone.core.distributions import concat_agents
from marlstone.core.flops import component
from marlstone.core.layers import dense, owner_index
from marlstone.core.normalize import Moments
from marlstone.core.types import Spec, Step
from marlstone.encoders.fuse import Fuse

Array = Any


@dataclass(frozen=True)
class Actor:
    """One group's policy network: its first layer, which knows the group and who shares parameters, and its body."""

    fuse: Fuse
    body: Body


def first_layers(
    actors: tuple[Actor, ...], parameters: tuple[Network, ...], moments: tuple[dict[str, Moments], ...], step: Step
) -> tuple[Array, ...]:
    """The first layers' output per group, `[b (t) n_g intake]`; `moments` normalize what is seen."""
    out = []
    for i, (a, p, obs, m) in enumerate(zip(actors, parameters, step.obs, moments, strict=True)):
        with component("actor", i, step.first):
            out.append(a.fuse(p.fuse, obs, m, None))
    return tuple(out)


def policy_forward(
    actors: tuple[Actor, ...],
    parameters: tuple[Network, ...],
    moments: tuple[dict[str, Moments], ...],
    step: Step,
    memory: tuple[Array | None, ...],
    first: tuple[Array, ...] | None = None,
) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array | None, ...]]:
    """Heads `[b (t) n_g head]` per group, the cores they came from, and memory `[b n_g h]` after them. `moments` normalize what is seen;
    `first`: `first_layers`, where they are known."""
    heads, cores, after = [], [], []
    first = first_layers(actors, parameters, moments, step) if first is None else first
    for i, (a, p, x, h) in enumerate(zip(actors, parameters, first, memory, strict=True)):
        owners = owner_index(a.fuse.owners)
        with component("actor", i, step.first):
            core, h = a.body.advance(p.core, x, step.first, h, owners)
            heads.append(dense(p.head, a.body.finish(p.after, core, owners), owners))
        cores.append(core)
        after.append(h)
    return tuple(heads), tuple(cores), tuple(after)


def log_prob(spec: Spec, heads: tuple[Array, ...], legal: tuple[Array | None, ...], action: tuple[Array, ...]) -> Array:
    """`[... n]` of recorded actions."""
    return concat_agents([g.space.log_prob(h, ok, a) for g, h, ok, a in zip(spec.groups, heads, legal, action, strict=True)])
