"""Whose are the FLOPs and bytes of one combination? Those of an agent's own networks and data are its own; what serves all is shared.

A group's actor divides over its agents exactly, its remainder shared; its critics too, unless they see the whole team (`central`): then
they, mixers, credit's own networks, the channel and the optimizer are shared.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax

from marlstone.algorithm.algorithm import Algorithm
from marlstone.core.ledger import SHARED, Amounts, divided
from marlstone.core.types import Spec, Trajectory

_NETWORK = re.compile(r"(actor|critic|q)_(\d+)")


def flops_by_agent(algorithm: Algorithm, by: Mapping[str, int]) -> Amounts:
    """FLOPs by component (`core.flops.Flops`) as FLOPs by agent and `SHARED`, with the same sum."""
    out: Amounts = {SHARED: 0}
    for name, flops in by.items():
        found = _NETWORK.fullmatch(name.split("/")[0])
        own = found is not None and (found[1] == "actor" or not algorithm.architecture.central)
        agents = algorithm.spec.groups[int(found[2])].agents if found is not None and own else ()
        _merge(out, divided(flops, agents))
    return out


def flops_by_component(spec: Spec, by: Mapping[str, int]) -> dict[str, int]:
    """The same with groups and observation leaves by name: `actor agents`, `actor agents, encoder camera`, `credit`."""
    out: dict[str, int] = {}
    for name, flops in by.items():
        words, group = list[str](), spec.groups[0]
        for part in name.split("/"):
            kind, _, number = part.partition("_")
            if kind == "encoder":
                words.append(f"encoder {list(group.observation)[int(number)]}")
            elif number:
                group = spec.groups[int(number)]
                words.append(f"{kind} {group.name}")
            else:
                words.append(kind)
        key = ", ".join(words)
        out[key] = out.get(key, 0) + flops
    return out


def bytes_by_agent(spec: Spec, trajectory: Trajectory) -> Amounts:
    """Bytes of a batch of trajectories by agent: its observations, actions and whatever is one number per agent; the rest is shared."""
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    out: Amounts = {SHARED: size(trajectory)}
    step: Any = trajectory.step

    def own(amount: int, agents: tuple[str, ...]) -> None:
        mine = divided(amount, agents)
        out[SHARED] -= amount
        _merge(out, mine)

    for i, g in enumerate(spec.groups):
        own(size((step.obs[i], step.legal[i], trajectory.action[i])), g.agents)
    own(size((step.reward, step.discount, step.present, step.deciding, trajectory.logp)), spec.agents)
    return out


def _merge(into: Amounts, more: Amounts) -> None:
    for agent, amount in more.items():
        into[agent] = into.get(agent, 0) + amount
